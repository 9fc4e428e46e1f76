//! A node with two thousand users dies, and they all come back at once.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdline_live::wall::Recovery;

use super::audience::{Audience, Group};
use super::fleet::{Fleet, address};
use crate::support::client::{PATIENCE, http};
use crate::support::clock;

const USERS: u32 = 2_000;
/// Sessions a second that a node takes.
const RATE: u64 = 100;
const CAPACITY: u64 = 2_100;
/// Nodes that take the users in: the one that died is replaced.
const NODES: u64 = 3;
/// Between two looks, and the looks over which admissions are counted.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_secs(2);
/// Admissions that a node may count later than Holdline: handshakes that were on their way at the window's beginning.
const ON_THEIR_WAY: u64 = RATE / 4;

#[tokio::test]
async fn a_crowd_that_lost_its_node_is_let_in_at_the_pace_that_was_set() {
    let settings = |rate: &str| {
        format!(
            "capacity: {CAPACITY}\n    admit_rate: {rate}\n    queue: {{ length: 1000, timeout: 10s }}\n    scale: {{ min: 1, max: 4 }}"
        )
    };
    let fleet = Fleet::start("embedded", &settings(&format!("{RATE}/s"))).await;
    fleet.scale(1).await;
    let mut audience = Audience::new(fleet.holdline.address.to_string());
    let crowd = Group {
        name: "storm",
        users: USERS,
        room: 10,
        recovery: Recovery::Strong {},
        acts_every: None,
        others: (3, 0),
        vanishes_one_in: 0,
        // As fast as one node takes them.
        arrive_over: Duration::from_secs(u64::from(USERS) / RATE),
    };
    audience.enter(&crowd).await;
    let totals = audience.totals.clone();
    let live = || totals.live.load(Ordering::Relaxed);
    fleet.holdline.until_status("all are live", |_| live() == u64::from(USERS)).await;
    fleet.scale(NODES as usize).await;
    let full = fleet.fullest().await;
    assert_eq!(full["sessions"], USERS, "nobody moved by itself: {full}");

    let start = clock::now();
    fleet.kill(&full);
    let ended = || totals.moved.load(Ordering::Relaxed) + totals.lost.load(Ordering::Relaxed);
    let mut admissions = Admissions::default();
    let coming_back = async {
        // Each must have lost its session before all can have one again.
        while ended() < u64::from(USERS) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while live() < u64::from(USERS) {
            for backend in fleet.backends().await.iter().filter(|b| b["phase"] == "ready") {
                assert!(backend["sessions"].as_u64() <= Some(CAPACITY), "above capacity: {backend}");
                admissions.look(address(backend)).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, coming_back).await.unwrap_or_else(|_| panic!("not all came back: {totals:?}"));
    let (took, ideal) = (start.elapsed(), Duration::from_secs_f64(f64::from(USERS) / (NODES * RATE) as f64));
    let told = totals.told_when.load(Ordering::Relaxed);
    println!(
        "all {USERS} are live again after {took:.1?}, ideal {ideal:.1?}; {told} were told when to come back; at most {} in {WINDOW:?}",
        admissions.most
    );

    // Told properly, each of them: to connect again, and, where the queue was full, when.
    assert_eq!(totals.moved.load(Ordering::Relaxed), u64::from(USERS), "{totals:?}");
    let without_a_word = [&totals.refused, &totals.lost].map(|n| n.load(Ordering::Relaxed));
    assert_eq!(without_a_word, [0, 0], "{totals:?}");
    // The first to come back may be sent to the node that is just dying.
    assert!(totals.no_answer.load(Ordering::Relaxed) <= u64::from(USERS / 100), "{totals:?}");
    assert!(told > 0, "the queue was never full: no storm");
    assert!(took >= ideal.mul_f64(0.8), "faster than the pace that was set: {took:?}");
    assert!(admissions.most > RATE, "no node was ever busy: {}", admissions.most);
    let (logs, left) = audience.leave().await;
    left.iter().for_each(|user| user.has_exactly(&logs[user.room()]));
}

/// How many sessions each node took, by its own count.
#[derive(Default)]
struct Admissions {
    nodes: HashMap<SocketAddr, VecDeque<(tokio::time::Instant, u64)>>,
    /// The most that one took within [`WINDOW`].
    most: u64,
}

impl Admissions {
    async fn look(&mut self, node: SocketAddr) {
        let before = clock::now();
        let (status, stats) = http("GET", node, "/stats", None).await;
        assert_eq!(status, 200);
        assert!(stats["sessions_max"].as_u64() <= Some(CAPACITY), "{stats}");
        let total = stats["sessions_total"].as_u64().unwrap();
        let looks = self.nodes.entry(node).or_default();
        // A replaced node counts anew.
        if looks.back().is_some_and(|(_, last)| *last > total) {
            looks.clear();
        }
        looks.push_back((before, total));
        while looks.len() > 2 && looks[1].0.elapsed() > WINDOW {
            looks.pop_front();
        }
        let (first, base) = looks[0];
        let (seconds, taken) = (first.elapsed().as_secs_f64(), total - base);
        let most = (RATE as f64 * seconds) as u64 + ON_THEIR_WAY;
        assert!(taken <= most, "{node} took {taken} in {seconds:.2} s");
        self.most = self.most.max(taken);
    }
}
