//! Any bytes that a server sends as its certificate are a chain or an error, and
//! every check of a chain ends. Half of the inputs are edits of a good chain, because
//! nobody guesses one.
#![no_main]

use std::time::{Duration, SystemTime};

use forebay_opcua::certificates::{CHAIN_MAX, Cert, Check, Problem};
use libfuzzer_sys::fuzz_target;

/// The certificate of a machine and that of its authority, made with the Python
/// package cryptography and valid from 2026 for ten years.
const CHAIN: &[u8] = include_bytes!("../seeds/opcua_chain.der");

fuzz_target!(|data: &[u8]| {
    // A day on which the chain is valid.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let data = match data.split_first() {
        Some((kind, edits)) if kind % 2 == 1 => edited(edits),
        _ => data.to_vec(),
    };
    let Some(chain) = Cert::chain_from_der(&data) else {
        assert!(data != CHAIN, "the chain itself is one");
        return;
    };
    assert!((1..=CHAIN_MAX).contains(&chain.len()));
    let bytes: Vec<u8> = chain.iter().flat_map(|cert| cert.der()).copied().collect();
    assert_eq!(bytes, data, "a chain is its certificates and nothing else");
    for cert in &chain {
        assert_eq!(cert.fingerprint().len(), 64);
        let _ = (cert.subject(), cert.days_left(now), cert.application_uris());
        assert_eq!(Cert::from_der(cert.der()).as_ref(), Some(cert));
    }
    let check = |trusted: &[Cert]| {
        let check = Check {
            trusted,
            now,
            host: Some("machine"),
            application_uri: "urn:machine",
        };
        let problems = check.problems(&chain);
        for problem in &problems {
            assert!(!problem.to_string().is_empty());
        }
        problems.contains(&Problem::Untrusted)
    };
    assert!(check(&[]), "what a server sends alone is never trusted");
    assert!(!check(&chain[..1]), "what is in the trust list always is");
    let is_refused = check(&chain[chain.len() - 1..]);
    if data == CHAIN {
        assert!(!is_refused, "its authority trusts it");
    }
});

/// The chain with bytes replaced: place, new value.
fn edited(edits: &[u8]) -> Vec<u8> {
    let mut chain = CHAIN.to_vec();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]]));
        let length = chain.len();
        chain[at % length] = edit[2];
    }
    chain
}
