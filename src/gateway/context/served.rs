//! What is served at one time: fleets, routes to them, limits, listeners. Immutable, swapped in whole.

use std::sync::Arc;

use holdline_core::ids::FleetName;
use holdline_core::wire::forwarded::Trusted;

use super::listener::Group;
use super::route::Routes;
use crate::config::model::{Config, Limits, Route};
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::error::GatewayError;
use crate::gateway::limits::addresses::Addresses;
use crate::net::tls;

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
    pub(super) written: Vec<Route>,
}

impl Served {
    /// The same over other fleets.
    pub(super) fn over(&self, fleets: Vec<Arc<Fleet>>) -> Self {
        Served {
            routes: Routes::of(&self.written, &fleets),
            fleets,
            limits: self.limits,
            addresses: self.addresses.clone(),
            trusted: Arc::clone(&self.trusted),
            groups: self.groups.clone(),
            tls: Arc::clone(&self.tls),
            written: self.written.clone(),
        }
    }

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
