//! `holdline top`: the fleet table, live.

use std::io::{self, Read};
use std::time::Duration;

use rustix::termios::tcgetattr;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::failure::Failure;
use super::output::{Format, Out};
use super::render::Style;
use super::screen::{Picture, Screen};
use super::status::{StatusArgs, fetch};
use super::table::{fleet_table_in, fleet_table_within};
use crate::admin::api::StatusBody;

/// Refresh interval.
const EVERY: Duration = Duration::from_secs(1);

/// Shows the table every second until `q`, Ctrl-C or SIGTERM. A terminal is redrawn; elsewhere one table follows another.
pub(super) async fn top(args: &StatusArgs, out: &mut Out) -> Result<(), Failure> {
    let client = args.client.client()?;
    let live = out.terminal && args.client.output == Format::Table;
    // Fetched first, so that an unreachable Holdline is reported on the ordinary screen.
    fetch(args, &client).await?;
    let mut stop = std::pin::pin!(stopped());
    let screen = if live { Some(Screen::enter(out)?) } else { None };
    let mut keys = Keys::listen(live);
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ending = loop {
        tokio::select! {
            () = &mut stop => break Ok(()),
            () = keys.quit() => break Ok(()),
            _ = ticks.tick() => {}
        }
        let shown = match fetch(args, &client).await {
            Err(failure) => Err(failure),
            Ok(reply) if args.client.output == Format::Json => out.json(&reply.raw),
            Ok(reply) => match &screen {
                Some(screen) => {
                    let look = out.style;
                    screen.draw(out, |columns| picture(&reply.body, look, columns))
                }
                None => out.line(&fleet_table_in(&reply.body, out.style)),
            },
        };
        if shown.is_err() {
            break shown;
        }
    };
    if let Some(screen) = screen {
        screen.leave(out)?;
    }
    ending
}

fn picture(status: &StatusBody, look: Style, columns: usize) -> Picture {
    Picture { body: fleet_table_within(status, look, columns), foot: "q: quit".into() }
}

/// Resolves at Ctrl-C or SIGTERM.
async fn stopped() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Keys pressed, read on a separate thread that is still blocked in `read` when the process exits.
struct Keys(Option<mpsc::Receiver<u8>>);

impl Keys {
    fn listen(live: bool) -> Self {
        if !live || !console::user_attended() || tcgetattr(io::stdin()).is_err() {
            return Keys(None);
        }
        // Keys other than `q` are ignored, so a small buffer is enough.
        let (sender, receiver) = mpsc::channel(8);
        std::thread::spawn(move || {
            let mut key = [0];
            while io::stdin().read(&mut key).is_ok_and(|n| n > 0) && sender.blocking_send(key[0]).is_ok() {}
        });
        Keys(Some(receiver))
    }

    /// Resolves at `q`.
    async fn quit(&mut self) {
        let Some(receiver) = &mut self.0 else { return std::future::pending().await };
        loop {
            match receiver.recv().await {
                Some(b'q' | b'Q') => return,
                Some(_) => {}
                None => return std::future::pending().await,
            }
        }
    }
}
