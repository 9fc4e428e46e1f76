//! Where clients connect: one SO_REUSEPORT socket a thread and address, so that the kernel spreads connections and no thread
//! waits for another's accept.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::error::GatewayError;
use crate::config::model::Listener;

/// Connections that wait for an accept: as many as the kernel allows (`net.core.somaxconn` cuts it), so that a reconnect storm
/// meets a queue and not lost SYNs.
const BACKLOG: i32 = 65_535;

/// One thread's socket of a listener.
pub(super) struct Bound {
    pub(super) socket: TcpListener,
    pub(super) listener: Arc<Listener>,
}

/// Sockets of all listeners for each of `threads` threads, and the addresses that were bound (port 0 resolved).
///
/// # Errors
/// [`GatewayError`], naming the address and the remedy.
pub(super) fn bind_all(listeners: &[Listener], threads: usize) -> Result<(Vec<Vec<Bound>>, Vec<SocketAddr>), GatewayError> {
    let mut of_thread: Vec<Vec<Bound>> = (0..threads).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for listener in listeners {
        let bound =
            bind_group(&Arc::new(listener.clone()), &mut of_thread).map_err(|e| GatewayError::bind(listener.address, e))?;
        addresses.push(bound);
    }
    Ok((of_thread, addresses))
}

fn bind_group(listener: &Arc<Listener>, of_thread: &mut [Vec<Bound>]) -> std::io::Result<SocketAddr> {
    let mut address = listener.address;
    if address.port() != 0 {
        // With SO_REUSEPORT a second Holdline of the same user would join the group in silence and take half of the clients.
        drop(socket(address, false)?);
    }
    for sockets in of_thread {
        let socket = socket(address, true)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound;
        }
        sockets.push(Bound { socket: socket.into(), listener: Arc::clone(listener) });
    }
    Ok(address)
}

fn socket(address: SocketAddr, shared: bool) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run that linger in TIME_WAIT must not keep us out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    // The probe listens too: Linux lets two sockets with SO_REUSEADDR bind as long as none listens.
    socket.listen(if shared { BACKLOG } else { 1 })?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(address: &str) -> Vec<Listener> {
        vec![Listener { address: address.parse().unwrap(), tls: None }]
    }

    #[test]
    fn every_thread_gets_a_socket_of_one_port() {
        let (sockets, addresses) = bind_all(&plain("127.0.0.1:0"), 3).unwrap();
        assert_ne!(addresses[0].port(), 0);
        let bound: Vec<_> = sockets.iter().map(|s| s[0].socket.local_addr().unwrap()).collect();
        assert_eq!(bound, [addresses[0]; 3]);
    }

    #[test]
    fn a_taken_port_is_named_with_what_to_do_even_if_it_is_shared() {
        let (_held, addresses) = bind_all(&plain("127.0.0.1:0"), 1).unwrap();
        let error = bind_all(&[Listener { address: addresses[0], tls: None }], 1).err().unwrap();
        assert!(matches!(error, GatewayError::InUse { .. }));
        let text = error.to_string();
        assert!(text.contains(&addresses[0].to_string()) && text.contains("ss -ltnp"), "{text}");
    }

    #[test]
    fn an_address_of_another_machine_is_told_apart() {
        let error = bind_all(&plain("192.0.2.1:8080"), 1).err().unwrap();
        assert!(matches!(error, GatewayError::NotOurs { .. }), "{error}");
    }
}
