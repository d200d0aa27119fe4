//! The sessions of a node by client identifier.
//!
//! A session is owned by at most one connection. [`Sessions::claim`] tells the
//! present owner to leave and waits until it has written what it knows and let
//! go; the new owner then reads the session from the state. So there is one
//! way to resume a session, whether the client moved, came back or the node
//! restarted.

pub mod record;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use forebay_storage::{Storage, Ticket, Transaction};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, watch};

use super::shares::Shares;
use super::wills::{self, StoredWill};
use record::{SESSION_PREFIX, SessionRecord, StoredSession};

/// Most sessions of a node, connected or not. Ten times the connections it is
/// built for; an entry costs some hundred bytes and its subscriptions nothing
/// while it is not connected.
pub const SESSIONS_MAX: usize = 100_000;

/// The expiry interval that never ends (MQTT 5 section 3.1.2.11.2).
pub const EXPIRY_NEVER: u32 = u32::MAX;

/// How long a new connection waits for the old owner. It writes a record and
/// leaves; only a node that is out of disk takes longer.
const HANDOVER_MAX: Duration = Duration::from_secs(10);

/// How often expired sessions are looked for; expiry has the unit of seconds.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// Why a session cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// The node has as many sessions as it may.
    #[error("the node has {SESSIONS_MAX} sessions, the most it keeps")]
    TooMany,
    /// It belongs to another user.
    #[error("the session belongs to another user")]
    Foreign,
    /// The present owner did not let go in time.
    #[error("the session's other connection did not let go within {HANDOVER_MAX:?}")]
    Busy,
}

struct Entry {
    /// While somebody holds or waits for the session; most sessions of a node
    /// may be away, and this is the larger part of an entry.
    handover: Option<Box<Handover>>,
    /// Claims that hold or wait for the session.
    interested: usize,
    /// When the session ends, in milliseconds since the Unix epoch. `None`
    /// while connected or for ever.
    deadline_ms: Option<i64>,
    /// Whether the state holds a record of it.
    stored: bool,
    /// The user that it belongs to. `None`: anybody.
    user: Option<Arc<str>>,
}

/// Who wants a session.
#[derive(Clone, Debug)]
pub enum Claimant {
    /// Nobody logs in here, and anybody may have any session.
    Anybody,
    /// A client that has logged in, or came in without.
    Visitor(Option<Arc<str>>),
}

impl Claimant {
    fn may_have(&self, owner: Option<&Arc<str>>) -> bool {
        match self {
            Self::Anybody => true,
            Self::Visitor(user) => owner.is_none() || owner == user.as_ref(),
        }
    }

    /// The user that the session belongs to from here on.
    pub fn user(&self) -> Option<&Arc<str>> {
        match self {
            Self::Anybody => None,
            Self::Visitor(user) => user.as_ref(),
        }
    }
}

/// How a session goes from one connection to the next.
struct Handover {
    /// Held by the owning connection.
    owner: Arc<tokio::sync::Mutex<()>>,
    /// Number of the latest claim; an owner with another number leaves.
    claims: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Arc<str>, Entry>,
    deadlines: BTreeSet<(i64, Arc<str>)>,
    last_claim: u64,
}

/// Registry of the sessions.
pub struct Sessions {
    storage: Storage,
    shares: Arc<Shares>,
    table: Mutex<Table>,
}

/// The right to be a session's connection. Dropping it without
/// [`Claim::release`] ends the session unless the state holds it.
pub struct Claim {
    sessions: Arc<Sessions>,
    client: Arc<str>,
    number: u64,
    claims: watch::Receiver<u64>,
    guard: Option<OwnedMutexGuard<()>>,
    /// What [`Drop`] leaves behind: the deadline and whether it is stored.
    leaves: (Option<i64>, bool),
}

impl Sessions {
    /// Reads the stored sessions and arms their expiry. Blocks on the state.
    ///
    /// A session that was connected when the node stopped counts as
    /// disconnected at `now_ms`.
    pub fn load(storage: Storage, shares: Arc<Shares>, now_ms: i64) -> Arc<Self> {
        let mut table = Table::default();
        for (key, _) in storage.scan_prefix(SESSION_PREFIX) {
            let Ok(client) = std::str::from_utf8(&key[SESSION_PREFIX.len()..]) else {
                continue;
            };
            let Some(stored) = record::load(&storage, client) else {
                tracing::warn!(
                    client,
                    "session record does not parse, the session is dropped"
                );
                continue;
            };
            let since = stored.cursors.disconnected_at_ms.unwrap_or(now_ms);
            let client: Arc<str> = client.into();
            for subscription in &stored.session.subscriptions {
                if subscription.filter.starts_with("$share/") {
                    shares.restore_member(&subscription.filter, &client);
                }
            }
            let deadline_ms = deadline(since, stored.session.expiry_seconds);
            table.entries.insert(
                Arc::clone(&client),
                Entry {
                    deadline_ms,
                    stored: true,
                    user: stored.session.user.as_deref().map(Arc::from),
                    ..Entry::new()
                },
            );
            table.deadlines.extend(deadline_ms.map(|at| (at, client)));
        }
        shares.restore_groups();
        Arc::new(Self {
            storage,
            shares,
            table: Mutex::new(table),
        })
    }

    /// Takes over the session of `client`, which may not exist yet.
    ///
    /// # Errors
    /// When it belongs to another user, whose connection then stays, when there
    /// are too many sessions, or the present owner does not let go.
    pub async fn claim(
        self: &Arc<Self>,
        client: &str,
        claimant: &Claimant,
    ) -> Result<Claim, ClaimError> {
        let client: Arc<str> = client.into();
        let (mut claim, owner) = {
            let mut table = self.table.lock();
            let table = &mut *table;
            if table.entries.len() >= SESSIONS_MAX && !table.entries.contains_key(&client) {
                return Err(ClaimError::TooMany);
            }
            let owner = table
                .entries
                .get(&client)
                .and_then(|entry| entry.user.as_ref());
            if !claimant.may_have(owner) {
                return Err(ClaimError::Foreign);
            }
            table.last_claim += 1;
            let number = table.last_claim;
            let entry = table
                .entries
                .entry(Arc::clone(&client))
                .or_insert_with(Entry::new);
            entry.interested += 1;
            entry.user = claimant.user().cloned();
            let deadline_ms = entry.deadline_ms.take();
            if let Some(at) = deadline_ms {
                table.deadlines.remove(&(at, Arc::clone(&client)));
            }
            let handover = entry.handover.get_or_insert_with(|| {
                Box::new(Handover {
                    owner: Arc::default(),
                    claims: watch::Sender::new(0),
                })
            });
            handover.claims.send_replace(number);
            let claim = Claim {
                sessions: Arc::clone(self),
                client,
                number,
                claims: handover.claims.subscribe(),
                guard: None,
                leaves: (deadline_ms, entry.stored),
            };
            (claim, Arc::clone(&handover.owner))
        };
        match tokio::time::timeout(HANDOVER_MAX, owner.lock_owned()).await {
            Ok(guard) => claim.guard = Some(guard),
            Err(_) => return Err(ClaimError::Busy),
        }
        claim.leaves.1 = self.is_stored(&claim.client);
        Ok(claim)
    }

    /// Ends expired sessions until the future is dropped.
    pub async fn expire(self: Arc<Self>, now_ms: impl Fn() -> i64) {
        let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
        loop {
            ticks.tick().await;
            let now = now_ms();
            while let Some(client) = self.next_expired(now) {
                let sessions = Arc::clone(&self);
                let ended = tokio::task::spawn_blocking(move || sessions.end(&client)).await;
                if !matches!(ended, Ok(true)) {
                    break;
                }
            }
        }
    }

    /// Puts what is kept of sessions that are away into memory of its own. It was
    /// allocated between the buffers of connections, and thirty bytes of a
    /// session keep a page of those from going back to the system. Takes some
    /// milliseconds, with the table locked.
    pub fn compact(&self) {
        let mut table = self.table.lock();
        let mut entries = HashMap::with_capacity(table.entries.len());
        let mut deadlines = BTreeSet::new();
        for (client, entry) in table.entries.drain() {
            let is_away = entry.interested == 0;
            // The copies of whoever is connected live as long as the connection.
            let client = if is_away { Arc::from(&*client) } else { client };
            deadlines.extend(entry.deadline_ms.map(|at| (at, Arc::clone(&client))));
            entries.insert(client, entry);
        }
        table.entries = entries;
        table.deadlines = deadlines;
    }

    /// Number of sessions, connected or not.
    pub fn count(&self) -> usize {
        self.table.lock().entries.len()
    }

    fn is_stored(&self, client: &Arc<str>) -> bool {
        let table = self.table.lock();
        let entry = table.entries.get(client);
        entry.is_some_and(|entry| entry.stored)
    }

    fn next_expired(&self, now_ms: i64) -> Option<Arc<str>> {
        let table = self.table.lock();
        let (at, client) = table.deadlines.first()?;
        (*at <= now_ms).then(|| Arc::clone(client))
    }

    /// Removes an expired session. False when the storage refuses at present.
    fn end(&self, client: &Arc<str>) -> bool {
        let mut table = self.table.lock();
        let Some(at) = table.entries.get(client).and_then(|e| e.deadline_ms) else {
            return true;
        };
        // The table stays locked, so nobody claims the session in between.
        let mut transaction = Transaction::new();
        record::delete(&self.storage, client, &mut transaction);
        if self.storage.commit(transaction).is_err() {
            return false;
        }
        table.deadlines.remove(&(at, Arc::clone(client)));
        table.entries.remove(client);
        self.shares.forget(client);
        true
    }
}

impl Claim {
    /// Reads what the state holds of the session. Blocks on it.
    pub fn load(&self) -> Option<StoredSession> {
        record::load(&self.sessions.storage, &self.client)
    }

    /// Removes what the state holds of the session and, when it is to outlive
    /// its connection, writes `fresh`, and the will of its connection. Returns the ticket to wait for, `None`
    /// when nothing had to be written. Blocks on the state.
    ///
    /// # Errors
    /// When the storage refuses.
    pub fn reset(
        &mut self,
        fresh: Option<&SessionRecord>,
        will: Option<&StoredWill>,
    ) -> Result<Option<Ticket>, forebay_storage::AppendError> {
        let mut transaction = Transaction::new();
        if self.leaves.1 {
            record::delete(&self.sessions.storage, &self.client, &mut transaction);
        }
        if let Some(fresh) = fresh {
            transaction.put(&record::session_key(&self.client), &record::encode(fresh));
        }
        if let Some(will) = will {
            wills::stage(&self.client, Some(will), &mut transaction);
        }
        if !self.leaves.1 && fresh.is_none() && will.is_none() {
            return Ok(None);
        }
        let committed = self.sessions.storage.commit(transaction)?;
        if self.leaves.1 {
            self.sessions.shares.forget(&self.client);
        }
        self.leaves.1 = fresh.is_some();
        if let Some(entry) = self.sessions.table.lock().entries.get_mut(&self.client) {
            entry.stored = self.leaves.1;
        }
        Ok(Some(committed.ticket))
    }

    /// Waits until another connection wants the session.
    pub async fn taken_over(&mut self) {
        let number = self.number;
        // The sender lives in the table as long as anybody is interested.
        let _ = self.claims.wait_for(|latest| *latest != number).await;
    }

    /// Whether the state holds the session.
    pub fn is_stored(&self) -> bool {
        self.leaves.1
    }

    /// The number of this claim, unique within the process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The client identifier.
    pub fn client(&self) -> &Arc<str> {
        &self.client
    }

    /// Lets go of a session that lives on for `expiry_seconds` after
    /// `now_ms`; its records have been written.
    pub fn release(mut self, now_ms: i64, expiry_seconds: u32) {
        self.leaves = (deadline(now_ms, expiry_seconds), true);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = self.sessions.table.lock();
        let table = &mut *table;
        let Some(entry) = table.entries.get_mut(&self.client) else {
            return;
        };
        entry.interested -= 1;
        let (deadline_ms, stored) = self.leaves;
        if self.guard.is_some() {
            entry.stored = stored;
        }
        if entry.interested > 0 {
            return;
        }
        entry.handover = None;
        if !entry.stored {
            table.entries.remove(&self.client);
        } else if let Some(at) = deadline_ms {
            entry.deadline_ms = Some(at);
            table.deadlines.insert((at, Arc::clone(&self.client)));
        }
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            handover: None,
            interested: 0,
            deadline_ms: None,
            stored: false,
            user: None,
        }
    }
}

fn deadline(since_ms: i64, expiry_seconds: u32) -> Option<i64> {
    let never = expiry_seconds == EXPIRY_NEVER;
    (!never).then(|| since_ms.saturating_add(i64::from(expiry_seconds) * 1000))
}

#[cfg(test)]
mod tests;
