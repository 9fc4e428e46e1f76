//! Socket options of listeners, clients and backends.

use std::io;
use std::time::Duration;

use holdline_core::policy::KeepalivePolicy;
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::net::TcpStream;

/// TCP_NOTSENT_LOWAT: unsent bytes in the kernel above which a socket is not writable; more would only use memory.
const NOTSENT_MAX: u32 = 64 << 10;

/// TCP_KEEPCNT: unanswered keepalive probes until the kernel resets the connection.
const KEEPALIVE_PROBES: u32 = 4;

/// Sets the options that accepted sockets inherit: no delay, bounded unsent bytes, the default keepalive. So most sessions need no
/// system call of their own for them.
///
/// # Errors
/// The kernel's.
pub(crate) fn listener(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    bound_unsent(socket);
    socket.set_tcp_keepalive(&USUAL.settings())
}

/// Sets the keepalive of a session's client, which detects half-open connections.
///
/// Not TCP_USER_TIMEOUT, which ends connections to live peers with a closed window (docs/decisions/0023-ends-and-timers.md). A dead socket's
/// errors show when it is read.
pub(crate) fn client(socket: &TcpStream, keepalive: &KeepalivePolicy) {
    let socket = SockRef::from(socket);
    match Probes::of(keepalive) {
        Some(USUAL) => {}
        Some(probes) => drop(socket.set_tcp_keepalive(&probes.settings())),
        None => drop(socket.set_keepalive(false)),
    }
}

/// Sets the options of a session's connection to its backend once the session has lasted for a while; no delay is set by the dial.
pub(crate) fn backend(socket: &TcpStream, keepalive: &KeepalivePolicy) {
    let socket = SockRef::from(socket);
    bound_unsent(&socket);
    if let Some(probes) = Probes::of(keepalive) {
        let _ = socket.set_tcp_keepalive(&probes.settings());
    }
}

fn bound_unsent(socket: &Socket) {
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(NOTSENT_MAX);
}

/// TCP keepalive probes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Probes {
    idle: Duration,
    interval: Duration,
}

/// The configuration's defaults, `keepalive: { tcp: 60s, timeout: 20s }`.
const USUAL: Probes = Probes { idle: Duration::from_secs(60), interval: Duration::from_secs(5) };

impl Probes {
    /// The kernel counts in whole seconds.
    fn of(policy: &KeepalivePolicy) -> Option<Self> {
        let seconds = |d: Duration| Duration::from_secs(d.as_secs().max(1));
        Some(Probes { idle: seconds(policy.tcp?), interval: seconds(policy.timeout / KEEPALIVE_PROBES) })
    }

    fn settings(self) -> TcpKeepalive {
        TcpKeepalive::new().with_time(self.idle).with_interval(self.interval).with_retries(KEEPALIVE_PROBES)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn keepalive(tcp_s: Option<u64>, timeout_s: u64) -> KeepalivePolicy {
        KeepalivePolicy { tcp: tcp_s.map(Duration::from_secs), ping: None, timeout: Duration::from_secs(timeout_s) }
    }

    /// A connection to a listener that was set up: the client's end and the accepted one.
    async fn accepted() -> (TcpStream, TcpStream) {
        let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener(&SockRef::from(&listening)).unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listening.local_addr().unwrap()), listening.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    /// Idle time and the time of all probes in seconds; `None`: no probes.
    fn probes(socket: &TcpStream) -> Option<(u64, u64)> {
        let socket = SockRef::from(socket);
        let after = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        socket.keepalive().unwrap().then(|| (socket.tcp_keepalive_time().unwrap().as_secs(), after.as_secs()))
    }

    #[tokio::test]
    async fn clients_inherit_what_is_usual_and_get_what_is_not() {
        let (dialled, accepted) = accepted().await;
        assert!(accepted.nodelay().unwrap() && !dialled.nodelay().unwrap());
        for (policy, expected) in
            [(keepalive(Some(60), 20), Some((60, 20))), (keepalive(Some(7), 8), Some((7, 8))), (keepalive(None, 20), None)]
        {
            client(&accepted, &policy);
            assert_eq!(probes(&accepted), expected);
        }
    }

    #[tokio::test]
    async fn backends_get_what_the_fleet_says() {
        let (dialled, _accepted) = accepted().await;
        backend(&dialled, &keepalive(None, 20));
        assert_eq!(probes(&dialled), None);
        backend(&dialled, &keepalive(Some(60), 20));
        assert_eq!(probes(&dialled), Some((60, 20)));
        #[cfg(target_os = "linux")]
        assert_eq!(SockRef::from(&dialled).tcp_notsent_lowat().unwrap(), NOTSENT_MAX);
    }
}
