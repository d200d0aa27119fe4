//! A response frame as the uplink reads it. The first two bytes choose the
//! API and the version, because a response does not carry them.
#![no_main]

use bytes::Bytes;
use forebay_kafka::{ApiKey, decode_response, encode_response, with_request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [choose_key, choose_version, frame @ ..] = data else {
        return;
    };
    let key = ApiKey::ALL[usize::from(*choose_key) % ApiKey::ALL.len()];
    let count = key.versions().count() as i16;
    let version = key.versions().start() + i16::from(*choose_version) % count;
    with_request!(key, R => {
        let Ok((correlation_id, response)) =
            decode_response::<R>(Bytes::copy_from_slice(frame), version)
        else {
            return;
        };
        let out = encode_response(key, version, correlation_id, &response)
            .expect("what was read fits the layout");
        let again = decode_response::<R>(out.slice(4..), version);
        assert_eq!(again, Ok((correlation_id, response)));
    });
});
