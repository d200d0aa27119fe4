use proptest::prelude::*;

use super::{Limits, Read, Span, SpanData, plan};
use crate::address::{Address, Table};

const LIMITS: Limits = Limits {
    max_registers: 125,
    max_fill: 8,
};

fn spans(table: Table, places: &[(u16, u16)]) -> Vec<Span> {
    let span = |(tag, (number, count)): (usize, &(u16, u16))| Span {
        address: Address {
            table,
            number: *number,
        },
        count: *count,
        tag,
    };
    places.iter().enumerate().map(span).collect()
}

/// Start and count of each request.
fn shape(reads: &[Read]) -> Vec<(u16, u16)> {
    reads.iter().map(|read| (read.start, read.count)).collect()
}

fn planned(table: Table, places: &[(u16, u16)], limits: Limits) -> Vec<(u16, u16)> {
    shape(&plan(spans(table, places), limits))
}

#[test]
fn neighbours_travel_together_and_wide_holes_do_not() {
    let places = [(100, 2), (102, 1), (111, 1), (121, 1)];
    // The hole before 111 is 8 registers, the one before 121 is 9.
    assert_eq!(
        planned(Table::Holding, &places, LIMITS),
        [(100, 12), (121, 1)]
    );
    let none = Limits {
        max_fill: 0,
        ..LIMITS
    };
    assert_eq!(
        planned(Table::Holding, &places, none),
        [(100, 3), (111, 1), (121, 1)]
    );
}

#[test]
fn a_request_never_exceeds_the_device() {
    let places: Vec<(u16, u16)> = (0..300).map(|n| (n, 1)).collect();
    assert_eq!(
        planned(Table::Holding, &places, LIMITS),
        [(0, 125), (125, 125), (250, 50)]
    );
    let small = Limits {
        max_registers: 10,
        ..LIMITS
    };
    assert_eq!(
        planned(Table::Input, &[(0, 9), (9, 2), (11, 1)], small),
        [(0, 9), (9, 3)]
    );
    let bits: Vec<(u16, u16)> = (0..2_500).map(|n| (n, 1)).collect();
    assert_eq!(
        planned(Table::Coil, &bits, LIMITS),
        [(0, 2_000), (2_000, 500)]
    );
    assert_eq!(
        planned(Table::Coil, &bits[..200], small),
        [(0, 160), (160, 40)]
    );
}

#[test]
fn overlapping_and_equal_tags_are_read_once() {
    let reads = plan(
        spans(Table::Holding, &[(10, 4), (12, 1), (10, 4), (11, 1)]),
        LIMITS,
    );
    assert_eq!(shape(&reads), [(10, 4)]);
    assert_eq!(reads[0].spans.len(), 4);
}

#[test]
fn tables_never_mix() {
    let mut all = spans(Table::Holding, &[(0, 1)]);
    all.extend(spans(Table::Input, &[(1, 1)]));
    all.extend(spans(Table::Coil, &[(2, 1)]));
    assert_eq!(plan(all, LIMITS).len(), 3);
}

#[test]
fn the_end_of_the_table_is_reached() {
    assert_eq!(
        planned(Table::Holding, &[(65_535, 1), (65_530, 4)], LIMITS),
        [(65_530, 6)]
    );
}

#[test]
fn a_refused_request_loses_its_holes_first_and_is_halved_then() {
    let read = &plan(
        spans(Table::Holding, &[(0, 1), (1, 1), (4, 2), (9, 1)]),
        LIMITS,
    )[0];
    let parts = read.split().unwrap();
    assert_eq!(shape(&parts), [(0, 2), (4, 2), (9, 1)]);
    let halves = parts[0].split().unwrap();
    assert_eq!(shape(&halves), [(0, 1), (1, 1)]);
    assert_eq!(halves[0].split(), None);
}

#[test]
fn each_tag_finds_its_own_data() {
    let read = &plan(spans(Table::Holding, &[(5, 1), (6, 2), (9, 1)]), LIMITS)[0];
    let data: Vec<u8> = (10..20).collect();
    let found: Vec<_> = read.spans.iter().map(|s| read.data_of(*s, &data)).collect();
    assert_eq!(
        found,
        [
            Some(SpanData::Registers(&[10, 11])),
            Some(SpanData::Registers(&[12, 13, 14, 15])),
            Some(SpanData::Registers(&[18, 19])),
        ]
    );
    assert_eq!(read.data_of(read.spans[2], &data[..9]), None);
    let bits = &plan(spans(Table::Coil, &[(3, 1), (4, 1), (12, 1)]), LIMITS)[0];
    // Bits 0, 1 and 9 behind address 3.
    let found: Vec<_> = bits
        .spans
        .iter()
        .map(|s| bits.data_of(*s, &[0b01, 0b10]))
        .collect();
    assert_eq!(
        found,
        [
            Some(SpanData::Bit(true)),
            Some(SpanData::Bit(false)),
            Some(SpanData::Bit(true))
        ]
    );
}

/// The fewest requests by trying every way to cut the sorted tags.
fn fewest(sorted: &[Span], limits: Limits) -> usize {
    let mut best = vec![0; sorted.len() + 1];
    for end in 1..=sorted.len() {
        best[end] = (0..end)
            .filter(|from| {
                let part = &sorted[*from..end];
                let first = part[0].start();
                let mut reach = part[0].end();
                part.iter().all(|span| {
                    let near = span.start() <= reach + u32::from(limits.max_fill);
                    reach = reach.max(span.end());
                    near
                }) && (part.len() == 1 || reach - first <= u32::from(limits.max_registers))
            })
            .map(|from| best[from] + 1)
            .min()
            .unwrap();
    }
    best[sorted.len()]
}

proptest! {
    #[test]
    fn no_plan_has_fewer_requests_and_every_tag_is_read_once(
        places in prop::collection::vec((0u16..200, 1u16..8), 1..40),
        max_registers in 8u16..60,
        max_fill in 0u16..12,
    ) {
        let limits = Limits { max_registers, max_fill };
        let mut all = spans(Table::Holding, &places);
        let reads = plan(all.clone(), limits);
        let mut tags: Vec<usize> = reads.iter().flat_map(|r| &r.spans).map(|s| s.tag).collect();
        tags.sort_unstable();
        prop_assert_eq!(tags, (0..places.len()).collect::<Vec<_>>());
        for read in &reads {
            prop_assert!(read.count <= max_registers);
            for span in &read.spans {
                prop_assert!(span.address.number >= read.start);
                prop_assert!(span.end() <= u32::from(read.start) + u32::from(read.count));
            }
        }
        all.sort_unstable();
        prop_assert_eq!(reads.len(), fewest(&all, limits));
    }

    #[test]
    fn splitting_ends_and_loses_no_tag(places in prop::collection::vec((0u16..100, 1u16..4), 1..20)) {
        let mut open = plan(spans(Table::Holding, &places), LIMITS);
        let mut done = Vec::new();
        while let Some(read) = open.pop() {
            match read.split() {
                Some(parts) => {
                    prop_assert_eq!(parts.iter().map(|p| p.spans.len()).sum::<usize>(), read.spans.len());
                    open.extend(parts);
                }
                None => done.push(read.spans[0].tag),
            }
        }
        done.sort_unstable();
        prop_assert_eq!(done, (0..places.len()).collect::<Vec<_>>());
    }
}
