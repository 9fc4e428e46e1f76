//! Networks of the tests' own: a port of theirs is nobody else's, neither another program's on this machine nor another checkout's that tests
//! at the same time.
//!
//! The whole binary is in one (`network_namespaces(7)`) before its first thread starts; there, tests take the ports that the kernel chooses.
//! A test whose ports are written down, in a page's commands or as the range of a fleet of processes, enters another one with [`own`].
//! Each has loopback only, and the kernel's usual `ip_local_port_range`, 32768 to 60999, whatever the machine's is.

use std::fs::File;
use std::io::{Read, Write};
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::{Once, mpsc};
use std::time::Duration;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::ioctl;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{getgid, getuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::client::PATIENCE;

/// A network in which a test may use any port, until this is dropped. What the test starts meanwhile, threads and processes, is in it as well.
#[must_use]
pub(crate) struct Network {
    kind: Kind,
    /// It is the thread's that entered it.
    _thread: PhantomData<*const ()>,
}

enum Kind {
    /// A namespace; the one to return to.
    Own(File),
    /// The binary's, which all share.
    Shared { _turn: UnixListener },
}

/// Enters a network that no other test is in.
pub(crate) fn own() -> Network {
    let before = File::open("/proc/thread-self/ns/net").unwrap();
    let kind = match enter(UnshareFlags::NEWNET) {
        Ok(()) => Kind::Own(before),
        Err(error) => {
            warn(error);
            Kind::Shared { _turn: turn() }
        }
    };
    Network { kind, _thread: PhantomData }
}

impl Network {
    /// Ports for the children of one Holdline, the first and the last.
    pub(crate) fn ports(&self) -> (u16, u16) {
        (20_000, 20_999)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Kind::Own(before) = &self.kind {
            move_into_link_name_space(before.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        }
    }
}

/// Without namespaces: waits until no other test that needs [`own`] runs on this machine. The turn is over when the last process that the test
/// started has ended, since each inherits the socket.
fn turn() -> UnixListener {
    let name = SocketAddr::from_abstract_name("holdline-tests").unwrap();
    loop {
        match UnixListener::bind_addr(&name) {
            Ok(turn) => {
                fcntl_setfd(&turn, FdFlags::empty()).unwrap();
                return turn;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}"),
        }
        // Nobody accepts it: it ends with the listener.
        if let Ok(mut other) = UnixStream::connect_addr(&name) {
            let _ = other.read(&mut [0]);
        }
    }
}

fn warn(error: Errno) {
    static ONCE: Once = Once::new();
    // Not captured, as `eprintln!` is.
    ONCE.call_once(|| {
        let _ = writeln!(
            std::io::stderr(),
            "No network namespace: {error}. Tests with fixed ports run one after the other in this machine's network; they fail when \
             something else uses ports 8080, 9001-9004, 9100, 9101, 9900 or 19000-20999 there, or net.ipv4.ip_local_port_range contains \
             them. A namespace needs CAP_SYS_ADMIN or user namespaces (user.max_user_namespaces, kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns; in a container also its seccomp profile)."
        );
    });
}

#[used]
// SAFETY: the section holds functions that the C library calls before `main`, and this is one.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = enter_for_all;

/// Moves the process into a network of its own if that is allowed, before it has a second thread: only a process of one thread can enter a user
/// namespace, which whoever is not root needs. There, it may make more networks.
extern "C" fn enter_for_all() {
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    if enter(UnshareFlags::NEWNET).is_ok() || enter(UnshareFlags::NEWUSER | UnshareFlags::NEWNET).is_err() {
        return;
    }
    // User and group stay the same: what is not mapped would be `nobody`.
    for (file, text) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("{user} {user} 1")), ("gid_map", format!("{group} {group} 1"))]
    {
        std::fs::write(format!("/proc/self/{file}"), text).unwrap_or_else(|e| panic!("/proc/self/{file}: {e}"));
    }
}

fn enter(namespaces: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: files stay shared.
    unsafe { unshare_unsafe(namespaces)? };
    loopback_up().unwrap_or_else(|e| panic!("loopback in a new network namespace: {e}"));
    Ok(())
}

fn loopback_up() -> Result<(), Errno> {
    const SIOCSIFFLAGS: ioctl::Opcode = 0x8914;
    const IFF_UP: i16 = 1;
    /// `struct ifreq` of netdevice(7) with its `ifr_flags`.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; 16], flags: IFF_UP, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: SIOCSIFFLAGS reads a `struct ifreq`, which is 40 bytes on 64-bit Linux.
    unsafe { ioctl::ioctl(socket, ioctl::Setter::<SIOCSIFFLAGS, Request>::new(request)) }
}

#[test]
fn who_shares_a_network_waits_until_the_processes_of_the_one_before_have_ended() {
    // Where networks are shared, this is another's turn as well.
    let _network = Some(own()).filter(|network| matches!(network.kind, Kind::Own(_)));
    let first = turn();
    let mut process = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        drop(turn());
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_millis(100)).unwrap_err();
    drop(first);
    told.recv_timeout(Duration::from_millis(100)).unwrap_err();
    drop(process.stdin.take());
    told.recv_timeout(PATIENCE).unwrap();
    process.wait().unwrap();
}

#[test]
fn a_port_in_a_network_of_ones_own_is_nobody_elses() {
    let network = own();
    if matches!(network.kind, Kind::Shared { .. }) {
        return;
    }
    let address = ("127.0.0.1", network.ports().0);
    let held = std::net::TcpListener::bind(address).unwrap();
    let elsewhere = std::thread::spawn(move || {
        // A thread begins in the network of the one that started it.
        assert!(std::net::TcpListener::bind(address).is_err());
        let _network = own();
        std::net::TcpListener::bind(address).unwrap();
        std::net::TcpStream::connect(address).unwrap_err();
    });
    elsewhere.join().unwrap();
    std::net::TcpStream::connect(held.local_addr().unwrap()).unwrap();
    // None that the kernel chooses is one that a page or a fleet has.
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    assert!(first > network.ports().1, "{range}");
}
