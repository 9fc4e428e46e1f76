//! The promises of `queue/mod.rs`.

use std::time::Duration;

use futures_util::StreamExt;
use holdline_live::delta::Entry;
use holdline_live::queue::QueueError;
use tokio::time::timeout;

use crate::rig::{Rig, next, take};

/// More than two pages.
const MANY: usize = 600;

pub(crate) fn rooms(count: usize) -> Vec<&'static str> {
    ["lobby", "stage", "bar"].into_iter().cycle().take(count).collect()
}

pub(crate) async fn every_entry_comes_once_and_in_order<R: Rig>() {
    let mut rig = R::start().await;
    let queue = rig.subscriber();
    rig.put(&rooms(MANY)).await;
    let mut all = queue.subscribe(0).await.unwrap();
    let mut rest = queue.subscribe(MANY as u64 - 5).await.unwrap();
    assert_eq!(take(&mut all, MANY).await, rig.written());
    assert_eq!(take(&mut rest, 5).await, rig.written()[MANY - 5..]);

    // Then each as it comes.
    for round in 0..20 {
        rig.put(&rooms(3)).await;
        let new = &rig.written()[MANY + 3 * round..];
        assert_eq!(take(&mut all, 3).await, new);
        assert_eq!(take(&mut rest, 3).await, new);
    }
    // And as it comes to one that waits, not when that looks again by itself.
    for _ in 0..3 {
        assert!(timeout(Duration::from_millis(100), all.next()).await.is_err(), "nothing was written");
        rig.put(&["stage"]).await;
        let new = timeout(Duration::from_secs(3), take(&mut all, 1)).await.expect("at once");
        assert_eq!(new, rig.written()[rig.written().len() - 1..]);
    }
    for room in ["lobby", "stage", "bar"] {
        let seqs: Vec<_> = rig.written().iter().filter(|e| e.room == room).map(|e| e.delta.seq).collect();
        assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "{seqs:?}");
    }
}

pub(crate) async fn what_is_lost_with_a_connection_comes_with_the_next<R: Rig>() {
    let mut rig = R::start().await;
    let queue = rig.subscriber();
    let mut heard: Vec<Entry> = Vec::new();
    let mut entries = queue.subscribe(0).await.unwrap();
    for _ in 0..5 {
        rig.put(&rooms(40)).await;
        heard.extend(take(&mut entries, 25).await);
        rig.cut().await;
        rig.put(&rooms(10)).await;
        // What was on its way still comes, or does not.
        let error = loop {
            match next(&mut entries).await {
                Ok(entry) => heard.push(entry),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, QueueError::Down { .. }), "{error}");
        entries = queue.subscribe(heard.last().unwrap().pos).await.unwrap();
    }
    let missing = rig.written().len() - heard.len();
    heard.extend(take(&mut entries, missing).await);
    assert_eq!(heard, rig.written());
}

pub(crate) async fn a_restart_loses_nothing<R: Rig>() {
    let mut rig = R::start().await;
    let queue = rig.subscriber();
    let mut entries = queue.subscribe(0).await.unwrap();
    rig.put(&rooms(MANY)).await;
    let mut heard = take(&mut entries, 100).await;
    rig.kill();
    rig.restart();
    rig.put(&rooms(10)).await;
    let mut entries = queue.subscribe(100).await.unwrap();
    heard.extend(take(&mut entries, MANY - 90).await);
    assert_eq!(heard, rig.written());
}

pub(crate) async fn a_slow_subscriber_holds_up_nobody<R: Rig>() {
    let mut rig = R::start().await;
    let queue = rig.subscriber();
    rig.put(&rooms(1)).await;
    let mut slow = queue.subscribe(0).await.unwrap();
    assert_eq!(take(&mut slow, 1).await, rig.written());
    let mut quick = queue.subscribe(1).await.unwrap();
    for _ in 0..10 {
        rig.put(&rooms(MANY)).await;
        let new = &rig.written()[rig.written().len() - MANY..];
        assert_eq!(take(&mut quick, MANY).await, new);
    }
    assert_eq!(take(&mut slow, 10 * MANY).await, rig.written()[1..]);
}

pub(crate) async fn newest_is_what_a_subscriber_hears_last<R: Rig>() {
    let mut rig = R::start().await;
    let queue = rig.subscriber();
    assert_eq!(queue.newest().await.unwrap(), 0);
    for count in 1..=3 {
        rig.put(&["lobby"]).await;
        assert_eq!(queue.newest().await.unwrap(), count);
    }
    let mut entries = queue.subscribe(3).await.unwrap();
    rig.put(&["lobby"]).await;
    assert_eq!(next(&mut entries).await.unwrap().pos, 4, "the first after the newest");
}

pub(crate) async fn a_server_that_is_away_is_down_and_comes_back<R: Rig>() {
    let mut rig = R::start().await;
    let queue = rig.subscriber();
    rig.put(&["lobby"]).await;
    let mut entries = queue.subscribe(1).await.unwrap();
    rig.kill();
    assert!(matches!(next(&mut entries).await, Err(QueueError::Down { .. })));
    for _ in 0..2 {
        assert!(matches!(queue.newest().await, Err(QueueError::Down { .. })));
        assert!(matches!(queue.subscribe(1).await.err(), Some(QueueError::Down { .. })));
    }
    rig.restart();
    assert_eq!(queue.newest().await.unwrap(), 1);
    assert_eq!(take(&mut queue.subscribe(0).await.unwrap(), 1).await, rig.written());
}

pub(crate) async fn who_was_away_too_long_is_told<R: Rig>() {
    let mut rig = R::start().await;
    let queue = rig.subscriber();
    rig.outgrow().await;
    let Some(QueueError::Passed { oldest }) = queue.subscribe(0).await.err() else { panic!("the beginning is kept") };
    assert!(oldest > 1, "{oldest}");
    let Some(QueueError::Passed { .. }) = queue.subscribe(oldest - 2).await.err() else { panic!("{} is kept", oldest - 1) };
    let mut entries = queue.subscribe(oldest - 1).await.unwrap();
    assert_eq!(take(&mut entries, 300).await, rig.written()[oldest as usize - 1..][..300]);
    assert_eq!(queue.newest().await.unwrap(), rig.written().len() as u64);
}
