//! What the window, the counters and the keys do over time; what clients see of the store is in `tests/api`.

use rusqlite::Connection;
use tempfile::TempDir;

use super::keys::{KEEP_S, KEPT_MAX};
use super::{Bounds, Change, Done, From, Mutation, Refused, Store};
use crate::wall::Recovery;

const NOW_S: u64 = 1_764_000_000;

async fn store(window: u64) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("live.db"), Bounds { window, max_mib: None }).unwrap();
    for room in ["a", "b"] {
        store.make_room(room, Recovery::Strong {}).await.unwrap();
    }
    (dir, store)
}

/// Another connection to the same file, which sees what is stored.
fn beside(dir: &TempDir) -> Connection {
    Connection::open(dir.path().join("live.db")).unwrap()
}

fn writing(room: &str, key: Option<&str>, now_s: u64) -> Mutation {
    let change = Change::Create { text: "x".into() };
    Mutation { room: room.into(), user: "ann".into(), change, key: key.map(str::to_owned), now_s }
}

async fn write(store: &Store, room: &str, times: u64) {
    for _ in 0..times {
        store.change(writing(room, None, NOW_S)).await.unwrap();
    }
}

#[tokio::test]
async fn the_window_never_passes_over_what_the_queue_has_not() {
    let (_dir, store) = store(3).await;
    write(&store, "a", 10).await;
    assert_eq!(store.deltas("a", From::After(0), 100).await.unwrap().deltas.len(), 10);
    store.published(4);
    write(&store, "a", 1).await;
    assert_eq!(store.deltas("a", From::After(4), 100).await.unwrap().oldest, 5);
    store.published(11);
    write(&store, "a", 1).await;
    let kept = store.deltas("a", From::After(9), 100).await.unwrap();
    assert_eq!((kept.oldest, kept.deltas.len(), kept.more), (10, 3, false));
    assert_eq!(store.deltas("a", From::After(8), 100).await.unwrap_err(), Refused::WindowPassed { oldest: 10 });
    // The log of all rooms has a hole before that, which whoever reads it is told.
    write(&store, "b", 1).await;
    assert_eq!(store.log(8, 13, 100).await.unwrap_err(), Refused::WindowPassed { oldest: 10 });
    let log: Vec<_> = store.log(9, 13, 100).await.unwrap().into_iter().map(|entry| (entry.pos, entry.room)).collect();
    assert_eq!(log, [(10, "a".into()), (11, "a".into()), (12, "a".into()), (13, "b".into())]);
}

#[tokio::test]
async fn what_is_refused_or_rolled_back_leaves_no_gap() {
    let (dir, store) = store(100).await;
    write(&store, "a", 1).await;
    let edit = Mutation { change: Change::Edit { comment: 9, text: "x".into() }, ..writing("a", None, NOW_S) };
    let mistakes = (0..20).map(|_| store.change(edit.clone()));
    let (refused, ()) = tokio::join!(futures_util::future::join_all(mistakes), write(&store, "a", 20));
    assert!(refused.into_iter().all(|refused| refused == Err(Refused::UnknownComment(9))));
    // After the counters, before the end: the delta itself is what cannot be stored.
    beside(&dir).execute_batch("CREATE TRIGGER no BEFORE INSERT ON deltas BEGIN SELECT RAISE(ABORT, 'no'); END").unwrap();
    let failing = (0..20).map(|_| store.change(writing("a", Some("k"), NOW_S)));
    let failed = futures_util::future::join_all(failing).await;
    assert!(failed.into_iter().all(|failed| matches!(failed, Err(Refused::Database(_)))));
    beside(&dir).execute_batch("DROP TRIGGER no").unwrap();
    assert_eq!(store.snapshot("a", 100, None, None).await.unwrap().comments.len(), 21, "no row without its delta");
    let next = store.change(writing("a", Some("k"), NOW_S)).await.unwrap();
    assert_eq!((next.delta.unwrap().seq, next.replayed), (22, false), "the key of what failed is free");
    let log = store.log(0, 100, 100).await.unwrap();
    assert!(log.iter().map(|entry| (entry.pos, entry.delta.seq)).eq((1..=22).map(|n| (n, n))));
    assert_eq!(*store.newest().borrow(), 22);
}

#[tokio::test]
async fn time_does_not_go_back_in_a_room() {
    let (_dir, store) = store(100).await;
    for now_s in [NOW_S, NOW_S + 9, NOW_S - 50, NOW_S + 10] {
        store.change(writing("a", None, now_s)).await.unwrap();
    }
    let since = async |time| store.deltas("a", From::Since(time), 100).await.unwrap().deltas;
    let times: Vec<_> = since(0).await.iter().map(|delta| delta.at - NOW_S).collect();
    assert_eq!(times, [0, 9, 9, 10]);
    assert_eq!((since(NOW_S + 1).await[0].seq, since(NOW_S + 10).await[0].seq), (2, 4));
    assert_eq!((since(NOW_S + 11).await.len(), since(u64::MAX).await.len()), (0, 0));
}

#[tokio::test]
async fn a_key_is_kept_for_a_day() {
    let (dir, store) = store(100).await;
    let at = async |now_s| store.change(writing("a", Some("k"), now_s)).await.unwrap();
    let seq = |done: &Done| done.delta.as_ref().unwrap().seq;
    let first = at(NOW_S).await;
    let replayed = at(NOW_S + KEEP_S - 1).await;
    assert_eq!((replayed.delta, replayed.replayed), (first.delta, true));
    let anew = at(NOW_S + KEEP_S).await;
    assert_eq!((seq(&anew), anew.replayed), (2, false));
    // Others that come prune what is over.
    store.change(writing("a", Some("l"), NOW_S + 3 * KEEP_S)).await.unwrap();
    let keys: Vec<String> = {
        let db = beside(&dir);
        let mut keys = db.prepare("SELECT key FROM keys").unwrap();
        keys.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(keys, ["l"]);
}

#[tokio::test]
async fn keys_are_bounded_in_number() {
    let (dir, store) = store(100).await;
    let fill = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
        INSERT INTO keys SELECT n, 'k' || n, ?2, 'a', 'like', 1, 'ann', NULL, NULL, NULL FROM n";
    beside(&dir).execute(fill, [KEPT_MAX + 5, NOW_S]).unwrap();
    let count = || beside(&dir).query_one("SELECT count(*), min(n) FROM keys", [], |row| Ok((row.get(0)?, row.get(1)?)));
    for n in 0..10 {
        store.change(writing("a", Some(&format!("new-{n}")), NOW_S)).await.unwrap();
    }
    assert_eq!(count().unwrap(), (KEPT_MAX, 16_u64), "the oldest went");
}
