//! Backends as child processes, each with a port, a log file, a process group and a supervisor.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use holdline_core::event::Event;
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::{FleetPolicy, ProcessPolicy, ProviderPolicy};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::Provider;
use super::child::{self, Directive, Parent};
use super::ports::Ports;

/// The provider of `process` fleets. Its calls need a tokio runtime around them.
pub struct ProcessProvider {
    shared: Arc<Shared>,
}

/// What the provider and its children's tasks share.
struct Shared {
    parent: Parent,
    children: Mutex<Children>,
    /// Number of children that have a task, to wait until all have exited.
    alive: watch::Sender<usize>,
}

#[derive(Default)]
struct Children {
    directives: HashMap<BackendId, watch::Sender<Directive>>,
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
        let parent = Parent { fleet, executable, open_files, ports, events };
        ProcessProvider { shared: Arc::new(Shared { parent, children, alive }) }
    }
}

impl Provider for ProcessProvider {
    fn start(&self, id: BackendId, policy: &FleetPolicy) {
        let ProviderPolicy::Process(policy) = &policy.provider else { return };
        let (directive, directives) = watch::channel(Directive::Run);
        {
            let mut children = self.shared.children.lock();
            if children.closed || children.directives.contains_key(&id) {
                return;
            }
            children.directives.insert(id.clone(), directive);
        }
        self.shared.alive.send_modify(|n| *n += 1);
        let guard = ChildGuard { shared: Arc::clone(&self.shared), id };
        let policy: ProcessPolicy = policy.clone();
        tokio::spawn(async move { child::live(&guard.shared.parent, &policy, &guard.id, directives).await });
    }

    fn retire(&self, id: &BackendId) {
        if let Some(directive) = self.shared.children.lock().directives.get(id) {
            raise(directive, Directive::Stop);
        }
    }

    fn is_idle(&self) -> bool {
        *self.shared.alive.borrow() == 0
    }

    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.shared.close(Directive::Stop);
        let mut alive = self.shared.alive.subscribe();
        Box::pin(async move {
            // Fails only without a sender, and `self` has one.
            let _ = alive.wait_for(|n| *n == 0).await;
        })
    }

    fn kill(&self) {
        self.shared.close(Directive::Kill);
    }
}

impl Shared {
    fn close(&self, directive: Directive) {
        let mut children = self.children.lock();
        children.closed = true;
        children.directives.values().for_each(|child| raise(child, directive));
    }
}

/// A directive is only replaced by a stronger one.
fn raise(directive: &watch::Sender<Directive>, to: Directive) {
    directive.send_if_modified(|now| {
        let harder = *now < to;
        *now = (*now).max(to);
        harder
    });
}

/// A child that has a task; forgotten when the task ends in whatever way.
struct ChildGuard {
    shared: Arc<Shared>,
    id: BackendId,
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        self.shared.children.lock().directives.remove(&self.id);
        self.shared.alive.send_modify(|n| *n -= 1);
    }
}
