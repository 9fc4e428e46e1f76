//! A replica against a shadow model, over a network that loses, doubles and reorders, while answers are late.

use proptest::prelude::*;

use super::*;

/// Deltas that the log keeps, and that an answer holds: small, so that both are met often.
const WINDOW: usize = 12;
const PAGE: usize = 3;

const STRONG: Recovery = Recovery::Strong {};
const EVENTUAL: Recovery = Recovery::Eventual { refetch_s: 1 };

/// The truth: a log, and the state that it comes to.
struct Log(Vec<Delta>);

impl Log {
    /// Something that may happen to what is there: `pick` chooses what.
    fn write(&mut self, pick: u16) {
        let seq = self.0.len() as u64 + 1;
        let alive = self.state(self.0.len());
        let target = alive.get(usize::from(pick >> 3) % alive.len().max(1));
        let (action, comment, text) = match (pick % 8, target) {
            (0..=2, _) | (_, None) => (Action::Create, seq, Some(format!("t{seq}"))),
            (3, Some(c)) => (Action::Edit, c.comment, Some(format!("e{seq}"))),
            (4, Some(c)) => (Action::Delete, c.comment, None),
            (5, Some(c)) if c.likes > 0 => (Action::Unlike, c.comment, None),
            (_, Some(c)) => (Action::Like, c.comment, None),
        };
        self.0.push(Delta { seq, at: 7, action, comment, user: "ann".into(), text });
    }

    fn newest(&self) -> u64 {
        self.0.len() as u64
    }

    /// What the first `n` deltas come to, told in another way than the replica does it.
    fn state(&self, n: usize) -> Vec<Comment> {
        let log = &self.0[..n];
        let of = |id: u64| log.iter().filter(move |d| d.comment == id);
        let created = log.iter().filter(|d| d.action == Action::Create);
        let alive = created.filter(|c| !of(c.comment).any(|d| d.action == Action::Delete));
        alive
            .map(|c| Comment {
                comment: c.comment,
                user: c.user.clone(),
                text: of(c.comment).filter_map(|d| d.text.clone()).next_back().unwrap(),
                at: c.at,
                edited: of(c.comment).any(|d| d.action == Action::Edit),
                likes: of(c.comment)
                    .map(|d| i64::from(d.action == Action::Like) - i64::from(d.action == Action::Unlike))
                    .sum::<i64>() as u64,
                liked: None,
            })
            .collect()
    }

    fn room(&self, recovery: Recovery) -> Snapshot {
        Snapshot { comments: self.state(self.0.len()), ..room(recovery, self.newest()) }
    }

    fn answer(&self, want: Want, recovery: Recovery) -> Answer {
        match want {
            Want::Room => Answer::Room(self.room(recovery)),
            Want::Comment(id) => Answer::Comment(id, self.state(self.0.len()).into_iter().find(|c| c.comment == id)),
            Want::Deltas { after } if (after as usize) < self.0.len().saturating_sub(WINDOW) => Answer::Passed,
            Want::Deltas { after } => {
                let rest = &self.0[after as usize..];
                let deltas = rest[..rest.len().min(PAGE)].to_vec();
                Answer::Deltas(page(self.newest(), deltas, rest.len() > PAGE))
            }
        }
    }
}

enum Answer {
    Room(Snapshot),
    Deltas(Deltas),
    Comment(u64, Option<Comment>),
    Passed,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u16),
    /// Any delta of the log comes, for the first time or again: what does not come is lost, or late.
    Hear(u16),
    /// The newest comes, as most do.
    HearNewest,
    Ask,
    Answered,
    /// A node gives what it lacks.
    Reconnect,
    Resync,
    Refetch,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u16>().prop_map(Step::Write),
        3 => any::<u16>().prop_map(Step::Hear),
        4 => Just(Step::HearNewest),
        3 => Just(Step::Ask),
        3 => Just(Step::Answered),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Resync),
        1 => Just(Step::Refetch),
    ];
    prop::collection::vec(step, 0..120)
}

/// A replica, what is on its way to it, and what it says that it applied.
struct World {
    log: Log,
    replica: Replica,
    on_its_way: Option<Answer>,
    last_applied: u64,
}

impl World {
    fn new(recovery: Recovery, already: usize) -> Self {
        let mut log = Log(Vec::new());
        (0..already).for_each(|n| log.write(n as u16 * 5));
        let replica = Replica::new(log.room(recovery));
        World { last_applied: log.newest(), log, replica, on_its_way: None }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(pick) => self.log.write(pick),
            Step::Hear(pick) if !self.log.0.is_empty() => self.hear(usize::from(pick) % self.log.0.len()),
            Step::HearNewest if !self.log.0.is_empty() => self.hear(self.log.0.len() - 1),
            Step::Hear(_) | Step::HearNewest => {}
            Step::Ask => self.ask(),
            Step::Answered => self.answered(),
            Step::Reconnect => {
                self.replica.hello(self.log.newest());
                (self.replica.seq() as usize..self.log.0.len()).for_each(|at| self.hear(at));
            }
            Step::Resync => self.replica.resync(self.log.newest()),
            Step::Refetch => self.replica.refetch(),
        }
    }

    fn hear(&mut self, at: usize) {
        let applied = self.replica.hear(self.log.0[at].clone());
        self.check(&applied);
    }

    fn ask(&mut self) {
        if self.on_its_way.is_none() {
            self.on_its_way = self.replica.want().map(|want| self.log.answer(want, self.replica.recovery()));
        }
    }

    fn answered(&mut self) {
        let applied = match self.on_its_way.take() {
            Some(Answer::Room(room)) => {
                if self.replica.recovery() == STRONG {
                    self.last_applied = room.seq;
                }
                self.replica.load(room)
            }
            Some(Answer::Deltas(deltas)) => self.replica.recover(deltas),
            Some(Answer::Comment(id, comment)) => {
                self.replica.fetched(id, comment);
                Vec::new()
            }
            Some(Answer::Passed) => {
                self.replica.passed();
                Vec::new()
            }
            None => Vec::new(),
        };
        self.check(&applied);
    }

    /// Strong: each once and in order, whatever came how. Eventual: none twice.
    fn check(&mut self, applied: &[Delta]) {
        for delta in applied {
            match self.replica.recovery() {
                STRONG => assert_eq!(delta.seq, self.last_applied + 1),
                _ => assert!(delta.seq > self.last_applied),
            }
            self.last_applied = delta.seq;
        }
        if self.replica.recovery() == STRONG {
            assert_eq!(self.replica.seq(), self.last_applied);
            self.is_the_log_up_to(self.replica.seq());
        }
    }

    fn is_the_log_up_to(&self, seq: u64) {
        let held: Vec<_> = self.replica.comments().values().cloned().collect();
        assert_eq!(held, self.log.state(seq as usize));
    }

    /// Answers come until nothing is asked any more.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            self.answered();
            self.ask();
            if self.on_its_way.is_none() {
                return;
            }
        }
        panic!("it asks for ever: {:?}", self.replica.want());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn strong_applies_each_once_and_in_order_and_ends_with_the_log(already in 0usize..20, steps in steps(), by_resync: bool) {
        let mut world = World::new(STRONG, already);
        steps.into_iter().for_each(|step| world.step(step));
        // The connection is lost in the end as well, so what was lost on it is told; no delta follows that would show the gap.
        world.step(if by_resync { Step::Resync } else { Step::Reconnect });
        world.settle();
        prop_assert_eq!((world.replica.seq(), world.replica.missing()), (world.log.newest(), 0));
        world.is_the_log_up_to(world.log.newest());
    }

    #[test]
    fn eventual_is_the_log_after_a_refetch(already in 0usize..20, steps in steps()) {
        let mut world = World::new(EVENTUAL, already);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
        world.step(Step::Refetch);
        world.settle();
        world.is_the_log_up_to(world.log.newest());
        prop_assert_eq!(world.replica.missing(), 0);
    }

    #[test]
    fn eventual_needs_no_refetch_where_nothing_is_lost(picks in prop::collection::vec(any::<u16>(), 0..100)) {
        let mut world = World::new(EVENTUAL, 3);
        for pick in picks {
            world.step(Step::Write(pick));
            world.step(Step::HearNewest);
        }
        prop_assert_eq!(world.replica.want(), None);
        world.is_the_log_up_to(world.log.newest());
    }
}

fn delta(seq: u64, action: Action, comment: u64) -> Delta {
    let text = (action == Action::Create).then(|| "hi".to_owned());
    Delta { seq, at: 7, action, comment, user: "ann".into(), text }
}

/// Without comments.
fn room(recovery: Recovery, seq: u64) -> Snapshot {
    Snapshot { room: "r".into(), recovery, seq, oldest: 1, presence: 1, comments: Vec::new(), more: false }
}

fn page(seq: u64, deltas: Vec<Delta>, more: bool) -> Deltas {
    Deltas { room: "r".into(), seq, oldest: 1, deltas, more }
}

fn empty(recovery: Recovery) -> Replica {
    Replica::new(room(recovery, 0))
}

fn seqs(applied: &[Delta]) -> Vec<u64> {
    applied.iter().map(|d| d.seq).collect()
}

#[test]
fn a_gap_is_asked_for_and_what_came_meanwhile_follows_it() {
    let mut replica = empty(STRONG);
    assert_eq!(seqs(&replica.hear(delta(1, Action::Create, 1))), [1]);
    assert_eq!(seqs(&replica.hear(delta(4, Action::Like, 1))), [] as [u64; 0]);
    assert_eq!(seqs(&replica.hear(delta(5, Action::Like, 1))), [] as [u64; 0]);
    assert_eq!((replica.want(), replica.missing()), (Some(Want::Deltas { after: 1 }), 4));
    let lost = page(5, vec![delta(2, Action::Like, 1), delta(3, Action::Like, 1)], true);
    assert_eq!(seqs(&replica.recover(lost)), [2, 3, 4, 5]);
    assert_eq!((replica.want(), replica.missing(), replica.comments()[&1].likes), (None, 0, 4));
}

#[test]
fn a_hello_alone_asks_for_nothing_since_the_node_gives_it() {
    let mut replica = empty(STRONG);
    replica.hello(9);
    assert_eq!((replica.want(), replica.missing()), (None, 9));
    replica.resync(9);
    assert_eq!(replica.want(), Some(Want::Deltas { after: 0 }));
}

#[test]
fn what_waits_is_bounded_and_nothing_is_lost_by_that() {
    let mut replica = empty(STRONG);
    let last = AHEAD_MAX as u64 + 50;
    (2..=last).for_each(|seq| assert!(replica.hear(delta(seq, Action::Create, seq)).is_empty()));
    assert_eq!(replica.ahead.len(), AHEAD_MAX);
    assert_eq!(replica.hear(delta(1, Action::Create, 1)).len(), AHEAD_MAX + 1);
    assert_eq!(replica.want(), Some(Want::Deltas { after: AHEAD_MAX as u64 + 1 }));
    let rest = (AHEAD_MAX as u64 + 2..=last).map(|seq| delta(seq, Action::Create, seq)).collect();
    assert_eq!(replica.recover(page(last, rest, false)).len(), 49);
    assert_eq!((replica.want(), replica.seq()), (None, last));
}

#[test]
fn the_unknown_is_fetched_and_much_of_it_with_the_room() {
    let mut replica = empty(EVENTUAL);
    assert_eq!(seqs(&replica.hear(delta(8, Action::Like, 3))), [8]);
    assert_eq!(replica.want(), Some(Want::Comment(3)));
    let comment = Comment { comment: 3, user: "bob".into(), text: "x".into(), at: 1, edited: false, likes: 1, liked: None };
    replica.fetched(3, Some(comment));
    assert_eq!((replica.want(), replica.comments()[&3].likes), (None, 1));
    assert!(replica.hear(delta(8, Action::Like, 3)).is_empty(), "a like that came twice");
    assert_eq!(replica.comments()[&3].likes, 1);
    (0..=UNKNOWN_MAX as u64).for_each(|n| drop(replica.hear(delta(100 + n, Action::Like, 4 + n))));
    assert_eq!((replica.want(), replica.unknown.len()), (Some(Want::Room), 0));
}

#[test]
fn comments_before_the_first_that_is_held_are_passed_over() {
    for recovery in [STRONG, EVENTUAL] {
        let first = Comment { comment: 50, user: "bob".into(), text: "x".into(), at: 1, edited: false, likes: 0, liked: None };
        let mut replica = Replica::new(Snapshot { comments: vec![first], more: true, ..room(recovery, 60) });
        replica.hear(delta(61, Action::Like, 20));
        assert_eq!((replica.want(), replica.comments().len(), replica.seq()), (None, 1, 61));
    }
}

#[test]
fn another_log_begins_anew_and_a_late_node_does_not() {
    for recovery in [STRONG, EVENTUAL] {
        let mut replica = Replica::new(room(recovery, 60));
        replica.passed();
        replica.load(room(recovery, 3));
        assert_eq!((replica.seq(), replica.missing(), replica.want()), (3, 0, None));
        assert_eq!(seqs(&replica.hear(delta(4, Action::Create, 4))), [4]);
    }
    let mut replica = empty(STRONG);
    replica.hear(delta(1, Action::Create, 1));
    replica.doubt();
    assert_eq!(replica.want(), Some(Want::Deltas { after: 1 }));
    replica.recover(page(1, Vec::new(), false));
    assert_eq!((replica.want(), replica.seq()), (None, 1));
}

#[test]
fn a_room_that_was_asked_for_before_a_delta_came_does_not_take_it_back() {
    let mut replica = empty(STRONG);
    let seq = replica.seq();
    replica.passed();
    assert_eq!(replica.hear(delta(seq + 1, Action::Create, seq + 1)).len(), 1);
    replica.load(room(STRONG, seq));
    assert_eq!((replica.want(), replica.missing()), (Some(Want::Deltas { after: seq }), 1));
}

/// The cases that clients in any language are held against; what is only of the page's (`liked`, earlier pages) is passed over.
#[test]
fn the_cases_of_the_page_hold() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/web/tests/replica.json");
    let all: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let cases = all["cases"].as_array().unwrap().iter().filter(|case| !case.to_string().contains("loadEarlier"));
    let mut held = 0;
    for case in cases {
        let mut replica: Option<Replica> = None;
        for (at, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            let step = step.as_object().unwrap();
            let applied = step.iter().flat_map(|(what, value)| does(&mut replica, what, value)).collect::<Vec<_>>();
            let replica = replica.as_ref().unwrap();
            for (key, wanted) in step.get("then").and_then(|t| t.as_object()).into_iter().flatten() {
                // What the page takes for heard in an eventual room when a node says hello, this client still hears.
                let hears_on = matches!(replica.recovery(), Recovery::Eventual { .. });
                let is = match &**key {
                    "seq" if hears_on => continue,
                    "applied" => serde_json::json!(seqs(&applied)),
                    "seq" => serde_json::json!(replica.seq()),
                    "behind" => serde_json::json!(replica.missing()),
                    "comments" => serde_json::json!(replica.comments().values().collect::<Vec<_>>()),
                    "unknown" => serde_json::json!(replica.unknown),
                    _ => continue,
                };
                assert_eq!(without_liked(is), without_liked(wanted.clone()), "{}: step {at}: {key}", case["name"]);
            }
        }
        held += 1;
    }
    assert!(held > 10, "{held} cases");
}

fn does(replica: &mut Option<Replica>, what: &str, value: &serde_json::Value) -> Vec<Delta> {
    let value = value.clone();
    match (what, replica) {
        ("load", replica @ None) => {
            *replica = Some(Replica::new(serde_json::from_value(value).unwrap()));
            Vec::new()
        }
        ("load", Some(replica)) => replica.load(serde_json::from_value(value).unwrap()),
        ("hear", Some(replica)) => {
            let deltas: Vec<Delta> = serde_json::from_value(value).unwrap();
            deltas.into_iter().flat_map(|delta| replica.hear(delta)).collect()
        }
        ("expect", Some(replica)) => {
            replica.hello(value.as_u64().unwrap());
            Vec::new()
        }
        ("learn", Some(replica)) => {
            let comment: Comment = serde_json::from_value(value).unwrap();
            replica.fetched(comment.comment, Some(comment));
            Vec::new()
        }
        ("forget", Some(replica)) => {
            replica.passed();
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn without_liked(mut value: serde_json::Value) -> serde_json::Value {
    for comment in value.as_array_mut().into_iter().flatten() {
        if let Some(comment) = comment.as_object_mut() {
            comment.remove("liked");
        }
    }
    value
}
