//! One backend as State knows it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::cause::Phase;
use crate::drain::Move;
use crate::event::AddressCount;
use crate::health::{Health, Standing};
use crate::ids::BackendId;
use crate::policy::{DrainMode, FleetPolicy, ProcessPolicy, ProviderPolicy};
use crate::scale::BackendLoad;
use crate::seats::UNLIMITED;
use crate::snapshot::BackendView;
use crate::time::Moment;

use super::losses::Losses;
use super::reported::Reported;

#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub(super) id: BackendId,
    pub(super) address: Option<SocketAddr>,
    /// The policy that a child of ours was started by; `None`: somebody else runs it.
    pub(super) started_by: Option<Arc<FleetPolicy>>,
    /// By configuration; `None`: no limit.
    pub(super) configured: Option<u32>,
    pub(super) since: Moment,
    pub(super) health: Health,
    pub(super) reported: Reported,
    /// Seats taken, by the gateway's last report; those at former addresses included.
    pub(super) used: u32,
    /// Those of them at addresses it had before.
    pub(super) former: Vec<AddressCount>,
    /// Its address changed, and the gateway has not counted since.
    pub(super) is_moved: bool,
    /// What others have at its address.
    pub(super) shared: Shared,
    /// Plain requests in flight, by the gateway's last report.
    pub(super) requests: u32,
    pub(super) drain: Option<Drain>,
    /// Its last heartbeat asked for a drain.
    pub(super) asks_drain: bool,
    /// Its provider was told to stop it.
    pub(super) retiring: bool,
    /// A rebalance under way lets it have no more than these.
    pub(super) ceiling: Option<u32>,
    pub(super) moved_total: u64,
    /// By the gateway's last report.
    pub(super) ended: Ends,
    pub(super) losses: Losses,
}

/// What other backends have at a backend's address: an id that went and one that came, or those of two fleets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shared {
    /// There are such.
    pub(super) with_others: bool,
    /// Seats taken.
    pub(super) used: u32,
    /// One of them may have taken another seat since it was counted.
    pub(super) is_open: bool,
}

/// Counters of how a backend's sessions ended, from when it joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// They were told to go elsewhere, and did.
    pub(super) moved: u64,
    pub(super) cut: u64,
    /// The backend was lost.
    pub(super) lost: u64,
}

/// A drain under way or done.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    pub(super) sessions: Move,
    pub(super) owners: Owners,
    /// What the last report said that was taken after it began; `None`: there was none yet.
    pub(super) empty: Option<bool>,
    /// Nothing is left.
    pub(super) done: bool,
    /// The backend's counters when the drain began.
    begun: Ends,
    /// The same when its deadline came; `None`: it did not yet.
    at_deadline: Option<Ends>,
}

/// What became of the sessions of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DrainOutcome {
    pub(super) moved: u32,
    /// Clients and backend ended them, or they never came to be (a dial in flight that failed).
    pub(super) by_themselves: u32,
    pub(super) cut: u32,
}

impl Drain {
    pub(super) fn new(sessions: Move, owners: Owners, begun: Ends) -> Self {
        Drain { sessions, owners, empty: None, done: false, begun, at_deadline: None }
    }

    /// From now on what is cut is cut by the deadline. Only the first call counts.
    pub(super) fn deadline_came(&mut self, ended: Ends) {
        self.at_deadline.get_or_insert(ended);
    }

    /// What became of its sessions, `left` of which are still there.
    pub(super) fn outcome(&self, ended: Ends, left: u32) -> DrainOutcome {
        let grown = |from: u64, to: u64| u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX);
        let in_time = self.at_deadline.unwrap_or(ended);
        // Whoever asks for the mode `cut` moves sessions by cutting them.
        let moved_by_cut = if self.sessions.pace().mode == DrainMode::Cut { grown(self.begun.cut, in_time.cut) } else { 0 };
        let moved = grown(self.begun.moved, ended.moved).saturating_add(moved_by_cut);
        let cut = grown(in_time.cut, ended.cut);
        let by_themselves = self.sessions.total().saturating_sub(left).saturating_sub(moved).saturating_sub(cut);
        DrainOutcome { moved, by_themselves, cut }
    }
}

impl fmt::Display for DrainOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DrainOutcome { moved, by_themselves, cut } = self;
        write!(f, "{moved} were moved, {by_themselves} left by themselves, {cut} were cut")
    }
}

/// On whose behalf a backend is drained; it is taken back when nobody wants it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owners {
    pub(super) operator: bool,
    pub(super) backend: bool,
    pub(super) scale: bool,
    /// It goes for good: the configuration has it no more.
    pub(super) config: bool,
}

impl Owners {
    const NOBODY: Owners = Owners { operator: false, backend: false, scale: false, config: false };
    pub(super) const OPERATOR: Owners = Owners { operator: true, ..Owners::NOBODY };
    pub(super) const BACKEND: Owners = Owners { backend: true, ..Owners::NOBODY };
    pub(super) const SCALE: Owners = Owners { scale: true, ..Owners::NOBODY };
    pub(super) const CONFIG: Owners = Owners { config: true, ..Owners::NOBODY };

    pub(super) fn add(&mut self, more: Owners) {
        self.operator |= more.operator;
        self.backend |= more.backend;
        self.scale |= more.scale;
        self.config |= more.config;
    }

    pub(super) fn nobody(self) -> bool {
        self == Owners::NOBODY
    }
}

impl Backend {
    pub(super) fn new(id: BackendId, address: Option<SocketAddr>, configured: Option<u32>, health: Health, now: Moment) -> Self {
        Backend {
            id,
            address,
            started_by: None,
            configured,
            since: now,
            health,
            reported: Reported::default(),
            used: 0,
            former: Vec::new(),
            is_moved: false,
            shared: Shared::default(),
            requests: 0,
            drain: None,
            asks_drain: false,
            retiring: false,
            ceiling: None,
            moved_total: 0,
            ended: Ends::default(),
            losses: Losses::default(),
        }
    }

    /// Whether we started it and may stop it.
    pub(super) fn is_child(&self) -> bool {
        self.started_by.is_some()
    }

    /// Whether it runs another program than a child that were started now.
    pub(super) fn is_outdated(&self, policy: &FleetPolicy) -> bool {
        let process = |policy: &FleetPolicy| match &policy.provider {
            ProviderPolicy::Process(process) => Some(process.clone()),
            ProviderPolicy::Static(_) => None,
        };
        let differs = |(own, new): (ProcessPolicy, ProcessPolicy)| !own.runs_the_same(&new);
        self.started_by.as_deref().and_then(process).zip(process(policy)).is_some_and(differs)
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase_at(self.health.standing())
    }

    /// The phase it has, or had, with this standing.
    pub(super) fn phase_at(&self, standing: Standing) -> Phase {
        match (standing, &self.drain) {
            (Standing::Dead, _) => Phase::Dead,
            (_, Some(drain)) if drain.done => Phase::Drained,
            (_, Some(_)) => Phase::Draining,
            (Standing::Starting, None) => Phase::Starting,
            (Standing::Ready, None) => Phase::Ready,
            (Standing::Suspect, None) => Phase::Suspect,
        }
    }

    /// The lower of configured and reported; `None`: no limit.
    pub(super) fn capacity(&self) -> Option<u32> {
        match (self.configured, self.reported.capacity) {
            (Some(configured), Some(reported)) => Some(configured.min(reported)),
            (one, other) => one.or(other),
        }
    }

    /// Seats that the gateway may fill.
    pub(super) fn limit(&self) -> u32 {
        self.limit_beside(self.shared.used)
    }

    /// Seats that the gateway may fill while others have `used` seats at its address.
    fn limit_beside(&self, used: u32) -> u32 {
        let is_open = self.phase() == Phase::Ready && !self.retiring && self.address.is_some();
        if !is_open || self.is_moved || self.shared.is_open {
            return 0;
        }
        let taken = self.reported.foreign().saturating_add(used).saturating_add(self.elsewhere());
        let limit = self.capacity().map_or(UNLIMITED, |c| c.saturating_sub(taken));
        self.ceiling.map_or(limit, |c| limit.min(c.saturating_sub(self.elsewhere())))
    }

    /// Seats taken at addresses it had before.
    fn elsewhere(&self) -> u32 {
        self.former.iter().map(|f| f.used).fold(0, u32::saturating_add)
    }

    /// Seats taken at its address.
    pub(super) fn used_here(&self) -> u32 {
        self.used.saturating_sub(self.elsewhere())
    }

    /// Takes the gateway's counters.
    pub(super) fn take_ends(&mut self, ended: Ends, now: Moment) {
        self.losses.take(self.ended.lost, now);
        self.ended = ended;
    }

    /// Sessions that it had when its process ended: those that are left, and those that were lost by it a moment ago.
    pub(super) fn had(&self) -> u32 {
        self.used.saturating_add(self.losses.of(self.ended.lost))
    }

    /// Free seats; `None`: no limit.
    pub(super) fn free(&self) -> Option<u32> {
        self.free_without(0)
    }

    /// Free seats once `leaving` of the seats that others have at its address are free; `None`: no limit.
    pub(super) fn free_without(&self, leaving: u32) -> Option<u32> {
        let limit = self.limit_beside(self.shared.used.saturating_sub(leaving));
        (limit != UNLIMITED).then(|| limit.saturating_sub(self.used_here()))
    }

    /// Seats that are taken there and not by its own sessions. One that goes takes none any more, so those of the others are not shown twice.
    pub(super) fn foreign(&self) -> u32 {
        let shared = if self.drain.is_none() { self.shared.used } else { 0 };
        self.reported.foreign().saturating_add(shared)
    }

    /// Nothing is left on it, by the last report and heartbeat.
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0 && self.requests == 0 && self.reported.foreign() == 0
    }

    /// Whether a drain is only the autoscaler's, and can still be taken back.
    pub(super) fn drained_for_scale(&self) -> bool {
        !self.retiring && self.drain.as_ref().is_some_and(|d| d.owners == Owners::SCALE)
    }

    pub(super) fn load(&self) -> BackendLoad {
        BackendLoad {
            id: self.id.clone(),
            phase: self.phase(),
            draining_for_scale: self.drained_for_scale(),
            sessions: self.used.saturating_add(self.reported.foreign()),
            capacity: self.capacity(),
        }
    }

    pub(super) fn view(&self) -> BackendView {
        BackendView {
            id: self.id.clone(),
            address: self.address,
            phase: self.phase(),
            sessions: self.used,
            foreign: self.foreign(),
            capacity: self.capacity(),
            limit: self.limit(),
            reported: self.reported.sessions,
            requests: self.requests,
            heartbeat_at: self.health.heard(),
            since: self.since,
            drain: self.drain.as_ref().map(|d| d.sessions.view(self.used, d.outcome(self.ended, self.used).cut)),
            moved_total: self.moved_total,
        }
    }
}
