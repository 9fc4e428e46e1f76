//! The audience's side of the demo: lets the crowd in, looks at the fleet, tells the story.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::crowd::{self, Tally};
use super::summary::Summary;
use super::wave::Wave;
use crate::admin::api::StatusBody;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Out};
use crate::cli::table::fleet_table_in;
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
    /// Lines of the live table that the next one is drawn over.
    drawn: usize,
}

impl Show {
    pub(super) fn new(wave: Wave, out: Out, format: Format, stop: Stop) -> Self {
        Show { wave, out, format, stop, summary: Summary::default(), drawn: 0 }
    }

    /// Plays it all, prints the summary, and stops Holdline unless somebody at a terminal may want to look around.
    pub(super) fn play(&mut self, running: &Running) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let played = match runtime {
            Ok(runtime) => runtime.block_on(self.play_all(running)),
            Err(error) => Err(Failure::Failed(format!("cannot start: {error}"))),
        };
        let stays = played.is_ok() && self.is_live();
        if !stays {
            self.stop.stop();
        }
        played
    }

    fn is_live(&self) -> bool {
        self.out.terminal && self.format == Format::Table
    }

    async fn play_all(&mut self, running: &Running) -> Result<(), Failure> {
        let (address, admin) = (running.listeners[0], running.admin);
        self.introduce(address, admin)?;
        let client = Client::new(&format!("http://{admin}"))?;
        self.await_first(&client).await?;

        let tally = Arc::new(Tally::default());
        let clock = Clock::start();
        let start = clock.instant(clock.now());
        let crowd = crowd::play(self.wave, address, start, Arc::clone(&tally));
        let ended = {
            let mut crowd = std::pin::pin!(crowd);
            self.watch(&client, &tally, start, &mut crowd).await
        };
        self.summary.tally(&tally);
        ended?;
        self.conclude()
    }

    fn introduce(&mut self, address: SocketAddr, admin: SocketAddr) -> Result<(), Failure> {
        if self.format == Format::Json {
            // Standard output belongs to the summary.
            eprintln!("admin      http://{admin}");
            return Ok(());
        }
        self.out.line(&format!("admin      http://{admin}   try: holdline status --admin http://{admin}"))?;
        self.out.line(&format!("clients    http://{address}   WebSocket at /ws, event stream at /events"))?;
        let Wave { clients, arrive_over, show } = self.wave;
        self.out.line(&format!("story      {clients} clients arrive over {arrive_over:?} and leave again; {show:?} in all\n"))
    }

    async fn await_first(&mut self, client: &Client) -> Result<(), Failure> {
        let first = async {
            loop {
                let status = client.status().await?.body;
                if status.fleets.iter().flat_map(|f| &f.backends).any(|b| b.phase == holdline_core::cause::Phase::Ready) {
                    self.summary.look(0, &status);
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(FIRST_READY, first).await {
            Ok(ready) => ready,
            Err(_) => Err(Failure::Failed(format!("no server became ready within {FIRST_READY:?}; `holdline events` says why"))),
        }
    }

    /// Looks at the fleet until the crowd has left and the fleet is small again.
    async fn watch(
        &mut self,
        client: &Client,
        tally: &Tally,
        start: Instant,
        crowd: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<(), Failure> {
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
            let Ok(reply) = client.status().await else { return Ok(()) };
            if reply.body.shutting_down {
                return Ok(());
            }
            self.summary.look(start.elapsed().as_secs(), &reply.body);
            self.summary.tally(tally);
            self.tell(&reply.body, start.elapsed(), number)?;
            number += 1;
            let is_small = self.summary.backends_end <= self.summary.backends_start;
            if left_at.is_some_and(|at| is_small || start.elapsed() > at + SETTLE) {
                return Ok(());
            }
        }
    }

    /// A live table on a terminal, now and then a line elsewhere, nothing for programs.
    fn tell(&mut self, status: &StatusBody, at: Duration, number: u32) -> Result<(), Failure> {
        if self.format == Format::Json {
            return Ok(());
        }
        let s = &self.summary;
        let seen = format!("opened {}, refused {}, moved {}, lost {}", s.opened, s.refused, s.moved, s.lost);
        if !self.out.terminal {
            if !number.is_multiple_of(LINE_EVERY) {
                return Ok(());
            }
            let (sessions, queued) = status.fleets.iter().fold((0, 0), |(n, q), f| (n + f.sessions, q + f.queued));
            let (backends, desired) = (s.backends_end, status.fleets.iter().map(|f| f.desired).sum::<u32>());
            let at = at.as_secs();
            return self.out.line(&format!(
                "{at:>4}s  {sessions} sessions on {backends} backends (desired {desired}), {queued} queued; {seen}"
            ));
        }
        let table = format!(
            "{}\n{:>3}s of {:?}   {seen}\n",
            fleet_table_in(status, self.out.style).trim_end(),
            at.as_secs(),
            self.wave.show
        );
        let up = if self.drawn == 0 { String::new() } else { format!("\x1b[{}A", self.drawn) };
        self.drawn = table.lines().count();
        self.out.print(&format!("{up}\x1b[J{table}"))
    }

    fn conclude(&mut self) -> Result<(), Failure> {
        match self.format {
            Format::Json => {
                let text =
                    serde_json::to_string(&self.summary).map_err(|e| Failure::Failed(format!("cannot write JSON: {e}")))?;
                self.out.line(&text)?;
            }
            Format::Table => self.out.line(&format!("\n{}", self.summary))?,
        }
        if !self.summary.is_good() {
            return Err(Failure::Failed("a session was lost without a cause, or a backend was above its capacity".to_owned()));
        }
        if self.is_live() {
            self.out.line("Holdline stays up; Ctrl-C stops it.")?;
        }
        Ok(())
    }
}
