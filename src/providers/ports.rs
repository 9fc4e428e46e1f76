//! Allocates TCP ports to children: each to one child at a time, none that is already in use.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

/// The ports that children hold, from before their start until their process group is gone.
#[derive(Debug, Default)]
pub(super) struct Ports {
    held: Mutex<Reserved>,
}

#[derive(Debug, Default)]
struct Reserved {
    ports: BTreeSet<u16>,
    last: u16,
}

/// A port, held until dropped.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    of: Arc<Ports>,
}

impl Ports {
    /// The next free port of `first..=last`; `None` when there is none.
    ///
    /// Round-robin, so that a port stays unused as long as possible before another backend gets it.
    pub(super) fn take(self: &Arc<Self>, (first, last): (u16, u16)) -> Option<Port> {
        let mut held = self.held.lock();
        let after = if (first..last).contains(&held.last) { held.last + 1 } else { first };
        let number = (after..=last).chain(first..after).find(|p| !held.ports.contains(p) && is_free(*p))?;
        held.ports.insert(number);
        held.last = number;
        Some(Port { number, of: Arc::clone(self) })
    }
}

impl Port {
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.of.held.lock().ports.remove(&self.number);
    }
}

/// Whether the port is free on every address. (The standard library sets SO_REUSEADDR: connections in TIME_WAIT do not count.)
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// Two ports that the kernel gives to nobody else as long as the sockets are there. Who asks for one by its number may listen there:
    /// SO_REUSEADDR lets sockets share a port while none of the others listens.
    fn two_neighbours() -> ([Socket; 2], (u16, u16)) {
        let reserve = |port: u16| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
            Ok::<_, std::io::Error>(socket)
        };
        loop {
            let one = reserve(0).unwrap();
            let first = one.local_addr().unwrap().as_socket().unwrap().port();
            if let Some(Ok(other)) = first.checked_add(1).map(reserve) {
                return ([one, other], (first, first + 1));
            }
        }
    }

    #[test]
    fn skips_held_and_foreign_ports_and_goes_round() {
        let (_reserved, (first, last)) = two_neighbours();
        let foreign = TcpListener::bind((Ipv4Addr::LOCALHOST, last)).unwrap();
        let ports = Arc::new(Ports::default());

        let held = ports.take((first, last)).unwrap();
        assert_eq!(held.number(), first);
        assert!(ports.take((first, last)).is_none(), "one is held, the other is in use");
        drop(foreign);
        let second = ports.take((first, last)).unwrap();
        assert_eq!(second.number(), last);
        drop(held);
        drop(second);
        assert_eq!(ports.take((first, last)).unwrap().number(), first, "goes round");
    }
}
