//! Any bytes are WebSocket frames or break a rule, and the stream in them does
//! not depend on how the connection cuts them.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The gateway is a program and not built for this; its decoder stands alone.
#[rustfmt::skip] // It would look for the tests of the decoder beside this file.
#[allow(dead_code, reason = "what a server writes is not read here")]
#[path = "../../gateway/src/mqtt/websocket/frame.rs"]
mod frame;

use frame::{Decoder, FrameError, Requests};

/// The stream and what control frames asked for, of input in such pieces.
fn decode(data: &[u8], limit: u64, piece: usize) -> Result<(Vec<u8>, Requests), FrameError> {
    let mut decoder = Decoder::new(limit);
    let mut stream = Vec::new();
    for piece in data.chunks(piece) {
        let mut bytes = piece.to_vec();
        let len = decoder.decode(&mut bytes)?;
        assert!(len <= piece.len());
        stream.extend_from_slice(&bytes[..len]);
    }
    Ok((stream, decoder.take_requests()))
}

fuzz_target!(|data: &[u8]| {
    let Some((&[piece, limit_high, limit_low], data)) = data.split_first_chunk::<3>() else {
        return;
    };
    let limit = u64::from(u16::from_be_bytes([limit_high, limit_low]));
    let whole = decode(data, limit, data.len().max(1));
    assert_eq!(decode(data, limit, 1), whole);
    assert_eq!(decode(data, limit, usize::from(piece).max(1)), whole);
    if let Ok((stream, requests)) = whole {
        assert!(stream.len() <= data.len());
        assert!(requests.pong.is_none_or(|pong| pong.len() <= 125));
    }
});
