//! Packets made by hand from the standards: each must be accepted, or refused
//! with the reason code named in `vectors.txt`.

use bytes::BytesMut;
use forebay_mqtt::packet::{DecodeError, Packet, Version, decode};

/// Large enough for every vector; the one vector of 256 MiB must be refused.
const PACKET_SIZE_MAX: u32 = 64 * 1024;

struct Vector {
    line: usize,
    version: Version,
    /// `None` when the packet is to be accepted.
    reason: Option<u8>,
    bytes: Vec<u8>,
    text: &'static str,
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("vectors.txt").lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(index, text)| parse(index + 1, text)).collect()
}

fn parse(line: usize, text: &'static str) -> Vector {
    let fields: Vec<&str> = text.splitn(5, " | ").collect();
    let [version, verdict, _section, _what, bytes] = fields[..] else {
        panic!("line {line} does not have five fields: {text}");
    };
    Vector {
        line,
        version: match version {
            "4" => Version::V311,
            "5" => Version::V5,
            _ => panic!("line {line}: version is 4 or 5"),
        },
        reason: match verdict {
            "ok" => None,
            hex => Some(u8::from_str_radix(hex, 16).expect("verdict is ok or hexadecimal")),
        },
        bytes: assemble(bytes),
        text,
    }
}

/// Turns the notation that `vectors.txt` explains into bytes.
fn assemble(text: &str) -> Vec<u8> {
    let mut groups = vec![Vec::new()];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let out = groups.last_mut().expect("brackets are balanced");
        let taken = match first {
            '[' => {
                groups.push(Vec::new());
                1
            }
            ']' => {
                let group = groups.pop().expect("brackets are balanced");
                let out = groups.last_mut().expect("brackets are balanced");
                put_varint(group.len(), out);
                out.extend(group);
                1
            }
            '"' | '\'' => {
                let end = rest[1..].find(first).expect("quotes are closed");
                let content = &rest.as_bytes()[1..=end];
                if first == '"' {
                    out.extend(u16::try_from(content.len()).expect("short").to_be_bytes());
                }
                out.extend(content);
                end + 2
            }
            _ => {
                out.push(u8::from_str_radix(&rest[..2], 16).expect("hexadecimal"));
                2
            }
        };
        rest = rest[taken..].trim_start();
    }
    assert_eq!(groups.len(), 1, "brackets are balanced in {text}");
    groups.remove(0)
}

fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    loop {
        let byte = u8::try_from(value % 128).expect("below 128");
        value /= 128;
        if value == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

fn read(bytes: &[u8], version: Version) -> Result<Option<Packet>, DecodeError> {
    decode(&mut BytesMut::from(bytes), version, PACKET_SIZE_MAX)
}

#[test]
fn each_vector_has_its_verdict() {
    let mut failures = Vec::new();
    for vector in vectors() {
        let verdict = match read(&vector.bytes, vector.version) {
            Ok(Some(_)) => None,
            Ok(None) => {
                failures.push(format!(
                    "line {}: waits for more: {}",
                    vector.line, vector.text
                ));
                continue;
            }
            Err(error) => Some(error.reason().to_byte()),
        };
        if verdict != vector.reason {
            failures.push(format!(
                "line {}: {verdict:02x?}: {}",
                vector.line, vector.text
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn there_are_enough_vectors_of_both_kinds() {
    let (refused, accepted): (Vec<Vector>, Vec<Vector>) = vectors()
        .into_iter()
        .partition(|vector| vector.reason.is_some());
    assert!(refused.len() >= 113, "{}", refused.len());
    assert!(accepted.len() >= 40, "{}", accepted.len());
}

/// Each proper prefix of a packet is incomplete, not an error and not a
/// packet; a packet that follows is left alone.
#[test]
fn accepted_packets_cut_at_each_byte_are_incomplete() {
    for vector in vectors().iter().filter(|vector| vector.reason.is_none()) {
        for len in 0..vector.bytes.len() {
            let cut = read(&vector.bytes[..len], vector.version);
            assert_eq!(cut, Ok(None), "{len} bytes of line {}", vector.line);
        }
        let mut input = BytesMut::from(&vector.bytes[..]);
        input.extend_from_slice(b"\xC0\x00");
        let packet = decode(&mut input, vector.version, PACKET_SIZE_MAX);
        assert!(matches!(packet, Ok(Some(_))), "line {}", vector.line);
        assert_eq!(&input[..], b"\xC0\x00", "line {}", vector.line);
    }
}

/// A frame whose content ends early, with a remaining length that says so, is
/// refused or is another valid packet, but never waited for.
#[test]
fn accepted_packets_with_a_shortened_body_do_not_wait() {
    for vector in vectors().iter().filter(|vector| vector.reason.is_none()) {
        let body = body_of(&vector.bytes);
        for len in 0..body.len() {
            let mut frame = vec![vector.bytes[0]];
            put_varint(len, &mut frame);
            frame.extend(&body[..len]);
            let verdict = read(&frame, vector.version);
            assert_ne!(verdict, Ok(None), "{len} bytes of line {}", vector.line);
        }
    }
}

#[test]
fn accepted_packets_survive_a_round_trip() {
    for vector in vectors().iter().filter(|vector| vector.reason.is_none()) {
        let packet = read(&vector.bytes, vector.version)
            .expect("accepted")
            .expect("complete");
        let mut out = BytesMut::new();
        packet
            .encode(vector.version, &mut out)
            .expect("what was read can be written");
        assert_eq!(
            packet.encoded_len(vector.version),
            out.len(),
            "line {}",
            vector.line
        );
        let again = read(&out, vector.version)
            .expect("accepted")
            .expect("complete");
        assert_eq!(again, packet, "line {}", vector.line);
    }
}

/// The limit counts the whole packet, and the header alone is enough to refuse.
#[test]
fn size_is_judged_by_the_fixed_header() {
    let packet = assemble("30 [ \"a/b\" 'payload' ]");
    let size = u32::try_from(packet.len()).expect("small");
    let mut input = BytesMut::from(&packet[..]);
    assert!(matches!(
        decode(&mut input, Version::V311, size),
        Ok(Some(_))
    ));
    let mut input = BytesMut::from(&packet[..2]);
    let error = DecodeError::TooLarge {
        size: u64::from(size),
        limit: size - 1,
    };
    assert_eq!(decode(&mut input, Version::V311, size - 1), Err(error));
}

#[test]
fn payload_is_a_slice_of_the_input() {
    let mut input = BytesMut::from(&assemble("30 [ \"a\" 'payload' ]")[..]);
    let memory = input.as_ptr_range();
    let Ok(Some(Packet::Publish(publish))) = decode(&mut input, Version::V311, 100) else {
        panic!("a valid PUBLISH is decoded");
    };
    assert!(memory.contains(&publish.payload.as_ptr()));
    assert!(memory.contains(&publish.topic.text().as_bytes().as_ptr()));
}

fn body_of(packet: &[u8]) -> &[u8] {
    let varint_len = 1 + packet[1..].iter().take_while(|byte| **byte >= 0x80).count();
    &packet[1 + varint_len..]
}
