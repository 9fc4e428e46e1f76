//! What is served at one time: fleets, routes to them, limits, listeners. Immutable, swapped in whole.

use std::net::SocketAddr;
use std::sync::Arc;

use holdline_core::ids::FleetName;
use holdline_core::snapshot::{FleetView, Snapshot};
use holdline_core::wire::forwarded::Trusted;
use tokio::sync::watch;

use super::listener::{self, Group};
use super::route::Routes;
use crate::config::model::{Config, Limits, Route};
use crate::gateway::Gateway;
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::error::GatewayError;
use crate::gateway::limits::addresses::Addresses;
use crate::net::tls::{self, Connector};

/// What is served now. A handshake that has begun goes on with what it found.
pub(crate) struct Served {
    /// Those of the snapshot: of the configuration, and those that went and still have backends.
    pub(crate) fleets: Vec<Arc<Fleet>>,
    pub(crate) routes: Routes,
    pub(crate) limits: Limits,
    /// What each address does, as far as it is limited.
    pub(crate) addresses: Addresses,
    /// Proxies that are believed.
    pub(crate) trusted: Arc<Trusted>,
    pub(crate) groups: Vec<Arc<Group>>,
    /// Certificates of its listeners, and what backends are believed by.
    pub(crate) tls: Arc<tls::Store>,
    /// What the routes are made of, for fleets change under them.
    written: Vec<Route>,
}

impl Served {
    /// # Errors
    /// [`GatewayError::UnknownFleet`].
    pub(crate) fn new(
        config: &Config,
        fleets: Vec<Arc<Fleet>>,
        groups: Vec<Arc<Group>>,
        tls: Arc<tls::Store>,
        addresses: Addresses,
    ) -> Result<Self, GatewayError> {
        let routes = Routes::new(&config.routes, &fleets)?;
        let (limits, trusted) = (config.limits, Arc::clone(&config.trusted));
        Ok(Served { fleets, routes, limits, trusted, addresses, groups, tls, written: config.routes.clone() })
    }

    pub(crate) fn fleet(&self, name: &FleetName) -> Option<&Arc<Fleet>> {
        self.fleets.iter().find(|f| f.policy.name == *name)
    }
}

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

impl Gateway {
    /// Binds the addresses that `config` adds, and reads the files of its TLS; nothing is accepted there yet. Dropping it gives them up.
    ///
    /// # Errors
    /// [`GatewayError`] names the address and the remedy.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, GatewayError> {
        let served = self.shared.served.load();
        let tls = tls::Store::load_after(config, &served.tls, |fleet| served.fleet(fleet).is_some())?;
        let mut open: Vec<&Arc<Group>> = served.groups.iter().collect();
        let mut groups = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            // The same address keeps its descriptors: closing one of a group would reset what is queued on it.
            match open.iter().position(|g| g.written() == listener.address) {
                Some(at) => groups.push(Arc::clone(open.remove(at))),
                None => groups.push(bind_added(listener, self.shared.neighbours.len(), &served.groups)?),
            }
        }
        let settings = config.listeners.iter().cloned().map(Arc::new).collect();
        let trusted = Arc::clone(&config.trusted);
        Ok(Prepared { routes: config.routes.clone(), limits: config.limits, trusted, groups, tls, settings })
    }

    /// Obeys a snapshot, with the rest of the configuration that it is made of: new handshakes see all of it or nothing.
    pub fn adopt_with(&self, snapshot: &Snapshot, prepared: Prepared) {
        let _one_at_a_time = self.adopting.lock();
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
    pub fn adopt(&self, snapshot: &Snapshot) {
        let _one_at_a_time = self.adopting.lock();
        let served = self.shared.served.load_full();
        let fleets = self.fleets_of(snapshot, &served);
        if !same(&served.fleets, &fleets) {
            let (limits, groups, written) = (served.limits, served.groups.clone(), served.written.clone());
            let (trusted, tls) = (Arc::clone(&served.trusted), Arc::clone(&served.tls));
            let addresses = served.addresses.clone();
            self.serve(Served {
                routes: Routes::of(&written, &fleets),
                fleets,
                limits,
                trusted,
                addresses,
                groups,
                tls,
                written,
            });
        }
        self.obey(snapshot);
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
            // Somebody may have found it a moment ago.
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
