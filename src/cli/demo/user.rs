//! One simulated user, through Holdline and from the outside like any other: reads a room, writes, likes, loses the connection and comes back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use holdline_live::client::{Backoff, Change, Event, Follower, Mutation, Transport, Way};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::Instant;

use super::stage::{Stage, room_of};
use super::wave::Stay;

/// One user in so many reads an event stream, one in twice as many polls instead; all others have WebSockets.
const EVENT_STREAM_ONE_IN: u32 = 4;
/// One user in so many has a bad network.
const VANISHES_ONE_IN: u32 = 5;
/// How long its connection lasts, and how long it is away, in ms.
const THERE_MS: std::ops::Range<u64> = 4_000..12_000;
const AWAY_MS: std::ops::Range<u64> = 500..3_000;
/// Who leaves waits this long for what was written before, which is on its way.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(10);
/// Comments to like; older ones have scrolled away.
const IN_VIEW: usize = 30;

/// One user.
pub(super) struct User {
    number: u32,
    room: String,
    stage: Arc<Stage>,
    seen: Arc<Seen>,
    rng: SmallRng,
    changes: u64,
    retries: Backoff,
    /// Its own comments.
    own: VecDeque<u64>,
}

/// What it sees.
struct Seen {
    /// The last delta, and so all before it; `None` before the room was loaded.
    last: watch::Sender<Option<u64>>,
    view: Mutex<View>,
}

#[derive(Default)]
struct View {
    is_live: bool,
    comments: VecDeque<u64>,
}

impl User {
    pub(super) fn new(number: u32, stage: Arc<Stage>) -> Self {
        User {
            number,
            room: room_of(number),
            stage,
            seen: Arc::new(Seen { last: watch::Sender::new(None), view: Mutex::default() }),
            rng: SmallRng::seed_from_u64(number.into()),
            changes: 0,
            retries: Backoff::new(u64::from(number) << 32),
            own: VecDeque::new(),
        }
    }

    /// Comes, stays through whatever happens, leaves.
    pub(super) async fn live(mut self, stay: Stay, start: Instant) {
        let leave = start + stay.leaves;
        tokio::time::sleep_until(start + stay.comes).await;
        let transport = match self.number % (2 * EVENT_STREAM_ONE_IN) {
            n if n == 2 * EVENT_STREAM_ONE_IN - 1 => Transport::LongPoll,
            n if n % EVENT_STREAM_ONE_IN == EVENT_STREAM_ONE_IN - 1 => Transport::EventStream,
            _ => Transport::WebSocket,
        };
        let mut follower = Follower::new(self.stage.api.clone(), &*self.room, transport, self.number.into());
        let (seen, stage, room) = (Arc::clone(&self.seen), Arc::clone(&self.stage), self.room.clone());
        let mut observe = |event: &Event<'_>| seen.take(event, &stage, &room);
        loop {
            let there = if self.number.is_multiple_of(VANISHES_ONE_IN) { self.ms(THERE_MS) } else { stay.leaves };
            let until = leave.min(start + start.elapsed() + there);
            if let Err(why) = follower.follow(self.take_part(start, until), &mut observe).await {
                return self.stage.tally.failed(why.to_string());
            }
            if until == leave {
                break;
            }
            follower.vanish();
            self.seen.view.lock().is_live = false;
            tokio::time::sleep(self.ms(AWAY_MS)).await;
        }
        let newest = self.stage.ledger.lock().newest(&self.room);
        let mut last = self.seen.last.subscribe();
        let caught_up = last.wait_for(|last| last.is_none_or(|last| last >= newest));
        let patience = async { drop(tokio::time::timeout(CATCHES_UP_WITHIN, caught_up).await) };
        if let Err(why) = follower.follow(patience, &mut observe).await {
            return self.stage.tally.failed(why.to_string());
        }
        let last = *self.seen.last.borrow();
        if let (Some(last), true) = (last, self.seen.view.lock().is_live) {
            self.stage.ledger.lock().missing(newest.saturating_sub(last));
        }
        follower.leave().await;
    }

    /// Does something now and then.
    async fn take_part(&mut self, start: Instant, until: Instant) {
        loop {
            let pause = self.stage.acts_every.mul_f64(self.rng.random_range(0.5..1.5));
            let next = start + start.elapsed() + pause;
            tokio::time::sleep_until(next.min(until)).await;
            if next >= until {
                return;
            }
            self.act().await;
        }
    }

    async fn act(&mut self) {
        self.changes += 1;
        let what = self.what();
        let is_new = matches!(what, Mutation::Create(_));
        let change = Change { room: self.room.clone(), user: format!("user-{}", self.number), what };
        let key = format!("{}-{}", self.number, self.changes);
        let sent = self.stage.clock.now();
        match self.stage.api.mutate_until_answered(&change, &key, &mut self.retries).await {
            Ok(Some(delta)) => {
                self.stage.ledger.lock().written(&self.room, delta.seq, sent);
                if is_new {
                    self.own.push_back(delta.comment);
                }
            }
            Ok(None) => {}
            // Its author was quicker.
            Err(error) if error.is("unknown-comment") => {}
            Err(error) => self.stage.tally.failed(error.to_string()),
        }
    }

    fn what(&mut self) -> Mutation {
        let liked = {
            let view = self.seen.view.lock();
            (!view.comments.is_empty()).then(|| view.comments[self.rng.random_range(0..view.comments.len())])
        };
        let own = self.own.back().copied();
        match (self.rng.random_range(0..20), liked, own) {
            (0..10, Some(comment), _) => Mutation::Like(comment),
            (10..12, Some(comment), _) => Mutation::Unlike(comment),
            (12..14, _, Some(comment)) => Mutation::Edit(comment, format!("On second thoughts: {}", self.changes)),
            (14, _, Some(_)) if self.own.len() > 1 => Mutation::Delete(self.own.pop_front().unwrap_or_default()),
            _ => Mutation::Create(format!("Number {} of what I have to say", self.changes)),
        }
    }

    fn ms(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }
}

impl Seen {
    fn take(&self, event: &Event<'_>, stage: &Stage, room: &str) {
        match event {
            Event::Live(_) => {
                self.view.lock().is_live = true;
                stage.tally.opened();
            }
            Event::Lost(end) => {
                let had_session = std::mem::take(&mut self.view.lock().is_live);
                stage.tally.ended(end, had_session);
            }
            // Loaded again in the middle: what is between was jumped over.
            Event::Loaded(replica) => {
                self.view.lock().comments = replica.comments().keys().rev().take(IN_VIEW).copied().collect();
                self.goes_on(replica.seq() + 1, stage);
                self.last.send_replace(Some(replica.seq()));
            }
            Event::Applied(delta, way) => {
                self.goes_on(delta.seq, stage);
                self.last.send_replace(Some(delta.seq));
                match way {
                    Way::Live => stage.ledger.lock().delivered(room, delta.seq, stage.clock.now()),
                    Way::Recovered => stage.ledger.lock().recovered(),
                }
                self.view.lock().take(delta);
            }
            Event::Behind(_) | Event::Recovered(_) | Event::Resync(_) | Event::Presence(_) | Event::Reconnecting(_) => {}
        }
    }

    /// `seq` is to follow the last one at once.
    fn goes_on(&self, seq: u64, stage: &Stage) {
        let missing = self.last.borrow().map_or(0, |last| seq.abs_diff(last + 1));
        if missing > 0 {
            stage.ledger.lock().missing(missing);
        }
    }
}

impl View {
    fn take(&mut self, delta: &holdline_live::delta::Delta) {
        use holdline_live::delta::Action;
        match delta.action {
            Action::Create => {
                self.comments.push_front(delta.comment);
                self.comments.truncate(IN_VIEW);
            }
            Action::Delete => self.comments.retain(|c| *c != delta.comment),
            Action::Edit | Action::Like | Action::Unlike => {}
        }
    }
}
