//! Another configuration in the middle of life: bounds, capacities, backends and commands change, the whole fleet goes and comes back, and
//! every rule goes on to hold.

use std::sync::Arc;
use std::time::Duration;

use holdline_core::event::Event;
use holdline_core::ids::BackendId;
use holdline_core::policy::*;
use rand::Rng;

use crate::scenario::fixed;
use crate::servers::Server;
use crate::shadow::Checked;
use crate::world::World;

impl World {
    /// Something about once a minute; of three reloads one takes the fleet away.
    pub(crate) fn reload(&mut self) -> Checked {
        match self.absent_until {
            Some(until) if until <= self.now => self.take_another_policy(),
            None if self.rng.random_bool(0.002) => self.take_another_policy(),
            None if self.rng.random_bool(0.001) => self.take_fleet_away(),
            _ => Ok(()),
        }
    }

    /// Its route is gone at once, so nobody comes any more, and who waits is refused.
    fn take_fleet_away(&mut self) -> Checked {
        // Before its last backend is gone, or after.
        self.absent_until = Some(self.now + Duration::from_millis(self.rng.random_range(500..40_000)));
        for ticket in std::mem::take(&mut self.gateway.waiting).into_values() {
            self.gateway.queue.leave(ticket);
            self.gateway.refused += 1;
        }
        self.tally.left += 1;
        self.apply(Event::Configure(Vec::new()))
    }

    fn take_another_policy(&mut self) -> Checked {
        self.absent_until = None;
        let policy = Arc::new(self.another_policy());
        if let ProviderPolicy::Static(all) = &policy.provider {
            for b in all {
                self.servers.entry(b.id.clone()).or_insert_with(|| Server::running(self.now));
            }
        }
        self.scenario.policy = Arc::clone(&policy);
        self.gateway.queue.set_policy(policy.queue);
        self.gateway.backends.iter().for_each(|b| b.seats.set_rate(policy.admit_rate));
        self.gateway.policy = Arc::clone(&policy);
        self.shadow.policy = Arc::clone(&policy);
        self.tally.reloaded += 1;
        self.apply(Event::Configure(vec![policy]))
    }

    fn another_policy(&mut self) -> FleetPolicy {
        let rng = &mut self.rng;
        let old = (*self.scenario.policy).clone();
        let min = rng.random_range(0..3);
        FleetPolicy {
            provider: match old.provider {
                ProviderPolicy::Static(_) => fixed(rng.random_range(2..=5)),
                ProviderPolicy::Process(process) => {
                    let command = vec![["server", "server-2"][rng.random_range(0..2)].to_owned()];
                    ProviderPolicy::Process(ProcessPolicy { command, ..process })
                }
            },
            capacity: Some(rng.random_range(4..=20)),
            queue: QueuePolicy { length: rng.random_range(0..40), timeout: Duration::from_secs(rng.random_range(1..12)) },
            drain: DrainPolicy { deadline: Duration::from_secs(rng.random_range(5..40)), ..old.drain },
            scale: ScalePolicy {
                min,
                max: rng.random_range(3..8),
                idle_to_zero_after: (min == 0).then_some(Duration::from_secs(15)),
                ..old.scale
            },
            ..old
        }
    }

    /// Fixed backends that State has let go are no business of the world any more.
    pub(crate) fn forget_let_go(&mut self) {
        if self.scenario.policy.provider.is_elastic() {
            return;
        }
        let known = self.state.snapshot(self.now);
        let gone = |id: &&BackendId| known.fleets.iter().all(|f| f.backend(id.as_str()).is_none());
        let gone: Vec<_> = self.servers.keys().filter(gone).cloned().collect();
        for id in gone {
            self.servers.remove(&id);
            self.shadow.gone(&id);
        }
    }
}
