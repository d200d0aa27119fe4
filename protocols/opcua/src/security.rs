//! Which of the endpoints that a server offers is used.

use std::fmt;

use opcua::types::{EndpointDescription, MessageSecurityMode, UserTokenPolicy, UserTokenType};
use thiserror::Error;

/// The transport that this client speaks (Part 7, UA-TCP UA-SC UA-Binary).
const TRANSPORT: &str = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary";

/// How messages are protected. Ordered by strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Not at all.
    None,
    /// Basic256Sha256.
    Basic256Sha256,
    /// Aes128_Sha256_RsaOaep.
    Aes128Sha256RsaOaep,
    /// Aes256_Sha256_RsaPss.
    Aes256Sha256RsaPss,
}

/// Whether messages are signed, or signed and encrypted. Ordered by strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Neither.
    None,
    /// Signed.
    Sign,
    /// Signed and encrypted.
    SignAndEncrypt,
}

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// The strongest endpoint that the server offers. Without protection only
    /// with `allow_none`.
    Auto {
        /// Whether an endpoint without protection may be taken when there is no
        /// better one.
        allow_none: bool,
    },
    /// Exactly this.
    Exactly(Policy, Mode),
}

/// Who the client says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKind {
    /// Nobody.
    Anonymous,
    /// A user with a password.
    User,
    /// The holder of a certificate.
    Certificate,
}

/// No endpoint fits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChoiceError {
    /// Nothing that is asked for is there.
    #[error("the server offers no endpoint with {wanted} for {identity}; it offers: {offered}")]
    NothingFits {
        /// What is asked for.
        wanted: String,
        /// For whom.
        identity: &'static str,
        /// What is there.
        offered: String,
    },
    /// Only endpoints without protection fit.
    #[error(
        "the server offers {identity} no protection of messages; `allow_none = true` would accept that; it offers: {offered}"
    )]
    OnlyNone {
        /// For whom.
        identity: &'static str,
        /// What is there.
        offered: String,
    },
}

impl Policy {
    /// All of them, the strongest first.
    pub const ALL: [Self; 4] = [
        Self::Aes256Sha256RsaPss,
        Self::Aes128Sha256RsaOaep,
        Self::Basic256Sha256,
        Self::None,
    ];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Basic256Sha256 => "Basic256Sha256",
            Self::Aes128Sha256RsaOaep => "Aes128Sha256RsaOaep",
            Self::Aes256Sha256RsaPss => "Aes256Sha256RsaPss",
        }
    }

    /// Reads a name; case and `_` do not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
        let name = plain(name);
        Self::ALL
            .into_iter()
            .find(|policy| plain(policy.name()) == name)
    }

    /// The policy of a URI (Part 7, 6.6); `None` for those that are not spoken,
    /// among them Basic128Rsa15 and Basic256, which are broken.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let fragment = uri.strip_prefix("http://opcfoundation.org/UA/SecurityPolicy#")?;
        Self::from_name(fragment)
    }
}

impl Mode {
    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Sign => "Sign",
            Self::SignAndEncrypt => "SignAndEncrypt",
        }
    }

    /// Reads a name; case does not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Sign, Self::SignAndEncrypt]
            .into_iter()
            .find(|mode| mode.name().eq_ignore_ascii_case(name))
    }

    fn of(mode: MessageSecurityMode) -> Option<Self> {
        match mode {
            MessageSecurityMode::None => Some(Self::None),
            MessageSecurityMode::Sign => Some(Self::Sign),
            MessageSecurityMode::SignAndEncrypt => Some(Self::SignAndEncrypt),
            MessageSecurityMode::Invalid => None,
        }
    }
}

impl IdentityKind {
    /// In a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "an anonymous client",
            Self::User => "a user with a password",
            Self::Certificate => "a user with a certificate",
        }
    }

    fn token(self) -> UserTokenType {
        match self {
            Self::Anonymous => UserTokenType::Anonymous,
            Self::User => UserTokenType::UserName,
            Self::Certificate => UserTokenType::Certificate,
        }
    }
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto { .. } => f.write_str("any protection"),
            Self::Exactly(policy, mode) => write!(f, "{} {}", policy.name(), mode.name()),
        }
    }
}

/// The protection of an endpoint, if this client speaks it.
pub fn protection(endpoint: &EndpointDescription) -> Option<(Policy, Mode)> {
    let transport = endpoint.transport_profile_uri.as_ref();
    let is_spoken = transport.is_empty() || transport == TRANSPORT;
    let policy = Policy::from_uri(endpoint.security_policy_uri.as_ref())?;
    let mode = Mode::of(endpoint.security_mode)?;
    (is_spoken && (policy == Policy::None) == (mode == Mode::None)).then_some((policy, mode))
}

/// Whether this client can protect an identity as a token policy asks for. An
/// empty policy is that of the endpoint (Part 4, 7.41); Basic128Rsa15 and
/// Basic256, which some servers still name, are broken.
pub fn is_usable(token: &UserTokenPolicy) -> bool {
    let uri = token.security_policy_uri.as_ref();
    uri.is_empty() || Policy::from_uri(uri).is_some()
}

/// Picks an endpoint: the strongest that fits, by the order of [`Mode`] and
/// then [`Policy`]. The server's own ranking is not asked, because nothing
/// protects the list of endpoints on its way.
///
/// # Errors
/// [`ChoiceError`] with what the server offers.
pub fn choose(
    endpoints: &[EndpointDescription],
    security: Security,
    identity: IdentityKind,
) -> Result<usize, ChoiceError> {
    let takes_identity = |endpoint: &EndpointDescription| match &endpoint.user_identity_tokens {
        // A server that lists none takes anybody (and says so at ActivateSession).
        None => identity == IdentityKind::Anonymous,
        Some(tokens) if tokens.is_empty() => identity == IdentityKind::Anonymous,
        Some(tokens) => tokens
            .iter()
            .any(|token| token.token_type == identity.token() && is_usable(token)),
    };
    let best = |wanted: &dyn Fn((Policy, Mode)) -> bool| {
        let fitting = endpoints
            .iter()
            .enumerate()
            .filter_map(|(index, endpoint)| {
                let found = protection(endpoint).filter(|&found| wanted(found))?;
                takes_identity(endpoint).then_some((found.1, found.0, index))
            });
        // The first of equals.
        fitting
            .max_by_key(|&(mode, policy, index)| (mode, policy, std::cmp::Reverse(index)))
            .map(|(_, _, index)| index)
    };
    let offered = || offers(endpoints);
    match security {
        Security::Exactly(policy, mode) => {
            best(&|found| found == (policy, mode)).ok_or_else(|| ChoiceError::NothingFits {
                wanted: security.to_string(),
                identity: identity.name(),
                offered: offered(),
            })
        }
        Security::Auto { allow_none } => {
            if let Some(index) = best(&|found| found.1 != Mode::None) {
                return Ok(index);
            }
            match best(&|_| true) {
                Some(index) if allow_none => Ok(index),
                Some(_) => Err(ChoiceError::OnlyNone {
                    identity: identity.name(),
                    offered: offered(),
                }),
                None => Err(ChoiceError::NothingFits {
                    wanted: security.to_string(),
                    identity: identity.name(),
                    offered: offered(),
                }),
            }
        }
    }
}

/// The name of a mode as it is on the wire.
pub(crate) fn mode_name(mode: MessageSecurityMode) -> &'static str {
    Mode::of(mode).map_or("Invalid", Mode::name)
}

/// What a server offers, in one line.
pub fn offers(endpoints: &[EndpointDescription]) -> String {
    let mut lines: Vec<String> = endpoints
        .iter()
        .map(|endpoint| {
            let uri = endpoint.security_policy_uri.as_ref();
            let policy = uri.rsplit('#').next().unwrap_or(uri);
            let mode = mode_name(endpoint.security_mode);
            let tokens: Vec<String> = endpoint
                .user_identity_tokens
                .iter()
                .flatten()
                .map(|token| {
                    let kind = match token.token_type {
                        UserTokenType::Anonymous => "anonymous",
                        UserTokenType::UserName => "user",
                        UserTokenType::Certificate => "certificate",
                        UserTokenType::IssuedToken => "issued token",
                    };
                    if is_usable(token) {
                        return kind.to_owned();
                    }
                    let uri = token.security_policy_uri.as_ref();
                    let policy = uri.rsplit('#').next().unwrap_or(uri);
                    format!("{kind} by {policy}, which is broken")
                })
                .collect();
            format!("{policy} {mode} ({})", tokens.join(", "))
        })
        .collect();
    lines.dedup();
    if lines.is_empty() {
        return "nothing".to_owned();
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use opcua::types::UserTokenPolicy;

    use super::*;

    const ANY: &[UserTokenType] = &[UserTokenType::Anonymous, UserTokenType::UserName];

    fn endpoint(
        policy: &str,
        mode: MessageSecurityMode,
        tokens: &[UserTokenType],
    ) -> EndpointDescription {
        let tokens = tokens.iter().map(|&token_type| UserTokenPolicy {
            token_type,
            ..UserTokenPolicy::default()
        });
        EndpointDescription {
            security_policy_uri: format!("http://opcfoundation.org/UA/SecurityPolicy#{policy}")
                .into(),
            security_mode: mode,
            user_identity_tokens: Some(tokens.collect()),
            transport_profile_uri: TRANSPORT.into(),
            ..EndpointDescription::default()
        }
    }

    fn factory() -> Vec<EndpointDescription> {
        use MessageSecurityMode as M;
        vec![
            endpoint("None", M::None, ANY),
            endpoint("Basic256", M::SignAndEncrypt, ANY),
            endpoint("Basic256Sha256", M::Sign, ANY),
            endpoint("Basic256Sha256", M::SignAndEncrypt, ANY),
            endpoint("Aes256_Sha256_RsaPss", M::Sign, ANY),
            endpoint("Aes128_Sha256_RsaOaep", M::SignAndEncrypt, ANY),
            endpoint("ECC_nistP256", M::SignAndEncrypt, ANY),
        ]
    }

    const STRICT: Security = Security::Auto { allow_none: false };
    const LAX: Security = Security::Auto { allow_none: true };

    #[test]
    fn auto_takes_encryption_before_signatures_and_then_the_best_policy() {
        assert_eq!(choose(&factory(), STRICT, IdentityKind::User), Ok(5));
        assert_eq!(choose(&factory(), LAX, IdentityKind::Anonymous), Ok(5));
        let some = &factory()[..4];
        assert_eq!(choose(some, STRICT, IdentityKind::Anonymous), Ok(3));
    }

    #[test]
    fn nothing_is_taken_without_protection_unless_allowed() {
        let open = &factory()[..2];
        assert_eq!(choose(open, LAX, IdentityKind::Anonymous), Ok(0));
        let error = choose(open, STRICT, IdentityKind::User).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server offers a user with a password no protection of messages; `allow_none = true` would accept that; it offers: None None (anonymous, user); Basic256 SignAndEncrypt (anonymous, user)"
        );
        let exactly = Security::Exactly(Policy::None, Mode::None);
        assert_eq!(choose(open, exactly, IdentityKind::User), Ok(0));
    }

    #[test]
    fn what_is_not_offered_is_answered_with_what_is() {
        let exactly = Security::Exactly(Policy::Aes256Sha256RsaPss, Mode::SignAndEncrypt);
        let error = choose(&factory()[2..4], exactly, IdentityKind::User).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server offers no endpoint with Aes256Sha256RsaPss SignAndEncrypt for a user with a password; it offers: Basic256Sha256 Sign (anonymous, user); Basic256Sha256 SignAndEncrypt (anonymous, user)"
        );
        assert!(choose(&[], LAX, IdentityKind::Anonymous).is_err());
    }

    #[test]
    fn an_endpoint_has_to_take_the_identity() {
        use MessageSecurityMode as M;
        let offered = [
            endpoint(
                "Aes256_Sha256_RsaPss",
                M::SignAndEncrypt,
                &[UserTokenType::Certificate],
            ),
            endpoint("Basic256Sha256", M::SignAndEncrypt, ANY),
        ];
        assert_eq!(choose(&offered, STRICT, IdentityKind::Certificate), Ok(0));
        assert_eq!(choose(&offered, STRICT, IdentityKind::User), Ok(1));
    }
}
