//! Where clients connect: one SO_REUSEPORT socket a thread and address, so that the kernel spreads connections and no thread
//! waits for another's accept.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

use crate::config::model::Listener;
use crate::gateway::error::GatewayError;
use crate::net::options;

/// Connections that wait for an accept: as many as the kernel allows (`net.core.somaxconn` cuts it), so that a reconnect storm
/// meets a queue and not lost SYNs.
const BACKLOG: i32 = 65_535;

/// The sockets of one listener, one per thread. Dropped or closed, no more connections are accepted on them.
pub(crate) struct Group {
    /// As the configuration has it: what a reload finds it by.
    written: SocketAddr,
    /// With the port that was found for port 0.
    address: SocketAddr,
    /// Its settings may change while it listens.
    listener: ArcSwap<Listener>,
    sockets: Mutex<Vec<Option<TcpListener>>>,
    closed: watch::Sender<bool>,
}

impl Group {
    /// Its address in the configuration.
    pub(crate) fn written(&self) -> SocketAddr {
        self.written
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its settings, for a connection that is accepted now.
    pub(crate) fn listener(&self) -> Arc<Listener> {
        self.listener.load_full()
    }

    /// Other settings for connections from now on.
    pub(crate) fn set(&self, listener: Arc<Listener>) {
        self.listener.store(listener);
    }

    /// The socket of a thread, once.
    pub(crate) fn take(&self, thread: usize) -> Option<TcpListener> {
        self.sockets.lock().get_mut(thread)?.take()
    }

    /// Stops accepting.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Whether accepting has stopped.
    pub(crate) fn is_closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }
}

/// A socket for each of `threads` threads.
///
/// # Errors
/// [`GatewayError`], naming the address and the remedy.
pub(crate) fn bind(listener: &Listener, threads: usize) -> Result<Arc<Group>, GatewayError> {
    let failed = |error| GatewayError::bind(listener.address, error);
    let (sockets, address) = bind_group(listener.address, threads).map_err(failed)?;
    Ok(Arc::new(Group {
        written: listener.address,
        address,
        listener: ArcSwap::from_pointee(listener.clone()),
        sockets: Mutex::new(sockets.into_iter().map(Some).collect()),
        closed: watch::Sender::new(false),
    }))
}

fn bind_group(mut address: SocketAddr, threads: usize) -> std::io::Result<(Vec<TcpListener>, SocketAddr)> {
    if address.port() != 0 {
        // With SO_REUSEPORT a second Holdline of the same user would join the group in silence and take half of the clients.
        drop(socket(address, false)?);
    }
    let mut sockets = Vec::with_capacity(threads);
    for _ in 0..threads {
        let socket = socket(address, true)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound;
        }
        sockets.push(socket.into());
    }
    Ok((sockets, address))
}

fn socket(address: SocketAddr, shared: bool) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run that linger in TIME_WAIT must not keep us out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    options::listener(&socket)?;
    socket.bind(&address.into())?;
    // The probe listens too: Linux lets two sockets with SO_REUSEADDR bind as long as none listens.
    socket.listen(if shared { BACKLOG } else { 1 })?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(address: &str) -> Listener {
        Listener { address: address.parse().unwrap(), tls: None, proxy_protocol: false }
    }

    #[test]
    fn every_thread_gets_a_socket_of_one_port() {
        let group = bind(&plain("127.0.0.1:0"), 3).unwrap();
        assert_ne!(group.address().port(), 0);
        let bound: Vec<_> = (0..3).map(|thread| group.take(thread).unwrap().local_addr().unwrap()).collect();
        assert_eq!(bound, [group.address(); 3]);
        assert!(group.take(0).is_none() && group.take(3).is_none());
    }

    #[test]
    fn a_taken_port_is_named_with_what_to_do_even_if_it_is_shared() {
        let held = bind(&plain("127.0.0.1:0"), 1).unwrap();
        let error = bind(&plain(&held.address().to_string()), 1).err().unwrap();
        assert!(matches!(error, GatewayError::InUse { .. }));
        let text = error.to_string();
        assert!(text.contains(&held.address().to_string()) && text.contains("ss -ltnp"), "{text}");
    }

    #[test]
    fn an_address_of_another_machine_is_told_apart() {
        let error = bind(&plain("192.0.2.1:8080"), 1).err().unwrap();
        assert!(matches!(error, GatewayError::NotOurs { .. }), "{error}");
    }
}
