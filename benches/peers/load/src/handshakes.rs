//! Sessions that are opened and dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Failure;
use crate::client::{now, open};
use crate::options::Options;

/// Handshakes of a flood that may be open at once; what comes above it is left out, and counted, so that the load itself stays within
/// its descriptors.
const FLOOD_OPEN_MAX: usize = 4_000;

/// How often a flood catches up with its schedule.
const FLOOD_TICK: std::time::Duration = std::time::Duration::from_millis(1);

/// So many clients, each with one handshake after the other.
pub(crate) async fn one_after_the_other(options: &Options) -> Result<(), Failure> {
    let (target, span) = (options.target()?, options.span()?);
    let (next, cpu, start) = (Arc::new(AtomicU32::new(0)), options.cpu()?, now());
    let mut clients = JoinSet::new();
    for _ in 0..options.number("concurrency")? {
        let (next, target) = (Arc::clone(&next), target.clone());
        clients.spawn(async move {
            let mut done = 0_u64;
            while now() - start < span {
                open(&target, next.fetch_add(1, Ordering::Relaxed)).await?;
                done += 1;
            }
            Ok::<_, Failure>(done)
        });
    }
    let mut done = 0;
    while let Some(client) = clients.join_next().await {
        done += client??;
    }
    println!("rate {:.0}", done as f64 / (now() - start).as_secs_f64());
    cpu.print(done)
}

/// An open loop: handshakes begin when they are due, whether or not earlier ones were answered.
pub(crate) async fn flood(options: &Options) -> Result<(), Failure> {
    let (target, span, rate) = (options.target()?, options.span()?, options.number("rate")?);
    let room = Arc::new(Semaphore::new(FLOOD_OPEN_MAX));
    let (done, start) = (Arc::new(AtomicU32::new(0)), now());
    let (mut begun, mut left_out) = (0, 0_u32);
    let mut tick = tokio::time::interval(FLOOD_TICK);
    println!("ready");
    while now() - start < span {
        tick.tick().await;
        let due = ((now() - start).as_secs_f64() * f64::from(rate)) as u32;
        for number in begun..due {
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                left_out += 1;
                continue;
            };
            let (target, done) = (target.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                // A refusal is an answer, too: what counts is what the sessions that are held feel of it.
                done.fetch_add(u32::from(open(&target, number).await.is_ok()), Ordering::Relaxed);
                drop(place);
            });
        }
        begun = begun.max(due);
    }
    println!("rate {:.0}\nleft_out {left_out}", f64::from(done.load(Ordering::Relaxed)) / (now() - start).as_secs_f64());
    Ok(())
}
