//! TLS for every listener and every client of the node.
//!
//! One certificate identifies the node on all of its `tls_listen` addresses.
//! [`ServerTls`] holds it and takes a new one up while connections stay open;
//! [`SecureListener`] bounds what connections cost that have not finished their
//! handshake; [`TlsStream`] is the stream that an MQTT connection reads and
//! writes, which holds no buffer while it is idle. `docs/security.md` describes
//! it all for people, decision 0030 gives the reasons.
//!
//! What this module does not do: it decides nothing about what a client may do.
//! It hands on who the client is by its certificate ([`ClientCertificate`]).

mod admission;
pub mod authority;
pub mod certificate;
pub mod client;
mod listener;
pub mod material;
pub mod revocation;
pub mod server;
mod stream;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::ClientTls;
pub use forebay_broker::ClientCertificate;
pub use listener::{Accepted, Door, HandshakeCounts, SecureListener};
pub use server::ServerTls;
pub use stream::TlsStream;

/// ring, and nothing else, on both sides of every connection.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
