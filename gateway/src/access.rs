//! Logins and permissions of a running node: the file of users, the rules of the
//! configuration, and what was denied.
//!
//! What may be done is decided by [`forebay_access`]; here is what that needs of
//! the world: the file, the time, threads for passwords, counters and log lines.

mod denials;
mod file;
mod kafka;
mod lists;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use forebay_access::acls::Acls;
use forebay_access::limiter::Limiter;
use forebay_access::password;
use forebay_access::permissions::Permissions;
use forebay_access::rules::{Action, Place, Rules, Subject};
use forebay_access::scram::{Keys, Mechanism};
use forebay_access::users::Users;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};

use crate::config;
pub use denials::DENIED_METRIC;
use denials::Denials;
use file::SECRET_LEN;
pub use file::{FileError, chance, change, read};
pub use kafka::KafkaAuthority;

/// Passwords that are checked at the same time: each takes 12 MiB and a core for
/// a moment, and the node has other work.
const CHECKS_AT_ONCE: usize = 2;
/// Logins that wait for that. More are told to come back.
const CHECKS_WAITING_MAX: usize = 200;
/// How often the file of users is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Where somebody comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The MQTT server.
    Mqtt,
    /// The Kafka server.
    Kafka,
    /// The HTTP server.
    Http,
}

impl Protocol {
    /// The name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Kafka => "kafka",
            Self::Http => "http",
        }
    }
}

/// Somebody on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// The user, when there was a login.
    pub user: Option<Arc<str>>,
    /// Whether a certificate says so: such a user needs no entry in the file.
    pub by_certificate: bool,
    /// The address of the other end.
    pub address: IpAddr,
    /// What is spoken.
    pub protocol: Protocol,
}

impl Visitor {
    /// Somebody who has shown a password or a token.
    fn logged_in(user: &str, address: IpAddr, protocol: Protocol) -> Self {
        Self {
            user: Some(user.into()),
            by_certificate: false,
            address,
            protocol,
        }
    }

    /// Somebody who asks, on an MQTT connection with its client identifier.
    fn subject<'a>(&'a self, client: Option<&'a str>) -> Subject<'a> {
        Subject {
            user: self.user.as_deref(),
            by_certificate: self.by_certificate,
            client,
            host: self.address,
        }
    }
}

/// Why somebody may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Name or password are wrong, or the user is disabled.
    #[error("the name or the password is not right")]
    Wrong,
    /// Nobody comes in without a login here.
    #[error("log in first")]
    Needed,
    /// The address has failed too often.
    #[error("too many failed logins from this address; wait a minute")]
    Limited,
    /// Too many wait for their passwords to be checked.
    #[error("too many logins at once; try again")]
    Busy,
}

/// The rules and users at a moment.
#[derive(Debug, Clone, Default)]
struct Policy {
    /// Everybody may do everything.
    is_open: bool,
    anonymous: bool,
    permissions: Permissions,
    users: Users,
}

/// The doorkeeper of a node. A clone is another handle.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    policy: RwLock<Arc<Policy>>,
    file: Mutex<Watched>,
    /// The file of permissions that Kafka clients set. One changes it at a time.
    acls_file: Mutex<PathBuf>,
    limiter: Mutex<Limiter>,
    started: Instant,
    checks: Semaphore,
    waiting: Semaphore,
    denials: Denials,
    /// What keys of users that do not exist are made from.
    nobody: [u8; SECRET_LEN],
    /// Whether rules and users never change.
    is_fixed: bool,
    /// Counts changes of rules and users.
    changes: watch::Sender<u64>,
}

/// The file of users with what it was like when it was read.
struct Watched {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("policy", &self.shared.policy.read())
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Reads the file of users, and that of permissions that Kafka clients set.
    ///
    /// # Errors
    /// One is there and cannot be read.
    pub fn open(config: &config::Access) -> Result<Self, FileError> {
        let (users, seen) = file::read_with_stamp(&config.users_file)?;
        let file = Watched {
            path: config.users_file.clone(),
            seen,
        };
        let acls = file::read_acls(&config.acls_file)?;
        let policy = Policy::new(config, users, acls);
        // Without chance it is only easier to tell which users exist.
        let nobody = match policy.is_open {
            true => chance().unwrap_or_default(),
            false => file::secret(&config.secret_file),
        };
        let acls_file = config.acls_file.clone();
        Ok(Self::new(policy, file, acls_file, nobody, false))
    }

    fn new(
        policy: Policy,
        file: Watched,
        acls_file: PathBuf,
        nobody: [u8; SECRET_LEN],
        is_fixed: bool,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                policy: RwLock::new(Arc::new(policy)),
                file: Mutex::new(file),
                acls_file: Mutex::new(acls_file),
                limiter: Mutex::default(),
                started: Instant::now(),
                checks: Semaphore::new(CHECKS_AT_ONCE),
                waiting: Semaphore::new(CHECKS_WAITING_MAX),
                denials: Denials::default(),
                nobody,
                is_fixed,
                changes: watch::Sender::new(0),
            }),
        }
    }

    /// A doorkeeper that lets everybody do everything, for ever.
    #[must_use]
    pub fn everybody() -> Self {
        let policy = Policy::default_open();
        let file = Watched {
            path: PathBuf::new(),
            seen: None,
        };
        Self::new(policy, file, PathBuf::new(), [0; SECRET_LEN], true)
    }

    /// Whether rules and users never change.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.shared.is_fixed
    }

    /// Goes by other rules from here on, and reads the file of users again.
    /// Blocks on it.
    ///
    /// # Errors
    /// The file cannot be read; the users stay.
    pub fn set(&self, config: &config::Access) -> Result<(), FileError> {
        let (users, seen) = file::read_with_stamp(&config.users_file)?;
        *self.shared.file.lock() = Watched {
            path: config.users_file.clone(),
            seen,
        };
        let mut policy = self.shared.policy.write();
        let acls = policy.permissions.acls.clone();
        *policy = Arc::new(Policy::new(config, users, acls));
        drop(policy);
        self.shared.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// Reads the file of users when it has changed, again and again.
    pub async fn follow_file(self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let this = self.clone();
            // The runtime ends when this does not return.
            if tokio::task::spawn_blocking(move || this.look())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    fn look(&self) {
        let mut file = self.shared.file.lock();
        let stamp = file::stamp(&file.path);
        if stamp == file.seen {
            return;
        }
        file.seen = stamp;
        match file::read(&file.path) {
            Ok(users) => {
                let mut policy = self.shared.policy.write();
                let next = Policy {
                    is_open: policy.is_open,
                    anonymous: policy.anonymous,
                    permissions: policy.permissions.clone(),
                    users,
                };
                *policy = Arc::new(next);
                drop(policy);
                self.shared.changes.send_modify(|changes| *changes += 1);
                tracing::info!("the users have changed");
            }
            Err(error) => tracing::error!("the users stay as they were: {error}"),
        }
    }

    /// Tells of changes of rules and users.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Whether logins mean anything here.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.policy().is_open
    }

    /// Lets somebody in without a login.
    ///
    /// # Errors
    /// Nobody comes in so.
    pub fn enter(&self, protocol: Protocol, address: IpAddr) -> Result<Visitor, LoginError> {
        let policy = self.policy();
        if policy.is_open || policy.anonymous {
            return Ok(Visitor {
                user: None,
                by_certificate: false,
                address,
                protocol,
            });
        }
        self.shared
            .denials
            .login(protocol, address, "without a login");
        Err(LoginError::Needed)
    }

    /// Lets somebody in whose certificate names a user. Users that are not in the
    /// file have no password and come in so only.
    ///
    /// # Errors
    /// The user is disabled.
    pub fn enter_as(
        &self,
        protocol: Protocol,
        address: IpAddr,
        user: &str,
    ) -> Result<Visitor, LoginError> {
        let policy = self.policy();
        let is_disabled = policy.users.get(user).is_some_and(|user| user.is_disabled);
        if is_disabled || forebay_access::users::check_name(user).is_err() {
            self.shared
                .denials
                .login(protocol, address, "by certificate");
            return Err(LoginError::Wrong);
        }
        Ok(Visitor {
            user: Some(user.into()),
            by_certificate: true,
            address,
            protocol,
        })
    }

    /// Lets somebody in who knows a password. Where everybody may do everything
    /// it is not looked at.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login(
        &self,
        protocol: Protocol,
        address: IpAddr,
        user: &str,
        password: &[u8],
    ) -> Result<Visitor, LoginError> {
        let policy = self.policy();
        if policy.is_open {
            return self.enter(protocol, address);
        }
        self.check_limit(protocol, address)?;
        let known = policy.users.get(user);
        let is_disabled = known.is_none_or(|user| user.is_disabled);
        let hash = known.map(|user| user.password().clone());
        let password = password.to_vec();
        let Ok(_waiting) = self.shared.waiting.try_acquire() else {
            return Err(LoginError::Busy);
        };
        // The semaphore is never closed.
        let _check = self.shared.checks.acquire().await;
        // While it waited, others of its address may have failed.
        self.check_limit(protocol, address)?;
        let checking = tokio::task::spawn_blocking(move || match hash {
            Some(hash) => hash.verify(&password),
            None => {
                password::verify_nobody(&password);
                false
            }
        });
        let is_right = checking.await.unwrap_or(false) && !is_disabled;
        self.outcome(protocol, address, user, is_right)
    }

    /// Lets somebody in who has a token. A right one counts from an address that has
    /// failed too often as well: nobody guesses 256 bits, and a dashboard is not to
    /// go dark because of what its neighbours try.
    ///
    /// # Errors
    /// [`LoginError`].
    pub fn login_with_token(
        &self,
        protocol: Protocol,
        address: IpAddr,
        token: &str,
    ) -> Result<Visitor, LoginError> {
        let policy = self.policy();
        if policy.is_open {
            return self.enter(protocol, address);
        }
        if let Some(user) = policy.users.of_token(token) {
            return Ok(Visitor::logged_in(user, address, protocol));
        }
        self.check_limit(protocol, address)?;
        self.outcome(protocol, address, "", false)
    }

    /// Keys with which a user is recognised by SCRAM. A user that does not exist,
    /// or is disabled, has some as well, which no password fits.
    ///
    /// # Errors
    /// [`LoginError::Limited`].
    pub fn scram_keys(
        &self,
        protocol: Protocol,
        address: IpAddr,
        user: &str,
        mechanism: Mechanism,
    ) -> Result<Keys, LoginError> {
        self.check_limit(protocol, address)?;
        let policy = self.policy();
        let known = policy.users.get(user).filter(|user| !user.is_disabled);
        let nobody = || Keys::of_nobody(mechanism, user, &self.shared.nobody);
        Ok(known.map_or_else(nobody, |user| user.scram(mechanism).clone()))
    }

    /// Whether there is a user who may log in.
    #[must_use]
    pub fn is_enabled(&self, user: &str) -> bool {
        let policy = self.policy();
        policy.users.get(user).is_some_and(|user| !user.is_disabled)
    }

    /// Whether somebody comes in without a login.
    #[must_use]
    pub fn admits_anonymous(&self) -> bool {
        let policy = self.policy();
        policy.is_open || policy.anonymous
    }

    fn check_limit(&self, protocol: Protocol, address: IpAddr) -> Result<(), LoginError> {
        let now = self.shared.started.elapsed();
        if self.shared.limiter.lock().may_try(address, now) {
            return Ok(());
        }
        self.shared.denials.login(protocol, address, "too often");
        Err(LoginError::Limited)
    }

    fn outcome(
        &self,
        protocol: Protocol,
        address: IpAddr,
        user: &str,
        is_right: bool,
    ) -> Result<Visitor, LoginError> {
        if is_right {
            return Ok(Visitor::logged_in(user, address, protocol));
        }
        let now = self.shared.started.elapsed();
        self.shared.limiter.lock().failed(address, now);
        self.shared
            .denials
            .login(protocol, address, "with a wrong name or password");
        Err(LoginError::Wrong)
    }

    /// Whether a visitor is still welcome after the users have changed.
    #[must_use]
    pub fn is_welcome(&self, visitor: &Visitor) -> bool {
        let policy = self.policy();
        match &visitor.user {
            _ if policy.is_open => true,
            None => policy.anonymous,
            Some(user) => match policy.users.get(user) {
                Some(user) => !user.is_disabled,
                None => visitor.by_certificate,
            },
        }
    }

    /// Whether a visitor may do something; a denial is counted and logged.
    #[must_use]
    pub fn may(
        &self,
        visitor: &Visitor,
        client: Option<&str>,
        action: Action,
        place: Place<'_>,
    ) -> bool {
        let is_allowed = self.allows(visitor, client, action, place);
        if !is_allowed {
            self.shared.denials.action(visitor, action, place);
        }
        is_allowed
    }

    /// Whether a visitor may do something; for what is shown or not.
    #[must_use]
    pub fn allows(
        &self,
        visitor: &Visitor,
        client: Option<&str>,
        action: Action,
        place: Place<'_>,
    ) -> bool {
        let policy = self.policy();
        policy.is_open
            || policy
                .permissions
                .allow(&visitor.subject(client), action, place)
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.shared.policy.read())
    }
}

impl Policy {
    fn new(config: &config::Access, users: Users, acls: Acls) -> Self {
        Self {
            is_open: config.is_open(),
            anonymous: config.anonymous.unwrap_or(false),
            permissions: Permissions {
                rules: Rules::new(config.rules.clone()),
                acls,
            },
            users,
        }
    }

    fn default_open() -> Self {
        Self::new(
            &config::Access::default(),
            Users::default(),
            Acls::default(),
        )
    }
}
