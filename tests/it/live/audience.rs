//! Users of the application. Each writes down every delta that it was given, so that the whole can be compared with the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdline_live::client::{Api, Backoff, Change, End, Event, Follower, How, Mutation, Replica, Transport, Way};
use holdline_live::delta::{Action, Delta};
use holdline_live::wall::{Comment, Deltas, Recovery};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Until everybody has caught up: many times what it takes, and longer than the pauses of one who was refused a few times.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(90);

/// Until a refetch that was due is answered, with two hundred others.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// Reasons that are kept; those of one event are alike.
const REASONS_MAX: usize = 10;

/// Users of one kind.
pub(super) struct Group {
    /// Their rooms' names begin with this.
    pub(super) name: &'static str,
    pub(super) users: u32,
    /// To a room.
    pub(super) room: u32,
    pub(super) recovery: Recovery,
    /// One of them does something so often; `None`: they only listen.
    pub(super) acts_every: Option<Duration>,
    /// Of twenty users: how many read an event stream, and how many poll. The others have WebSockets.
    pub(super) others: (u32, u32),
    /// One in so many has a bad network; 0: none.
    pub(super) vanishes_one_in: u32,
    /// The time over which they come.
    pub(super) arrive_over: Duration,
}

/// What all of them saw.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) opened: AtomicU64,
    /// Sessions that they have now.
    pub(super) live: AtomicU64,
    pub(super) moved: AtomicU64,
    /// Refused, and told when to come back.
    pub(super) told_when: AtomicU64,
    /// Refused without that.
    pub(super) refused: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) no_answer: AtomicU64,
    pub(super) vanished: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) recovered: AtomicU64,
    /// The first few ends without a word.
    reasons: Mutex<BTreeSet<String>>,
}

/// What the users are to do.
#[derive(Clone)]
enum Phase {
    Live,
    /// Write no more.
    Listen,
    /// Leave once everything up to these, a room each, is there.
    CatchUp(Arc<HashMap<String, u64>>),
}

/// Everybody.
pub(super) struct Audience {
    api: Api,
    pub(super) totals: Arc<Totals>,
    phase: watch::Sender<Phase>,
    users: JoinSet<Left>,
    /// Users who still write.
    writing: watch::Sender<u32>,
}

/// A user who has left, and what it had.
pub(super) struct Left {
    room: String,
    name: String,
    replica: Replica,
    /// By which delta it came in.
    joined_at: u64,
    /// All that was applied since, as it was told.
    applied: Vec<Delta>,
    /// How often the room was loaded.
    loaded: u32,
}

impl Audience {
    pub(super) fn new(authority: String) -> Self {
        Audience {
            api: Api::new(authority),
            totals: Arc::default(),
            phase: watch::Sender::new(Phase::Live),
            users: JoinSet::new(),
            writing: watch::Sender::new(0),
        }
    }

    /// Lets a group in.
    pub(super) async fn enter(&mut self, group: &Group) {
        for room in 0..group.users.div_ceil(group.room) {
            self.api.make_room(&format!("{}-{room}", group.name), group.recovery).await.unwrap();
        }
        for number in 0..group.users {
            let user = User {
                name: format!("{}-user-{number}", group.name),
                room: format!("{}-{}", group.name, number / group.room),
                api: self.api.clone(),
                totals: Arc::clone(&self.totals),
                phase: self.phase.subscribe(),
                seen: Arc::default(),
                last: watch::Sender::new(0),
                rng: SmallRng::seed_from_u64(number.into()),
                acts_every: group.acts_every,
                changes: 0,
                vanishes: group.vanishes_one_in > 0 && number % group.vanishes_one_in == 0,
                own: Vec::new(),
            };
            let (streams, polls) = group.others;
            let transport = match number % 20 {
                n if n < streams => Transport::EventStream,
                n if n < streams + polls => Transport::LongPoll,
                _ => Transport::WebSocket,
            };
            let comes = group.arrive_over.mul_f64(f64::from(number) / f64::from(group.users));
            self.writing.send_modify(|n| *n += 1);
            let writing = self.writing.clone();
            self.users.spawn(user.live(transport, comes, writing));
        }
    }

    /// Ends it: nobody writes any more, everybody catches up and leaves. Each room's log, and who left.
    pub(super) async fn leave(self) -> (HashMap<String, Vec<Delta>>, Vec<Left>) {
        self.phase.send_replace(Phase::Listen);
        // Mutations that are on their way are answered, however long the api was away.
        let mut writing = self.writing.subscribe();
        tokio::time::timeout(CATCHES_UP_WITHIN, writing.wait_for(|n| *n == 0)).await.expect("all writers are answered").unwrap();
        let mut logs = HashMap::new();
        for room in self.api.rooms().await.unwrap() {
            let log = log(&self.api, &room.room).await;
            logs.insert(room.room, log);
        }
        let newest = logs.iter().map(|(room, log)| (room.clone(), log.len() as u64)).collect();
        self.phase.send_replace(Phase::CatchUp(Arc::new(newest)));
        let left = self.users.join_all().await;
        (logs, left)
    }
}

async fn log(api: &Api, room: &str) -> Vec<Delta> {
    let mut log: Vec<Delta> = Vec::new();
    loop {
        let Deltas { deltas, more, .. } = api.deltas(room, log.len() as u64).await.unwrap();
        log.extend(deltas);
        if !more {
            assert!(log.iter().zip(1..).all(|(delta, seq)| delta.seq == seq), "the log of {room} has gaps");
            return log;
        }
    }
}

/// What a log comes to; shares no code with the replica.
fn state(log: &[Delta]) -> BTreeMap<u64, Comment> {
    let of = |id: u64| log.iter().filter(move |d| d.comment == id);
    let count = |id: u64, action: Action| of(id).filter(|d| d.action == action).count() as u64;
    let alive = log.iter().filter(|d| d.action == Action::Create && count(d.comment, Action::Delete) == 0);
    let comment = |c: &Delta| Comment {
        comment: c.comment,
        user: c.user.clone(),
        text: of(c.comment).filter_map(|d| d.text.clone()).next_back().unwrap(),
        at: c.at,
        edited: count(c.comment, Action::Edit) > 0,
        likes: count(c.comment, Action::Like) - count(c.comment, Action::Unlike),
        liked: None,
    };
    alive.map(|c| (c.comment, comment(c))).collect()
}

impl Left {
    /// Strong: every delta, once, in order, from the first state on, and the state that the log comes to.
    pub(super) fn has_exactly(&self, log: &[Delta]) {
        let who = format!("{} in {}", self.name, self.room);
        assert_eq!(self.loaded, 1, "{who} loaded the room again");
        let expected = &log[self.joined_at as usize..];
        let wrong = self.applied.iter().zip(expected).position(|(had, should)| had != should);
        assert_eq!(wrong, None, "{who} had {:?} at first in the wrong place", wrong.map(|at| (&self.applied[at], &expected[at])));
        assert_eq!(self.applied.len(), expected.len(), "{who}: deltas missing, or too many");
        self.agrees_with(log);
    }

    /// The state that the log comes to.
    pub(super) fn agrees_with(&self, log: &[Delta]) {
        assert_eq!(self.replica.comments(), &state(log), "{} in {}", self.name, self.room);
    }

    pub(super) fn recovery(&self) -> Recovery {
        self.replica.recovery()
    }

    pub(super) fn room(&self) -> &str {
        &self.room
    }
}

struct User {
    name: String,
    room: String,
    api: Api,
    totals: Arc<Totals>,
    phase: watch::Receiver<Phase>,
    seen: Arc<Mutex<Seen>>,
    last: watch::Sender<u64>,
    rng: SmallRng,
    acts_every: Option<Duration>,
    changes: u64,
    vanishes: bool,
    own: Vec<u64>,
}

#[derive(Default)]
struct Seen {
    is_live: bool,
    joined_at: Option<u64>,
    loaded: u32,
    applied: Vec<Delta>,
    comments: Vec<u64>,
}

impl User {
    async fn live(mut self, transport: Transport, comes: Duration, writing: watch::Sender<u32>) -> Left {
        tokio::time::sleep(comes).await;
        let mut follower = Follower::new(self.api.clone(), &*self.room, transport, self.rng.random());
        let (seen, totals, last) = (Arc::clone(&self.seen), Arc::clone(&self.totals), self.last.clone());
        let mut observe = move |event: &Event<'_>| seen.lock().take(event, &totals, &last);
        loop {
            let there = if self.vanishes { Duration::from_millis(self.rng.random_range(5_000..30_000)) } else { Duration::MAX };
            let mut is_over = self.phase.clone();
            let over = async { drop(is_over.wait_for(|phase| !matches!(phase, Phase::Live)).await) };
            let mut ended = false;
            let part = async {
                tokio::select! {
                    () = over => ended = true,
                    () = tokio::time::sleep(there) => {}
                    () = self.act_for_ever() => {}
                }
            };
            follower.follow(part, &mut observe).await.unwrap();
            if ended {
                break;
            }
            follower.vanish();
            self.vanished();
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(200..4_000))).await;
        }
        writing.send_modify(|n| *n -= 1);
        let mut phase = self.phase.clone();
        let newest = async { phase.wait_for(|phase| matches!(phase, Phase::CatchUp(_))).await.unwrap().clone() };
        let mut until = Phase::Live;
        follower.follow(async { until = newest.await }, &mut observe).await.unwrap();
        let Phase::CatchUp(newest) = until else { unreachable!() };
        let mut last = self.last.subscribe();
        let recovery = follower.replica().map(Replica::recovery);
        let patience = async {
            if let Some(Recovery::Eventual { refetch_s }) = recovery {
                return tokio::time::sleep(Duration::from_secs(refetch_s.into()) + ANSWERED_WITHIN).await;
            }
            let caught_up = last.wait_for(|seq| *seq >= newest[&self.room]);
            drop(tokio::time::timeout(CATCHES_UP_WITHIN, caught_up).await);
        };
        follower.follow(patience, &mut observe).await.unwrap();
        let replica = follower.replica().cloned().unwrap_or_else(|| panic!("{} never saw its room", self.name));
        follower.leave().await;
        let seen = std::mem::take(&mut *self.seen.lock());
        Left {
            room: self.room,
            name: self.name,
            replica,
            joined_at: seen.joined_at.unwrap(),
            applied: seen.applied,
            loaded: seen.loaded,
        }
    }

    fn vanished(&self) {
        self.totals.vanished.fetch_add(1, Ordering::Relaxed);
        if std::mem::take(&mut self.seen.lock().is_live) {
            self.totals.live.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn act_for_ever(&mut self) {
        let Some(every) = self.acts_every else { return std::future::pending().await };
        loop {
            tokio::time::sleep(every.mul_f64(self.rng.random_range(0.1..1.9))).await;
            self.act().await;
        }
    }

    async fn act(&mut self) {
        self.changes += 1;
        let what = self.what();
        let is_new = matches!(what, Mutation::Create(_));
        let change = Change { room: self.room.clone(), user: self.name.clone(), what };
        let key = format!("{}-{}", self.name, self.changes);
        let mut retries = Backoff::new(self.rng.random());
        match self.api.mutate_until_answered(&change, &key, &mut retries).await {
            Ok(Some(delta)) => {
                self.totals.written.fetch_add(1, Ordering::Relaxed);
                if is_new {
                    self.own.push(delta.comment);
                }
            }
            Ok(None) => {}
            Err(error) => assert!(error.is("unknown-comment"), "{error}"),
        }
    }

    fn what(&mut self) -> Mutation {
        let known = {
            let seen = self.seen.lock();
            (!seen.comments.is_empty()).then(|| seen.comments[self.rng.random_range(0..seen.comments.len())])
        };
        match (self.rng.random_range(0..20), known, self.own.last().copied()) {
            (0..10, Some(comment), _) => Mutation::Like(comment),
            (10..12, Some(comment), _) => Mutation::Unlike(comment),
            (12..15, _, Some(comment)) => Mutation::Edit(comment, format!("changed {}", self.changes)),
            (15, _, Some(_)) => Mutation::Delete(self.own.pop().unwrap()),
            _ => Mutation::Create(format!("text {} of {}", self.changes, self.name)),
        }
    }
}

impl Seen {
    fn take(&mut self, event: &Event<'_>, totals: &Totals, last: &watch::Sender<u64>) {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        match event {
            Event::Loaded(replica) => {
                self.loaded += 1;
                self.joined_at.get_or_insert(replica.seq());
                self.comments = replica.comments().keys().copied().collect();
                last.send_replace(replica.seq());
            }
            Event::Live(_) => {
                count(&totals.opened);
                if !std::mem::replace(&mut self.is_live, true) {
                    count(&totals.live);
                }
            }
            Event::Lost(End { how, asked }) => {
                let had_session = std::mem::take(&mut self.is_live);
                totals.live.fetch_sub(u64::from(had_session), Ordering::Relaxed);
                if let How::Broken(why) = how {
                    let mut reasons = totals.reasons.lock();
                    if reasons.len() < REASONS_MAX {
                        reasons.insert(why.clone());
                    }
                }
                count(match how {
                    How::Moved => &totals.moved,
                    How::Busy if asked.is_zero() => &totals.refused,
                    How::Busy => &totals.told_when,
                    How::Broken(_) if had_session => &totals.lost,
                    How::Broken(_) | How::FromTheFuture | How::Refused(_) => &totals.no_answer,
                });
            }
            Event::Applied(delta, way) => {
                count(if *way == Way::Live { &totals.delivered } else { &totals.recovered });
                self.applied.push((*delta).clone());
                match delta.action {
                    Action::Create => self.comments.push(delta.comment),
                    Action::Delete => self.comments.retain(|c| *c != delta.comment),
                    _ => {}
                }
                last.send_replace(delta.seq);
            }
            _ => {}
        }
    }
}
