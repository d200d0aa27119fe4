//! Argon2id (RFC 9106) for passwords.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use subtle::ConstantTimeEq;

/// Memory of one computation in KiB, with [`PASSES`] one of the equal settings of
/// the OWASP password storage cheat sheet. A Raspberry Pi 3 takes 0.2 s for it.
pub const MEMORY_KIB: u32 = 12_288;
/// Passes over the memory.
pub const PASSES: u32 = 3;
/// Longest password, in bytes; more would only cost time.
pub const PASSWORD_LEN_MAX: usize = 256;
/// Bytes of a salt, as RFC 9106 section 3.1 recommends.
pub const SALT_LEN: usize = 16;

const HASH_LEN: usize = 32;
/// Blocks of 1 KiB that are asked for at least; those that are not needed are never
/// touched and cost nothing. glibc maps what is above 32 MiB by itself and unmaps it
/// at once. What is smaller it keeps, after the first time, in the heap of the thread:
/// 12 MiB for each thread that has ever checked a password.
const MAPPED_BLOCKS: usize = 33 << 10;
/// Most memory and passes that a file may ask for: a hash from elsewhere must not
/// take the node down.
const MEMORY_KIB_MAX: u32 = 65_536;
const PASSES_MAX: u32 = 10;

/// What is kept of a password: enough to recognise it, not to tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    salt: [u8; SALT_LEN],
    hash: [u8; HASH_LEN],
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(hidden)")
    }
}

/// Why a password cannot be kept, or a hash not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Empty or too long.
    #[error("expected a password of 1 to {PASSWORD_LEN_MAX} bytes, got {len}")]
    Length {
        /// Bytes found.
        len: usize,
    },
    /// A hash that is not ours.
    #[error("expected $argon2id$v=19$m=…,t=…,p=1$salt$hash")]
    Format,
}

impl PasswordHash {
    /// Computes what is kept of a password. Takes some hundred milliseconds and
    /// 12 MiB.
    ///
    /// # Errors
    /// The password is empty or too long.
    pub fn new(password: &[u8], salt: [u8; SALT_LEN]) -> Result<Self, PasswordError> {
        if password.is_empty() || password.len() > PASSWORD_LEN_MAX {
            return Err(PasswordError::Length {
                len: password.len(),
            });
        }
        let hash = compute(password, &salt, MEMORY_KIB, PASSES).ok_or(PasswordError::Format)?;
        Ok(Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            salt,
            hash,
        })
    }

    /// Whether this is the password. Takes as long as [`Self::new`].
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        if password.len() > PASSWORD_LEN_MAX {
            return false;
        }
        let computed = compute(password, &self.salt, self.memory_kib, self.passes);
        computed.is_some_and(|computed| computed.ct_eq(&self.hash).into())
    }

    /// The hash as a PHC string.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "$argon2id$v=19$m={},t={},p=1${}${}",
            self.memory_kib,
            self.passes,
            BASE64.encode(self.salt),
            BASE64.encode(self.hash)
        )
    }

    /// Reads a PHC string.
    ///
    /// # Errors
    /// It is not one of these, or asks for too much.
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        Self::parse_inner(text).ok_or(PasswordError::Format)
    }

    fn parse_inner(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("$argon2id$v=19$m=")?;
        let (memory, rest) = rest.split_once(",t=")?;
        let (passes, rest) = rest.split_once(",p=1$")?;
        let (salt, hash) = rest.split_once('$')?;
        let (memory_kib, passes) = (memory.parse().ok()?, passes.parse().ok()?);
        let is_bounded =
            (8..=MEMORY_KIB_MAX).contains(&memory_kib) && (1..=PASSES_MAX).contains(&passes);
        is_bounded.then_some(Self {
            memory_kib,
            passes,
            salt: BASE64.decode(salt).ok()?.try_into().ok()?,
            hash: BASE64.decode(hash).ok()?.try_into().ok()?,
        })
    }
}

/// Spends the time of a verification for a user who does not exist, so that
/// names cannot be told apart by it.
pub fn verify_nobody(password: &[u8]) {
    let len = password.len().min(PASSWORD_LEN_MAX);
    let _ = compute(&password[..len], &[0; SALT_LEN], MEMORY_KIB, PASSES);
}

fn compute(password: &[u8], salt: &[u8], memory_kib: u32, passes: u32) -> Option<[u8; HASH_LEN]> {
    let params = Params::new(memory_kib, passes, 1, Some(HASH_LEN)).ok()?;
    let mut hash = [0; HASH_LEN];
    let mut memory = Vec::with_capacity(params.block_count().max(MAPPED_BLOCKS));
    memory.resize(params.block_count(), Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2
        .hash_password_into_with_memory(password, salt, &mut hash, &mut memory)
        .ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_recognised_and_no_other() {
        let hash = PasswordHash::new(b"open sesame", [7; SALT_LEN]).unwrap();
        let read = PasswordHash::parse(&hash.to_text()).unwrap();
        assert_eq!(read, hash);
        assert!(read.verify(b"open sesame"));
        assert!(!read.verify(b"open sesam"));
        assert!(!read.verify(b""));
        assert!(!read.verify(&[b'x'; PASSWORD_LEN_MAX + 1]));
        assert_eq!(format!("{read:?}"), "PasswordHash(hidden)");
    }

    /// The reference implementation's own vector (phc-winner-argon2, src/test.c,
    /// Argon2id version 0x13, t=2, m=2^16, p=1, "password", "somesalt") uses a
    /// salt of eight bytes, which this file refuses; the same function computes it.
    #[test]
    fn the_function_is_argon2id() {
        let hash = compute(b"password", b"somesalt", 65_536, 2).unwrap();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7";
        assert_eq!(hex, expected);
    }

    #[test]
    fn what_is_no_hash_of_ours_is_refused() {
        let good = PasswordHash::new(b"x", [1; SALT_LEN]).unwrap().to_text();
        for bad in [
            String::new(),
            good.replace("argon2id", "argon2i"),
            good.replace("m=12288", "m=99999999"),
            good.replace("t=3", "t=99"),
            good.replace("p=1", "p=4"),
            good[..good.len() - 3].to_owned(),
        ] {
            assert_eq!(
                PasswordHash::parse(&bad),
                Err(PasswordError::Format),
                "{bad}"
            );
        }
        let long = [b'x'; PASSWORD_LEN_MAX + 1];
        for wrong in [&b""[..], &long] {
            let len = wrong.len();
            let error = PasswordHash::new(wrong, [0; SALT_LEN]).unwrap_err();
            assert_eq!(error, PasswordError::Length { len });
        }
    }
}
