//! What keeps a gateway from starting.

use std::io;
use std::net::SocketAddr;

use crate::net::tls::StoreError;

/// Why the gateway did not start. The text says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is in use.
    #[error("cannot listen on {address}: the address is in use; stop what listens there (`ss -ltnp 'sport = :{port}'` names it) or change `listeners`", port = address.port())]
    InUse {
        /// The address of the configuration.
        address: SocketAddr,
        source: io::Error,
    },
    /// We listen there ourselves, under another address of the running configuration.
    #[error(
        "cannot listen on {address}: Holdline itself listens on {own}; remove that from `listeners`, reload, and add {address} then, \
         or restart Holdline"
    )]
    InUseByUs {
        /// The address of the configuration.
        address: SocketAddr,
        /// What it overlaps.
        own: SocketAddr,
    },
    /// The address is none of this machine's.
    #[error("cannot listen on {address}: this machine has no such address; use one that `ip address` shows, or 0.0.0.0 for all")]
    NotOurs {
        /// The address of the configuration.
        address: SocketAddr,
        source: io::Error,
    },
    /// A port below 1024 without the right to it.
    #[error("cannot listen on {address}: ports below 1024 need CAP_NET_BIND_SERVICE; use a higher port or give the capability")]
    Forbidden {
        /// The address of the configuration.
        address: SocketAddr,
        source: io::Error,
    },
    /// Anything else that a bind says.
    #[error("cannot listen on {address}: {source}; check `listeners`")]
    Bind {
        /// The address of the configuration.
        address: SocketAddr,
        source: io::Error,
    },
    /// A route names a fleet that there is not.
    #[error("a route names fleet `{0}`, which is not configured; add it under `fleets` or correct the route")]
    UnknownFleet(String),
    /// Certificates or keys cannot be used, or not any more.
    #[error(transparent)]
    Tls(#[from] StoreError),
    /// A thread or its runtime could not be made.
    #[error(
        "cannot start a data-plane thread: {0}; check the limits on threads and open files (`ulimit -u`, `ulimit -n`), or lower `threads`"
    )]
    Thread(#[source] io::Error),
}

impl GatewayError {
    pub(crate) fn bind(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => GatewayError::InUse { address, source },
            io::ErrorKind::AddrNotAvailable => GatewayError::NotOurs { address, source },
            io::ErrorKind::PermissionDenied => GatewayError::Forbidden { address, source },
            _ => GatewayError::Bind { address, source },
        }
    }
}
