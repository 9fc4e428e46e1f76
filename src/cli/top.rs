//! `holdline top`: the fleet table, live.

use std::io::{self, Read};
use std::time::Duration;

use console::truncate_str;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::failure::Failure;
use super::output::{Format, Out};
use super::render::{Tone, paint};
use super::status::{StatusArgs, fetch};
use super::table::fleet_table_in;
use crate::admin::api::StatusBody;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Enter the alternate screen, hide the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Show the cursor, leave the alternate screen.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Cursor to the first cell.
const HOME: &str = "\x1b[H";
/// Clear the rest of the line, next line.
const END_OF_LINE: &str = "\x1b[K\r\n";
/// Clear the rest of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows the table every second until `q`, Ctrl-C or SIGTERM. A terminal is redrawn; elsewhere one table follows another.
pub(super) async fn top(args: &StatusArgs, out: &mut Out) -> Result<(), Failure> {
    let client = args.client.client()?;
    let live = out.terminal && args.client.output == Format::Table;
    // Asked first, so that a missing Holdline is told on the ordinary screen.
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
            Ok(reply) if live => out.print(&frame(&reply.body, out, console::Term::stdout().size())),
            Ok(reply) => out.line(&fleet_table_in(&reply.body, out.style)),
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

/// The table cut to the screen, in place of the last one.
fn frame(status: &StatusBody, out: &Out, (rows, cols): (u16, u16)) -> String {
    let table = fleet_table_in(status, out.style);
    let lines: Vec<&str> = table.lines().collect();
    let room = usize::from(rows).saturating_sub(2).max(1);
    let mut text = String::from(HOME);
    for line in lines.iter().take(room) {
        text.push_str(&truncate_str(line, cols.into(), ""));
        text.push_str(END_OF_LINE);
    }
    let more = lines.len().saturating_sub(room);
    let foot = if more > 0 { format!("{more} more lines; q quits") } else { "q quits".into() };
    text.push_str(&paint(&truncate_str(&foot, cols.into(), ""), Tone::Dim, out.style));
    text.push_str(CLEAR_BELOW);
    text
}

/// Resolves at Ctrl-C or SIGTERM.
async fn stopped() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// The terminal while the table is on it: the alternate screen, keys unechoed and at once. Given back as it was.
struct Screen {
    modes: Option<Modes>,
}

impl Screen {
    fn enter(out: &mut Out) -> Result<Self, Failure> {
        let modes = Modes::immediate();
        out.print(ENTER)?;
        Ok(Screen { modes })
    }

    fn leave(self, out: &mut Out) -> Result<(), Failure> {
        drop(self.modes);
        out.print(LEAVE)
    }
}

/// The terminal's input modes, restored on `Drop`. Signals stay on: Ctrl-C is a signal still.
struct Modes {
    before: Termios,
}

impl Modes {
    /// `None` when standard input is no terminal; then there are no keys.
    fn immediate() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(io::stdin(), OptionalActions::Now, &modes).ok()?;
        Some(Modes { before })
    }
}

impl Drop for Modes {
    fn drop(&mut self) {
        // Nobody is left to tell if that fails.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Keys that were pressed. They are read on a thread of its own, which the process leaves behind in `read` when it ends.
struct Keys(Option<mpsc::Receiver<u8>>);

impl Keys {
    fn listen(live: bool) -> Self {
        if !live || !console::user_attended() || tcgetattr(io::stdin()).is_err() {
            return Keys(None);
        }
        // Keys but `q` are thrown away, so a few are enough.
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

#[cfg(test)]
mod tests {
    use holdline_core::time::Moment;

    use super::*;
    use crate::admin::doubles::{chat, snapshot};
    use crate::admin::status_body;

    #[test]
    fn a_frame_fits_the_screen() {
        let status = status_body(&snapshot(vec![chat()]), "local", Moment::START);
        let out = Out::to(io::sink());
        let text = frame(&status, &out, (5, 30));
        assert!(text.starts_with(HOME) && text.ends_with(CLEAR_BELOW));
        assert_eq!(text.matches(END_OF_LINE).count(), 3);
        assert!(text.contains("3 more lines; q quits"), "{text:?}");
        let widest = text.split(END_OF_LINE).map(console::measure_text_width).max();
        assert_eq!(widest, Some(30));
        assert!(frame(&status, &out, (24, 200)).contains("\nq quits"));
    }
}
