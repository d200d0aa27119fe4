use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 1 << 20;

/// A client's frame, written from section 5.2 without the code under test.
fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len if len < 126 => frame.push(0x80 | len as u8),
        len if len < 65_536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    let hide = |(at, byte): (usize, &u8)| byte ^ mask[at % 4];
    frame.extend(payload.iter().enumerate().map(hide));
    frame
}

fn binary(payload: &[u8]) -> Vec<u8> {
    masked(0x82, payload, [0x37, 0xfa, 0x21, 0x3d])
}

/// Decodes in pieces of `step` bytes.
fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Decoder), FrameError> {
    let mut decoder = Decoder::new(LIMIT);
    let mut stream = Vec::new();
    for piece in bytes.chunks(step) {
        let mut piece = piece.to_vec();
        let kept = decoder.decode(&mut piece)?;
        stream.extend_from_slice(&piece[..kept]);
    }
    Ok((stream, decoder))
}

fn refused(bytes: &[u8]) -> FrameError {
    decode(bytes, bytes.len()).map(|_| ()).unwrap_err()
}

#[test]
fn the_masked_example_of_the_rfc_decodes() {
    // RFC 6455 section 5.7, the masked "Hello", as a binary message.
    let frame = [
        0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    for step in 1..=frame.len() {
        assert_eq!(decode(&frame, step).unwrap().0, b"Hello");
    }
}

#[test]
fn what_is_broken_is_refused() {
    let with_first = |first| masked(first, b"x", [1, 2, 3, 4]);
    for (bytes, error) in [
        (with_first(0xC2), FrameError::ReservedBits),
        (with_first(0x92), FrameError::ReservedBits),
        (with_first(0xA2), FrameError::ReservedBits),
        (with_first(0x81), FrameError::Text),
        (with_first(0x83), FrameError::Opcode { opcode: 3 }),
        (with_first(0x8F), FrameError::Opcode { opcode: 15 }),
        (with_first(0x80), FrameError::Continuation),
        (with_first(0x09), FrameError::Control),
        (masked(0x89, &[0; 126], [0; 4]), FrameError::Control),
        (vec![0x82, 0x01, b'x'], FrameError::NotMasked),
        (vec![0x82, 0xFE, 0x00, 0x7D], FrameError::Length),
        (
            vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
            FrameError::Length,
        ),
        (
            vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 1, 0, 0],
            FrameError::Length,
        ),
        (
            [with_first(0x02), with_first(0x82)].concat(),
            FrameError::Continuation,
        ),
        (masked(0x88, b"x", [0; 4]), FrameError::Close),
        (masked(0x88, &[0x03, 0xEE], [0; 4]), FrameError::Close),
        (masked(0x88, &[0x03, 0xE8, 0xFF], [0; 4]), FrameError::Close),
    ] {
        assert_eq!(refused(&bytes), error, "{bytes:?}");
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_by_its_header() {
    let len = LIMIT + 1;
    let mut header = vec![0x82, 0xFF];
    header.extend(len.to_be_bytes());
    assert_eq!(refused(&header), FrameError::TooLarge { len, limit: LIMIT });
    assert_eq!(refused(&header).status(), status::TOO_LARGE);
}

#[test]
fn the_newest_ping_and_the_close_are_told() {
    let bytes = [
        masked(0x89, b"one", [9; 4]),
        binary(b"a"),
        masked(0x89, b"two", [7; 4]),
        masked(0x8A, b"unasked", [7; 4]),
        masked(0x88, &[0x03, 0xE9], [7; 4]),
        binary(b"behind the end"),
    ];
    let (stream, mut decoder) = decode(&bytes.concat(), 3).unwrap();
    assert_eq!(stream, b"a");
    let asked = Requests {
        pong: Some(b"two".to_vec()),
        close: Some(1001),
    };
    assert_eq!(decoder.take_requests(), asked);
}

#[test]
fn frames_of_every_length_class_are_encoded() {
    for (len, header) in [
        (125, vec![0x82, 125]),
        (126, vec![0x82, 126, 0, 126]),
        (65_535, vec![0x82, 126, 0xFF, 0xFF]),
        (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut bytes = BytesMut::new();
        encode_binary(&vec![7; len], &mut bytes);
        assert_eq!(bytes[..header.len()], header);
        assert_eq!(bytes.len(), header.len() + len);
    }
}

fn any_frames() -> impl Strategy<Value = Vec<(Vec<u8>, bool, [u8; 4])>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(any::<u8>(), 65_530..65_540),
    ];
    prop::collection::vec((payload, any::<bool>(), any::<[u8; 4]>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// However a client cuts the stream into frames, fragments and segments,
    /// with pings in between, the bytes are the same.
    #[test]
    fn the_stream_does_not_depend_on_its_frames(frames in any_frames(), step in 1_usize..70_000) {
        let (mut bytes, mut stream, mut open) = (Vec::new(), Vec::<u8>::new(), false);
        for (payload, is_final, mask) in &frames {
            let first = if open { 0x00 } else { 0x02 } | if *is_final { 0x80 } else { 0 };
            bytes.extend(masked(first, payload, *mask));
            bytes.extend(masked(0x89, b"ping", *mask));
            stream.extend(payload);
            open = !is_final;
        }
        prop_assert_eq!(decode(&bytes, step).unwrap().0, stream);
    }

    /// Hostile bytes end in an error or in fewer bytes, whole or in pieces,
    /// and both alike.
    #[test]
    fn hostile_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1_usize..20) {
        let whole = decode(&bytes, bytes.len().max(1)).map(|(stream, _)| stream);
        let pieces = decode(&bytes, step).map(|(stream, _)| stream);
        prop_assert_eq!(&whole, &pieces);
        if let Ok(stream) = whole {
            prop_assert!(stream.len() <= bytes.len());
        }
    }

    /// The same for frames whose first bytes are plausible.
    #[test]
    fn mutated_frames_do_not_panic(
        frames in any_frames(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let mut bytes: Vec<u8> = frames.iter().flat_map(|(p, _, mask)| masked(0x82, p, *mask)).collect();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let whole = decode(&bytes, bytes.len().max(1)).map(|(stream, _)| stream);
        let pieces = decode(&bytes, 7).map(|(stream, _)| stream);
        prop_assert_eq!(whole, pieces);
    }
}
