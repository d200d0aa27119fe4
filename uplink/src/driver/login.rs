//! Logging in by SASL before the first request that needs it. The uplink knows
//! no mechanism; whoever starts it may hand it one.

use std::fmt;

use bytes::Bytes;
use forebay_kafka::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use forebay_kafka::{KStr, error_code};
use tokio::task::spawn_blocking;

use super::connection::{Calls, ConnectionError};
use super::handshake::Versions;

/// Name and password of the uplink, and how they are shown.
pub trait Credentials: fmt::Debug + Send + Sync {
    /// The name of the mechanism.
    fn mechanism(&self) -> &'static str;

    /// Begins an exchange. Reads files.
    ///
    /// # Errors
    /// A sentence that says why there is no password.
    fn begin(&self) -> Result<Begun, String>;
}

/// An exchange with its first message.
pub type Begun = (Box<dyn Exchange>, Vec<u8>);

/// An exchange that waits for the broker's next message.
pub trait Exchange: Send {
    /// Takes it. Returns the next message, or `None` at the end. May compute for a
    /// while.
    ///
    /// # Errors
    /// A sentence that says what the broker did wrong.
    fn answer(self: Box<Self>, message: &[u8]) -> Result<Option<Begun>, String>;
}

/// Logs in.
///
/// # Errors
/// The broker refuses, or the connection fails.
pub(super) async fn log_in(
    calls: &mut Calls,
    versions: &Versions,
    credentials: &dyn Credentials,
) -> Result<(), ConnectionError> {
    let address = calls.address.clone();
    let failed = |reason: String| ConnectionError::Login {
        address: address.clone(),
        reason,
    };
    let request = SaslHandshakeRequest {
        mechanism: KStr::from(credentials.mechanism()),
    };
    let offered = calls.call(&request, 1).await?;
    if offered.error_code != error_code::NONE {
        let names: Vec<&str> = offered.mechanisms.iter().map(|name| &**name).collect();
        return Err(failed(format!(
            "{} for {}; it offers {}",
            error_code::name(offered.error_code),
            credentials.mechanism(),
            names.join(", ")
        )));
    }
    let version = versions.pick::<SaslAuthenticateRequest>(2);
    let mut next = Some(credentials.begin().map_err(failed)?);
    while let Some((exchange, message)) = next {
        let request = SaslAuthenticateRequest {
            auth_bytes: Bytes::from(message),
            ..SaslAuthenticateRequest::default()
        };
        let response = calls.call(&request, version).await?;
        if response.error_code != error_code::NONE {
            let words = response.error_message.as_deref().unwrap_or_default();
            let name = error_code::name(response.error_code);
            return Err(failed(format!("{words} ({name})")));
        }
        // Thousands of hashes that the broker asks for are not for this thread.
        let answering = spawn_blocking(move || exchange.answer(&response.auth_bytes));
        next = match answering.await {
            Ok(answered) => answered.map_err(failed)?,
            Err(_) => return Err(failed("the login could not be computed".to_owned())),
        };
    }
    Ok(())
}
