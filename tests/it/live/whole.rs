//! Nodes are added, drained, killed and taken away for two minutes, while two thousand users read and write. Afterwards each has exactly what the log has.
//!
//! `HOLDLINE_LIVE_SECONDS` is the length of the run; `HOLDLINE_LIVE_REDIS_SECONDS` that of the one over redis.

use std::sync::atomic::Ordering;
use std::time::Duration;

use holdline_live::wall::Recovery;
use tokio::time::Instant;

use super::audience::{Audience, Group, Left, Totals};
use super::fleet::{Fleet, id, seconds};
use crate::support::clock;

/// After this, an eventual room must agree with the log: all of its users fetched it again by then.
const REFETCH_S: u32 = 10;

/// Seats for all on two nodes, and on three with one of them dead.
const NODES: &str = "capacity: 1250\n    queue: { length: 3000, timeout: 30s }\n    drain: { deadline: 20s }\n    \
                     scale: { min: 2, max: 10, behavior: { down: { stabilization: 2s } } }";

#[tokio::test]
async fn two_thousand_users_miss_nothing_while_nodes_come_and_go() {
    let fleet = Fleet::start("embedded", NODES).await;
    run(&fleet, seconds("HOLDLINE_LIVE_SECONDS", 120), async |_| {}).await;
}

#[cfg(feature = "foreign-clients")]
#[tokio::test]
async fn nor_do_they_over_a_redis_that_is_restarted_in_the_middle() {
    let mut redis = super::redis::Redis::start().await;
    let fleet = Fleet::start(&redis.url(), NODES).await;
    run(&fleet, seconds("HOLDLINE_LIVE_REDIS_SECONDS", 45), async |middle| {
        tokio::time::sleep_until(middle).await;
        redis.restart(Duration::from_secs(3)).await;
    })
    .await;
}

/// Plays it. `meanwhile` is given the middle of the time.
async fn run(fleet: &Fleet, span: Duration, meanwhile: impl AsyncFnOnce(Instant)) {
    fleet.scale(3).await;
    let mut audience = Audience::new(fleet.holdline.address.to_string());
    let arrive_over = span.mul_f64(0.1);
    let strong = Group {
        name: "strong",
        users: 2_000,
        room: 10,
        recovery: Recovery::Strong {},
        acts_every: Some(Duration::from_secs(40)),
        others: (3, 1),
        vanishes_one_in: 10,
        arrive_over,
    };
    let eventual = Group {
        name: "eventual",
        users: 200,
        room: 200,
        recovery: Recovery::Eventual { refetch_s: REFETCH_S },
        acts_every: Some(Duration::from_secs(200)),
        ..strong
    };
    audience.enter(&strong).await;
    audience.enter(&eventual).await;
    let start = clock::now();
    tokio::join!(operate(fleet, start, span), meanwhile(start + span.mul_f64(0.5)));
    tokio::time::sleep_until(start + span).await;
    let totals = audience.totals.clone();
    let (logs, left) = audience.leave().await;
    println!("{totals:?}");
    assert_eq!(left.len(), 2_200);
    for user in &left {
        compare(user, &logs[user.room()]);
    }
    enough_happened(&totals);
}

fn compare(user: &Left, log: &[holdline_live::delta::Delta]) {
    match user.recovery() {
        Recovery::Strong {} => user.has_exactly(log),
        Recovery::Eventual { .. } => user.agrees_with(log),
    }
}

/// A quiet run proves nothing.
fn enough_happened(totals: &Totals) {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let moved = count(&totals.moved);
    assert!(moved > 2_000, "{moved} moved");
    let (written, delivered, recovered) = (count(&totals.written), count(&totals.delivered), count(&totals.recovered));
    assert!(written > 500 && delivered > 5 * written && recovered > 500, "{written} written, {delivered}, {recovered} recovered");
}

/// What an operator and bad luck do: 3 → 8 → 2 nodes, drains, kills.
async fn operate(fleet: &Fleet, start: Instant, span: Duration) {
    let until = async |share: f64| tokio::time::sleep_until(start + span.mul_f64(share)).await;
    let note = |what: &str| println!("{:>5.1} s: {what}", start.elapsed().as_secs_f64());
    until(0.12).await;
    fleet.kill(&fleet.fullest().await);
    fleet.until_ready(3).await;
    note("one of three was killed and is back");
    fleet.scale(8).await;
    note("eight nodes");
    until(0.25).await;
    while start.elapsed() < span.mul_f64(0.6) {
        // The one that is drained is replaced meanwhile; taken back, it is one too many, and another one goes.
        let (drained, killed) = (fleet.fullest().await, fleet.backends().await);
        let killed = killed.iter().find(|b| b["id"] != drained["id"] && b["sessions"].as_u64() > Some(0));
        let drained = id(&drained);
        tokio::join!(fleet.drain_and_undrain(&drained, "3s"), async {
            if let Some(node) = killed {
                fleet.kill(node);
            }
        });
        fleet.until_ready(8).await;
        note("one was drained, one was killed, all are back");
    }
    until(0.65).await;
    fleet.scale(2).await;
    note("two nodes");
}
