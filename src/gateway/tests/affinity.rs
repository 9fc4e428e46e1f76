//! Affinity by what a request carries: sessions and plain requests of one client meet one backend.

use holdline_core::cause::Phase;
use holdline_core::policy::Affinity;
use holdline_core::snapshot::BackendView;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::support::*;
use crate::gateway::SessionFilter;

async fn rig(affinity: Affinity) -> (Rig, Vec<Echo>) {
    let rig = Rig::start(|p| p.affinity = affinity);
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(Echo::start().await);
    }
    rig.adopt(views(&servers));
    (rig, servers)
}

fn views(servers: &[Echo]) -> Vec<BackendView> {
    servers.iter().enumerate().map(|(i, s)| s.view(&format!("b{i}"), 99)).collect()
}

/// The backends of all sessions.
async fn homes(rig: &Rig) -> Vec<String> {
    rig.gateway.sessions(SessionFilter::default()).await.iter().map(|s| s.backend.to_string()).collect()
}

#[tokio::test]
async fn a_header_decides_and_the_same_value_meets_the_same_backend() {
    let (rig, servers) = rig(Affinity::Header { name: "x-user".into() }).await;
    let mut held = vec![rig.open_with(&[("x-user", "ann")]).await.unwrap()];
    let ann = homes(&rig).await.remove(0);
    for user in ["ann", "ann", "bob", "bob", "bob", "cleo", "cleo", "cleo", "dan", "dan", "dan", "eve", "eve", "eve"] {
        held.push(rig.open_with(&[("x-user", user)]).await.unwrap());
    }
    let used: Vec<_> = rig.counts().backends.iter().map(|b| b.used).collect();
    assert!(used.iter().all(|n| n % 3 == 0 && *n < 15), "{used:?}");
    // Its backend drains: the next in its order, the same one each time.
    let mut closing = views(&servers);
    for view in &mut closing {
        if view.id.as_str() == ann {
            *view = in_phase(view.clone(), Phase::Draining);
        }
    }
    rig.adopt(closing);
    let mut next = Vec::new();
    for _ in 0..2 {
        held.push(rig.open_with(&[("x-user", "ann")]).await.unwrap());
        let counts = rig.counts();
        next.push(counts.backends.iter().map(|b| (b.backend.to_string(), b.used)).collect::<Vec<_>>());
    }
    let grew: Vec<_> = next[0].iter().zip(&next[1]).filter(|(a, b)| a.1 < b.1).collect();
    assert_eq!(grew.len(), 1);
    assert_ne!(grew[0].0.0, ann);
}

#[tokio::test]
async fn a_parameter_decides_however_it_is_escaped() {
    let (rig, _servers) = rig(Affinity::Query { name: "user".into() }).await;
    let mut held = Vec::new();
    for query in ["user=a%40b", "x=1&user=a@b", "user=%61%40b&user=other"] {
        let request = format!("ws://{}/?{query}", rig.address).into_client_request().unwrap();
        held.push(within(tokio_tungstenite::connect_async(request)).await.unwrap());
    }
    let homes = homes(&rig).await;
    assert!(homes.iter().all(|h| *h == homes[0]), "{homes:?}");
}

#[tokio::test]
async fn an_address_decides_without_a_word_of_the_client() {
    let (rig, _servers) = rig(Affinity::Address).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(rig.open().await.unwrap());
    }
    let homes = homes(&rig).await;
    assert!(homes.iter().all(|h| *h == homes[0]), "{homes:?}");
}

#[tokio::test]
async fn without_the_header_a_client_is_placed_as_any() {
    let (rig, _servers) = rig(Affinity::Header { name: "x-user".into() }).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(rig.open().await.unwrap());
    }
    assert!(rig.counts().backends.iter().all(|b| b.used == 1));
}

#[tokio::test]
async fn a_full_backend_keeps_nobody_waiting() {
    let (rig, servers) = rig(Affinity::Header { name: "x-user".into() }).await;
    let mut few = views(&servers);
    few.iter_mut().for_each(|view| view.limit = 2);
    rig.adopt(few);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(rig.open_with(&[("x-user", "ann")]).await.unwrap());
    }
    assert!(rig.counts().backends.iter().all(|b| b.used == 2));
}

#[tokio::test]
async fn plain_requests_follow_the_key_to_where_its_sessions_are() {
    let (rig, servers) = rig(Affinity::Header { name: "x-user".into() }).await;
    let _held = rig.open_with(&[("x-user", "ann")]).await.unwrap();
    let home = homes(&rig).await.remove(0);
    let at = servers.iter().enumerate().find(|(i, _)| format!("b{i}") == home).unwrap().1;
    let seen = at.most.load(std::sync::atomic::Ordering::SeqCst);
    // The echo server knows no plain HTTP, but counts who comes.
    for _ in 0..3 {
        rig.raw("GET / HTTP/1.1\r\nHost: h\r\nX-User: ann\r\nConnection: close\r\n\r\n").await;
    }
    let most: Vec<_> = servers.iter().map(|s| s.most.load(std::sync::atomic::Ordering::SeqCst)).collect();
    assert!(at.most.load(std::sync::atomic::Ordering::SeqCst) > seen, "{most:?}");
    assert_eq!(most.iter().filter(|m| **m > 0).count(), 1, "{most:?}");
}
