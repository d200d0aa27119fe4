//! The node's certificate and the listeners that show it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::status::{CertificateStatus, TlsListenerStatus, TlsStatus};
use crate::tls::server::{ServerTlsError, Watched};
use crate::tls::{ClientTls, Door, ServerTls};

use super::NodeError;
use crate::config::Config;

/// How often a certificate that ends soon is logged.
const WARN_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What speaks TLS here.
#[derive(Clone, Default)]
pub(super) struct Secured {
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) doors: Vec<Arc<Door>>,
    /// Connections that the node opens and shows a certificate on, by role.
    pub(super) clients: Vec<(String, Arc<ClientTls>)>,
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
            clients: Vec::new(),
        })
    }

    /// What the node says about it. `None` without TLS.
    pub(super) fn status(&self) -> Option<TlsStatus> {
        if self.tls.is_none() && self.clients.is_empty() {
            return None;
        }
        let now = SystemTime::now();
        let served = self.tls.as_ref().map(|tls| tls.watched());
        let shown = self.clients.iter();
        let shown: Vec<_> = shown.filter_map(|(role, tls)| tls.watched(role)).collect();
        let alarms = self.tls.as_ref().map(|tls| tls.alarms(now));
        let mut alarms = alarms.unwrap_or_default();
        alarms.extend(shown.iter().filter_map(|one| one.expiry_alarm(now)));
        let certificates = served.iter().flatten().chain(&shown);
        Some(TlsStatus {
            certificates: certificates.map(certificate).collect(),
            listeners: self.doors.iter().map(|door| listener(door)).collect(),
            alarms,
        })
    }

    /// Warns of certificates that end soon, for as long as it is polled.
    pub(super) async fn warn(self) {
        let mut day = tokio::time::interval(WARN_INTERVAL);
        loop {
            day.tick().await;
            for alarm in self.status().iter().flat_map(|status| &status.alarms) {
                tracing::warn!("{alarm}");
            }
        }
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
