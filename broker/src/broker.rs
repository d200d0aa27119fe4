//! The broker: shared state and the way from a frame to its handler.

use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use forebay_kafka::{ApiKey, DecodeError, Reader, Request, decode_request_header};
use forebay_storage::{Partition, Storage, Topic};
use parking_lot::Mutex;

use crate::authority::{Authority, Visit};
use crate::book::Books;
use crate::call::{Call, ConnectionContext};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::errors::Refusal;
use crate::handlers::groups::GroupDesk;
use crate::handlers::producer_id::ProducerIds;
use crate::reply::{CloseReason, Reply};
use crate::stats::{Counters, Stats};
use crate::topic_name::is_internal;

/// Leader epoch of every partition: one node leads for good.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// A one-node Kafka broker over the log.
///
/// Give it to [`serve`](crate::serve) for TCP, or call [`Broker::handle`] per
/// frame.
pub struct Broker {
    pub(crate) storage: Storage,
    pub(crate) config: BrokerConfig,
    pub(crate) clock: Clock,
    pub(crate) books: Books,
    pub(crate) groups: Mutex<GroupDesk>,
    pub(crate) producer_ids: Mutex<ProducerIds>,
    pub(crate) counters: Counters,
    authority: Option<Arc<dyn Authority>>,
    wake_groups: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Broker {
    /// Makes a broker over an open log. Nothing is read until the first
    /// request asks for it.
    pub fn new(storage: Storage, config: BrokerConfig) -> Self {
        Self {
            groups: Mutex::new(GroupDesk::new(config.group_timing)),
            storage,
            config,
            clock: Clock::start(),
            books: Books::default(),
            producer_ids: Mutex::new(ProducerIds::default()),
            counters: Counters::default(),
            authority: None,
            wake_groups: OnceLock::new(),
        }
    }

    /// Asks an authority who may do what.
    #[must_use]
    pub fn with_authority(mut self, authority: Arc<dyn Authority>) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Whether logins are served and looked at.
    pub(crate) fn has_authority(&self) -> bool {
        self.authority.is_some()
    }

    /// Whether a connection may do more than log in.
    pub(crate) fn is_known(&self, context: &ConnectionContext) -> bool {
        let authority = self.authority.as_deref();
        authority.is_none_or(|asked| context.session.principal(asked, context).is_some())
    }

    /// Handles one request frame, without its length prefix, and never blocks.
    /// The caller does what the [`Reply`] says.
    pub fn handle(self: &Arc<Self>, frame: Bytes, context: ConnectionContext) -> Reply {
        match self.route(frame, context) {
            Ok(reply) => reply,
            Err(reason) => Reply::Close(reason),
        }
    }

    /// What it did since the start.
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    /// The log under the broker.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The settings it was made with.
    pub fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// Sets what is called when a group's next deadline may have come closer.
    /// Only the first call counts.
    pub fn on_group_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake_groups.set(Box::new(wake));
    }

    /// Writes a snapshot of every loaded producer window, so that the next
    /// start replays little. Durable with the next commit.
    pub fn close(&self) {
        self.books.snapshot_all(&self.storage);
    }

    pub(crate) fn groups_changed(&self) {
        if let Some(wake) = self.wake_groups.get() {
            wake();
        }
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        if is_internal(name) {
            None
        } else {
            self.storage.topic(name)
        }
    }

    pub(crate) fn partition(
        &self,
        topic: &str,
        index: i32,
    ) -> Result<(Arc<Topic>, Partition), Refusal> {
        let topic = self.topic(topic).ok_or(Refusal::UnknownPartition)?;
        let partition = u32::try_from(index)
            .ok()
            .and_then(|index| topic.partition(index));
        partition
            .map(|partition| (topic, partition))
            .ok_or(Refusal::UnknownPartition)
    }

    /// Runs `work` where blocking is allowed.
    pub(crate) fn blocking(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Reply + Send + 'static,
    ) -> Reply {
        let broker = Arc::clone(self);
        Reply::Blocking(Box::new(move || work(&broker)))
    }

    fn route(
        self: &Arc<Self>,
        frame: Bytes,
        context: ConnectionContext,
    ) -> Result<Reply, CloseReason> {
        let mut reader = Reader::new(frame);
        let header = decode_request_header(&mut reader).map_err(malformed)?;
        let key = ApiKey::try_from(header.api_key)
            .map_err(|_| CloseReason::UnknownApi(header.api_key))?;
        self.counters.add_request(key);
        let version = header.api_version;
        if !self.serves(key) {
            return Err(CloseReason::UnknownApi(header.api_key));
        }
        let mut call = Call {
            key,
            version,
            correlation_id: header.correlation_id,
            client_id: header.client_id,
            client_host: context.client_host,
            advertised: context.advertised.clone(),
            visit: None,
        };
        if !served_versions(key).contains(&version) {
            return match key {
                ApiKey::ApiVersions => Ok(self.api_versions_unsupported(&call)),
                _ => Err(CloseReason::UnsupportedVersion {
                    key: header.api_key,
                    version,
                }),
            };
        }
        let Some(authority) = &self.authority else {
            return self.dispatch(&call, &mut reader);
        };
        match key {
            ApiKey::ApiVersions => {}
            ApiKey::SaslHandshake => {
                let request = body(&mut reader, version)?;
                return Ok(self.sasl_handshake(&call, &**authority, &context, request));
            }
            ApiKey::SaslAuthenticate => {
                let request = body(&mut reader, version)?;
                return Ok(self.sasl_authenticate(&call, &context, request));
            }
            _ => call.visit = Some(self.visit(authority, &context)?),
        }
        self.dispatch(&call, &mut reader)
    }

    fn visit(
        &self,
        authority: &Arc<dyn Authority>,
        context: &ConnectionContext,
    ) -> Result<Visit, CloseReason> {
        let Some(principal) = context.session.principal(&**authority, context) else {
            authority.refused_without_login(context);
            return Err(CloseReason::NotLoggedIn);
        };
        Ok(Visit {
            authority: Arc::clone(authority),
            session: Arc::clone(&context.session),
            principal,
        })
    }

    /// Whether an API is served at all: logins only where they mean something.
    pub(crate) fn serves(&self, key: ApiKey) -> bool {
        match key {
            ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => self.has_authority(),
            _ => true,
        }
    }

    fn dispatch(self: &Arc<Self>, call: &Call, reader: &mut Reader) -> Result<Reply, CloseReason> {
        let v = call.version;
        Ok(match call.key {
            ApiKey::Produce => self.produce(call, body(reader, v)?),
            ApiKey::Fetch => self.fetch(call, body(reader, v)?),
            ApiKey::ListOffsets => self.list_offsets(call, body(reader, v)?),
            ApiKey::Metadata => self.metadata(call, body(reader, v)?),
            ApiKey::OffsetCommit => self.offset_commit(call, body(reader, v)?),
            ApiKey::OffsetFetch => self.offset_fetch(call, body(reader, v)?),
            ApiKey::FindCoordinator => self.find_coordinator(call, body(reader, v)?),
            ApiKey::JoinGroup => self.join_group(call, body(reader, v)?),
            ApiKey::Heartbeat => self.heartbeat(call, body(reader, v)?),
            ApiKey::LeaveGroup => self.leave_group(call, body(reader, v)?),
            ApiKey::SyncGroup => self.sync_group(call, body(reader, v)?),
            ApiKey::DescribeGroups => self.describe_groups(call, body(reader, v)?),
            ApiKey::ListGroups => self.list_groups(call, body(reader, v)?),
            ApiKey::DeleteGroups => self.delete_groups(call, body(reader, v)?),
            ApiKey::OffsetDelete => self.offset_delete(call, body(reader, v)?),
            ApiKey::ApiVersions => self.api_versions(call, body(reader, v)?),
            ApiKey::CreateTopics => self.create_topics(call, body(reader, v)?),
            ApiKey::DeleteTopics => self.delete_topics(call, body(reader, v)?),
            ApiKey::CreatePartitions => self.create_partitions(call, body(reader, v)?),
            ApiKey::DeleteRecords => self.delete_records(call, body(reader, v)?),
            ApiKey::InitProducerId => self.init_producer_id(call, body(reader, v)?),
            ApiKey::OffsetForLeaderEpoch => self.offset_for_leader_epoch(call, body(reader, v)?),
            ApiKey::DescribeConfigs => self.describe_configs(call, body(reader, v)?),
            ApiKey::AlterConfigs => self.alter_configs(call, body(reader, v)?),
            ApiKey::IncrementalAlterConfigs => {
                self.incremental_alter_configs(call, body(reader, v)?)
            }
            ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => {
                return Err(CloseReason::UnknownApi(call.key as i16));
            }
            ApiKey::DescribeAcls => self.describe_acls(call, body(reader, v)?),
            ApiKey::CreateAcls => self.create_acls(call, body(reader, v)?),
            ApiKey::DeleteAcls => self.delete_acls(call, body(reader, v)?),
            ApiKey::DescribeLogDirs => self.describe_log_dirs(call, body(reader, v)?),
            ApiKey::DescribeCluster => self.describe_cluster(call, body(reader, v)?),
        })
    }
}

/// Versions that the broker answers.
pub(crate) fn served_versions(key: ApiKey) -> RangeInclusive<i16> {
    key.versions()
}

fn body<R: Request>(reader: &mut Reader, version: i16) -> Result<R, CloseReason> {
    // Bytes behind the body are ignored, as Kafka does: librdkafka's Metadata
    // request for all topics carries three.
    R::decode(reader, version).map_err(malformed)
}

fn malformed(error: DecodeError) -> CloseReason {
    CloseReason::Malformed(error.to_string())
}
