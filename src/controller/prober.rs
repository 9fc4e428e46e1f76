//! Heartbeats by pull: a task a backend, which joins and leaves with the snapshot.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdline_core::cause::Phase;
use holdline_core::event::Event;
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::{FleetPolicy, Probe};
use holdline_core::snapshot::{FleetView, Snapshot};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::DataPlane;
use super::probe::{Answer, Asker, Missed};
use crate::net::tls::Connector;
use crate::telemetry::Metrics;

/// Between two probes of a backend that is starting: somebody waits for it. Spread, so that a whole fleet does not beat in step.
const STARTING_GAP_MS: std::ops::RangeInclusive<u64> = 50..=100;

/// Probes the backends of every snapshot.
pub struct Prober {
    plane: Arc<dyn DataPlane>,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    seed: u64,
    probed: HashMap<(FleetName, BackendId), Probed>,
    followed: Option<Followed>,
}

/// What `probed` was made of.
struct Followed {
    snapshot: Arc<Snapshot>,
    /// In the order of its fleets.
    connectors: Vec<Option<Arc<Connector>>>,
}

impl Followed {
    /// Whether `next` has the same backends to probe, in the same way: most snapshots differ in counts alone.
    fn says_the_same(&self, next: &Snapshot, plane: &dyn DataPlane) -> bool {
        let (old, new) = (&self.snapshot.fleets, &next.fleets);
        let same = |(old, connector): (&FleetView, &Option<Arc<Connector>>), new: &FleetView| {
            let same_policy = Arc::ptr_eq(&old.policy, &new.policy) || old.policy == new.policy;
            same_policy && probes(old).eq(probes(new)) && same_connector(connector.as_ref(), plane.connector(new.name()).as_ref())
        };
        old.len() == new.len() && old.iter().zip(&self.connectors).zip(new).all(|(old, new)| same(old, new))
    }
}

/// What the task of each backend depends on.
fn probes(fleet: &FleetView) -> impl Iterator<Item = (&BackendId, Option<SocketAddr>, bool)> {
    fleet.backends.iter().map(|b| (&b.id, b.address, b.phase == Phase::Starting))
}

fn same_connector(a: Option<&Arc<Connector>>, b: Option<&Arc<Connector>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// A backend with a task of its own, which ends with this.
struct Probed {
    address: SocketAddr,
    /// What it is asked by: another one needs another task.
    policy: Arc<FleetPolicy>,
    connector: Option<Arc<Connector>>,
    starting: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Probed {
    /// Whether a backend there is asked in the same way.
    fn asks(&self, address: SocketAddr, policy: &FleetPolicy, connector: Option<&Arc<Connector>>) -> bool {
        let same_tls = same_connector(self.connector.as_ref(), connector);
        let (own, other) = (&self.policy, policy);
        self.address == address && own.heartbeat == other.heartbeat && own.proxy_protocol == other.proxy_protocol && same_tls
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prober {
    /// A prober that reports to `events`.
    pub fn new(plane: Arc<dyn DataPlane>, events: mpsc::Sender<Event>, metrics: Arc<Metrics>, seed: u64) -> Self {
        Prober { plane, events, metrics, seed, probed: HashMap::new(), followed: None }
    }

    /// Follows the snapshots until they end.
    pub async fn run(mut self, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            self.follow(snapshot);
            if snapshots.changed().await.is_err() {
                return;
            }
        }
    }

    /// Starts and ends tasks; whether there was anything to look at.
    fn follow(&mut self, snapshot: Arc<Snapshot>) -> bool {
        if self.followed.as_ref().is_some_and(|followed| followed.says_the_same(&snapshot, &*self.plane)) {
            return false;
        }
        let connectors: Vec<_> = snapshot.fleets.iter().map(|f| self.plane.connector(f.name())).collect();
        let mut before = std::mem::take(&mut self.probed);
        let fleets = snapshot.fleets.iter().zip(&connectors);
        for (fleet, connector) in fleets.filter(|(f, _)| f.policy.heartbeat.probe != Probe::Push) {
            for backend in &fleet.backends {
                let Some(address) = backend.address else { continue };
                let key = (fleet.name().clone(), backend.id.clone());
                let kept = before.remove(&key).filter(|p| p.asks(address, &fleet.policy, connector.as_ref()));
                let probed = kept.unwrap_or_else(|| self.start(&key, address, &fleet.policy, connector.clone()));
                probed.starting.store(backend.phase == Phase::Starting, Ordering::Relaxed);
                self.probed.insert(key, probed);
            }
        }
        self.followed = Some(Followed { snapshot, connectors });
        true
    }

    fn start(
        &self,
        (fleet, backend): &(FleetName, BackendId),
        address: SocketAddr,
        policy: &Arc<FleetPolicy>,
        connector: Option<Arc<Connector>>,
    ) -> Probed {
        let starting = Arc::new(AtomicBool::new(true));
        let mut hash = DefaultHasher::new();
        (self.seed, fleet, backend).hash(&mut hash);
        let target = ProbeTarget {
            fleet: fleet.clone(),
            backend: backend.clone(),
            interval: policy.heartbeat.interval,
            starting: Arc::clone(&starting),
            plane: Arc::clone(&self.plane),
            events: self.events.clone(),
            metrics: Arc::clone(&self.metrics),
            asker: Asker::new(address, policy.heartbeat.clone(), policy.proxy_protocol, connector.clone()),
            random: SmallRng::seed_from_u64(hash.finish()),
            complaint: None,
        };
        Probed { address, policy: Arc::clone(policy), connector, starting, task: tokio::spawn(target.run()) }
    }
}

/// One backend, as its task sees it.
struct ProbeTarget {
    fleet: FleetName,
    backend: BackendId,
    interval: Duration,
    starting: Arc<AtomicBool>,
    plane: Arc<dyn DataPlane>,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    asker: Asker,
    random: SmallRng,
    /// What was last wrong, so that the log tells it once.
    complaint: Option<String>,
}

impl ProbeTarget {
    async fn run(mut self) {
        // The first probe is at once, the second one anywhere within an interval: from then on fleets do not beat in step.
        let mut phase = Some(self.random.random_range(0.0..1.0));
        loop {
            let gap = match self.starting.load(Ordering::Relaxed) {
                true => Duration::from_millis(self.random.random_range(STARTING_GAP_MS)),
                false => self.interval.mul_f64(phase.take().unwrap_or(1.0)),
            };
            // From start to start: a slow answer does not make heartbeats rarer.
            let next = tokio::time::sleep(gap);
            if self.probe().await.is_err() {
                return;
            }
            next.await;
        }
    }

    /// Asks and reports; the error is that nobody listens any more.
    async fn probe(&mut self) -> Result<(), mpsc::error::SendError<Event>> {
        let before = self.plane.used(&self.fleet, &self.backend);
        let asked = self.asker.ask().await;
        // Sessions come and go during the question. The higher count makes none of ours look like somebody else's.
        let counted = before.max(self.plane.used(&self.fleet, &self.backend));
        let (fleet, backend) = (self.fleet.clone(), self.backend.clone());
        match asked {
            Ok(Answer { mut heartbeat, bad }) => {
                if bad.is_some() {
                    self.metrics.bad_input("heartbeat");
                }
                self.complain(bad.map(|b| b.to_string()));
                heartbeat.counted = Some(counted);
                self.events.send(Event::Heartbeat { fleet, backend, heartbeat }).await
            }
            Err(missed) => {
                let ours = missed.is_ours();
                self.missed(missed);
                let event = match ours {
                    true => Event::HeartbeatNotAsked { fleet, backend },
                    false => Event::HeartbeatMissed { fleet, backend },
                };
                self.events.send(event).await
            }
        }
    }

    fn missed(&mut self, missed: Missed) {
        // A child that does not listen yet is no news.
        let awaited = self.starting.load(Ordering::Relaxed) && matches!(missed, Missed::Connect(_)) && !missed.is_ours();
        if !awaited {
            self.complain(Some(format!("heartbeat missed: {missed}")));
        }
    }

    fn complain(&mut self, of: Option<String>) {
        if self.complaint == of {
            return;
        }
        if let Some(text) = &of {
            tracing::warn!(fleet = %self.fleet, backend = %self.backend, "{text}");
        }
        self.complaint = of;
    }
}

#[cfg(test)]
mod tests;
