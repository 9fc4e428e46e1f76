//! The data plane: holds client connections, knows how many sessions each backend has, queues before it refuses.
//!
//! `accept` takes connections; `http::judge` decides what each request is. A session is opened by `http::opening`: it gets its seat from
//! [`admission`], its backend through [`upstream`], and becomes a [`session::tunnel`] or [`session::stream`], a task of its own on the thread
//! that accepted it. Plain requests and polls go through `http::plain`. docs/architecture.md shows the modules in their order.

mod accept;
mod admission;
mod context;
mod error;
mod http;
mod limits;
mod peer;
mod refuse;
pub mod session;
mod stage;
#[cfg(test)]
mod tests;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use holdline_core::cause::EndCause;
use holdline_core::drain::{EndOrder, Ending};
use holdline_core::event::{Event, GatewayReport};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::DrainMode;
use holdline_core::shutdown::{Shutdown, ShutdownAction};
use holdline_core::snapshot::Snapshot;
use holdline_core::wire::token::Keys;
use rand::rngs::{OsRng, SmallRng};
use rand::{Rng, SeedableRng, TryRngCore};
use tokio::sync::{mpsc, watch};

use self::accept::data_thread::{self, Setup};
use self::admission::fleet::Fleet;
use self::context::adoption::Adoption;
pub use self::context::adoption::Prepared;
use self::context::listener;
use self::context::served::Served;
use self::context::shared::{Shared, ThreadHandle};
pub use self::error::GatewayError;
use self::limits::addresses::Addresses;
use self::limits::descriptors::Descriptors;
use self::limits::memory;
pub use self::limits::memory::Meter;
pub use self::session::kind::SessionKind;
use self::session::orders;
pub use self::session::target::{SessionFilter, SessionInfo};
use self::stage::{Stage, StageWatch};
use self::upstream::dial::Dialler;
use crate::clock::Clock;
use crate::config::model::Config;
use crate::net::tls::{self, Connector};
use crate::telemetry::Metrics;

/// Between two looks at a shutdown: whom to tell to go, whether all have gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Sessions that were cut still read their backends' end, which must not hold the process up.
const CUT_TIME: Duration = Duration::from_secs(1);

/// A running data plane. Dropping it stops its threads at once.
pub struct Gateway {
    shared: Arc<Shared>,
    orders: Vec<orders::Handle>,
    adoption: Adoption,
    stage: watch::Sender<Stage>,
}

impl Gateway {
    /// Binds all listeners and starts the threads. Until a snapshot is adopted there is no backend, and sessions wait. `seed` decides
    /// placement among equals and session ids; what must not be guessed comes from the system.
    ///
    /// # Errors
    /// [`GatewayError`] says what is in the way and what to do.
    pub fn start(
        config: &Config,
        clock: Clock,
        metrics: Arc<Metrics>,
        events: mpsc::Sender<Event>,
        seed: u64,
    ) -> Result<Arc<Gateway>, GatewayError> {
        Self::start_within(Descriptors::raise(), config, clock, metrics, events, seed)
    }

    fn start_within(
        descriptors: Arc<Descriptors>,
        config: &Config,
        clock: Clock,
        metrics: Arc<Metrics>,
        events: mpsc::Sender<Event>,
        seed: u64,
    ) -> Result<Arc<Gateway>, GatewayError> {
        let mut key = [0; 32];
        OsRng.try_fill_bytes(&mut key).map_err(|error| GatewayError::Thread(io::Error::other(error)))?;
        let keys = Keys::new(key);
        let fleet = |(number, f): (usize, &crate::config::model::FleetConfig)| {
            Fleet::new(number, Arc::clone(&f.policy), metrics.fleet(&f.policy.name), keys.clone())
        };
        let fleets: Vec<_> = config.fleets.iter().enumerate().map(fleet).collect();
        let tls = tls::Store::load(config)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = config.threads.map_or(cores, usize::from);
        let groups = config.listeners.iter().map(|l| listener::bind(l, threads)).collect::<Result<_, _>>()?;
        let addresses = Addresses::new(&config.limits, descriptors.sessions_max());
        let served = ArcSwap::from_pointee(Served::new(config, fleets, groups, tls, addresses)?);
        let (thread_handles, handed): (Vec<_>, Vec<_>) = (0..threads).map(|_| ThreadHandle::new()).unzip();
        let (swapped, failed) = (watch::Sender::new(()), watch::Sender::new(false));
        let dialler = Dialler { clock, events, metrics: Arc::clone(&metrics) };
        let is_short_of_memory = AtomicBool::new(false);
        let shared = Arc::new(Shared {
            clock,
            served,
            swapped,
            failed,
            descriptors,
            is_short_of_memory,
            metrics,
            dialler,
            thread_handles,
        });
        let stage = watch::Sender::new(Stage::Serving);
        let mut seeds = SmallRng::seed_from_u64(seed);
        let mut orders = Vec::with_capacity(threads);
        let setups = handed.into_iter().enumerate().map(|(index, handed)| {
            let (handle, inbox) = orders::channel();
            orders.push(handle);
            Setup { index, inbox, handed, stage: StageWatch::new(&stage), seed: seeds.random() }
        });
        let started = spawn(setups.collect(), &shared);
        let gateway = Arc::new(Gateway { adoption: Adoption::new(&shared, keys), shared, orders, stage });
        // On an error the gateway is dropped here, which stops the threads that came up.
        started.map(|()| gateway).map_err(GatewayError::Thread)
    }

    /// Binds the addresses that `config` adds, and reads the files of its TLS; nothing is accepted there yet. Dropping it gives them up.
    ///
    /// # Errors
    /// [`GatewayError`] names the address and the remedy.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, GatewayError> {
        self.adoption.prepare(config)
    }

    /// Obeys a snapshot, with the rest of the configuration that it is made of: new handshakes see all of it or nothing.
    pub fn adopt_with(&self, snapshot: &Snapshot, prepared: Prepared) {
        self.adoption.adopt_with(snapshot, prepared);
    }

    /// Obeys a snapshot: from its return on no reservation goes beyond the snapshot's limits, and whoever waits for a seat that they
    /// free was thought of.
    pub fn adopt(&self, snapshot: &Snapshot) {
        self.adoption.adopt(snapshot);
    }

    /// Where it listens, in the configuration's order, with the ports that were found for port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shared.served.load().groups.iter().map(|g| g.address()).collect()
    }

    /// How the backends of `fleet` are spoken to; `None`: in plain text.
    pub fn connector(&self, fleet: &FleetName) -> Option<Arc<Connector>> {
        self.shared.served.load().tls.connector(fleet).cloned()
    }

    /// Takes over what changes in the files of its TLS, for ever.
    pub async fn follow_tls(self: Arc<Self>) {
        let mut swapped = self.shared.swapped.subscribe();
        loop {
            swapped.borrow_and_update();
            let store = Arc::clone(&self.shared.served.load().tls);
            tokio::select! {
                () = Arc::clone(&store).follow(Arc::clone(&self.shared.metrics)) => {}
                () = self.other_tls(&store, &mut swapped) => {}
            }
        }
    }

    /// Resolves when other files than those of `store` count.
    async fn other_tls(&self, store: &Arc<tls::Store>, swapped: &mut watch::Receiver<()>) {
        while Arc::ptr_eq(store, &self.shared.served.load().tls) {
            if swapped.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// The counts now. Also passes on what dials found and the event channel had no room for.
    pub fn report(&self) -> GatewayReport {
        let now = self.shared.clock.now();
        let served = self.shared.served.load();
        for fleet in &served.fleets {
            for member in &fleet.joined().members {
                member.0.tell_dials(&self.shared.dialler.events);
            }
        }
        GatewayReport { fleets: served.fleets.iter().map(|f| f.counts(now)).collect() }
    }

    /// Seats taken now where a backend is, by whatever id and fleet; zero when it is unknown.
    pub fn used(&self, fleet: &FleetName, backend: &BackendId) -> u32 {
        let served = self.shared.served.load();
        let Some(backend) = served.fleet(fleet).and_then(|f| f.backend(backend)) else { return 0 };
        served.fleets.iter().map(|f| f.held_at(backend.address)).fold(0, u32::saturating_add)
    }

    /// The sessions that `filter` means, oldest first.
    pub async fn sessions(&self, filter: SessionFilter) -> Vec<SessionInfo> {
        orders::list(&self.orders, filter).await
    }

    /// Ends sessions of a backend, idle ones first, then the oldest; how many were told to.
    pub async fn end_sessions(&self, fleet: &FleetName, backend: &BackendId, order: EndOrder) -> u32 {
        let filter = SessionFilter { fleet: Some(fleet.clone()), backend: Some(backend.clone()), limit: None };
        orders::end(&self.orders, &filter, order).await
    }

    /// Resolves when a data thread lost a task that it cannot do without, which the log names. Sessions can still be closed then.
    pub async fn failed(self: Arc<Self>) {
        let mut failed = self.shared.failed.subscribe();
        // Fails only without a sender, and we have one.
        let _ = failed.wait_for(|failed| *failed).await;
    }

    /// Makes the task of a thread panic that carries out orders.
    #[cfg(test)]
    pub(crate) async fn break_orders(&self, thread: usize) {
        self.orders[thread].break_off().await;
    }

    /// Keeps to `limits.memory`, for ever.
    pub async fn watch_memory(self: Arc<Self>, meter: Option<Meter>) {
        let shared = &self.shared;
        let ceiling = || shared.served.load().limits.memory;
        memory::watch(meter, ceiling, &shared.descriptors, &shared.is_short_of_memory, &shared.metrics, shared.clock).await;
    }

    /// Stops accepting, refuses waiting handshakes, lets plain requests finish, closes sessions at a pace (1001, the end of a stream) and
    /// cuts what is left at the deadline. Returns when the last client has gone, or a moment after the cut.
    pub async fn shutdown(&self, deadline: Duration) {
        let clock = self.shared.clock;
        self.stage.send_if_modified(|stage| raise(stage, Stage::Stopping));
        let mut shutdown = Shutdown::new(self.held(), deadline, clock.now());
        while !self.is_empty() {
            let ShutdownAction::Close(count) = shutdown.step(clock.now()) else {
                self.cut().await;
                break;
            };
            let order = EndOrder { count, ending: Ending { mode: DrainMode::Close, cause: EndCause::Shutdown } };
            shutdown.told(orders::end(&self.orders, &SessionFilter::default(), order).await);
            tokio::time::sleep(LOOK_EVERY.min(shutdown.left(clock.now()))).await;
        }
        self.stage.send_if_modified(|stage| raise(stage, Stage::Over));
        // The threads have gone when they have dropped their end.
        self.stage.closed().await;
    }

    /// Breaks all sessions off, and gives their backends a moment to take note.
    async fn cut(&self) {
        let order = EndOrder { count: u32::MAX, ending: Ending::CUT };
        orders::end(&self.orders, &SessionFilter::default(), order).await;
        let until = self.shared.clock.now() + CUT_TIME;
        while self.held() > 0 && self.shared.clock.now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Seats taken in all fleets.
    fn held(&self) -> u32 {
        self.shared.served.load().fleets.iter().map(|f| f.held()).fold(0, u32::saturating_add)
    }

    /// No seat is taken and no client is connected (one may still wait for its refusal, or for an answer).
    fn is_empty(&self) -> bool {
        self.held() == 0 && self.shared.thread_handles.iter().all(|n| n.connections() == 0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stage.send_if_modified(|stage| raise(stage, Stage::Over));
    }
}

fn raise(stage: &mut Stage, to: Stage) -> bool {
    let higher = to > *stage;
    *stage = to.max(*stage);
    higher
}

fn spawn(setups: Vec<Setup>, shared: &Arc<Shared>) -> io::Result<()> {
    let (ready, came_up) = std::sync::mpsc::sync_channel(setups.len());
    let count = setups.len();
    for setup in setups {
        let (shared, ready) = (Arc::clone(shared), ready.clone());
        let name = format!("data-{}", setup.index);
        std::thread::Builder::new().name(name).spawn(move || data_thread::run(setup, shared, &ready))?;
    }
    drop(ready);
    // A thread that died before its answer closes its end.
    (0..count).try_for_each(|_| came_up.recv().unwrap_or_else(|_| Err(io::Error::other("the thread died"))))
}
