//! How another configuration and each snapshot are taken over.

use std::sync::Arc;

use holdline_core::snapshot::{FleetView, Snapshot};
use holdline_core::wire::forwarded::Trusted;
use holdline_core::wire::token::Keys;
use parking_lot::Mutex;

use super::listener::{self, Group};
use super::route::Routes;
use super::served::Served;
use super::shared::Shared;
use crate::config::model::{Config, Limits, Route};
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::error::GatewayError;
use crate::net::tls;

/// The gateway's part of another configuration: everything that could fail was done.
pub struct Prepared {
    routes: Vec<Route>,
    limits: Limits,
    trusted: Arc<Trusted>,
    groups: Vec<Arc<Group>>,
    tls: Arc<tls::Store>,
    /// A kept group has settings of its own, which change with the rest.
    settings: Vec<Arc<crate::config::model::Listener>>,
}

/// Takes over what is to be served: another configuration, and each snapshot.
pub(crate) struct Adoption {
    shared: Arc<Shared>,
    /// Sign affinity tokens, of fleets to come too.
    keys: Keys,
    /// Adopting is read-compare-swap.
    one_at_a_time: Mutex<()>,
}

impl Adoption {
    pub(crate) fn new(shared: &Arc<Shared>, keys: Keys) -> Self {
        Adoption { shared: Arc::clone(shared), keys, one_at_a_time: Mutex::new(()) }
    }

    /// Binds the addresses that `config` adds, and reads the files of its TLS; nothing is accepted there yet. Dropping it gives them up.
    ///
    /// # Errors
    /// [`GatewayError`] names the address and the remedy.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Prepared, GatewayError> {
        let served = self.shared.served.load();
        let tls = tls::Store::load_after(config, &served.tls, |fleet| served.fleet(fleet).is_some())?;
        let mut open: Vec<&Arc<Group>> = served.groups.iter().collect();
        let mut groups = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            // The same address keeps its descriptors: closing one of a group would reset what is queued on it.
            match open.iter().position(|g| g.written() == listener.address) {
                Some(at) => groups.push(Arc::clone(open.remove(at))),
                None => groups.push(bind_added(listener, self.shared.thread_handles.len(), &served.groups)?),
            }
        }
        let settings = config.listeners.iter().cloned().map(Arc::new).collect();
        let trusted = Arc::clone(&config.trusted);
        Ok(Prepared { routes: config.routes.clone(), limits: config.limits, trusted, groups, tls, settings })
    }

    /// Obeys a snapshot, with the rest of the configuration that it is made of: new handshakes see all of it or nothing.
    pub(crate) fn adopt_with(&self, snapshot: &Snapshot, prepared: Prepared) {
        let _one_at_a_time = self.one_at_a_time.lock();
        let Prepared { routes, limits, trusted, groups, tls, settings } = prepared;
        for (group, settings) in groups.iter().zip(settings) {
            group.set(settings);
        }
        let served = self.shared.served.load_full();
        for closed in served.groups.iter().filter(|g| groups.iter().all(|kept| !Arc::ptr_eq(kept, g))) {
            closed.close();
        }
        let fleets = self.fleets_of(snapshot, &served);
        let addresses = served.addresses.under(&limits, self.shared.descriptors.sessions_max());
        self.serve(Served {
            routes: Routes::of(&routes, &fleets),
            fleets,
            limits,
            trusted,
            addresses,
            groups,
            tls,
            written: routes,
        });
        self.obey(snapshot);
    }

    /// Obeys a snapshot: from its return on no reservation goes beyond the snapshot's limits, and whoever waits for a seat that they
    /// free was thought of.
    pub(crate) fn adopt(&self, snapshot: &Snapshot) {
        let _one_at_a_time = self.one_at_a_time.lock();
        let served = self.shared.served.load_full();
        let fleets = self.fleets_of(snapshot, &served);
        if !same(&served.fleets, &fleets) {
            self.serve(served.over(fleets));
        }
        self.obey(snapshot);
    }

    fn serve(&self, served: Served) {
        self.shared.served.store(Arc::new(served));
        self.shared.swapped.send_replace(());
    }

    fn obey(&self, snapshot: &Snapshot) {
        let served = self.shared.served.load();
        for view in &snapshot.fleets {
            if let Some(fleet) = served.fleet(view.name()) {
                fleet.adopt(view);
            }
        }
    }

    /// The snapshot's fleets: as they are, under their new policy, or new.
    fn fleets_of(&self, snapshot: &Snapshot, served: &Served) -> Vec<Arc<Fleet>> {
        let mut fleets: Vec<Arc<Fleet>> = Vec::with_capacity(snapshot.fleets.len());
        for FleetView { policy, .. } in &snapshot.fleets {
            fleets.push(match served.fleet(&policy.name) {
                Some(same) if same.policy == *policy => Arc::clone(same),
                Some(other) => other.under(Arc::clone(policy)),
                None => {
                    let taken = |number: &usize| fleets.iter().chain(&served.fleets).any(|f| f.number == *number);
                    let number = (0..).find(|number| !taken(number)).unwrap_or_default();
                    Fleet::new(number, Arc::clone(policy), self.shared.metrics.fleet(&policy.name), self.keys.clone())
                }
            });
        }
        for gone in served.fleets.iter().filter(|f| fleets.iter().all(|kept| kept.policy.name != f.policy.name)) {
            // A handshake may have found it a moment ago.
            gone.close();
        }
        fleets
    }
}

fn bind_added(
    listener: &crate::config::model::Listener,
    threads: usize,
    open: &[Arc<Group>],
) -> Result<Arc<Group>, GatewayError> {
    listener::bind(listener, threads).map_err(|error| {
        let ours = |g: &&Arc<Group>| g.address().port() == listener.address.port() && listener.address.port() != 0;
        match (error, open.iter().find(ours)) {
            (GatewayError::InUse { address, source: _ }, Some(own)) => GatewayError::InUseByUs { address, own: own.address() },
            (error, _) => error,
        }
    })
}

fn same(a: &[Arc<Fleet>], b: &[Arc<Fleet>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}
