//! The one thread that writes. It takes all mutations that wait, up to [`BATCH`], into one transaction, so that they share its fsync; each answer is
//! given after the commit.

use std::fs::File;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Refused, query};

/// The most mutations in one commit: together they take a few milliseconds, which the first of them waits for the last.
const BATCH: usize = 64;

/// Mutations that wait for the writer, beyond which those who ask wait themselves.
const WAITING: usize = 256;

/// A handle on the thread, which ends with the last of them.
#[derive(Clone)]
pub(super) struct Writer {
    work: mpsc::Sender<Box<dyn Work>>,
}

impl Writer {
    /// Tells `newest` the log's newest position after each commit that moved it, and holds `lock` as long as it writes.
    pub(super) fn start(db: Connection, newest: watch::Sender<u64>, lock: File) -> std::io::Result<Writer> {
        let (work, waiting) = mpsc::channel(WAITING);
        std::thread::Builder::new().name("live-writer".into()).spawn(move || {
            run(db, waiting, &newest);
            drop(lock);
        })?;
        Ok(Writer { work })
    }

    /// Runs `work` in a transaction. It is called again, in a transaction of its own, when one that shared its first broke.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Refused> + Send + 'static,
    {
        let ended = || Refused::Database("its writer has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let task = Task { work, outcome: None, answer };
        self.work.send(Box::new(task)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

fn run(mut db: Connection, mut waiting: mpsc::Receiver<Box<dyn Work>>, newest: &watch::Sender<u64>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        match commit(&mut db, &mut batch, newest) {
            Ok(()) => batch.drain(..).for_each(|work| work.answer(Ok(()))),
            // One of them may be at fault: each for itself.
            Err(_) if batch.len() > 1 => {
                for work in batch.drain(..) {
                    let mut alone = [work];
                    let stored = commit(&mut db, &mut alone, newest);
                    let [work] = alone;
                    work.answer(stored);
                }
            }
            Err(refused) => batch.drain(..).for_each(|work| work.answer(Err(refused.clone()))),
        }
    }
}

fn commit(db: &mut Connection, batch: &mut [Box<dyn Work>], newest: &watch::Sender<u64>) -> Result<(), Refused> {
    let mut transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for work in batch {
        let savepoint = transaction.savepoint()?;
        if work.run(&savepoint)? {
            savepoint.commit()?;
        }
    }
    let pos = query::newest(&transaction)?;
    transaction.commit()?;
    newest.send_if_modified(|newest| std::mem::replace(newest, pos) != pos);
    Ok(())
}

/// Something to write, whatever its answer is.
trait Work: Send {
    /// `false`: refused, and what it wrote is taken back.
    ///
    /// # Errors
    /// The database is at fault.
    fn run(&mut self, db: &Connection) -> Result<bool, Refused>;

    /// It is over; `Err`: nothing was stored.
    fn answer(self: Box<Self>, stored: Result<(), Refused>);
}

struct Task<T, F> {
    work: F,
    outcome: Option<Result<T, Refused>>,
    answer: oneshot::Sender<Result<T, Refused>>,
}

impl<T: Send, F: FnMut(&Connection) -> Result<T, Refused> + Send> Work for Task<T, F> {
    fn run(&mut self, db: &Connection) -> Result<bool, Refused> {
        match (self.work)(db) {
            Err(refused) if refused.is_storage() => Err(refused),
            outcome => {
                let kept = outcome.is_ok();
                self.outcome = Some(outcome);
                Ok(kept)
            }
        }
    }

    fn answer(self: Box<Self>, stored: Result<(), Refused>) {
        let Task { outcome, answer, .. } = *self;
        // Whoever asked may have gone; what was stored stays.
        let _ = answer.send(stored.and_then(|()| outcome.expect("it ran before the commit")));
    }
}
