//! The audience's side of the demo: lets the crowd in, looks at the fleet, tells the story.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::cause::Phase;
use tokio::time::Instant;

use super::crowd;
use super::stage::{NODES, Stage, room_of};
use super::summary::Summary;
use super::wave::Wave;
use crate::admin::api::{FleetBody, StatusBody};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Out};
use crate::cli::render::{count, duration};
use crate::cli::screen::{Picture, Screen};
use crate::cli::table::fleet_table_within;
use crate::clock::Clock;
use crate::runtime::{Running, Stop};

/// Between two looks at the fleet.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Looks between two lines where there is no terminal: two seconds.
const LINE_EVERY: u32 = 10;
/// After the crowd has left: the fleet's time to become small again.
const SETTLE: Duration = Duration::from_secs(12);
/// Until the first server takes sessions.
const FIRST_READY: Duration = Duration::from_secs(30);

/// One showing.
pub(super) struct Show {
    wave: Wave,
    out: Out,
    format: Format,
    stop: Stop,
    summary: Summary,
    /// Addresses and story, for the top of everything.
    introduction: String,
    /// While the live table is on the terminal.
    screen: Option<Screen>,
}

/// How the show came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// All has been shown.
    Whole,
    /// Holdline was told to stop in the middle: what follows is of what was seen until then.
    Interrupted,
}

impl Show {
    pub(super) fn new(wave: Wave, out: Out, format: Format, stop: Stop) -> Self {
        Show { wave, out, format, stop, summary: Summary::default(), introduction: String::new(), screen: None }
    }

    /// Plays it all, prints the summary, and stops Holdline unless somebody at a terminal may want to look around.
    pub(super) fn play(&mut self, running: &Running) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let played = match runtime {
            Ok(runtime) => runtime.block_on(self.play_all(running)),
            Err(error) => Err(Failure::Failed(format!("cannot start: {error}"))),
        };
        let stays = matches!(played, Ok(Ending::Whole)) && self.is_live();
        if !stays {
            self.stop.stop();
        }
        played.map(|_| ())
    }

    fn is_live(&self) -> bool {
        self.out.terminal && self.format == Format::Table
    }

    async fn play_all(&mut self, running: &Running) -> Result<Ending, Failure> {
        let (address, admin) = (running.listeners[0], running.admin);
        self.introduction = introduction(self.wave, address, admin);
        if self.format == Format::Json {
            // Standard output belongs to the summary.
            eprint!("{}", self.introduction);
        } else {
            self.out.line(&self.introduction)?;
        }
        let client = Client::new(&format!("http://{admin}"))?;
        if self.await_first(&client).await? == Ending::Interrupted {
            self.conclude(Ending::Interrupted)?;
            return Ok(Ending::Interrupted);
        }

        let clock = Clock::start();
        let stage = Arc::new(Stage::new(address.to_string(), self.wave.clients, clock));
        stage.set(self.wave.clients).await.map_err(|e| Failure::Failed(format!("cannot make the users' rooms: {e}")))?;
        let start = clock.instant(clock.now());
        let crowd = crowd::play(self.wave, start, Arc::clone(&stage));
        if self.is_live() {
            self.screen = Some(Screen::enter(&mut self.out)?);
        }
        let ended = {
            let mut crowd = std::pin::pin!(crowd);
            self.watch(&client, &stage, start, &mut crowd).await
        };
        if let Some(screen) = self.screen.take() {
            screen.leave(&mut self.out)?;
        }
        let ending = ended?;
        self.summary.heard(&stage, ending == Ending::Interrupted);
        self.conclude(ending)?;
        Ok(ending)
    }

    async fn await_first(&mut self, client: &Client) -> Result<Ending, Failure> {
        let first = async {
            loop {
                let status = match client.status().await {
                    Ok(reply) if !reply.body.shutting_down => reply.body,
                    _ => return Ok(Ending::Interrupted),
                };
                let is_there = |f: &FleetBody| f.backends.iter().any(|b| b.phase == Phase::Ready);
                if status.fleets.iter().all(is_there) {
                    self.summary.look(0, &status);
                    return Ok(Ending::Whole);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(FIRST_READY, first).await {
            Ok(ready) => ready,
            Err(_) => Err(Failure::Failed(format!("no server became ready within {FIRST_READY:?}; is this machine very busy?"))),
        }
    }

    /// Looks at the fleet until the crowd has left and the fleet is small again.
    async fn watch(
        &mut self,
        client: &Client,
        stage: &Stage,
        start: Instant,
        crowd: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Ending, Failure> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let (mut number, mut left_at) = (0, None);
        loop {
            tokio::select! {
                () = &mut *crowd, if left_at.is_none() => {
                    left_at = Some(start.elapsed());
                    continue;
                }
                _ = looks.tick() => {}
            }
            // Ctrl-C stops Holdline in the middle of the show, and with it the admin API: the summary is of what was seen.
            let Ok(reply) = client.status().await else { return Ok(Ending::Interrupted) };
            if reply.body.shutting_down {
                return Ok(Ending::Interrupted);
            }
            self.summary.look(start.elapsed().as_secs(), &reply.body);
            self.summary.heard(stage, false);
            self.tell(&reply.body, start.elapsed(), number)?;
            number += 1;
            let is_small = self.summary.backends_end <= self.summary.backends_start;
            if left_at.is_some_and(|at| is_small || start.elapsed() > at + SETTLE) {
                return Ok(Ending::Whole);
            }
        }
    }

    /// A live table on a terminal, now and then a line elsewhere, nothing for programs.
    fn tell(&mut self, status: &StatusBody, at: Duration, number: u32) -> Result<(), Failure> {
        let s = &self.summary;
        let d = s.deltas;
        let seen = format!(
            "opened {}, refused {}, moved {}, lost {}; deltas {} written, {} missing",
            s.opened, s.refused, s.moved, s.lost, d.written, d.missing
        );
        if let Some(screen) = &self.screen {
            let (look, total) = (self.out.style, self.wave.show.as_secs());
            return screen.draw(&mut self.out, |columns| Picture {
                body: format!("{}\n{}\n", self.introduction, fleet_table_within(status, look, columns)),
                foot: format!("{:>3} s of {total} s: {seen}; Ctrl-C to stop", at.as_secs()),
            });
        }
        if self.format == Format::Json || !number.is_multiple_of(LINE_EVERY) {
            return Ok(());
        }
        let Some(nodes) = status.fleets.iter().find(|f| f.name.as_str() == NODES) else { return Ok(()) };
        let (queued, desired) = (nodes.queued, nodes.desired);
        let (sessions, backends) = (count(nodes.sessions, "session"), count(s.backends_end.into(), "backend"));
        let at = at.as_secs();
        self.out.line(&format!("{at:>4}s  {sessions} on {backends} ({desired} desired), {queued} queued; {seen}"))
    }

    fn conclude(&mut self, ending: Ending) -> Result<(), Failure> {
        match self.format {
            Format::Json => {
                let text =
                    serde_json::to_string(&self.summary).map_err(|e| Failure::Failed(format!("cannot write JSON: {e}")))?;
                self.out.line(&text)?;
            }
            Format::Table if self.is_live() => self.out.line(&self.summary.to_string())?,
            Format::Table => self.out.print(&format!("\n{}", self.summary))?,
        }
        if !self.summary.is_good() {
            let why = "a session was lost without a cause, a delta was missing, or a backend was above its capacity";
            return Err(Failure::Failed(why.to_owned()));
        }
        if self.is_live() && ending == Ending::Whole {
            self.out.line("The clients have disconnected and Holdline keeps running; press Ctrl-C to stop it.")?;
        }
        Ok(())
    }
}

fn introduction(wave: Wave, address: SocketAddr, admin: SocketAddr) -> String {
    let Wave { clients, arrive_over, show } = wave;
    let (over, show) = (duration(millis(arrive_over)), duration(millis(show)));
    format!(
        "page       http://{address}/?room={room}&user=you   the comment wall\n\
         admin      http://{admin}/   the status page; or: holdline status --admin http://{admin}\n\
         story      {clients} users arrive within {over}, read, write and leave; {show} in total\n",
        room = room_of(0),
    )
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
