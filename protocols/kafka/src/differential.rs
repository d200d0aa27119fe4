//! Every API in every version against an independent implementation: what
//! this codec writes, the other reads and writes back as the same bytes.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};

use crate::{
    ApiKey, Message, Reader, Request,
    sample::{Sample, Source},
};

/// Random messages per API, version and direction.
const SAMPLES: u64 = 40;
/// The tags that samples carry as unknown fields.
const UNKNOWN_TAGS: [&str; 2] = ["99", "10100"];
/// The field that is not compared by value, because UUIDs print differently.
const UUID: &str = "topic_id";

#[test]
fn every_message_of_every_version_agrees_with_another_implementation() {
    let mut compared = 0;
    for key in ApiKey::ALL {
        let theirs = TheirKey::try_from(*key as i16).unwrap();
        let known = theirs.valid_versions();
        for version in key.versions() {
            assert!(
                (known.min..=known.max).contains(&version),
                "{key} version {version} has no counterpart"
            );
            compared += with_request!(*key, R => compare::<R>(theirs, version));
        }
    }
    let versions: usize = ApiKey::ALL.iter().map(|key| key.versions().count()).sum();
    assert_eq!(compared, versions * 2);
}

/// What the other implementation made of a message.
struct Theirs {
    left: Bytes,
    encoded: BytesMut,
    debug: String,
}

/// Compares a request and its response, and returns that these were two.
fn compare<R>(theirs: TheirKey, version: i16) -> usize
where
    R: Request + Sample + Debug + PartialEq,
    R::Response: Sample + Debug + PartialEq,
{
    check::<R>(version, |mut left| {
        let message = RequestKind::decode(theirs, &mut left, version).unwrap();
        let mut encoded = BytesMut::new();
        message.encode(&mut encoded, version).unwrap();
        let debug = format!("{message:?}");
        Theirs {
            left,
            encoded,
            debug,
        }
    });
    check::<R::Response>(version, |mut left| {
        let message = ResponseKind::decode(theirs, &mut left, version).unwrap();
        let mut encoded = BytesMut::new();
        message.encode(&mut encoded, version).unwrap();
        let debug = format!("{message:?}");
        Theirs {
            left,
            encoded,
            debug,
        }
    });
    2
}

fn check<M: Message + Sample + Debug + PartialEq>(
    version: i16,
    through_theirs: impl Fn(Bytes) -> Theirs,
) {
    // Each of how many samples is compared (CONTRIBUTING.md).
    let stride = std::env::var("FOREBAY_TEST_STRIDE");
    let stride = stride.map_or(1, |text| text.parse().unwrap());
    for seed in (0..SAMPLES).step_by(stride) {
        let message = M::sample(&mut Source::new(seed), version);
        let mut ours = BytesMut::new();
        message.encode(&mut ours, version).unwrap();
        let ours = ours.freeze();
        let theirs = through_theirs(ours.clone());
        assert_eq!(theirs.left, Bytes::new(), "version {version}: {message:?}");
        assert_eq!(theirs.encoded, ours, "version {version}: {message:?}");
        check_fields(&format!("{message:?}"), &theirs.debug);
        let mut reader = Reader::new(ours);
        assert_eq!(M::decode(&mut reader, version), Ok(message));
        reader.finish().unwrap();
    }
}

/// Equal bytes do not show that a value sits in the right field, or that a
/// tagged field has the right tag; the debug representations do.
fn check_fields(ours: &str, theirs: &str) {
    let ours = fields(ours);
    let (tags, theirs): (Vec<_>, Vec<_>) = fields(theirs)
        .into_iter()
        .partition(|(name, _)| name.starts_with(|first: char| first.is_ascii_digit()));
    for (tag, _) in tags {
        assert!(UNKNOWN_TAGS.contains(&tag), "tag {tag} is not known there");
    }
    // Theirs also has the fields of versions outside our range, so ours must
    // occur in theirs, in order.
    let mut rest = theirs.iter();
    for field in &ours {
        assert!(
            rest.any(|other| other == field),
            "{field:?} of {ours:?} is not in {theirs:?}"
        );
    }
}

/// The fields with a plain value in a debug representation. Samples hold no
/// character in texts and bytes that means something here.
fn fields(debug: &str) -> Vec<(&str, &str)> {
    debug
        .split(['{', '}', '[', ']', ','])
        .filter_map(|piece| piece.trim().split_once(": "))
        .filter(|(name, _)| *name != UUID)
        .map(|(name, value)| {
            let inner = value.rsplit('(').next().unwrap();
            let inner = inner.trim_end_matches(')').trim();
            // In versions without the field, theirs is empty where ours is null.
            (name, if inner == "None" { "\"\"" } else { inner })
        })
        .collect()
}
