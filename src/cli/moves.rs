//! `holdline drain`, `undrain` and `rebalance`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use holdline_core::cause::Phase;
use holdline_core::event::{MovePlan, Share};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::DrainMode;
use holdline_core::time::Moment;
use http::Method;
use serde_json::json;

use super::ClientArgs;
use super::client::{Client, Reply, encode};
use super::failure::Failure;
use super::output::{Format, Out};
use super::progress::Progress;
use super::render::{Tone, count, duration, paint};
use super::status::fleet_of;
use crate::admin::api::{DoneBody, MoveBody, MoveOrder, StatusBody};
use crate::clock::Clock;

/// Poll interval of `--wait`.
const POLL: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdline drain b-2 --dry-run                 show the plan\n  \
    holdline drain b-2 --over 30s --wait         within 30 s, and show progress\n  \
    holdline drain b-2 --fleet chat --rate 50/s  at most 50 sessions per second")]
pub(super) struct DrainArgs {
    /// Id of the backend, as shown by `holdline status`
    backend: String,
    /// Fleet of the backend, if several fleets have a backend with this id
    #[arg(long)]
    fleet: Option<String>,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdline undrain b-2")]
pub(super) struct UndrainArgs {
    /// Id of the backend, as shown by `holdline status`
    backend: String,
    /// Fleet of the backend, if several fleets have a backend with this id
    #[arg(long)]
    fleet: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdline rebalance chat --over 1m --wait")]
pub(super) struct RebalanceArgs {
    /// Name of the fleet
    fleet: String,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// How sessions are moved; the fleet's settings are the defaults.
#[derive(Debug, Args)]
struct HowArgs {
    /// Time over which to move the sessions, such as 30s
    #[arg(long, value_name = "DURATION")]
    over: Option<String>,
    /// Maximum rate, such as 100/s
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// How sessions are ended
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// Show the plan without starting anything
    #[arg(long)]
    dry_run: bool,
    /// Wait for the end and show progress; exit status 1 if sessions are left at the deadline
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// Close frame, or the end of the stream between two events
    Close,
    /// Close the TCP connection
    Cut,
}

impl HowArgs {
    fn order(&self) -> MoveOrder {
        let mode = self.mode.map(|mode| match mode {
            Mode::Close => DrainMode::Close,
            Mode::Cut => DrainMode::Cut,
        });
        MoveOrder { over: self.over.clone(), rate: self.rate.clone(), mode, dry_run: self.dry_run }
    }
}

pub(super) async fn drain(args: &DrainArgs, out: &mut Out) -> Result<(), Failure> {
    let client = args.client.client()?;
    let fleet = fleet_of(&args.backend, args.fleet.as_deref(), &client.status().await?.body)?;
    let path = drain_path(&fleet, &args.backend);
    let target = MoveTarget { fleet, backend: Some(args.backend.as_str().into()) };
    carry_out(&client, &path, &target, &args.how, args.client.output, out).await
}

pub(super) async fn undrain(args: &UndrainArgs, out: &mut Out) -> Result<(), Failure> {
    let client = args.client.client()?;
    let fleet = fleet_of(&args.backend, args.fleet.as_deref(), &client.status().await?.body)?;
    let reply = client.call::<DoneBody>(Method::DELETE, &drain_path(&fleet, &args.backend), None::<&()>).await?;
    match args.client.output {
        Format::Json => out.json(&reply.raw),
        Format::Table => out.line(&reply.body.message),
    }
}

pub(super) async fn rebalance(args: &RebalanceArgs, out: &mut Out) -> Result<(), Failure> {
    let client = args.client.client()?;
    let path = format!("/v1/fleets/{}/rebalance", encode(&args.fleet));
    let target = MoveTarget { fleet: args.fleet.as_str().into(), backend: None };
    carry_out(&client, &path, &target, &args.how, args.client.output, out).await
}

fn drain_path(fleet: &FleetName, backend: &str) -> String {
    format!("/v1/fleets/{}/backends/{}/drain", encode(fleet.as_str()), encode(backend))
}

async fn carry_out(
    client: &Client,
    path: &str,
    target: &MoveTarget,
    how: &HowArgs,
    format: Format,
    out: &mut Out,
) -> Result<(), Failure> {
    let Reply { raw, body: plan } = client.call::<MovePlan>(Method::POST, path, Some(&how.order())).await?;
    for warning in &plan.warnings {
        eprintln!("{} {warning}", console::style("warning:").yellow().for_stderr());
    }
    match (format, how.wait) {
        (Format::Json, false) => out.json(&raw),
        (Format::Json, true) => {
            let result = follow(client, target, &plan, None).await;
            let text = result.as_ref().map_or_else(ToString::to_string, Clone::clone);
            out.json(&json!({ "plan": raw, "done": result.is_ok(), "result": text }))?;
            result.map(drop)
        }
        (Format::Table, wait) => {
            out.print(&describe(&plan, target, out))?;
            let nothing_to_watch = plan.sessions == 0 && target.backend.is_none();
            if !wait || nothing_to_watch {
                return Ok(());
            }
            let text = follow(client, target, &plan, Some(out)).await?;
            out.line(&text)
        }
    }
}

fn describe(plan: &MovePlan, target: &MoveTarget, out: &Out) -> String {
    let mode = match plan.mode {
        DrainMode::Close => "close",
        DrainMode::Cut => "cut",
    };
    let what = format!("{}: {}", target.verb(), count(plan.sessions.into(), "session"));
    let mut text = paint(&what, Tone::Strong, out.style);
    if plan.sessions > 0 {
        let (over, deadline) = (duration(plan.over_ms), duration(plan.deadline_ms));
        // A drain cuts what is left, a rebalance leaves it where it is.
        let fate = if target.backend.is_some() { "is cut" } else { "stays where it is" };
        text.push_str(&format!(
            " over {over}, initially at {:.1}/s, mode {mode}; what is left after {deadline} {fate}",
            plan.rate
        ));
    } else {
        text.push_str(" to move");
    }
    text.push('\n');
    if plan.sessions > 0 {
        text.push_str(&shares("from", &plan.from));
        text.push_str(&shares("to", &plan.to));
    }
    if plan.dry_run {
        text.push_str("nothing was started (--dry-run)\n");
    }
    text
}

fn shares(word: &str, shares: &[Share]) -> String {
    if shares.is_empty() {
        return String::new();
    }
    let each: Vec<String> = shares.iter().map(|s| format!("{} {}", s.backend, s.sessions)).collect();
    format!("  {word:<5} {}\n", each.join(", "))
}

/// What a move is of.
struct MoveTarget {
    fleet: FleetName,
    /// `None`: a rebalance.
    backend: Option<BackendId>,
}

impl MoveTarget {
    fn verb(&self) -> String {
        match &self.backend {
            Some(backend) => format!("drain of {backend} in {}", self.fleet),
            None => format!("rebalance of {}", self.fleet),
        }
    }
}

/// Follows a move to its end and returns the result.
async fn follow(client: &Client, target: &MoveTarget, plan: &MovePlan, out: Option<&mut Out>) -> Result<String, Failure> {
    let clock = Clock::start();
    let mut progress = Progress::new(plan.sessions, out.filter(|out| out.terminal).map(|out| out.style));
    let mut tracked = MoveProgress::new(target, plan);
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        match tracked.look(&client.status().await?.body, clock.now()) {
            MoveState::Moving(m) => progress.show(&m),
            MoveState::Ended(ending) => {
                progress.end();
                return ending.map_err(Failure::Failed);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = &mut interrupt => {
                progress.end();
                return Err(Failure::Failed(format!("interrupted; the {} continues", target.verb())));
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum MoveState {
    Moving(MoveBody),
    /// Text for a terminal: the result or the error.
    Ended(Result<String, String>),
}

/// Follows a move by polling the status.
struct MoveProgress<'a> {
    target: &'a MoveTarget,
    total: u32,
    started: Option<Moment>,
    last: Option<(MoveBody, Moment)>,
}

impl<'a> MoveProgress<'a> {
    fn new(target: &'a MoveTarget, plan: &MovePlan) -> Self {
        MoveProgress { target, total: plan.sessions, started: None, last: None }
    }

    fn look(&mut self, status: &StatusBody, now: Moment) -> MoveState {
        let started = *self.started.get_or_insert(now);
        let Some(fleet) = status.fleets.iter().find(|f| f.name == self.target.fleet) else {
            return MoveState::Ended(Err(format!("fleet `{}` is gone", self.target.fleet)));
        };
        let backend = self.target.backend.as_ref().map(|id| fleet.backends.iter().find(|b| b.id == *id));
        let under_way = match backend {
            None => fleet.rebalance,
            Some(backend) => backend.and_then(|b| b.draining),
        };
        if let Some(progress) = under_way {
            self.last = Some((progress, now));
            return MoveState::Moving(progress);
        }
        match backend.flatten().map(|b| b.phase) {
            Some(Phase::Dead) => MoveState::Ended(Err(format!("{}: the backend died", self.target.verb()))),
            // Neither draining nor drained: the drain was cancelled.
            Some(Phase::Ready | Phase::Starting | Phase::Suspect) => {
                MoveState::Ended(Err(format!("{}: it was cancelled", self.target.verb())))
            }
            Some(Phase::Draining | Phase::Drained) | None => {
                let cut = backend.flatten().and_then(|b| b.drained).map(|done| done.cut);
                MoveState::Ended(self.ending(cut, now, now.since(started)))
            }
        }
    }

    /// A drain cuts and counts what is left at its deadline; if the backend is gone, the count of the last poll is used.
    /// A rebalance leaves it where it is: what was left at the last poll, if its deadline has passed since.
    fn ending(&self, cut: Option<u32>, now: Moment, took: Duration) -> Result<String, String> {
        let (left, fate) = match &self.target.backend {
            Some(_) => (cut.or(self.last.map(|(m, _)| m.cut)).unwrap_or(0), "which were cut"),
            None => {
                let late = self.last.filter(|(m, at)| u128::from(m.deadline_in_ms) <= now.since(*at).as_millis());
                (late.map_or(0, |(m, _)| m.remaining), "which stay where they are")
            }
        };
        let what = self.target.verb();
        if left > 0 {
            return Err(format!("{what}: the deadline passed with {} left, {fate}", count(left.into(), "session")));
        }
        let took = duration(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        Ok(format!("{what}: done, {} in {took}", count(self.total.into(), "session")))
    }
}

#[cfg(test)]
mod tests {
    use holdline_core::snapshot::{FleetView, MoveView};

    use super::*;
    use crate::admin::doubles::{backend, fleet, moving, plan, snapshot};
    use crate::admin::status_body;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn target() -> MoveTarget {
        MoveTarget { fleet: "chat".into(), backend: Some("b-2".into()) }
    }

    fn status(fleets: Vec<FleetView>) -> StatusBody {
        status_body(&snapshot(fleets), "local", Moment::START)
    }

    /// A status in which `b-2` drains, with so many left and so long to the deadline.
    fn draining(remaining: u32, deadline_in_ms: u64) -> StatusBody {
        let mut view = backend("b-2", Phase::Draining, remaining, Some(50));
        let mut progress = moving(remaining, 40);
        progress.deadline = at(100_000 + deadline_in_ms);
        view.drain = Some(progress);
        status(vec![fleet("chat", vec![view])])
    }

    fn now_is(phase: Phase) -> StatusBody {
        status(vec![fleet("chat", vec![backend("b-2", phase, 0, Some(50))])])
    }

    /// A status in which `b-2` is drained, and so many were cut.
    fn drained(cut: u32) -> StatusBody {
        let mut view = backend("b-2", Phase::Drained, 0, Some(50));
        view.drain = Some(MoveView { cut, ..moving(0, 40) });
        status(vec![fleet("chat", vec![view])])
    }

    fn ending(step: MoveState) -> Result<String, String> {
        match step {
            MoveState::Ended(ending) => ending,
            MoveState::Moving(m) => panic!("still moving: {m:?}"),
        }
    }

    #[test]
    fn a_drain_ends_drained_or_with_its_backend_gone() {
        for end in [now_is(Phase::Drained), status(vec![fleet("chat", vec![])])] {
            let target = target();
            let mut tracked = MoveProgress::new(&target, &plan());
            assert!(matches!(tracked.look(&draining(12, 30_000), at(0)), MoveState::Moving(m) if m.remaining == 12));
            assert_eq!(ending(tracked.look(&end, at(2_000))), Ok("drain of b-2 in chat: done, 40 sessions in 2.0s".into()));
        }
    }

    #[test]
    fn what_was_left_at_the_deadline_was_cut() {
        let target = target();
        let mut tracked = MoveProgress::new(&target, &plan());
        tracked.look(&draining(12, 100), at(0));
        let error = ending(tracked.look(&drained(12), at(250))).expect_err("cut");
        assert_eq!(error, "drain of b-2 in chat: the deadline passed with 12 sessions left, which were cut");
        let error = ending(tracked.look(&drained(1), at(250))).expect_err("cut");
        assert!(error.contains("with 1 session left"), "the others went in time: {error}");
        let done = ending(tracked.look(&drained(0), at(250)));
        assert_eq!(done, Ok("drain of b-2 in chat: done, 40 sessions in 250ms".into()), "all went in time");
    }

    #[test]
    fn of_a_backend_that_went_at_once_the_last_count_is_known() {
        let target = target();
        let mut tracked = MoveProgress::new(&target, &plan());
        let mut status_then = draining(2, 0);
        status_then.fleets[0].backends[0].draining.as_mut().expect("a drain").cut = 3;
        tracked.look(&status_then, at(0));
        let error = ending(tracked.look(&status(vec![fleet("chat", vec![])]), at(250))).expect_err("cut");
        assert!(error.contains("with 3 sessions left, which were cut"), "{error}");
    }

    #[test]
    fn taken_back_dead_or_gone_is_no_success() {
        for (status, word) in [(now_is(Phase::Ready), "cancelled"), (now_is(Phase::Dead), "died"), (status(vec![]), "gone")] {
            let target = target();
            let mut tracked = MoveProgress::new(&target, &plan());
            tracked.look(&draining(12, 30_000), at(0));
            assert!(ending(tracked.look(&status, at(250))).expect_err("no success").contains(word), "{word}");
        }
    }

    #[test]
    fn a_rebalance_is_watched_on_its_fleet() {
        let target = MoveTarget { fleet: "chat".into(), backend: None };
        let mut tracked = MoveProgress::new(&target, &plan());
        let mut view = fleet("chat", vec![]);
        view.rebalance = Some(moving(5, 40));
        assert!(matches!(tracked.look(&status(vec![view]), at(0)), MoveState::Moving(m) if m.remaining == 5));
        let done = ending(tracked.look(&status(vec![fleet("chat", vec![])]), at(500)));
        assert_eq!(done, Ok("rebalance of chat: done, 40 sessions in 500ms".into()));
        tracked.last = tracked.last.map(|(m, at)| (MoveBody { deadline_in_ms: 0, ..m }, at));
        let late = ending(tracked.look(&status(vec![fleet("chat", vec![])]), at(600)));
        assert_eq!(late, Err("rebalance of chat: the deadline passed with 5 sessions left, which stay where they are".into()));
    }
}
