//! A data thread: one current-thread runtime, its listeners, and the sessions that live and die on it.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use holdline_core::event::Event;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{LocalSet, spawn_local};

use super::listener::Group;
use super::served::Served;
use crate::clock::Clock;
use crate::config::model::Listener;
use crate::gateway::accept::doors::{self, Doors};
use crate::gateway::accept::{connection, proxied};
use crate::gateway::http::poll;
use crate::gateway::limits::descriptors::{ClientSlot, Descriptors};
use crate::gateway::limits::permit::{Room, Stay};
use crate::gateway::peer::Peer;
use crate::gateway::refuse::Refusal;
use crate::gateway::session::orders::{self, Inbox};
use crate::gateway::session::registry::Registry;
use crate::gateway::session::timer;
use crate::gateway::upstream::pool::Pool;
use crate::net::is_ours;
use crate::net::socket::Socket;
use crate::net::socket::Transport;
use crate::net::tls;
use crate::telemetry::Metrics;

/// Sockets on their way to another thread. One accept loop hands over one at a time; what finds no place stays where it is.
const HANDED_MAX: usize = 64;

/// A thread may have so many connections more than the emptiest, and an eighth, before it hands new ones over.
const DRIFT_MAX: usize = 64;

/// After an accept that failed for want of a descriptor or memory; the connection stays in the kernel's queue.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that are accepted before sessions have their turn. In a storm the rest waits in the kernel, where it costs nobody's latency.
pub(crate) const ACCEPTS_AT_ONCE: u32 = 32;

/// How far the gateway's life went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// No new connection, no new session.
    Stopping,
    /// Whatever is left is dropped.
    Over,
}

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// Changes with the configuration, in whole.
    pub(crate) served: ArcSwap<Served>,
    /// Rung when it did.
    pub(crate) swapped: watch::Sender<()>,
    pub(crate) descriptors: Arc<Descriptors>,
    /// Memory is above its ceiling: no session begins.
    pub(crate) is_short_of_memory: AtomicBool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) neighbours: Vec<Neighbour>,
}

impl Shared {
    /// Room for a session of `client`, counted as one that began.
    ///
    /// # Errors
    /// As [`Room::take`].
    pub(crate) fn session_room(&self, client: SocketAddr) -> Result<Room, Refusal> {
        let is_short_of_memory = self.is_short_of_memory.load(Ordering::Relaxed);
        Room::take(&self.served.load().addresses, &self.descriptors, is_short_of_memory, client, self.clock)
    }
}

/// A thread, as the others see it.
pub(crate) struct Neighbour {
    connections: Arc<AtomicUsize>,
    hand: mpsc::Sender<Handed>,
}

impl Neighbour {
    /// Clients connected there.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A connection that was accepted, `S` being its socket.
pub(crate) struct Accepted<S> {
    pub(crate) socket: S,
    pub(crate) peer: SocketAddr,
    /// Where it came in.
    pub(crate) listener: Arc<Listener>,
    slot: ClientSlot,
}

/// A client's socket on its way to another thread.
type Handed = Accepted<std::net::TcpStream>;

impl<S> Accepted<S> {
    fn try_map<T>(self, convert: impl FnOnce(S) -> io::Result<T>) -> io::Result<Accepted<T>> {
        let Accepted { socket, peer, listener, slot } = self;
        Ok(Accepted { socket: convert(socket)?, peer, listener, slot })
    }
}

/// What a thread gets at its start.
pub(crate) struct Setup {
    pub(crate) index: usize,
    pub(crate) inbox: Inbox,
    pub(crate) handed: mpsc::Receiver<Handed>,
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) seed: u64,
}

/// What the tasks of one thread share.
pub(crate) struct Thread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) registry: Rc<Registry>,
    pub(crate) pool: Pool,
    pub(crate) polls: poll::Keeper,
    pub(crate) rng: RefCell<SmallRng>,
    stage: watch::Receiver<Stage>,
    index: usize,
}

/// Both sides of a thread's entry for handed sockets.
pub(crate) fn neighbour() -> (Neighbour, mpsc::Receiver<Handed>) {
    let (hand, handed) = mpsc::channel(HANDED_MAX);
    (Neighbour { connections: Arc::default(), hand }, handed)
}

/// Runs the thread until its stage is `Over`. `ready` hears whether it came up.
pub(crate) fn run(setup: Setup, shared: Arc<Shared>, ready: &std::sync::mpsc::SyncSender<io::Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        // Whoever started us waits for one answer of each thread.
        Err(error) => return drop(ready.send(Err(error))),
    };
    LocalSet::new().block_on(&runtime, async move {
        let mut stage = setup.stage.clone();
        let thread = Thread::new(shared, setup.index, setup.stage, setup.seed);
        let opened = thread.spawn_all(setup.inbox, setup.handed);
        drop(ready.send(opened));
        // An error means that the gateway itself is gone.
        let _ = stage.wait_for(|s| *s == Stage::Over).await;
    });
}

impl Thread {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, stage: watch::Receiver<Stage>, seed: u64) -> Rc<Self> {
        Rc::new(Thread {
            registry: Registry::new(shared.clock, seed),
            pool: Pool::default(),
            polls: poll::Keeper::default(),
            rng: RefCell::new(SmallRng::seed_from_u64(seed.rotate_left(32))),
            shared,
            stage,
            index,
        })
    }

    fn spawn_all(self: &Rc<Self>, inbox: Inbox, handed: mpsc::Receiver<Handed>) -> io::Result<()> {
        spawn_local(timer::run(Rc::clone(&self.registry)));
        spawn_local(orders::serve(inbox, Rc::clone(&self.registry)));
        spawn_local(crate::gateway::upstream::pool::sweep(Rc::clone(self)));
        spawn_local(poll::keep(Rc::clone(self)));
        spawn_local(take_handed(Rc::clone(self), handed));
        let mut doors = Doors::default();
        doors.catch_up(self)?;
        spawn_local(doors::follow(Rc::clone(self), doors));
        Ok(())
    }

    /// Which of the threads it is.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Whether the fleet of this number is served from here.
    pub(crate) fn is_home(&self, number: usize) -> bool {
        number % self.shared.neighbours.len() == self.index
    }

    /// Resolves when no new session may begin any more.
    pub(crate) async fn stopping(&self) {
        // An error means that the gateway itself is gone.
        let _ = self.stage.clone().wait_for(|s| *s >= Stage::Stopping).await;
    }

    /// Whether no new session may begin any more.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stage.borrow() >= Stage::Stopping
    }

    /// Whether the address begins so many sessions that a connection from there is not worth a handshake; counts it. A trusted proxy
    /// that does not tell its clients apart is refused as they are, but not its connections, which may be others' too.
    fn turns_away(&self, peer: SocketAddr) -> bool {
        let served = self.shared.served.load();
        let is_flooding = served.addresses.is_flooding(peer, self.shared.clock) && !served.trusted.contains(peer.ip());
        if is_flooding {
            self.shared.metrics.bad_input("flood");
        }
        is_flooding
    }

    fn stay(&self, slot: ClientSlot) -> Stay {
        Stay::new(slot, &self.shared.neighbours[self.index].connections)
    }

    /// The emptiest thread, if this one has drifted too far from it.
    fn relief(&self) -> Option<&Neighbour> {
        let neighbours = &self.shared.neighbours;
        let own = neighbours[self.index].connections();
        let least = neighbours.iter().min_by_key(|n| n.connections())?;
        let bound = least.connections() + DRIFT_MAX + own / 8;
        (own > bound).then_some(least)
    }
}

/// Accepts clients on one thread's socket of `group` until that is closed.
pub(crate) async fn accept(thread: Rc<Thread>, socket: TcpListener, group: Arc<Group>) {
    let mut closed = group.is_closed();
    let mut accepts = 0;
    loop {
        let next = async {
            thread.shared.descriptors.room().await;
            let (socket, peer) = socket.accept().await?;
            Ok(Accepted { socket, peer, listener: group.listener(), slot: thread.shared.descriptors.client() })
        };
        let accepted = tokio::select! {
            biased;
            () = thread.stopping() => return,
            // Fails only without a sender, and the group has one.
            _ = closed.wait_for(|closed| *closed) => return accept_queued(&thread, &socket, &group).await,
            accepted = next => accepted,
        };
        match accepted {
            Ok(accepted) => {
                seat_client(&thread, accepted);
                accepts += 1;
                if accepts % ACCEPTS_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_ours(&error) => {
                tracing::warn!(%error, "cannot accept: raise the limit of open files (`ulimit -n`)");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The client gave up between its SYN and our accept.
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }
}

/// Closing a socket resets what is queued on it: they came while we still listened.
async fn accept_queued(thread: &Rc<Thread>, socket: &TcpListener, group: &Arc<Group>) {
    loop {
        thread.shared.descriptors.room().await;
        let accepted = std::future::poll_fn(|cx| Poll::Ready(socket.poll_accept(cx))).await;
        let Poll::Ready(Ok((socket, peer))) = accepted else { return };
        let slot = thread.shared.descriptors.client();
        seat_client(thread, Accepted { socket, peer, listener: group.listener(), slot });
    }
}

/// Serves the client here, or on the emptiest thread when the counts have drifted apart: SO_REUSEPORT spreads connections, but not
/// those that stay.
fn seat_client(thread: &Rc<Thread>, accepted: Accepted<TcpStream>) {
    let Some(relief) = thread.relief() else {
        return serve_here(thread, accepted);
    };
    let Ok(permit) = relief.hand.try_reserve() else {
        return serve_here(thread, accepted);
    };
    // It fails only if the runtime is going away, and the socket with it.
    if let Ok(handed) = accepted.try_map(TcpStream::into_std) {
        permit.send(handed);
    }
}

async fn take_handed(thread: Rc<Thread>, mut handed: mpsc::Receiver<Handed>) {
    while let Some(handed) = handed.recv().await {
        if let Ok(accepted) = handed.try_map(TcpStream::from_std) {
            serve_here(&thread, accepted);
        }
    }
}

fn serve_here(thread: &Rc<Thread>, accepted: Accepted<TcpStream>) {
    let Accepted { socket, peer: address, listener, slot } = accepted;
    let stay = thread.stay(slot);
    let local = socket.local_addr().unwrap_or(listener.address);
    let peer = Peer { address, local, is_tls: false, is_unknown: false };
    if listener.proxy_protocol {
        spawn_local(proxied::serve(Rc::clone(thread), socket, peer, listener, stay));
    } else {
        begin(thread, socket, peer, &listener, stay);
    }
}

/// Serves a client from the first byte of its own.
pub(crate) fn begin(thread: &Rc<Thread>, socket: TcpStream, peer: Peer, listener: &Listener, stay: Stay) {
    if thread.turns_away(peer.address) {
        // Without a word, and without what the kernel keeps of connections that end properly.
        return socket.reset_on_close();
    }
    let socket = match thread.shared.served.load().tls.server(listener) {
        None => Socket::Plain(socket),
        Some(config) => match tls::Stream::server(socket, config) {
            Ok(stream) => Socket::Tls(Box::new(stream)),
            Err(error) => return tracing::error!(%error, "a connection's TLS cannot begin"),
        },
    };
    let peer = Peer { is_tls: matches!(socket, Socket::Tls(_)), ..peer };
    spawn_local(connection::serve(Rc::clone(thread), socket, peer, stay));
}
