//! The node's certificate and the listeners that show it.

use std::sync::Arc;
use std::time::SystemTime;

use crate::status::{CertificateStatus, TlsListenerStatus, TlsStatus};
use crate::tls::server::{ServerTlsError, Watched};
use crate::tls::{Door, ServerTls};

use super::NodeError;
use crate::config::Config;

/// What speaks TLS here.
#[derive(Clone, Default)]
pub(super) struct Secured {
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) doors: Vec<Arc<Door>>,
}

impl Secured {
    /// Reads the certificate when a listener needs it.
    pub(super) fn open(config: &Config) -> Result<Self, NodeError> {
        let failed = |error: ServerTlsError| NodeError::part("TLS listeners")(&error);
        let files = config.tls.as_ref();
        let files = files.filter(|_| !config.tls_listeners().is_empty());
        Ok(Self {
            tls: files.map(ServerTls::open).transpose().map_err(failed)?,
            doors: Vec::new(),
        })
    }

    /// What the node says about it. `None` without TLS.
    pub(super) fn status(&self) -> Option<TlsStatus> {
        let tls = self.tls.as_ref()?;
        Some(TlsStatus {
            certificates: tls.watched().iter().map(certificate).collect(),
            listeners: self.doors.iter().map(|door| listener(door)).collect(),
            alarms: tls.alarms(SystemTime::now()),
        })
    }
}

fn certificate(watched: &Watched) -> CertificateStatus {
    CertificateStatus {
        role: watched.role.clone(),
        file: watched.file.clone(),
        subject: watched.facts.subject.clone(),
        names: watched.facts.names.clone(),
        expires_at: watched.until(),
    }
}

fn listener(door: &Door) -> TlsListenerStatus {
    let counts = door.counts();
    let failures = [
        ("plain_text", counts.plain_text),
        ("timeout", counts.timeout),
        ("crowded_out", counts.crowded_out),
        ("certificate", counts.certificate),
        ("protocol", counts.protocol),
        ("lost", counts.lost),
    ];
    TlsListenerStatus {
        listener: door.name().to_owned(),
        full: counts.full,
        resumed: counts.resumed,
        failures: failures
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
    }
}
