//! Stop requests: signals, or a [`Stop`] handle of the embedding program.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::RunError;

/// Stops a run from outside of it. Clones stop the same run.
#[derive(Clone, Debug)]
pub struct Stop {
    times: Arc<watch::Sender<u32>>,
}

impl Default for Stop {
    fn default() -> Self {
        Stop { times: Arc::new(watch::Sender::new(0)) }
    }
}

impl Stop {
    /// As SIGTERM does: the first call closes sessions at a bounded rate, the second cuts everything.
    pub fn stop(&self) {
        self.times.send_modify(|n| *n = n.saturating_add(1));
    }
}

/// The run's side: receives [`Stop`] and signals.
pub(super) struct Stopping {
    stop: Stop,
    signals: Option<(Signal, Signal)>,
}

impl Stopping {
    pub(super) fn new(stop: &Stop, signals: bool) -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(RunError::Runtime);
        let signals = match signals {
            true => Some((listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?)),
            false => None,
        };
        Ok(Stopping { stop: stop.clone(), signals })
    }

    /// Resolves at the first stop request.
    pub(super) async fn asked(&mut self) {
        self.heard(1).await;
    }

    /// Resolves at the second stop request.
    pub(super) async fn asked_again(&mut self) {
        self.heard(2).await;
    }

    async fn heard(&mut self, times: u32) {
        let mut heard = self.stop.times.subscribe();
        while *heard.borrow_and_update() < times {
            tokio::select! {
                // Fails only without a sender, and we have one.
                _ = heard.changed() => {}
                () = any(&mut self.signals) => self.stop.stop(),
            }
        }
    }
}

/// The next signal; without handlers there is none.
async fn any(signals: &mut Option<(Signal, Signal)>) {
    let Some((terminate, interrupt)) = signals else { return std::future::pending().await };
    tokio::select! {
        Some(()) = terminate.recv() => {}
        Some(()) = interrupt.recv() => {}
        else => std::future::pending().await,
    }
}
