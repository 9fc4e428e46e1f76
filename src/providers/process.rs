//! Backends as children of this process: a port, a log file, a process group and a supervisor each.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use holdline_core::event::{Event, Observation};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::{FleetPolicy, ProcessPolicy, ProviderPolicy};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::Provider;
use super::child::{self, Order};
use super::ports::Ports;

/// The provider of `process` fleets. Its calls need a tokio runtime around them.
pub struct ProcessProvider {
    shared: Arc<Shared>,
}

/// What the provider and its children's tasks share.
pub(super) struct Shared {
    pub(super) fleet: FleetName,
    /// A Holdline binary, for its hidden subcommand `supervise`.
    pub(super) executable: PathBuf,
    /// The soft limit of open files that children get; `None`: Holdline's own.
    pub(super) open_files: Option<u64>,
    pub(super) ports: Arc<Ports>,
    events: mpsc::Sender<Event>,
    children: Mutex<Children>,
    /// How many children have a task; for those who wait until all are gone.
    alive: watch::Sender<usize>,
}

#[derive(Default)]
struct Children {
    orders: HashMap<BackendId, watch::Sender<Order>>,
    closed: bool,
}

impl ProcessProvider {
    /// A provider without children.
    pub(super) fn new(
        fleet: FleetName,
        (executable, open_files): (PathBuf, Option<u64>),
        ports: Arc<Ports>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let children = Mutex::default();
        let alive = watch::Sender::new(0);
        ProcessProvider { shared: Arc::new(Shared { fleet, executable, open_files, ports, events, children, alive }) }
    }
}

impl Provider for ProcessProvider {
    fn start(&self, id: BackendId, policy: &FleetPolicy) {
        let ProviderPolicy::Process(policy) = &policy.provider else { return };
        let (order, orders) = watch::channel(Order::Run);
        {
            let mut children = self.shared.children.lock();
            if children.closed || children.orders.contains_key(&id) {
                return;
            }
            children.orders.insert(id.clone(), order);
        }
        self.shared.alive.send_modify(|n| *n += 1);
        let entry = Entry { shared: Arc::clone(&self.shared), id };
        let policy: ProcessPolicy = policy.clone();
        tokio::spawn(async move { child::live(&entry.shared, &policy, &entry.id, orders).await });
    }

    fn retire(&self, id: &BackendId) {
        if let Some(order) = self.shared.children.lock().orders.get(id) {
            raise(order, Order::Stop);
        }
    }

    fn is_idle(&self) -> bool {
        *self.shared.alive.borrow() == 0
    }

    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.shared.close(Order::Stop);
        let mut alive = self.shared.alive.subscribe();
        Box::pin(async move {
            // Fails only without a sender, and `self` has one.
            let _ = alive.wait_for(|n| *n == 0).await;
        })
    }

    fn kill(&self) {
        self.shared.close(Order::Kill);
    }
}

impl Shared {
    /// Reports what was seen of a child; without a State task nobody needs to know.
    pub(super) async fn observed(&self, backend: &BackendId, observation: Observation) {
        let event = Event::Observed { fleet: self.fleet.clone(), backend: backend.clone(), observation };
        let _ = self.events.send(event).await;
    }

    fn close(&self, order: Order) {
        let mut children = self.children.lock();
        children.closed = true;
        children.orders.values().for_each(|child| raise(child, order));
    }
}

/// An order is only ever replaced by a harder one.
fn raise(order: &watch::Sender<Order>, to: Order) {
    order.send_if_modified(|now| {
        let harder = *now < to;
        *now = (*now).max(to);
        harder
    });
}

/// A child's place in the books, given back when its task ends in whatever way.
struct Entry {
    shared: Arc<Shared>,
    id: BackendId,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.children.lock().orders.remove(&self.id);
        self.shared.alive.send_modify(|n| *n -= 1);
    }
}
