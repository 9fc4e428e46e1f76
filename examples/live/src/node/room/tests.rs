//! Every order in which the queue's deltas and the api's answers can come.

use super::*;
use crate::delta::Action;

fn delta(seq: u64) -> Delta {
    Delta { seq, at: 1, action: Action::Like, comment: 1, user: "ann".into(), text: None }
}

fn loaded(from: u64, seq: u64) -> Loaded {
    Loaded { seq, presence: 3, deltas: (from..=seq).map(delta).collect() }
}

/// A room with the deltas `from..=seq`.
fn known(from: u64, seq: u64) -> Room {
    let mut room = Room::new();
    assert!(room.want());
    assert!(!room.loaded(loaded(from, seq)));
    room
}

fn seqs(room: &Room, after: u64) -> Option<Vec<u64>> {
    Some(room.after(after, usize::MAX)?.map(Line::seq).collect())
}

#[test]
fn a_delta_is_serialised_once_for_both_forms() {
    let line = Line::new(&delta(7));
    assert_eq!(line.json().as_str(), r#"{"seq":7,"at":1,"action":"like","comment":1,"user":"ann"}"#);
    assert_eq!(line.event(), &Bytes::from(format!("id: 7\ndata: {}\n\n", line.json())));
    let within = line.event().as_ptr_range();
    assert!(within.contains(&line.json().as_str().as_ptr()) && within.contains(&line.clone().json().as_str().as_ptr()));
}

#[test]
fn each_delta_is_applied_once_and_in_order() {
    let mut room = known(1, 3);
    assert_eq!(
        (room.apply(&delta(4)), room.apply(&delta(4)), room.apply(&delta(2))),
        (Applied::Next, Applied::Duplicate, Applied::Duplicate)
    );
    assert_eq!((room.seq(), seqs(&room, 1)), (4, Some(vec![2, 3, 4])));
    assert_eq!((seqs(&room, 4), seqs(&room, 5)), (Some(vec![]), None));
}

#[test]
fn a_gap_is_filled_by_a_load_and_what_came_meanwhile_follows_it() {
    let mut room = known(1, 3);
    assert_eq!(room.apply(&delta(6)), Applied::Gap);
    assert!(room.want() && room.is_loading());
    assert_eq!((room.apply(&delta(7)), room.seq()), (Applied::Kept, 3));
    assert!(!room.loaded(loaded(4, 5)));
    assert_eq!((room.seq(), seqs(&room, 0)), (7, Some((1..=7).collect())));
}

#[test]
fn a_load_that_leaves_a_gap_is_followed_by_another() {
    let mut room = known(1, 3);
    assert_eq!(room.apply(&delta(8)), Applied::Gap);
    assert!(room.want());
    assert!(room.loaded(loaded(4, 5)) && room.is_loading());
    assert!(!room.loaded(loaded(6, 9)));
    assert_eq!(seqs(&room, 0), Some((1..=9).collect()));
}

#[test]
fn what_comes_while_the_first_load_is_under_way_is_neither_lost_nor_doubled() {
    for load in 0..=6 {
        let mut room = Room::new();
        room.want();
        for seq in 3..=6 {
            assert_eq!(room.apply(&delta(seq)), Applied::Kept);
        }
        let again = room.loaded(loaded(1, load));
        // The queue's deltas were stored before they came: the api has them, if it is asked again.
        assert_eq!(again, load < 2, "{load}");
        if again {
            assert!(!room.loaded(loaded(load + 1, 6)));
        }
        assert_eq!(seqs(&room, 0), Some((1..=6).collect()), "{load}");
    }
}

#[test]
fn a_load_that_is_older_than_what_came_meanwhile_takes_nothing_back() {
    let mut room = known(1, 3);
    room.want();
    assert_eq!((room.apply(&delta(4)), room.apply(&delta(5))), (Applied::Next, Applied::Next));
    assert!(!room.loaded(loaded(2, 4)));
    assert_eq!(seqs(&room, 0), Some((1..=5).collect()));
}

#[test]
fn an_api_that_lost_deltas_is_believed() {
    let mut room = known(1, 9);
    room.want();
    assert!(!room.loaded(loaded(3, 4)));
    assert_eq!((room.seq(), seqs(&room, 9), seqs(&room, 2), seqs(&room, 1)), (4, None, Some(vec![3, 4]), None));
    assert_eq!(room.apply(&delta(5)), Applied::Next);
}

#[test]
fn a_load_that_begins_after_a_hole_begins_the_row_anew() {
    let mut room = known(1, 3);
    room.want();
    assert!(!room.loaded(loaded(100, 120)));
    assert_eq!((room.seq(), seqs(&room, 3), seqs(&room, 118)), (120, None, Some(vec![119, 120])));
    let mut room = known(1, 3);
    room.want();
    assert!(!room.loaded(Loaded { seq: 9, ..Loaded::default() }));
    assert_eq!((seqs(&room, 8), seqs(&room, 9)), (None, Some(vec![])), "the api keeps none");
}

#[test]
fn the_newest_are_kept() {
    let mut room = known(1, 3);
    let most = 3 + KEPT_MAX as u64;
    (4..=most).for_each(|seq| assert_eq!(room.apply(&delta(seq)), Applied::Next));
    assert_eq!((seqs(&room, 2), seqs(&room, 3).map(|all| all.len())), (None, Some(KEPT_MAX)));
    // So are those that wait.
    (most + 2..=most + 10 + KEPT_MAX as u64).for_each(|seq| assert_eq!(room.apply(&delta(seq)), Applied::Gap));
    assert_eq!(room.ahead.len(), KEPT_MAX);
}

#[test]
fn a_load_that_is_wanted_while_one_is_under_way_follows_it() {
    let mut room = Room::new();
    assert!(room.want() && !room.want());
    assert!(room.loaded(loaded(1, 3)) && !room.loaded(loaded(4, 4)) && !room.is_loading());
    assert!(room.want());
}

#[test]
fn nobody_is_from_the_future_before_the_api_was_asked_after_he_came() {
    let mut room = Room::new();
    assert_eq!(room.verdict(None, room.loads_begun()), None);
    room.want();
    let during = room.loads_begun();
    room.loaded(loaded(1, 3));
    assert_eq!((room.verdict(None, 0), room.verdict(Some(3), during)), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(room.verdict(Some(4), during), None, "that load began before he came");
    room.want();
    assert!(!room.loaded(loaded(4, 4)));
    assert_eq!(room.verdict(Some(4), during), Some(Ok(())));
    assert_eq!(room.verdict(Some(5), during), Some(Err(Refusal::FromTheFuture { seq: 4 })));
    room.unknown();
    assert_eq!(room.verdict(None, 0), Some(Err(Refusal::UnknownRoom)));
}
