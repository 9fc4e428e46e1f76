//! A storm on real sockets: never above capacity, and every seat free afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use holdline_core::policy::QueuePolicy;

use super::support::*;
use crate::gateway::accept::acceptor;
use crate::gateway::context::listener;
use crate::gateway::context::thread::Thread;
use crate::gateway::limits::descriptors::Descriptors;
use crate::gateway::stage::StageWatch;

const BACKENDS: usize = 4;
const CAPACITY: u32 = 50;
const CLIENT_THREADS: usize = 20;
const PER_CLIENT: usize = 50;

#[tokio::test]
async fn twenty_client_threads_never_raise_a_backend_above_its_capacity() {
    let rig = Arc::new(Rig::start(|p| p.queue = QueuePolicy { length: 100, timeout: Duration::from_secs(2) }));
    let mut servers = Vec::new();
    for _ in 0..BACKENDS {
        servers.push(Echo::start().await);
    }
    rig.adopt(servers.iter().enumerate().map(|(i, s)| s.view(&format!("b{i}"), CAPACITY)).collect());
    let refused = Arc::new(AtomicU32::new(0));
    let clients = (0..CLIENT_THREADS).map(|_| {
        let (rig, refused) = (Arc::clone(&rig), Arc::clone(&refused));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let held = runtime.block_on(async {
                let opened = futures_util::future::join_all((0..PER_CLIENT).map(|_| rig.open())).await;
                opened.into_iter().filter_map(|o| o.map_err(|_| refused.fetch_add(1, Ordering::SeqCst)).ok()).collect::<Vec<_>>()
            });
            (runtime, held)
        })
    });
    let clients: Vec<_> = clients.collect();
    let held = tokio::task::spawn_blocking(|| clients.into_iter().map(|c| c.join().unwrap()).collect::<Vec<_>>()).await.unwrap();
    let sessions: usize = held.iter().map(|(_, sockets)| sockets.len()).sum();
    assert_eq!((sessions, rig.used()), (BACKENDS * CAPACITY as usize, 200));
    assert_eq!(refused.load(Ordering::SeqCst) as usize, CLIENT_THREADS * PER_CLIENT - 200);
    tokio::task::spawn_blocking(|| drop(held)).await.unwrap();
    rig.until("every seat is free", |c| c.backends.iter().all(|b| b.used == 0)).await;
    let counts = rig.counts();
    assert_eq!((counts.admitted_total, counts.ended_total, counts.queued), (200, 200, 0));
    for server in servers {
        assert_eq!(server.most.load(Ordering::SeqCst), CAPACITY);
    }
}

#[tokio::test]
async fn sessions_have_their_turn_between_the_connections_of_a_storm() {
    const STORM: usize = 100;
    let rig = Rig::start_on(1, Descriptors::raise(), |_| ());
    let mut listener = (*rig.gateway.shared.served.load().groups[0].listener()).clone();
    listener.address.set_port(0);
    let group = listener::bind(&listener, 1).unwrap();
    let socket = tokio::net::TcpListener::from_std(group.take(0).unwrap()).unwrap();
    // All of them wait in the kernel before the first is accepted.
    let storm: Vec<_> = (0..STORM).map(|_| std::net::TcpStream::connect(group.address()).unwrap()).collect();
    let thread = Thread::new(Arc::clone(&rig.gateway.shared), 0, StageWatch::new(&rig.gateway.stage), 7);
    let accepted = || rig.gateway.shared.thread_handles[0].connections();
    let turns = async {
        tokio::task::spawn_local(acceptor::accept(thread, socket, group));
        let mut before = 0;
        while before < STORM {
            tokio::task::yield_now().await;
            let now = accepted();
            assert!(now - before <= acceptor::ACCEPTS_AT_ONCE as usize, "{} in one turn", now - before);
            before = now;
        }
    };
    within(tokio::task::LocalSet::new().run_until(turns)).await;
    drop(storm);
}
