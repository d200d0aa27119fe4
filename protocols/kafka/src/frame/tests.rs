use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey as TheirKey;

use super::*;
use crate::messages::{
    ApiVersionsRequest, ApiVersionsResponse, HeartbeatRequest, HeartbeatResponse, ProduceRequest,
    produce_request::{PartitionProduceData, TopicProduceData},
};

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .flat_map(|word| {
            (0..word.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&word[at..at + 2], 16).unwrap())
        })
        .collect()
}

#[test]
fn header_versions_agree_with_another_implementation() {
    for key in ApiKey::ALL {
        let theirs = TheirKey::try_from(*key as i16).unwrap();
        for version in key.versions() {
            let request = if key.is_flexible(version) { 2 } else { 1 };
            assert_eq!(request, theirs.request_header_version(version), "{key}");
            let response = i16::from(key.has_flexible_response_header(version));
            assert_eq!(response, theirs.response_header_version(version), "{key}");
        }
    }
}

#[test]
fn a_request_frame_has_the_bytes_of_the_specification() {
    let request = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: 3,
        member_id: "m".into(),
        ..Default::default()
    };
    let plain = encode_request(&request, 3, 7, Some("me")).unwrap();
    let expected = "0000001c 000c 0003 00000007 0002 6d65 0001 67 00000003 0001 6d ffff";
    let mut expected = hex(expected);
    expected[3] = (expected.len() - 4) as u8;
    assert_eq!(plain, expected);
    let flexible = encode_request(&request, 4, 7, None).unwrap();
    let mut expected = hex("00000000 000c 0004 00000007 ffff 00 02 67 00000003 02 6d 00 00");
    expected[3] = (expected.len() - 4) as u8;
    assert_eq!(flexible, expected);
}

#[test]
fn a_request_header_survives_and_leaves_the_body() {
    for version in [3, 4] {
        let request = HeartbeatRequest {
            group_id: "group".into(),
            ..Default::default()
        };
        let frame = encode_request(&request, version, -5, Some("client")).unwrap();
        let mut reader = Reader::new(frame.slice(4..));
        let header = decode_request_header(&mut reader).unwrap();
        assert_eq!(
            header,
            RequestHeader {
                api_key: 12,
                api_version: version,
                correlation_id: -5,
                client_id: Some("client".into()),
            }
        );
        assert_eq!(
            HeartbeatRequest::decode(&mut reader, version),
            Ok(request.clone())
        );
        reader.finish().unwrap();
    }
}

#[test]
fn a_truncated_header_is_an_error_at_every_byte() {
    let frame = encode_request(&HeartbeatRequest::default(), 4, 1, Some("abc")).unwrap();
    // Key, version, correlation, client id and the count of tagged fields.
    let header_len = 2 + 2 + 4 + 5 + 1;
    for length in 0..header_len {
        let mut reader = Reader::new(frame.slice(4..4 + length));
        assert!(decode_request_header(&mut reader).is_err(), "{length}");
    }
    let mut reader = Reader::new(frame.slice(4..4 + header_len));
    assert!(decode_request_header(&mut reader).is_ok());
}

#[test]
fn the_header_of_an_unknown_api_can_be_read() {
    let frame = Bytes::from(hex("7fff 0001 00000009 0001 78"));
    let header = decode_request_header(&mut Reader::new(frame)).unwrap();
    assert_eq!((header.api_key, header.correlation_id), (0x7fff, 9));
    assert!(ApiKey::try_from(header.api_key).is_err());
}

#[test]
fn an_api_versions_response_never_has_a_tagged_header() {
    let response = ApiVersionsResponse::default();
    let frame = encode_response(ApiKey::ApiVersions, 4, 6, &response).unwrap();
    assert_eq!(frame[..11], hex("0000000c 00000006 0000 01")[..]);
    let decoded = decode_response::<ApiVersionsRequest>(frame.slice(4..), 4).unwrap();
    assert_eq!(decoded, (6, response));
}

#[test]
fn a_response_frame_survives_in_both_header_versions() {
    let response = HeartbeatResponse {
        error_code: crate::error_code::REBALANCE_IN_PROGRESS,
        throttle_time_ms: 12,
        ..Default::default()
    };
    for version in [3, 4] {
        let frame = encode_response(ApiKey::Heartbeat, version, 77, &response).unwrap();
        let (length, body) = frame.split_first_chunk::<4>().unwrap();
        assert_eq!(i32::from_be_bytes(*length) as usize, body.len());
        let body = frame.slice(4..);
        let decoded = decode_response::<HeartbeatRequest>(body, version).unwrap();
        assert_eq!(decoded, (77, response.clone()));
    }
}

#[test]
fn bytes_behind_a_response_are_refused() {
    let mut frame = BytesMut::from(
        &encode_response(ApiKey::Heartbeat, 4, 1, &HeartbeatResponse::default()).unwrap()[4..],
    );
    frame.put_u8(0);
    assert!(matches!(
        decode_response::<HeartbeatRequest>(frame.freeze(), 4),
        Err(DecodeError::Trailing { remaining: 1, .. })
    ));
}

#[test]
fn records_are_slices_of_the_frame_and_private_tags_ride_along() {
    let request = ProduceRequest {
        acks: -1,
        topic_data: vec![TopicProduceData {
            name: "t".into(),
            partition_data: vec![PartitionProduceData {
                index: 1,
                records: Some(Bytes::from(vec![5; 1000])),
                unknown_tagged_fields: vec![(10_100, Bytes::from_static(b"offset"))],
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let frame = encode_request(&request, 9, 1, None).unwrap().slice(4..);
    let mut reader = Reader::new(frame.clone());
    decode_request_header(&mut reader).unwrap();
    let decoded = ProduceRequest::decode(&mut reader, 9).unwrap();
    assert_eq!(decoded, request);
    let records = decoded.topic_data[0].partition_data[0].records.as_ref();
    assert!(frame.as_ptr_range().contains(&records.unwrap().as_ptr()));
}

#[test]
fn a_version_outside_the_codec_is_refused_both_ways() {
    let mut reader = Reader::new(Bytes::from_static(&[0; 64]));
    assert_eq!(
        HeartbeatRequest::decode(&mut reader, 5),
        Err(DecodeError::Version {
            version: 5,
            min: 0,
            max: 4
        })
    );
    assert!(matches!(
        encode_request(&HeartbeatRequest::default(), -1, 0, None),
        Err(EncodeError::Version { version: -1, .. })
    ));
}

#[test]
fn what_does_not_fit_is_not_encoded() {
    let long = HeartbeatRequest {
        group_id: "x".repeat(32_768).into(),
        ..Default::default()
    };
    for version in [3, 4] {
        assert!(matches!(
            encode_request(&long, version, 0, None),
            Err(EncodeError::TooLong { length: 32_768, .. })
        ));
    }
    let twice = HeartbeatRequest {
        unknown_tagged_fields: vec![(3, Bytes::new()), (3, Bytes::new())],
        ..Default::default()
    };
    assert_eq!(
        encode_request(&twice, 4, 0, None),
        Err(EncodeError::DuplicateTag { tag: 3 })
    );
    let all_topics = crate::messages::MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert_eq!(
        encode_request(&all_topics, 0, 0, None),
        Err(EncodeError::Null {
            field: "topics",
            version: 0
        })
    );
}
