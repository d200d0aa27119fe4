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

/// Compares a request and its response, and returns that these were two.
fn compare<R>(theirs: TheirKey, version: i16) -> usize
where
    R: Request + Sample + Debug + PartialEq,
    R::Response: Sample + Debug + PartialEq,
{
    check::<R>(version, |mut bytes| {
        let message = RequestKind::decode(theirs, &mut bytes, version).unwrap();
        let mut out = BytesMut::new();
        message.encode(&mut out, version).unwrap();
        (bytes, out)
    });
    check::<R::Response>(version, |mut bytes| {
        let message = ResponseKind::decode(theirs, &mut bytes, version).unwrap();
        let mut out = BytesMut::new();
        message.encode(&mut out, version).unwrap();
        (bytes, out)
    });
    2
}

/// `reencode` returns the bytes that the other implementation left and wrote.
fn check<M: Message + Sample + Debug + PartialEq>(
    version: i16,
    reencode: impl Fn(Bytes) -> (Bytes, BytesMut),
) {
    for seed in 0..SAMPLES {
        let message = M::sample(&mut Source::new(seed), version);
        let mut ours = BytesMut::new();
        message.encode(&mut ours, version).unwrap();
        let ours = ours.freeze();
        let (left, theirs) = reencode(ours.clone());
        assert_eq!(left, Bytes::new(), "version {version}: {message:?}");
        assert_eq!(theirs, ours, "version {version}: {message:?}");
        let mut reader = Reader::new(ours);
        assert_eq!(M::decode(&mut reader, version), Ok(message));
        reader.finish().unwrap();
    }
}
