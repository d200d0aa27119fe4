//! One error per operation.

use std::io;
use std::path::PathBuf;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the directory.
    #[error("data directory {path} is in use by another process")]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory was written by another format version.
    #[error(
        "data directory {path} has format version {found}, this program reads version {expected}"
    )]
    Version {
        /// The data directory.
        path: PathBuf,
        /// The version in its FORMAT file.
        found: u32,
        /// The version this program writes.
        expected: u32,
    },
    /// The FORMAT file is unreadable.
    #[error("file {path} is not a Forebay format file: {reason}")]
    Format {
        /// The FORMAT file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The attempted operation.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// Why an append was refused. Nothing of it was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk is full.
    #[error("disk has {free_bytes} bytes free, expected at least {keep_free}")]
    Full {
        /// Free bytes at the last look.
        free_bytes: u64,
        /// The configured minimum.
        keep_free: u64,
    },
    /// The disk is slower than the appends.
    #[error("{pending} bytes wait for the disk, expected at most {limit}")]
    Backpressure {
        /// Bytes that are appended and not durable.
        pending: usize,
        /// The configured maximum.
        limit: usize,
    },
    /// The log does not end where the caller believed.
    #[error("log end is {actual}, expected {expected}")]
    OffsetMismatch {
        /// The caller's belief.
        expected: u64,
        /// The next offset of the partition.
        actual: u64,
    },
    /// The batch is larger than a frame may be.
    #[error("batch has {size} bytes, expected at most {limit}")]
    TooLarge {
        /// Size of the batch.
        size: usize,
        /// The largest batch.
        limit: usize,
    },
    /// The bytes are not one v2 batch.
    #[error("bytes are not one record batch: {reason}")]
    Malformed {
        /// What is wrong with them.
        reason: String,
    },
    /// The topic was deleted.
    #[error("topic was deleted")]
    Deleted,
    /// The storage is closing, or its disk failed.
    #[error("storage is shutting down")]
    ShuttingDown,
}

/// Why a read was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the log start or above the high watermark.
    #[error("offset {requested} is outside of {log_start}..={high_watermark}")]
    OffsetOutOfRange {
        /// The wanted offset.
        requested: u64,
        /// First offset of the log.
        log_start: u64,
        /// First offset that is not visible.
        high_watermark: u64,
    },
    /// The topic was deleted.
    #[error("topic was deleted")]
    Deleted,
    /// The disk refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The segment or index file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// Why a topic was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateTopicError {
    /// The name is taken.
    #[error("topic {name} exists")]
    Exists {
        /// The wanted name.
        name: String,
    },
    /// The name is not a legal topic name.
    #[error("topic name {name:?} is not 1 to 249 of [a-zA-Z0-9._-]")]
    Name {
        /// The wanted name.
        name: String,
    },
    /// The number of partitions is not possible.
    #[error("topic {name} has {partitions} partitions, expected 1 to {limit}")]
    Partitions {
        /// The wanted name.
        name: String,
        /// The wanted number.
        partitions: u32,
        /// The largest number.
        limit: u32,
    },
    /// The directory could not be made.
    #[error("cannot create directory {path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The change could not be appended to the state journal.
    #[error("cannot record topic: {0}")]
    Append(#[from] AppendError),
}

/// Why a topic was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteTopicError {
    /// There is no such topic.
    #[error("topic {name} does not exist")]
    Unknown {
        /// The wanted name.
        name: String,
    },
    /// The change could not be appended to the state journal.
    #[error("cannot record deletion: {0}")]
    Append(#[from] AppendError),
}

/// Why a topic was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AlterTopicError {
    /// There is no such topic.
    #[error("topic {name} does not exist")]
    Unknown {
        /// The wanted name.
        name: String,
    },
    /// Partitions can only be added.
    #[error(
        "topic {name} has {actual} partitions, expected more than that and at most {limit}, not {requested}"
    )]
    Partitions {
        /// The topic.
        name: String,
        /// Its partitions.
        actual: u32,
        /// The wanted total.
        requested: u32,
        /// The largest number.
        limit: u32,
    },
    /// The directory could not be made.
    #[error("cannot create directory {path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The change could not be appended to the state journal.
    #[error("cannot record change: {0}")]
    Append(#[from] AppendError),
}
