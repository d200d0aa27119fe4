//! Who this node is to Kafka clients, uplinks and hubs: sixteen random bytes
//! that outlive restarts and die with the data directory.

use std::fs::File;
use std::io::{self, Read};

use forebay_storage::{AppendError, Storage, Transaction};

/// Where the state keeps the identity.
const KEY: &[u8] = b"g/identity";

/// The identity of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity([u8; 16]);

/// Why a node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system gave no randomness.
    #[error("cannot read /dev/urandom: {0}")]
    Random(#[from] io::Error),
    /// The log refused it.
    #[error("cannot store the identity of the node: {0}")]
    Store(#[from] AppendError),
    /// The disk failed while it was stored.
    #[error("cannot store the identity of the node: the disk failed")]
    Lost,
}

impl Identity {
    /// The identity of the data directory; a new one is durable when this
    /// returns, because an uplink that saw it once insists on it. Blocking.
    ///
    /// # Errors
    /// The log refuses the write, or there is no randomness.
    pub fn of(storage: &Storage) -> Result<Self, IdentityError> {
        if let Some(stored) = storage.get(KEY)
            && let Ok(bytes) = stored.try_into()
        {
            return Ok(Self(bytes));
        }
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let mut transaction = Transaction::new();
        transaction.put(KEY, &bytes);
        let committed = storage.commit(transaction)?;
        if storage.wait(committed.ticket) {
            Ok(Self(bytes))
        } else {
            Err(IdentityError::Lost)
        }
    }

    /// As the cluster id that Kafka clients see.
    #[must_use]
    pub fn cluster_id(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// As the incarnation that the uplink shows to the hub.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;
    use forebay_storage::disk::RealDisk;
    use forebay_storage::{Config, Storage};
    use std::sync::Arc;

    #[test]
    fn an_identity_belongs_to_its_data_directory() {
        let open = |dir: &tempfile::TempDir| {
            let config = Config::new(dir.path());
            let opened = Storage::open(config, Arc::new(RealDisk::new()));
            opened.expect("a scratch directory opens").0
        };
        let (first, second) = (tempfile::tempdir(), tempfile::tempdir());
        let (first, second) = (first.expect("scratch"), second.expect("scratch"));
        let storage = open(&first);
        let identity = Identity::of(&storage).expect("the log takes it");
        storage.close();
        drop(storage);
        let storage = open(&first);
        assert_eq!(Identity::of(&storage).expect("it is stored"), identity);
        storage.close();
        let other = open(&second);
        assert_ne!(Identity::of(&other).expect("the log takes it"), identity);
        other.close();
    }
}
