//! How far the gateway's life went, as its threads see it.

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// No new connection, no new session.
    Stopping,
    /// Whatever is left is dropped.
    Over,
}

/// Sees the stage change.
#[derive(Clone)]
pub(crate) struct StageWatch(watch::Receiver<Stage>);

impl StageWatch {
    pub(crate) fn new(stage: &watch::Sender<Stage>) -> Self {
        StageWatch(stage.subscribe())
    }

    /// Resolves when no new session may begin any more.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> {
        self.reached(Stage::Stopping)
    }

    /// Resolves when whatever is left is to be dropped.
    pub(crate) fn over(&self) -> impl Future<Output = ()> {
        self.reached(Stage::Over)
    }

    /// Whether no new session may begin any more.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.0.borrow() >= Stage::Stopping
    }

    async fn reached(&self, stage: Stage) {
        // An error means that the gateway itself is gone.
        let _ = self.0.clone().wait_for(|s| *s >= stage).await;
    }

    /// Of a gateway that goes on serving, as long as the sender lives.
    #[cfg(test)]
    pub(crate) fn serving() -> (watch::Sender<Stage>, Self) {
        let stage = watch::Sender::new(Stage::Serving);
        let watch = Self::new(&stage);
        (stage, watch)
    }
}
