//! Accepts clients, here or for the emptiest thread.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::{connection, proxied};
use crate::gateway::context::listener::Group;
use crate::gateway::context::shared::{Accepted, Handed, ThreadHandle};
use crate::gateway::context::thread::Thread;
use crate::gateway::limits::permit::ConnectionPermit;
use crate::gateway::peer::Peer;
use crate::net::is_ours;

/// A thread may have so many connections more than the emptiest, and an eighth, before it hands new ones over.
const DRIFT_MAX: usize = 64;

/// After an accept that failed for want of a descriptor or memory; the connection stays in the kernel's queue.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that are accepted before sessions have their turn. In a storm the rest waits in the kernel, where it adds no latency to sessions.
pub(crate) const ACCEPTS_AT_ONCE: u32 = 32;

/// Accepts clients on one thread's socket of `group` until that is closed.
pub(crate) async fn accept(thread: Rc<Thread>, socket: TcpListener, group: Arc<Group>) {
    let mut closed = group.is_closed();
    let mut accepts = 0;
    let mut stopping = pin!(thread.stopping());
    loop {
        let next = async {
            thread.shared.descriptors.room().await;
            let (socket, peer) = socket.accept().await?;
            Ok(Accepted { socket, peer, listener: group.listener(), slot: thread.shared.descriptors.client() })
        };
        let accepted = tokio::select! {
            biased;
            () = &mut stopping => return,
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
    let Some(emptiest) = emptiest(thread) else {
        return serve_here(thread, accepted);
    };
    let Some(permit) = emptiest.reserve() else {
        return serve_here(thread, accepted);
    };
    // It fails only if the runtime is going away, and the socket with it.
    if let Ok(handed) = accepted.try_map(TcpStream::into_std) {
        permit.send(handed);
    }
}

/// The emptiest thread, if this one has drifted too far from it.
fn emptiest(thread: &Thread) -> Option<&ThreadHandle> {
    let thread_handles = &thread.shared.thread_handles;
    let own = thread.handle().connections();
    let least = thread_handles.iter().min_by_key(|n| n.connections())?;
    let bound = least.connections() + DRIFT_MAX + own / 8;
    (own > bound).then_some(least)
}

/// Serves the sockets that other threads hand over.
pub(crate) async fn take_handed(thread: Rc<Thread>, mut handed: mpsc::Receiver<Handed>) {
    while let Some(handed) = handed.recv().await {
        if let Ok(accepted) = handed.try_map(TcpStream::from_std) {
            serve_here(&thread, accepted);
        }
    }
}

fn serve_here(thread: &Rc<Thread>, accepted: Accepted<TcpStream>) {
    let Accepted { socket, peer: address, listener, slot } = accepted;
    let permit = ConnectionPermit::new(slot, &thread.handle().connections);
    let peer = Peer { address, local: None, is_tls: false, is_unknown: false };
    if listener.proxy_protocol {
        spawn_local(proxied::serve(Rc::clone(thread), socket, peer, listener, permit));
    } else {
        connection::begin(thread, socket, peer, &listener, permit);
    }
}
