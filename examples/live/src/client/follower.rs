//! One client in a room: keeps a connection, loses it, comes back, recovers. It does what [`Replica`] and [`Backoff`] say.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Sleep, sleep};

use super::api::{Api, ApiError};
use super::backoff::Backoff;
use super::replica::{Replica, Want};
use super::transport::{Connection, Cookies, End, Hello, How, Message, Transport};
use crate::delta::Delta;
use crate::wall::{Comment, Deltas, Recovery, Snapshot};

/// A session that lasted so long went well: the next loss is a first one.
const HELD: Duration = Duration::from_secs(5);

/// What a follower tells whoever watches it.
#[derive(Debug)]
pub enum Event<'a> {
    /// The room was loaded, or loaded anew: what was applied before is in it.
    Loaded(&'a Replica),
    /// There is a session.
    Live(&'a Hello),
    /// So many deltas are missing, and will be recovered.
    Behind(u64),
    /// A delta was applied.
    Applied(&'a Delta, Way),
    /// What was missing is there: so many deltas came late.
    Recovered(u64),
    /// The node could not give what is up to this delta.
    Resync(u64),
    /// How many are in the room.
    Presence(u64),
    /// The session ended; or, if there was none, the attempt to have one.
    Lost(&'a End),
    /// The next attempt comes after this time.
    Reconnecting(Duration),
}

/// How a delta came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As it happened.
    Live,
    /// Later, because the client was not there or missed it.
    Recovered,
}

/// A client in a room. It stays one through any number of connections: what it knows, and the node that it had, stay with it.
pub struct Follower {
    api: Api,
    room: String,
    transport: Transport,
    replica: Option<Replica>,
    link: Link,
    reconnects: Backoff,
    cookies: Cookies,
    /// The question that is on its way; one at a time.
    question: Option<BoxFuture<'static, Result<Answer, ApiError>>>,
    questions: Backoff,
    refetch: Option<Pin<Box<Sleep>>>,
    rng: SmallRng,
    /// Deltas up to this one are recovered, not live.
    recovers_until: u64,
    recovered: u64,
}

/// Its connection.
enum Link {
    /// The room must be loaded first.
    None,
    Waiting(Pin<Box<Sleep>>),
    Opening(BoxFuture<'static, Result<Connection, End>>),
    Up {
        connection: Connection,
        held: Option<Pin<Box<Sleep>>>,
    },
}

/// What its connection did.
enum Step {
    Due,
    Opened(Connection),
    Said(Message),
    Held,
    Ended(End),
}

enum Answer {
    Room(Snapshot),
    Deltas(Deltas),
    Comment(u64, Option<Comment>),
}

impl Follower {
    /// One that has not begun. `seed`: another for each client.
    pub fn new(api: Api, room: impl Into<String>, transport: Transport, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        Follower {
            api,
            room: room.into(),
            transport,
            replica: None,
            link: Link::None,
            reconnects: Backoff::new(rng.random()),
            cookies: Cookies::default(),
            question: None,
            questions: Backoff::new(rng.random()),
            refetch: None,
            rng,
            recovers_until: 0,
            recovered: 0,
        }
    }

    /// What it knows of the room, once it was loaded.
    pub fn replica(&self) -> Option<&Replica> {
        self.replica.as_ref()
    }

    /// Follows the room until `until`, and may be asked to go on after that.
    ///
    /// # Errors
    /// There is no such room, or the API does not understand the question: asking again is of no use.
    pub async fn follow(&mut self, until: impl Future<Output = ()>, mut observe: impl FnMut(&Event<'_>)) -> Result<(), ApiError> {
        tokio::select! {
            biased;
            () = until => Ok(()),
            ended = self.follow_for_ever(&mut observe) => ended.map(|never| match never {}),
        }
    }

    /// Breaks its connection off without a word.
    pub fn vanish(&mut self) {
        if self.replica.is_some() {
            self.link = Link::due();
        }
    }

    /// Leaves, as one who says goodbye.
    pub async fn leave(self) {
        if let Link::Up { connection, .. } = self.link {
            connection.leave().await;
        }
    }

    async fn follow_for_ever(&mut self, observe: &mut impl FnMut(&Event<'_>)) -> Result<Infallible, ApiError> {
        loop {
            self.ask();
            tokio::select! {
                step = self.link.step() => self.stepped(step, observe)?,
                answer = wait(&mut self.question) => {
                    self.question = None;
                    self.answered(answer, observe)?;
                }
                () = wait(&mut self.refetch) => {
                    self.refetch = None;
                    if let Some(replica) = &mut self.replica {
                        replica.refetch();
                    }
                }
            }
        }
    }

    /// Asks for what the replica wants.
    fn ask(&mut self) {
        if self.question.is_none() {
            let want = self.replica.as_ref().map_or(Some(Want::Room), Replica::want);
            self.question = want.map(|want| question(self.api.clone(), self.room.clone(), want, Duration::ZERO));
        }
    }

    fn answered(&mut self, answer: Result<Answer, ApiError>, observe: &mut impl FnMut(&Event<'_>)) -> Result<(), ApiError> {
        let before = self.replica.as_ref().and_then(Replica::want);
        match (answer, &mut self.replica) {
            (Ok(Answer::Room(room)), _) => self.loaded(room, observe),
            (Ok(Answer::Deltas(deltas)), Some(replica)) => {
                let applied = replica.recover(deltas);
                self.applied(&applied, observe);
            }
            (Ok(Answer::Comment(id, comment)), Some(replica)) => replica.fetched(id, comment),
            (Err(error), Some(replica)) if error.is("window-passed") || error.is("from-the-future") => replica.passed(),
            (Err(error), _) if !error.is_passing() => return Err(error),
            (Err(error), _) => {
                let pause = error.pause(&mut self.questions);
                let want = before.unwrap_or(Want::Room);
                self.question = Some(question(self.api.clone(), self.room.clone(), want, pause));
                return Ok(());
            }
            (Ok(_), None) => {}
        }
        // Answered, and no further: the API has not yet what a node has.
        let after = self.replica.as_ref().and_then(Replica::want);
        if after.is_some() && after == before {
            let pause = self.questions.pause(true, Duration::ZERO);
            self.question = after.map(|want| question(self.api.clone(), self.room.clone(), want, pause));
        } else {
            self.questions.held();
        }
        Ok(())
    }

    fn loaded(&mut self, room: Snapshot, observe: &mut impl FnMut(&Event<'_>)) {
        self.refetch = match room.recovery {
            Recovery::Strong {} => None,
            // Clients that came together do not ask together.
            Recovery::Eventual { refetch_s } => {
                Some(Box::pin(sleep(Duration::from_secs(refetch_s.into()).mul_f64(self.rng.random_range(0.5..1.0)))))
            }
        };
        let applied = match &mut self.replica {
            Some(replica) => replica.load(room),
            None => {
                self.replica = Some(Replica::new(room));
                self.link = Link::due();
                Vec::new()
            }
        };
        if let Some(replica) = &self.replica {
            observe(&Event::Loaded(replica));
        }
        self.applied(&applied, observe);
    }

    fn stepped(&mut self, step: Step, observe: &mut impl FnMut(&Event<'_>)) -> Result<(), ApiError> {
        match step {
            Step::Due => {
                let after = self.replica.as_ref().map_or(0, Replica::seq);
                let (api, room, cookies) = (self.api.clone(), self.room.clone(), self.cookies.clone());
                self.link = Link::Opening(Connection::open(self.transport, api, room, after, cookies).boxed());
            }
            Step::Opened(connection) => {
                self.cookies = connection.cookies().clone();
                self.link = Link::Up { connection, held: Some(Box::pin(sleep(HELD))) };
            }
            Step::Held => self.reconnects.held(),
            Step::Said(message) => self.heard(message, observe),
            Step::Ended(end) => {
                observe(&Event::Lost(&end));
                if let How::Refused(why) = end.how {
                    return Err(ApiError::NoAnswer(why));
                }
                if let (How::FromTheFuture, Some(replica)) = (&end.how, &mut self.replica) {
                    replica.doubt();
                }
                let busy = matches!(end.how, How::Busy | How::FromTheFuture);
                let pause = self.reconnects.pause(busy, end.asked);
                observe(&Event::Reconnecting(pause));
                self.link = Link::Waiting(Box::pin(sleep(pause)));
            }
        }
        Ok(())
    }

    fn heard(&mut self, message: Message, observe: &mut impl FnMut(&Event<'_>)) {
        let Some(replica) = &mut self.replica else { return };
        match message {
            Message::Hello(hello) => {
                replica.hello(hello.seq);
                observe(&Event::Live(&hello));
                self.behind(observe);
            }
            Message::Delta(delta) => {
                let seq = delta.seq;
                let applied = replica.hear(delta);
                if replica.seq() < seq {
                    self.behind(observe);
                }
                self.applied(&applied, observe);
            }
            Message::Resync(seq) => {
                replica.resync(seq);
                observe(&Event::Resync(seq));
                self.behind(observe);
            }
            Message::Presence(n) => observe(&Event::Presence(n)),
            Message::Alive => {}
        }
    }

    /// What is missing now counts as recovered when it comes.
    fn behind(&mut self, observe: &mut impl FnMut(&Event<'_>)) {
        let Some(replica) = &self.replica else { return };
        let missing = replica.missing();
        if missing > 0 {
            self.recovers_until = self.recovers_until.max(replica.seq() + missing);
            observe(&Event::Behind(missing));
        }
    }

    fn applied(&mut self, deltas: &[Delta], observe: &mut impl FnMut(&Event<'_>)) {
        for delta in deltas {
            let way = if delta.seq <= self.recovers_until { Way::Recovered } else { Way::Live };
            self.recovered += u64::from(way == Way::Recovered);
            observe(&Event::Applied(delta, way));
        }
        let has_all = self.replica.as_ref().is_some_and(|r| r.seq() >= self.recovers_until);
        if has_all && self.recovered > 0 {
            observe(&Event::Recovered(std::mem::take(&mut self.recovered)));
        }
    }
}

impl Link {
    fn due() -> Self {
        Link::Waiting(Box::pin(sleep(Duration::ZERO)))
    }

    /// May be dropped and asked again.
    async fn step(&mut self) -> Step {
        match self {
            Link::None => pending().await,
            Link::Waiting(pause) => {
                pause.await;
                Step::Due
            }
            Link::Opening(opening) => match opening.await {
                Ok(connection) => Step::Opened(connection),
                Err(end) => Step::Ended(end),
            },
            Link::Up { connection, held } => tokio::select! {
                biased;
                () = wait(held) => {
                    *held = None;
                    Step::Held
                }
                said = connection.next() => match said {
                    Ok(message) => Step::Said(message),
                    Err(end) => Step::Ended(end),
                },
            },
        }
    }
}

/// The future's outcome, or never without one.
async fn wait<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

fn question(api: Api, room: String, want: Want, pause: Duration) -> BoxFuture<'static, Result<Answer, ApiError>> {
    Box::pin(async move {
        sleep(pause).await;
        Ok(match want {
            Want::Room => Answer::Room(api.room(&room).await?),
            Want::Deltas { after } => Answer::Deltas(api.deltas(&room, after).await?),
            Want::Comment(id) => Answer::Comment(id, api.comment(&room, id).await?),
        })
    })
}
