//! A client whose events are waited for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_opcua::client::{Client, Event, Notice};
use forebay_opcua::deadband::Deadband;
use forebay_opcua::node::NodeRef;
use forebay_opcua::run::Standing;
use forebay_opcua::sample::{Quality, Sample, Timestamp};
use forebay_opcua::security::{Mode, Policy, Security};
use forebay_opcua::settings::{Identity, NodeSettings, Sampling, Settings, Url};

/// Far more than anything here takes.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Settings for a server on loopback, with short times.
pub fn settings(port: u16, pki: &Path) -> Settings {
    Settings {
        name: "cell-4".to_owned(),
        url: Url::parse(&format!("opc.tcp://127.0.0.1:{port}/")).unwrap(),
        security: Security::Exactly(Policy::None, Mode::None),
        check_hostname: true,
        identity: Identity::Anonymous,
        publishing_interval: Duration::from_millis(50),
        keep_alive: Duration::from_millis(500),
        request_timeout: Duration::from_secs(2),
        session_timeout: Duration::from_secs(30),
        batch: 100,
        timestamp: Timestamp::Source,
        nodes: Vec::new(),
        browse: Vec::new(),
        exclude: Vec::new(),
        max_nodes: 10_000,
        max_depth: 10,
        sampling: sampling(),
        server_deadband: false,
        pki: pki.to_path_buf(),
    }
}

pub fn sampling() -> Sampling {
    Sampling {
        interval: Some(Duration::ZERO),
        queue_size: 1_000,
        deadband: Deadband::None,
    }
}

/// A node by its name in the plant's namespace.
pub fn node(name: &str) -> NodeSettings {
    NodeSettings {
        name: name.to_owned(),
        id: NodeRef::parse(&format!("nsu={};s={name}", super::plant::LINE)).unwrap(),
        sampling: sampling(),
    }
}

/// A client and everything that it said.
pub struct Watcher {
    pub client: Client,
    pub samples: Vec<Sample>,
    pub notices: Vec<Notice>,
}

impl Watcher {
    pub fn new(settings: Settings) -> Self {
        Self {
            client: Client::new(settings, 1),
            samples: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Takes events until what was seen is enough.
    pub async fn until(&mut self, what: &str, is_enough: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_enough(self) {
                match self.client.next().await.unwrap() {
                    Event::Samples(samples) => self.samples.extend(samples),
                    Event::Notice(notice) => self.notices.push(notice),
                }
            }
        };
        let waited = tokio::time::timeout(DEADLINE, waiting).await;
        let newest: Vec<_> = self.samples.iter().rev().take(3).collect();
        assert!(waited.is_ok(), "no {what}: {:?} {newest:?}", self.notices);
    }

    /// Waits until values come, from now on.
    pub async fn live(&mut self) {
        self.forget();
        self.until("session", |seen| {
            seen.has_standing(|one| *one == Standing::Live)
        })
        .await;
    }

    /// Waits until the newest value of a node is this one.
    pub async fn value(&mut self, name: &str, value: f64) {
        self.until(&format!("{name} = {value}"), |seen| {
            seen.newest(name).is_some_and(|sample| {
                sample.quality == Quality::Good && sample.value.number() == Some(value)
            })
        })
        .await;
    }

    pub fn forget(&mut self) {
        self.samples.clear();
        self.notices.clear();
    }

    pub fn newest(&self, name: &str) -> Option<&Sample> {
        self.samples
            .iter()
            .rev()
            .find(|sample| &*sample.name == name)
    }

    pub fn has_standing(&self, is_one: impl Fn(&Standing) -> bool) -> bool {
        self.notices
            .iter()
            .any(|notice| matches!(notice, Notice::Standing(standing) if is_one(standing)))
    }

    /// The good numbers of a node in the order in which they came.
    pub fn numbers(&self, name: &str) -> Vec<f64> {
        let mine = self.samples.iter().filter(|sample| &*sample.name == name);
        let good = mine.filter(|sample| sample.quality == Quality::Good);
        good.filter_map(|sample| sample.value.number()).collect()
    }

    pub async fn write(
        &self,
        name: &str,
        value: forebay_opcua::value::Value,
    ) -> Result<forebay_opcua::value::Value, forebay_opcua::client::WriteError> {
        self.client.write(Arc::from(name), value).await.unwrap()
    }
}
