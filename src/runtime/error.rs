//! Why Holdline did not run.

use std::io;
use std::net::SocketAddr;

use crate::gateway::GatewayError;

/// Why [`run`](super::run) ended otherwise than by a signal. The text says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The admin address is in use, most often by another Holdline.
    #[error(
        "cannot serve the admin API on {address}: the address is in use, possibly by another Holdline; stop it \
         (`ss -ltnp 'sport = :{port}'` shows the process) or change admin.address",
        port = address.port()
    )]
    AdminInUse {
        /// `admin.address`.
        address: SocketAddr,
        source: io::Error,
    },
    /// The admin address cannot be bound.
    #[error("cannot serve the admin API on {address}: {source}; check admin.address")]
    Admin {
        /// `admin.address`.
        address: SocketAddr,
        source: io::Error,
    },
    /// The gateway did not start.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// No runtime, or no signal handler.
    #[error("cannot start: {0}; check the limit on open files (`ulimit -n`)")]
    Runtime(#[source] io::Error),
    /// A task ended unexpectedly; the log names it.
    #[error("stopped because a task of Holdline failed; the log names it, please report it")]
    Failed,
}

impl RunError {
    pub(super) fn admin(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => RunError::AdminInUse { address, source },
            _ => RunError::Admin { address, source },
        }
    }

    /// 2 when the configuration does not fit this machine, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::AdminInUse { .. } | RunError::Admin { .. } | RunError::Gateway(_) => 2,
            RunError::Runtime(_) | RunError::Failed => 1,
        }
    }
}
