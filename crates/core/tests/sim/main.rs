//! A seeded simulation of everything that core decides, in virtual time: State, seats, placement and the admission queue
//! among clients, crashes, slow starts, lost heartbeats, operators and the autoscaler, with every rule checked after every step.
//!
//! `HOLDLINE_SIM_SEED=N` replays one seed and prints its event log; `HOLDLINE_SIM_STEPS=N` sets the steps in all (100 ms each);
//! docs/testing.md tells more.

mod addresses;
mod chaos;
mod clients;
mod gateway;
mod mutation;
mod reload;
mod scenario;
mod servers;
mod shadow;
mod standstill;
mod world;

use std::fmt::Display;
use std::str::FromStr;

use holdline_core::event::Command;
use holdline_core::time::Moment;

use mutation::Mutation;
use scenario::Scenario;
use shadow::{Rule, Violation};
use world::{Tally, World};

const STEPS_DEFAULT: u64 = 100_000;
/// Four minutes of life: long enough for a drain, a crash loop, a way to zero and back.
const STEPS_PER_SEED: u64 = 2_500;

fn env<T: FromStr<Err: Display>>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text} is not a number: {e}")))
}

/// Lives through one seed; a violation comes with the step it was found at.
fn live(seed: u64, steps: u64, mutation: Mutation) -> Result<Tally, (u64, Violation)> {
    let mut world = World::new(seed, Scenario::random, mutation);
    world.trace = mutation == Mutation::None && env::<u64>("HOLDLINE_SIM_SEED").is_some();
    world.settle().map_err(|v| (0, v))?;
    for step in 1..=steps {
        world.step().map_err(|v| (step, v))?;
    }
    world.close().map_err(|v| (steps, v))?;
    Ok(world.tally)
}

#[test]
fn all_rules_hold_over_many_seeds() {
    let steps = env("HOLDLINE_SIM_STEPS").unwrap_or(STEPS_DEFAULT);
    let seeds = match env::<u64>("HOLDLINE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..steps.div_ceil(STEPS_PER_SEED),
    };
    let mut seen = Tally::default();
    for seed in seeds {
        let tally = live(seed, STEPS_PER_SEED.min(steps), Mutation::None).unwrap_or_else(|(step, violation)| {
            panic!("seed {seed}, step {step}: {violation}\nreplay: HOLDLINE_SIM_SEED={seed} cargo test -p holdline-core --test sim all_rules -- --nocapture")
        });
        seen.add(&tally);
    }
    println!("{seen:?}");
    if env::<u64>("HOLDLINE_SIM_SEED").is_none() && steps >= STEPS_DEFAULT {
        let all = [
            seen.sessions,
            seen.queued,
            seen.refused,
            seen.crashes,
            seen.drained,
            seen.rebalanced,
            seen.executed,
            seen.cut,
            seen.started,
            seen.stopped,
            seen.reloaded,
            seen.stood_still,
        ];
        let rare = [seen.left, seen.gone];
        assert!(
            all.iter().all(|n| *n >= 50) && rare.iter().all(|n| *n >= 20),
            "the world was too quiet to prove anything: {seen:?}"
        );
    }
}

/// The first violation that any seed shows with this fault.
fn caught(mutation: Mutation) -> Option<Rule> {
    (0..40).find_map(|seed| live(seed, STEPS_PER_SEED, mutation).err()).map(|(_, violation)| violation.rule)
}

#[test]
fn every_fault_that_is_put_in_is_caught() {
    for (mutation, rules) in [
        (Mutation::LimitOneTooHigh, &[Rule::Capacity][..]),
        (Mutation::DrainStaysOpen, &[Rule::DrainRises]),
        (Mutation::CutForgotten, &[Rule::DrainLate]),
        (Mutation::SeatFreedEarly, &[Rule::OneSeat, Rule::Capacity]),
        (Mutation::SeatLeaked, &[Rule::OneSeat]),
        (Mutation::EndedTwice, &[Rule::OneCause]),
        (Mutation::OrderedTwice, &[Rule::ToldTooMany]),
        (Mutation::RefuseEarly, &[Rule::Refusal]),
        (Mutation::FailureForgotten, &[Rule::Retry]),
        (Mutation::ExecutedUncounted, &[Rule::OneSeat]),
        (Mutation::ReportEmpty, &[Rule::StoppedBusy, Rule::DrainLate]),
        (Mutation::SilenceUnheard, &[Rule::Health, Rule::Limit]),
        (Mutation::StandstillLivedThrough, &[Rule::Standstill]),
    ] {
        let found = caught(mutation);
        assert!(found.is_some_and(|r| rules.contains(&r)), "{mutation:?} was caught as {found:?}");
    }
}

/// Turns from up to down or back.
fn turns(counts: &[(Moment, usize)]) -> usize {
    let steps: Vec<bool> = counts.windows(2).map(|w| w[1].1 > w[0].1).collect();
    steps.windows(2).filter(|w| w[0] != w[1]).count()
}

/// Half an hour of constant load: how often the number of backends turned after the first ten minutes.
fn turns_under_constant_load(seed: u64, mutation: Mutation) -> usize {
    let mut world = World::new(seed, Scenario::constant, mutation);
    let fleet = world.scenario.policy.name.clone();
    let settled = Moment::from_millis(600_000);
    let mut step = 0;
    while world.now < Moment::from_millis(1_800_000) {
        if let Err(violation) = world.step() {
            panic!("seed {seed}, step {step}: {violation}");
        }
        step += 1;
        if mutation == Mutation::Oscillate && step % 600 == 0 {
            let to = Some(if step % 1_200 == 0 { 8 } else { 4 });
            let answer = world.state.command(Command::Scale { fleet: fleet.clone(), to }, world.now);
            assert!(answer.is_ok(), "{answer:?}");
        }
    }
    turns(&world.backends_over_time.iter().filter(|(at, _)| *at >= settled).copied().collect::<Vec<_>>())
}

#[test]
fn backends_do_not_oscillate_under_constant_load() {
    for seed in 0..3 {
        let turns = turns_under_constant_load(seed, Mutation::None);
        println!("seed {seed}: {turns}");
        assert!(turns <= 2, "seed {seed}: the number of backends turned {turns} times in twenty minutes");
    }
    assert!(turns_under_constant_load(0, Mutation::Oscillate) > 2, "an oscillation that is put in is not seen");
}
