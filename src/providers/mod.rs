//! Providers start and stop backends. They execute orders and report what they observe; they make no decisions.
//! Fleets with backends that Holdline does not run (`static`) need none.

mod child;
mod ports;
pub mod process;
pub mod supervisor;

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use holdline_core::event::{Effect, Event};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::FleetPolicy;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use ports::Ports;
use process::ProcessProvider;

/// Holdline's own executable; valid even after an upgrade has replaced the file.
pub const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// A fleet's source of backends. No call blocks; results arrive as [`Event::Observed`].
pub trait Provider: Send + Sync {
    /// Starts a backend under this id, as `policy` says.
    fn start(&self, id: BackendId, policy: &FleetPolicy);

    /// Stops exactly this one; unknown ones are ignored.
    fn retire(&self, id: &BackendId);

    /// Whether everything that it started has exited.
    fn is_idle(&self) -> bool;

    /// Starts no more backends, stops all, and waits until they have exited.
    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Kills all backends.
    fn kill(&self);
}

/// The providers of all fleets: each is made when its fleet's first backend is started, for fleets come and go.
#[derive(Clone)]
pub struct Providers {
    shared: Arc<Shared>,
}

struct Shared {
    executable: PathBuf,
    open_files: Option<u64>,
    /// Of all fleets, since their ranges may overlap.
    ports: Arc<Ports>,
    events: mpsc::Sender<Event>,
    providers: Mutex<ByFleet>,
}

#[derive(Default)]
struct ByFleet {
    providers: HashMap<FleetName, Arc<dyn Provider>>,
    closed: bool,
}

impl Providers {
    /// Providers that report to `events`. `executable` is a Holdline binary ([`OWN_EXECUTABLE`]); `open_files` is the soft limit that
    /// children get (`None`: Holdline's own, which the gateway raises for itself).
    pub fn new(executable: &Path, open_files: Option<u64>, events: &mpsc::Sender<Event>) -> Self {
        let (ports, providers) = Default::default();
        let shared = Shared { executable: executable.to_owned(), open_files, ports, events: events.clone(), providers };
        Providers { shared: Arc::new(shared) }
    }

    /// Carries out [`Effect::Start`] and [`Effect::Retire`] until the sender is gone. Awaits nothing but the next effect, so
    /// the State task may wait for it.
    pub async fn run(self, mut effects: mpsc::Receiver<Effect>) {
        while let Some(effect) = effects.recv().await {
            match effect {
                Effect::Start { fleet, backend, policy } => {
                    if let Some(provider) = self.for_start(&fleet) {
                        provider.start(backend, &policy);
                    }
                }
                Effect::Retire { fleet, backend } => {
                    let provider = self.shared.providers.lock().providers.get(&fleet).cloned();
                    if let Some(provider) = provider {
                        provider.retire(&backend);
                    }
                }
                Effect::EndSessions { .. } | Effect::Notice(_) => {}
            }
        }
    }

    /// Stops the backends of all fleets and waits until they are gone.
    pub async fn shutdown(&self) {
        let providers = self.close();
        // All are stopped before any is waited for.
        let mut waits: Vec<_> = providers.iter().map(|p| p.shutdown()).collect();
        std::future::poll_fn(|cx| {
            waits.retain_mut(|wait| wait.as_mut().poll(cx).is_pending());
            if waits.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    /// Stops the backends of all fleets at once.
    pub fn kill(&self) {
        self.close().iter().for_each(|p| p.kill());
    }

    /// The provider of `fleet`; `None`: nothing is started any more.
    fn for_start(&self, fleet: &FleetName) -> Option<Arc<dyn Provider>> {
        let mut by_fleet = self.shared.providers.lock();
        if by_fleet.closed {
            return None;
        }
        if !by_fleet.providers.contains_key(fleet) {
            // Providers of removed fleets would pile up.
            by_fleet.providers.retain(|_, p| !p.is_idle());
        }
        let Shared { executable, open_files, ports, events, .. } = &*self.shared;
        let new = || -> Arc<dyn Provider> {
            let program = (executable.clone(), *open_files);
            Arc::new(ProcessProvider::new(fleet.clone(), program, Arc::clone(ports), events.clone()))
        };
        Some(Arc::clone(by_fleet.providers.entry(fleet.clone()).or_insert_with(new)))
    }

    fn close(&self) -> Vec<Arc<dyn Provider>> {
        let mut by_fleet = self.shared.providers.lock();
        by_fleet.closed = true;
        by_fleet.providers.values().cloned().collect()
    }
}
