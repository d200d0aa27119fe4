//! Numbers, versions and header rules of the APIs.

include!(concat!(env!("OUT_DIR"), "/api_key.rs"));

/// An API number that this codec does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown api key {0}")]
pub struct UnknownApiKey(pub i16);

impl ApiKey {
    /// Whether `version` uses compact lengths and tagged fields (KIP-482).
    ///
    /// It also answers for versions above [`ApiKey::versions`], because a
    /// request header must be read before its version can be refused.
    pub fn is_flexible(self, version: i16) -> bool {
        self.flexible_from().is_some_and(|from| version >= from)
    }

    /// Whether the response header of `version` has tagged fields.
    ///
    /// The header of ApiVersions never has them, because the client does not
    /// know yet which versions the broker speaks (KIP-511).
    pub fn has_flexible_response_header(self, version: i16) -> bool {
        self != Self::ApiVersions && self.is_flexible(version)
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = UnknownApiKey;

    fn try_from(key: i16) -> Result<Self, UnknownApiKey> {
        Self::ALL
            .iter()
            .copied()
            .find(|known| *known as i16 == key)
            .ok_or(UnknownApiKey(key))
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
