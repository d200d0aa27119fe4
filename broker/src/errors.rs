//! Kafka error codes for every refusal of this crate and of the log.
//!
//! Codes are assigned here and nowhere else. `docs/kafka-compatibility.md`
//! lists them for users.

use forebay_access::acls::BindingError;
use forebay_kafka::error_code as code;
use forebay_records::{BatchError, ValidateError};
use forebay_storage::{
    AlterTopicError, AppendError, CreateTopicError, DeleteTopicError, ReadError,
};

use crate::authority::AclRefusal;
use crate::group::GroupError;
use crate::offsets::CommitError;
use crate::producer_state::SequenceError;
use crate::topic_config::TopicConfigError;
use crate::topic_name::TopicNameError;

/// Something that has a Kafka error code.
pub trait KafkaCode {
    /// The error code of the protocol's table.
    fn kafka_code(&self) -> i16;
}

/// Why a request for a topic, a partition or an append is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No such topic or partition.
    #[error("topic or partition is unknown")]
    UnknownPartition,
    /// No topic has this id.
    #[error("topic id is unknown")]
    UnknownTopicId,
    /// The topic exists.
    #[error("topic '{0}' exists")]
    TopicExists(String),
    /// The name breaks a rule.
    #[error(transparent)]
    Name(#[from] TopicNameError),
    /// A config breaks a rule.
    #[error(transparent)]
    Config(#[from] TopicConfigError),
    /// Partition count out of range.
    #[error("{found} partitions, expected 1 to {limit}")]
    Partitions {
        /// Count asked for.
        found: i32,
        /// Largest count.
        limit: u32,
    },
    /// Replication factor other than 1.
    #[error("replication factor {found}, expected 1 or -1 on a single node")]
    ReplicationFactor {
        /// Factor asked for.
        found: i16,
    },
    /// Manual assignment to other nodes, or not dense.
    #[error("replica assignment must list every partition once on node {node_id}")]
    Assignment {
        /// The only node.
        node_id: i32,
    },
    /// The same topic appears twice in one request.
    #[error("topic '{0}' appears more than once in the request")]
    Repeated(String),
    /// A field holds a value that has no meaning.
    #[error("{0}")]
    Invalid(&'static str),
    /// A config resource type that is not topic or broker, or another node.
    #[error("resource {resource_type} '{name}' is unknown")]
    Resource {
        /// Resource type code.
        resource_type: i8,
        /// Resource name.
        name: String,
    },
    /// Broker configs come from the configuration file.
    #[error("broker configs are set in the configuration file")]
    BrokerConfigReadOnly,
    /// acks is not 0, 1 or -1.
    #[error("acks is {0}, expected 0, 1 or -1")]
    Acks(i16),
    /// Transactions are not served.
    #[error("transactions are not supported")]
    Transactional,
    /// The offset is outside of the log.
    #[error("offset {0} is outside of the log")]
    OffsetOutOfRange(i64),
    /// The client's leader epoch is ahead of this node's.
    #[error("leader epoch {0} is unknown")]
    UnknownLeaderEpoch(i32),
    /// The client's leader epoch is behind this node's.
    #[error("leader epoch {0} is fenced")]
    FencedLeaderEpoch(i32),
    /// The batch breaks a rule.
    #[error(transparent)]
    Batch(#[from] ValidateError),
    /// The sequence of an idempotent producer breaks.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The append condition does not hold; the text begins with its `REFUSED_*`
    /// word.
    #[error("{reason}: {detail}, log end {log_end}")]
    Condition {
        /// `REFUSED_OFFSET` or `REFUSED_LINEAGE`.
        reason: &'static str,
        /// What was compared.
        detail: String,
        /// Log end of the partition.
        log_end: u64,
    },
    /// The private tagged field cannot be read.
    #[error(transparent)]
    ConditionField(#[from] forebay_kafka::append_condition::AppendConditionError),
    /// The log refuses an append.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The topic cannot be created.
    #[error(transparent)]
    Create(#[from] CreateTopicError),
    /// The topic cannot be deleted.
    #[error(transparent)]
    Delete(#[from] DeleteTopicError),
    /// The topic cannot be altered.
    #[error(transparent)]
    Alter(#[from] AlterTopicError),
    /// The client may not do this with the topic.
    #[error("not allowed for topic '{0}'")]
    TopicNotAllowed(String),
    /// The client may not do this with the group.
    #[error("not allowed for group '{0}'")]
    GroupNotAllowed(String),
    /// The client may not do this at all.
    #[error("not allowed on this cluster")]
    ClusterNotAllowed,
    /// A permission that cannot be.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// Permissions are not listed or changed.
    #[error(transparent)]
    Acl(#[from] AclRefusal),
    /// A permission stays, because the configuration grants it.
    #[error("granted by {0}; change it there")]
    Configured(String),
    /// The request waited for the disk longer than its timeout.
    #[error("the log did not take the batch within {0} ms")]
    TimedOut(i32),
}

impl KafkaCode for Refusal {
    fn kafka_code(&self) -> i16 {
        match self {
            Self::UnknownPartition => code::UNKNOWN_TOPIC_OR_PARTITION,
            Self::UnknownTopicId => code::UNKNOWN_TOPIC_ID,
            Self::TopicExists(_) => code::TOPIC_ALREADY_EXISTS,
            Self::Name(_) => code::INVALID_TOPIC_EXCEPTION,
            Self::Config(_) | Self::BrokerConfigReadOnly => code::INVALID_CONFIG,
            Self::Partitions { .. } => code::INVALID_PARTITIONS,
            Self::ReplicationFactor { .. } => code::INVALID_REPLICATION_FACTOR,
            Self::Assignment { .. } => code::INVALID_REPLICA_ASSIGNMENT,
            Self::Repeated(_) | Self::Invalid(_) | Self::Resource { .. } | Self::Transactional => {
                code::INVALID_REQUEST
            }
            Self::Acks(_) => code::INVALID_REQUIRED_ACKS,
            Self::OffsetOutOfRange(_) => code::OFFSET_OUT_OF_RANGE,
            Self::UnknownLeaderEpoch(_) => code::UNKNOWN_LEADER_EPOCH,
            Self::FencedLeaderEpoch(_) => code::FENCED_LEADER_EPOCH,
            Self::Batch(error) => error.kafka_code(),
            Self::Sequence(SequenceError::StaleEpoch { .. }) => code::INVALID_PRODUCER_EPOCH,
            Self::Sequence(SequenceError::OutOfOrder { .. }) => code::OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::Condition { .. } | Self::ConditionField(_) => code::INVALID_RECORD,
            Self::Append(error) => error.kafka_code(),
            Self::Read(error) => error.kafka_code(),
            Self::Create(error) => error.kafka_code(),
            Self::Delete(error) => error.kafka_code(),
            Self::Alter(error) => error.kafka_code(),
            Self::TopicNotAllowed(_) => code::TOPIC_AUTHORIZATION_FAILED,
            Self::GroupNotAllowed(_) => code::GROUP_AUTHORIZATION_FAILED,
            Self::ClusterNotAllowed => code::CLUSTER_AUTHORIZATION_FAILED,
            Self::Binding(_) => code::INVALID_REQUEST,
            Self::Acl(AclRefusal::Disabled) => code::SECURITY_DISABLED,
            Self::Acl(AclRefusal::TooMany) | Self::Configured(_) => code::POLICY_VIOLATION,
            Self::Acl(AclRefusal::NotWritten(_)) => code::KAFKA_STORAGE_ERROR,
            Self::TimedOut(_) => code::REQUEST_TIMED_OUT,
        }
    }
}

impl KafkaCode for ValidateError {
    fn kafka_code(&self) -> i16 {
        match self {
            Self::BatchTooLarge { .. } => code::MESSAGE_TOO_LARGE,
            Self::Batch(BatchError::TooLarge { .. }) => code::MESSAGE_TOO_LARGE,
            Self::Batch(BatchError::UnknownCompression { .. }) => {
                code::UNSUPPORTED_COMPRESSION_TYPE
            }
            Self::Batch(BatchError::Magic { .. }) => code::UNSUPPORTED_FOR_MESSAGE_FORMAT,
            Self::Batch(_) | Self::Checksum => code::CORRUPT_MESSAGE,
            Self::Timestamp { .. } => code::INVALID_TIMESTAMP,
            _ => code::INVALID_RECORD,
        }
    }
}

impl KafkaCode for AppendError {
    fn kafka_code(&self) -> i16 {
        match self {
            Self::Full { .. } => code::KAFKA_STORAGE_ERROR,
            Self::Backpressure { .. } => code::REQUEST_TIMED_OUT,
            Self::OffsetMismatch { .. } => code::INVALID_RECORD,
            Self::TooLarge { .. } => code::MESSAGE_TOO_LARGE,
            Self::Malformed { .. } => code::CORRUPT_MESSAGE,
            Self::Deleted => code::UNKNOWN_TOPIC_OR_PARTITION,
            Self::ShuttingDown => code::NOT_LEADER_OR_FOLLOWER,
        }
    }
}

impl KafkaCode for ReadError {
    fn kafka_code(&self) -> i16 {
        match self {
            Self::OffsetOutOfRange { .. } => code::OFFSET_OUT_OF_RANGE,
            Self::Deleted => code::UNKNOWN_TOPIC_OR_PARTITION,
            Self::Io { .. } => code::KAFKA_STORAGE_ERROR,
        }
    }
}

impl KafkaCode for CreateTopicError {
    fn kafka_code(&self) -> i16 {
        match self {
            Self::Exists { .. } => code::TOPIC_ALREADY_EXISTS,
            Self::Name { .. } => code::INVALID_TOPIC_EXCEPTION,
            Self::Partitions { .. } => code::INVALID_PARTITIONS,
            Self::Io { .. } => code::KAFKA_STORAGE_ERROR,
            Self::Append(error) => error.kafka_code(),
        }
    }
}

impl KafkaCode for DeleteTopicError {
    fn kafka_code(&self) -> i16 {
        match self {
            Self::Unknown { .. } => code::UNKNOWN_TOPIC_OR_PARTITION,
            Self::Append(error) => error.kafka_code(),
        }
    }
}

impl KafkaCode for AlterTopicError {
    fn kafka_code(&self) -> i16 {
        match self {
            Self::Unknown { .. } => code::UNKNOWN_TOPIC_OR_PARTITION,
            Self::Partitions { .. } => code::INVALID_PARTITIONS,
            Self::Io { .. } => code::KAFKA_STORAGE_ERROR,
            Self::Append(error) => error.kafka_code(),
        }
    }
}

impl KafkaCode for GroupError {
    fn kafka_code(&self) -> i16 {
        match self {
            Self::InvalidGroupId => code::INVALID_GROUP_ID,
            Self::InvalidSessionTimeout => code::INVALID_SESSION_TIMEOUT,
            Self::UnknownMember => code::UNKNOWN_MEMBER_ID,
            Self::MemberIdRequired => code::MEMBER_ID_REQUIRED,
            Self::FencedInstance => code::FENCED_INSTANCE_ID,
            Self::IllegalGeneration => code::ILLEGAL_GENERATION,
            Self::RebalanceInProgress => code::REBALANCE_IN_PROGRESS,
            Self::InconsistentProtocol => code::INCONSISTENT_GROUP_PROTOCOL,
            Self::GroupFull => code::GROUP_MAX_SIZE_REACHED,
            Self::NoRoom => code::COORDINATOR_NOT_AVAILABLE,
            Self::MetadataTooLarge => code::INVALID_REQUEST,
            Self::NotEmpty => code::NON_EMPTY_GROUP,
            Self::NotFound => code::GROUP_ID_NOT_FOUND,
        }
    }
}

impl KafkaCode for CommitError {
    fn kafka_code(&self) -> i16 {
        match self {
            Self::MetadataTooLarge { .. } => code::OFFSET_METADATA_TOO_LARGE,
            Self::Negative { .. } => code::INVALID_COMMIT_OFFSET_SIZE,
            Self::UnknownPartition => code::UNKNOWN_TOPIC_OR_PARTITION,
        }
    }
}
