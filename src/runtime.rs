//! Wires channels and tasks together and runs Holdline from startup to shutdown. No other module spawns its long-lived tasks.
//!
//! The calling thread runs the control plane; the gateway has threads of its own. Startup order: the admin address, the
//! listeners, the State task, then what feeds it and carries out its effects. Shutdown order: no more connections, sessions
//! closed at a bounded rate, then the backends, then the control plane.

mod adapters;
mod error;
mod reload;
mod stop;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::ids::FleetName;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::admin::{self, AdminState};
use crate::clock::Clock;
use crate::config::ConfigFile;
use crate::config::model::Config;
use crate::controller::{Control, Outlets, Prober, StateTask, drain};
use crate::gateway::{Gateway, Meter};
use crate::providers::{OWN_EXECUTABLE, Providers};
use crate::telemetry::Metrics;
use crate::telemetry::logs::{DroppedLines, LogFilter};

pub use error::RunError;
use reload::Reloads;
pub use stop::Stop;
use stop::Stopping;

/// Events queued for the State task, which takes them in batches: a second of heartbeats of a thousand backends. When it is full,
/// data threads do not wait (they report at the next tick); probers and providers do.
const EVENTS_MAX: usize = 1024;
/// Queued orders to end sessions; see [`Outlets::drainer`].
const DRAIN_ORDERS_MAX: usize = 256;
/// Queued starts and stops of backends.
const PROVIDER_ORDERS_MAX: usize = 64;

/// How long to wait for killed backends; one that hangs in the kernel takes longer and must not delay the exit.
const KILL_TIME: Duration = Duration::from_secs(5);

/// What the caller of [`run`] adds to the configuration.
pub struct Hooks {
    /// Called once, when everything listens.
    pub ready: Box<dyn FnOnce(Running) + Send>,
    /// Stops the run as a signal does; clone it to keep a handle.
    pub stop: Stop,
    /// Whether SIGTERM and SIGINT stop the run.
    pub signals: bool,
    /// Seed of every random decision; `None`: from the operating system.
    pub seed: Option<u64>,
    /// A Holdline binary: it supervises backends that are processes.
    pub executable: PathBuf,
    /// Counter of dropped log lines, for the metrics.
    pub log: Option<DroppedLines>,
    /// The log's filter, which a reload sets.
    pub log_filter: Option<LogFilter>,
    /// The configuration file; it is reloaded on SIGHUP and when it changes. `None`: no reloads.
    pub file: Option<ConfigFile>,
}

impl Default for Hooks {
    fn default() -> Self {
        Hooks {
            ready: Box::new(|_| {}),
            stop: Stop::default(),
            signals: true,
            seed: None,
            executable: PathBuf::from(OWN_EXECUTABLE),
            log: None,
            log_filter: None,
            file: None,
        }
    }
}

/// A Holdline that listens.
#[derive(Clone)]
pub struct Running {
    /// Where clients connect; ports chosen by the kernel are filled in.
    pub listeners: Vec<SocketAddr>,
    pub admin: SocketAddr,
    pub control: Control,
}

/// Runs until a signal or [`Hooks::stop`] ends it and everything has ended.
///
/// # Errors
/// [`RunError`], which says what to do, and its [exit status](RunError::exit_code).
pub fn run(config: Config, hooks: Hooks) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?;
    let result = runtime.block_on(async {
        let stopping = Stopping::new(&hooks.stop, hooks.signals)?;
        let holdline = Holdline::start(config, hooks).await?;
        holdline.serve(stopping).await
    });
    // A read that hangs in a file system must not delay the exit.
    runtime.shutdown_background();
    result
}

/// Everything that runs.
struct Holdline {
    /// The configuration in force.
    config: Config,
    reloads: Option<Reloads>,
    log_filter: Option<LogFilter>,
    clock: Clock,
    metrics: Arc<Metrics>,
    gateway: Arc<Gateway>,
    control: Control,
    providers: Providers,
    admin: Arc<AdminState>,
    /// Dropping the sender ends the task.
    admin_task: (oneshot::Sender<()>, JoinHandle<()>),
    /// Each returns its name when it ends, which none should before shutdown.
    tasks: JoinSet<&'static str>,
}

impl Holdline {
    async fn start(config: Config, hooks: Hooks) -> Result<Holdline, RunError> {
        let clock = Clock::start();
        let metrics = Metrics::new();
        if let Some(dropped) = hooks.log {
            metrics.follow_log(dropped);
        }
        let seed = hooks.seed.unwrap_or_else(|| SmallRng::from_os_rng().random());
        // First: a second Holdline with the same configuration fails here, before it accepts connections.
        let listener = bind_admin(config.admin).await?;
        let (events, received) = mpsc::channel(EVENTS_MAX);
        // Before it listens: a SIGHUP may arrive as soon as it does.
        let reloads = hooks.file.map(Reloads::new).transpose()?;
        // Before the gateway raises it.
        let open_files = getrlimit(Resource::Nofile).current;
        // Before there are children, which would share its control group.
        let meter = Meter::find();
        let gateway = Gateway::start(&config, clock, Arc::clone(&metrics), events.clone(), seed)?;
        let plane = adapters::data_plane(&gateway);
        let (drainer, drain_orders) = mpsc::channel(DRAIN_ORDERS_MAX);
        let (orders, provider_orders) = mpsc::channel(PROVIDER_ORDERS_MAX);
        let fleets = config.fleets.iter().map(|f| Arc::clone(&f.policy)).collect();
        let providers = Providers::new(&hooks.executable, open_files, &events);
        let prober = Prober::new(Arc::clone(&plane), events.clone(), Arc::clone(&metrics), seed);
        let outlets = Outlets { drainer, providers: orders };
        let (state, control) =
            StateTask::new(fleets, Arc::clone(&plane), clock, Arc::clone(&metrics), (events, received), outlets);

        let mut tasks = JoinSet::new();
        named(&mut tasks, "state", state.run());
        named(&mut tasks, "providers", providers.clone().run(provider_orders));
        named(&mut tasks, "drainer", drain(plane, drain_orders));
        named(&mut tasks, "tls", Arc::clone(&gateway).follow_tls());
        named(&mut tasks, "memory", Arc::clone(&gateway).watch_memory(meter));
        named(&mut tasks, "data threads", Arc::clone(&gateway).failed());
        named(&mut tasks, "prober", prober.run(control.watch()));
        let (admin, admin_task) = serve_admin(listener, &config, &control, &gateway, Arc::clone(&metrics), clock);

        let running = Running { listeners: gateway.addresses(), admin: admin.address, control: control.clone() };
        tracing::info!(listeners = ?running.listeners, admin = %running.admin, page = %format_args!("http://{}/", running.admin), fleets = config.fleets.len(), "Holdline is running");
        (hooks.ready)(running);
        let log_filter = hooks.log_filter;
        Ok(Holdline { config, reloads, log_filter, clock, metrics, gateway, control, providers, admin, admin_task, tasks })
    }

    /// Serves until a stop is requested, then shuts down.
    async fn serve(mut self, mut stopping: Stopping) -> Result<(), RunError> {
        let ended = loop {
            tokio::select! {
                () = stopping.asked() => break None,
                ended = self.tasks.join_next() => break Some(ended),
                () = Reloads::asked(&mut self.reloads) => tokio::select! {
                    () = self.reload() => {}
                    () = stopping.asked() => break None,
                },
            }
        };
        let deadline = self.config.shutdown_deadline;
        if let Some(ended) = &ended {
            // Open sessions can still be closed properly; new ones could not be placed.
            tracing::error!(?ended, "a task of Holdline ended unexpectedly; stopping");
        }
        self.admin.set_ready(false);
        tracing::info!(?deadline, "stopping: sessions are closed within the deadline; a second signal cuts them at once");
        let mut reloads = self.reloads.take();
        let gently = {
            let mut gentle = std::pin::pin!(self.stop_gently(deadline));
            loop {
                tokio::select! {
                    () = &mut gentle => break true,
                    () = stopping.asked_again() => break false,
                    () = Reloads::asked(&mut reloads) => self.refuse_reload(),
                }
            }
        };
        if !gently {
            self.stop_at_once().await;
        }
        let (admin_stop, admin_task) = self.admin_task;
        drop(admin_stop);
        // Responses in flight are finished first; a task that failed has none.
        let _ = admin_task.await;
        tracing::info!("Holdline has stopped");
        match ended {
            None => Ok(()),
            Some(_) => Err(RunError::Failed),
        }
    }

    async fn stop_gently(&self, deadline: Duration) {
        // Without a State task there is no scaling to stop.
        let _ = self.control.shut_down().await;
        self.gateway.shutdown(deadline).await;
        tracing::info!("all sessions have ended; stopping backends");
        self.providers.shutdown().await;
    }

    async fn stop_at_once(&self) {
        tracing::warn!("second stop request: cutting sessions and killing backends");
        self.providers.kill();
        self.gateway.shutdown(Duration::ZERO).await;
        if tokio::time::timeout(KILL_TIME, self.providers.shutdown()).await.is_err() {
            tracing::error!("some backends are still running after SIGKILL; their supervisors keep waiting for them");
        }
    }
}

fn named(tasks: &mut JoinSet<&'static str>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        task.await;
        name
    });
}

async fn bind_admin(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::admin(address, source))
}

fn serve_admin(
    listener: TcpListener,
    config: &Config,
    control: &Control,
    gateway: &Arc<Gateway>,
    metrics: Arc<Metrics>,
    clock: Clock,
) -> (Arc<AdminState>, (oneshot::Sender<()>, JoinHandle<()>)) {
    let address = listener.local_addr().unwrap_or(config.admin);
    let sessions = adapters::sessions(gateway);
    let state = AdminState::new(Arc::new(control.clone()), sessions, metrics, clock, address);
    state.heartbeat_tokens.store(Arc::new(heartbeat_tokens(config)));
    // The gateway has bound its listeners, and the first snapshot is there.
    state.set_ready(true);
    let state = Arc::new(state);
    let (stop, stopped) = oneshot::channel::<()>();
    let app = admin::router(Arc::clone(&state));
    let task = tokio::spawn(admin::serve(listener, app, async move { drop(stopped.await) }));
    (state, (stop, task))
}

fn heartbeat_tokens(config: &Config) -> HashMap<FleetName, String> {
    config.fleets.iter().filter_map(|f| Some((f.policy.name.clone(), f.heartbeat_token.clone()?))).collect()
}

#[cfg(test)]
mod tests;
