//! Which committed offsets are kept.
//!
//! A group without members loses its offsets when the newest of them is older
//! than the retention. The offsets of a group with members are renewed while
//! they age, so that a consumer of a quiet topic can stop for as long as any
//! other.

use std::collections::BTreeMap;

use super::{CommittedOffset, parse_key};

/// A state key with the offset under it.
type Stored<O> = (Vec<u8>, O);

/// What a sweep does with one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Keys of the groups to forget, a list per group.
    pub forget: Vec<(String, Vec<Vec<u8>>)>,
    /// Offsets to write again with the time of the sweep, a list per group.
    pub renew: Vec<(String, Vec<Stored<CommittedOffset>>)>,
}

/// Decides over all stored offsets. `has_members` is asked once per group that
/// is old enough to matter. Values of another layout count as committed at the
/// epoch.
pub fn sweep(
    stored: Vec<(Vec<u8>, Vec<u8>)>,
    now_ms: i64,
    retention_ms: i64,
    has_members: impl Fn(&str) -> bool,
) -> Sweep {
    let mut groups: BTreeMap<String, Vec<Stored<Option<CommittedOffset>>>> = BTreeMap::new();
    for (key, value) in stored {
        if let Some((group, _, _)) = parse_key(&key) {
            let offset = CommittedOffset::decode(&value);
            groups.entry(group).or_default().push((key, offset));
        }
    }
    let mut sweep = Sweep::default();
    for (group, offsets) in groups {
        let committed = offsets.iter().flat_map(|(_, offset)| offset);
        let newest = committed.map(|offset| offset.committed_ms).max();
        let age_ms = now_ms.saturating_sub(newest.unwrap_or(0));
        if age_ms < retention_ms / 2 {
            continue;
        }
        if has_members(&group) {
            let renewed = |(key, offset): (_, Option<CommittedOffset>)| {
                let committed_ms = now_ms;
                Some((
                    key,
                    CommittedOffset {
                        committed_ms,
                        ..offset?
                    },
                ))
            };
            let renewed = offsets.into_iter().filter_map(renewed).collect();
            sweep.renew.push((group, renewed));
        } else if age_ms >= retention_ms {
            let keys = offsets.into_iter().map(|(key, _)| key).collect();
            sweep.forget.push((group, keys));
        }
    }
    sweep
}

#[cfg(test)]
mod tests {
    use super::super::{CommittedOffset, key};
    use super::sweep;

    const DAY: i64 = 86_400_000;
    const NOW: i64 = 1_000 * DAY;

    fn stored(group: &str, partition: i32, days_old: i64) -> (Vec<u8>, Vec<u8>) {
        let offset = CommittedOffset {
            offset: 7,
            leader_epoch: 0,
            committed_ms: NOW - days_old * DAY,
            metadata: String::new(),
        };
        (key(group, "readings", partition), offset.encode())
    }

    #[test]
    fn a_group_is_forgotten_as_a_whole_when_its_newest_offset_is_old() {
        let all = vec![
            stored("active", 0, 40),
            stored("active", 1, 1),
            stored("gone", 0, 31),
            stored("gone", 1, 30),
            stored("paused", 0, 29),
        ];
        let sweep = sweep(all, NOW, 30 * DAY, |_| false);
        let keys = vec![key("gone", "readings", 0), key("gone", "readings", 1)];
        assert_eq!(sweep.forget, [("gone".to_owned(), keys)]);
        assert_eq!(sweep.renew, []);
    }

    #[test]
    fn a_group_with_members_is_renewed_while_it_ages() {
        let all = vec![stored("idle", 0, 200), stored("busy", 0, 14)];
        let sweep = sweep(all, NOW, 30 * DAY, |_| true);
        assert_eq!(sweep.forget, []);
        let [(group, offsets)] = &sweep.renew[..] else {
            panic!("one group is renewed: {sweep:?}");
        };
        assert_eq!(group, "idle");
        assert_eq!(offsets[0].1.committed_ms, NOW);
        assert_eq!(offsets[0].1.offset, 7);
    }
}
