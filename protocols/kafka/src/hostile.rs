//! Bytes that lie: truncated, with claimed lengths of 2^31, and at random.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::{
    ApiKey, DecodeError, Message, Reader, Request,
    sample::{Sample, Source},
};

/// Calls `visit` with encoded samples of every message, the version and the decoder.
fn for_each_message(seeds: u64, visit: impl Fn(&Bytes, i16, fn(Bytes, i16) -> bool)) {
    fn is_decoded<M: Message>(bytes: Bytes, version: i16) -> bool {
        M::decode(&mut Reader::new(bytes), version).is_ok()
    }
    fn encoded<M: Message + Sample>(seed: u64, version: i16) -> Bytes {
        let mut out = BytesMut::new();
        let message = M::sample(&mut Source::new(seed), version);
        message.encode(&mut out, version).unwrap();
        out.freeze()
    }
    for key in ApiKey::ALL {
        for version in key.versions() {
            for seed in 0..seeds {
                with_request!(*key, R => {
                    let request = encoded::<R>(seed, version);
                    visit(&request, version, is_decoded::<R>);
                    let response = encoded::<<R as Request>::Response>(seed, version);
                    visit(&response, version, is_decoded::<<R as Request>::Response>);
                });
            }
        }
    }
}

/// Each of how many places in a message is tried (CONTRIBUTING.md).
fn stride() -> usize {
    std::env::var("FOREBAY_TEST_STRIDE").map_or(1, |text| text.parse().unwrap())
}

/// The largest address space the process had, in bytes; under an emulator that of
/// the emulator, which may have more than a `usize` can say.
fn peak_address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

#[test]
fn a_truncated_message_is_an_error_at_every_byte() {
    for_each_message(3, |bytes, version, is_decoded| {
        assert!(is_decoded(bytes.clone(), version));
        for length in (0..bytes.len()).step_by(stride()) {
            assert!(!is_decoded(bytes.slice(..length), version), "{length}");
        }
    });
}

#[test]
fn a_claimed_length_of_two_billion_anywhere_costs_no_memory() {
    const CLAIMS: [&[u8]; 3] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
    ];
    let before = peak_address_space();
    for_each_message(1, |bytes, version, is_decoded| {
        for at in (0..bytes.len()).step_by(stride()) {
            for claim in CLAIMS {
                let mut lying = bytes[..at].to_vec();
                lying.extend_from_slice(claim);
                lying.extend_from_slice(&bytes[at..]);
                is_decoded(Bytes::from(lying), version);
            }
        }
    });
    // 2^31 elements of even one word would take 16 GiB.
    assert!(peak_address_space() - before < 4 << 30);
}

#[test]
fn an_array_that_claims_more_than_remains_is_refused_before_its_elements() {
    let mut plain = Reader::new(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0]));
    let mut compact = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]));
    for (reader, flexible) in [(&mut plain, false), (&mut compact, true)] {
        let read: Result<Vec<i8>, _> = reader.array(flexible, |_| panic!("no element is read"));
        assert!(matches!(read, Err(DecodeError::Truncated { .. })));
    }
}

#[test]
fn a_negative_length_other_than_null_is_refused() {
    let mut reader = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe]));
    assert_eq!(
        reader.nullable_bytes(false),
        Err(DecodeError::Length { at: 4, length: -2 })
    );
}

#[test]
fn null_is_refused_where_a_version_does_not_allow_it() {
    use crate::messages::MetadataRequest;
    let null = Bytes::from_static(&[0xff; 4]);
    let decode = |version| MetadataRequest::decode(&mut Reader::new(null.clone()), version);
    assert_eq!(decode(0), Err(DecodeError::Null));
    assert_eq!(decode(1).unwrap().topics, None);
}

#[test]
fn a_known_tagged_field_must_end_where_it_says() {
    use crate::messages::FetchRequest;
    let request = FetchRequest {
        cluster_id: Some("abc".into()),
        ..Default::default()
    };
    let mut out = BytesMut::new();
    request.encode(&mut out, 12).unwrap();
    // The end is: one field, tag 0, four bytes, compact length 4, "abc".
    let size_at = out.len() - 5;
    assert_eq!(out[size_at - 2..], [1, 0, 4, 4, b'a', b'b', b'c']);
    out[size_at] = 5;
    out.extend_from_slice(&[0]);
    assert!(matches!(
        FetchRequest::decode(&mut Reader::new(out.freeze()), 12),
        Err(DecodeError::Trailing { remaining: 1, .. })
    ));
}

#[test]
fn tags_that_repeat_or_descend_are_refused() {
    for second in [4, 5] {
        let fields = Bytes::from(vec![2, 5, 0, second, 0]);
        assert_eq!(
            Reader::new(fields).tagged_fields(|_, _| Ok(false)),
            Err(DecodeError::TagOrder {
                at: 3,
                tag: u32::from(second)
            })
        );
    }
    let ascending = Bytes::from_static(&[2, 5, 0, 6, 1, 7]);
    assert_eq!(
        Reader::new(ascending).tagged_fields(|_, _| Ok(false)),
        Ok(vec![(5, Bytes::new()), (6, Bytes::from_static(&[7]))])
    );
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        for key in ApiKey::ALL {
            for version in key.versions() {
                with_request!(*key, R => {
                    let _ = R::decode(&mut Reader::new(bytes.clone()), version);
                    let _ = <R as Request>::Response::decode(&mut Reader::new(bytes.clone()), version);
                });
            }
        }
        let _ = crate::decode_request_header(&mut Reader::new(bytes));
    }

    #[test]
    fn what_a_damaged_message_decodes_to_can_be_encoded_again(
        seed in any::<u64>(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        key in prop::sample::select(ApiKey::ALL),
    ) {
        let version = *key.versions().end();
        with_request!(key, R => {
            let mut out = BytesMut::new();
            R::sample(&mut Source::new(seed), version).encode(&mut out, version).unwrap();
            if !out.is_empty() {
                let at = at.index(out.len());
                out[at] = value;
            }
            if let Ok(message) = R::decode(&mut Reader::new(out.freeze()), version) {
                let mut again = BytesMut::new();
                message.encode(&mut again, version).unwrap();
                let decoded = R::decode(&mut Reader::new(again.freeze()), version).unwrap();
                prop_assert_eq!(decoded, message);
            }
        });
    }
}
