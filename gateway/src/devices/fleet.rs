//! The devices of one kind: one supervised task each.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::{Changes, DeviceContext, DeviceState, Health, Surroundings};
use crate::config::Config;

/// The first pause before a task that ended by itself is started again.
const RESTART_MIN: Duration = Duration::from_secs(1);

/// The longest such pause: a device that cannot run is tried twice a minute.
const RESTART_MAX: Duration = Duration::from_secs(30);

/// A task that ran for this long was well; its next failure is a first one.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// How long a task may take to say goodbye before it is cut off. The whole node
/// has five seconds.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// The life of one device: it runs until it is told to stop. The configuration
/// may change under way.
pub type Run<C> = fn(watch::Receiver<Arc<C>>, DeviceContext, watch::Receiver<bool>) -> Life;

/// What [`Run`] gives.
pub type Life = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The devices that a configuration wants, by a key that outlives changes of
/// their tags: the endpoint of a bus, the name of a session. Each with the name
/// that people know it by.
pub type Wanted<C> = BTreeMap<String, (String, C)>;

/// The devices of one kind, whatever their configuration is.
pub trait Kind: Send {
    /// Starts, changes and stops devices so that those of the configuration
    /// run. What has not changed is not touched; what is stopped is waited for.
    fn apply<'a>(
        &'a mut self,
        config: &'a Config,
        around: &'a Surroundings,
        changes: &'a mut Changes,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// Stops all of them.
    fn stop(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// How they are.
    fn healths(&self) -> Vec<Health>;
}

/// All devices of one kind.
pub struct Fleet<C> {
    protocol: &'static str,
    plan: fn(&Config) -> Wanted<C>,
    run: Run<C>,
    running: BTreeMap<String, Running<C>>,
}

struct Running<C> {
    health: Health,
    config: watch::Sender<Arc<C>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl<C: PartialEq + Send + Sync + 'static> Fleet<C> {
    /// No device yet.
    pub fn new(protocol: &'static str, plan: fn(&Config) -> Wanted<C>, run: Run<C>) -> Self {
        Self {
            protocol,
            plan,
            run,
            running: BTreeMap::new(),
        }
    }

    pub(super) async fn change(
        &mut self,
        wanted: Wanted<C>,
        around: &Surroundings,
        changes: &mut Changes,
    ) {
        let gone = self.running.keys().filter(|key| !wanted.contains_key(*key));
        for key in gone.cloned().collect::<Vec<_>>() {
            if let Some(running) = self.running.remove(&key) {
                changes.removed.push(running.health.name());
                running.stop().await;
            }
        }
        for (key, (name, config)) in wanted {
            match self.running.get(&key) {
                None => {
                    changes.added.push(name.clone());
                    let running = self.start(&name, config, around);
                    self.running.insert(key, running);
                }
                Some(running) if **running.config.borrow() == config => {
                    changes.unchanged.push(name);
                }
                Some(running) => {
                    running.health.rename(&name);
                    running.config.send_replace(Arc::new(config));
                    changes.changed.push(name);
                }
            }
        }
    }

    async fn stop_all(&mut self) {
        let running = std::mem::take(&mut self.running);
        for device in running.values() {
            // Nobody listens when the task has ended.
            let _ = device.stop.send(true);
        }
        for device in running.into_values() {
            device.stop().await;
        }
    }

    fn start(&self, name: &str, config: C, around: &Surroundings) -> Running<C> {
        let health = Health::new(name, self.protocol);
        let (config, current) = watch::channel(Arc::new(config));
        let (stop, stopped) = watch::channel(false);
        let context = DeviceContext {
            publisher: around.publisher.clone(),
            commands: around.commands.clone(),
            queries: around.queries.clone(),
            health: health.clone(),
            data_dir: Arc::clone(&around.data_dir),
            config_dir: Arc::clone(&around.config_dir),
        };
        let task = tokio::spawn(supervise(self.run, current, context, stopped));
        Running {
            health,
            config,
            stop,
            task,
        }
    }
}

impl<C: PartialEq + Send + Sync + 'static> Kind for Fleet<C> {
    fn apply<'a>(
        &'a mut self,
        config: &'a Config,
        around: &'a Surroundings,
        changes: &'a mut Changes,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let wanted = (self.plan)(config);
        Box::pin(self.change(wanted, around, changes))
    }

    fn stop(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.stop_all())
    }

    fn healths(&self) -> Vec<Health> {
        let running = self.running.values();
        running.map(|running| running.health.clone()).collect()
    }
}

impl<C> Running<C> {
    async fn stop(mut self) {
        // Nobody listens when the task has ended.
        let _ = self.stop.send(true);
        if timeout(STOP_LIMIT, &mut self.task).await.is_err() {
            tracing::warn!(device = self.health.name(), "cut off while it stopped");
            self.task.abort();
        }
    }
}

/// Runs a device again and again until it is told to stop.
async fn supervise<C>(
    run: Run<C>,
    config: watch::Receiver<Arc<C>>,
    context: DeviceContext,
    mut stopped: watch::Receiver<bool>,
) {
    let mut pause = RESTART_MIN;
    loop {
        let started = Instant::now();
        let life = run(config.clone(), context.clone(), stopped.clone());
        let ended = Caught(AssertUnwindSafe(life)).await;
        if *stopped.borrow() {
            return;
        }
        let reason = match ended {
            Ok(()) => "its task ended without being asked to",
            Err(()) => "its task panicked",
        };
        if started.elapsed() >= SETTLED_AFTER {
            pause = RESTART_MIN;
        }
        context.health.set_state(DeviceState::Down, reason);
        let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        pause = (pause * 2).min(RESTART_MAX);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // An error means that the fleet is gone.
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// A future whose panic is an error.
struct Caught(AssertUnwindSafe<Life>);

impl Future for Caught {
    type Output = Result<(), ()>;

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let life = &mut self.0.0;
        let poll = std::panic::catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(context)));
        match poll {
            Ok(poll) => poll.map(Ok),
            Err(_) => std::task::Poll::Ready(Err(())),
        }
    }
}
