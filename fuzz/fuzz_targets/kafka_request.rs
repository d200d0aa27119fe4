//! A request frame as a broker reads it: header, then the body by key and
//! version. What decodes must be encoded and decode to the same again.
#![no_main]

use bytes::{Bytes, BytesMut};
use forebay_kafka::{ApiKey, Message, Reader, decode_request_header, with_request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    let Ok(header) = decode_request_header(&mut reader) else {
        return;
    };
    let Ok(key) = ApiKey::try_from(header.api_key) else {
        return;
    };
    let version = header.api_version;
    with_request!(key, R => {
        let Ok(message) = R::decode(&mut reader, version) else {
            return;
        };
        let mut out = BytesMut::new();
        message.encode(&mut out, version).expect("what was read fits the layout");
        let again = R::decode(&mut Reader::new(out.freeze()), version);
        assert_eq!(again, Ok(message));
    });
});
