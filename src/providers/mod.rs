//! What starts, lists and stops backends. A provider does what it is told and says what it saw; it decides nothing.

mod child;
mod ports;
pub mod process;
pub mod static_;
pub mod supervisor;

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use holdline_core::event::{Effect, Event};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::{FleetPolicy, ProviderPolicy};
use tokio::sync::mpsc;

use ports::Ports;
use process::ProcessProvider;
use static_::StaticProvider;

/// The executable that is Holdline itself: it works after an upgrade has replaced the file, too.
pub const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// A fleet's source of backends. No call waits; what comes of it arrives as [`Event::Observed`].
pub trait Provider: Send + Sync {
    /// Starts a backend under this id.
    fn start(&self, id: BackendId);

    /// Stops exactly this one; unknown ones are ignored.
    fn retire(&self, id: &BackendId);

    /// Starts nothing any more, stops all, and waits until they are gone.
    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Stops all at once, without asking them.
    fn kill(&self);
}

/// The providers of all fleets.
#[derive(Clone)]
pub struct Providers {
    by_fleet: HashMap<FleetName, Arc<dyn Provider>>,
}

impl Providers {
    /// A provider for each of `fleets`, reporting to `events`. `executable` is a Holdline binary ([`OWN_EXECUTABLE`]);
    /// `open_files` is the soft limit that children get (`None`: Holdline's own, which the gateway raises for itself).
    pub fn new<'a>(
        fleets: impl Iterator<Item = &'a FleetPolicy>,
        executable: &Path,
        open_files: Option<u64>,
        events: &mpsc::Sender<Event>,
    ) -> Self {
        // Shared, since the fleets' ranges may overlap.
        let ports = Arc::new(Ports::default());
        let provider = |fleet: &FleetPolicy| -> Arc<dyn Provider> {
            match &fleet.provider {
                ProviderPolicy::Static(_) => Arc::new(StaticProvider),
                ProviderPolicy::Process(policy) => Arc::new(ProcessProvider::new(
                    fleet.name.clone(),
                    policy.clone(),
                    (executable.to_owned(), open_files),
                    Arc::clone(&ports),
                    events.clone(),
                )),
            }
        };
        Providers { by_fleet: fleets.map(|f| (f.name.clone(), provider(f))).collect() }
    }

    /// Carries out [`Effect::Start`] and [`Effect::Retire`] until the sender is gone. Awaits nothing but the next effect, so
    /// the State task may wait for it.
    pub async fn run(self, mut effects: mpsc::Receiver<Effect>) {
        while let Some(effect) = effects.recv().await {
            match effect {
                Effect::Start { fleet, backend } => {
                    if let Some(provider) = self.by_fleet.get(&fleet) {
                        provider.start(backend);
                    }
                }
                Effect::Retire { fleet, backend } => {
                    if let Some(provider) = self.by_fleet.get(&fleet) {
                        provider.retire(&backend);
                    }
                }
                Effect::EndSessions { .. } | Effect::Notice(_) => {}
            }
        }
    }

    /// Stops the backends of all fleets and waits until they are gone.
    pub async fn shutdown(&self) {
        // All are told before any is waited for.
        let mut waits: Vec<_> = self.by_fleet.values().map(|p| p.shutdown()).collect();
        std::future::poll_fn(|cx| {
            waits.retain_mut(|wait| wait.as_mut().poll(cx).is_pending());
            if waits.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    /// Stops the backends of all fleets at once.
    pub fn kill(&self) {
        self.by_fleet.values().for_each(|p| p.kill());
    }
}
