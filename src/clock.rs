//! The only module that reads clocks.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdline_core::time::Moment;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Sleep};

/// A timer that fires so late was held up: the process was stopped, its machine slept, or the thread was overloaded.
pub const HELD_UP: Duration = Duration::from_millis(500);

/// The time that sockets are given to be read after a thread was held up, before timeouts are obeyed. The runtime fires its timers before
/// it knows which sockets can be read (a stopped process leaves epoll_wait with EINTR), and what peers sent meanwhile is in these.
pub const CATCH_UP: Duration = Duration::from_millis(300);

/// Ready once `sleep` has passed and, if the thread was held up then, sockets were read since.
pub fn poll_elapsed(mut sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    ready!(sleep.as_mut().poll(cx));
    if sleep.deadline().elapsed() < HELD_UP {
        return Poll::Ready(());
    }
    let until = sleep.deadline() + sleep.deadline().elapsed() + CATCH_UP;
    sleep.as_mut().reset(until);
    sleep.poll(cx)
}

/// [`tokio::time::sleep_until`] that ends as [`poll_elapsed`] says.
pub async fn sleep_until(deadline: Instant) {
    let mut sleep = std::pin::pin!(tokio::time::sleep_until(deadline));
    std::future::poll_fn(|cx| poll_elapsed(sleep.as_mut(), cx)).await;
}

/// [`tokio::time::timeout`] that is obeyed as [`poll_elapsed`] is.
///
/// # Errors
/// The time passed.
pub async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut future = std::pin::pin!(future);
    let due = Clock::start();
    match tokio::time::timeout(limit, &mut future).await {
        Err(_) if due.now().since_start() >= limit + HELD_UP => tokio::time::timeout(CATCH_UP, future).await,
        outcome => outcome,
    }
}

/// Returns [`Moment`]s since its start; follows tokio's paused time in tests.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment::at(self.start.elapsed())
    }

    /// `moment` on tokio's clock, to sleep until it.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.since_start()
    }

    /// The wall clock, milliseconds since 1970 (UTC): for display only, no decision uses it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// What came of waiting for an answer that comes after `late`, if the thread stands still for `pause` first.
    async fn waits(pause: Duration, late: Duration) -> (bool, Duration) {
        let clock = Clock::start();
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let waited = timeout(LIMIT, std::future::pending::<()>()).await;
            drop(tell.send(waited));
        });
        tokio::task::yield_now().await;
        tokio::time::advance(pause).await;
        let answer = async {
            tokio::time::sleep(late).await;
        };
        let answered = tokio::select! {
            () = answer => true,
            _ = told => false,
        };
        (answered, clock.now().since_start())
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_is_obeyed_on_time_unless_the_thread_was_held_up() {
        let ms = Duration::from_millis;
        assert_eq!(waits(Duration::ZERO, LIMIT * 2).await, (false, LIMIT));
        assert_eq!(waits(LIMIT + ms(5_000), ms(200)).await, (true, LIMIT + ms(5_200)), "what lay in its sockets comes first");
        assert_eq!(waits(LIMIT + ms(5_000), ms(900)).await, (false, LIMIT + ms(5_000) + CATCH_UP));
    }

    #[tokio::test(start_paused = true)]
    async fn so_is_a_sleep() {
        let clock = Clock::start();
        let due = clock.instant(Moment::at(LIMIT));
        sleep_until(due).await;
        assert_eq!(clock.now(), Moment::at(LIMIT));
        tokio::time::advance(LIMIT).await;
        sleep_until(due).await;
        assert_eq!(clock.now(), Moment::at(LIMIT * 2 + CATCH_UP));
    }
}
