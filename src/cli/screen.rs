//! The full-screen terminal display of `top`.

use std::io;

use console::{Term, truncate_str};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::failure::Failure;
use super::output::Out;
use super::render::{Style, Tone, paint};

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

/// The terminal in full-screen mode: alternate screen, no echo, unbuffered keys. Restored on leave.
pub(super) struct Screen {
    modes: Option<Modes>,
}

impl Screen {
    pub(super) fn enter(out: &mut Out) -> Result<Self, Failure> {
        let modes = Modes::immediate();
        out.print(ENTER)?;
        Ok(Screen { modes })
    }

    /// Draws over what was there, cut to the size that the terminal has now: a line that wrapped would move all below it.
    pub(super) fn draw(&self, out: &mut Out, picture: impl FnOnce(usize) -> Picture) -> Result<(), Failure> {
        let (rows, columns) = Term::stdout().size();
        let (rows, columns) = (rows.into(), columns.into());
        out.print(&picture(columns).frame(rows, columns, out.style))
    }

    pub(super) fn leave(self, out: &mut Out) -> Result<(), Failure> {
        drop(self.modes);
        out.print(LEAVE)
    }
}

/// What is on the screen.
pub(super) struct Picture {
    /// Cut at the bottom when the screen is too small.
    pub(super) body: String,
    /// One line that is always there.
    pub(super) foot: String,
}

impl Picture {
    fn frame(&self, rows: usize, columns: usize, look: Style) -> String {
        let tail = if look.unicode { "…" } else { "" };
        let lines: Vec<&str> = self.body.lines().collect();
        // The footer, and the last row: writing there could scroll the terminal.
        let room = rows.saturating_sub(2).max(1);
        let mut text = String::from(HOME);
        for line in lines.iter().take(room) {
            text.push_str(&truncate_str(line, columns, tail));
            text.push_str(END_OF_LINE);
        }
        let more = lines.len().saturating_sub(room);
        let foot = if more > 0 { format!("{more} more lines; {}", self.foot) } else { self.foot.clone() };
        text.push_str(&paint(&truncate_str(&foot, columns, tail), Tone::Dim, look));
        text.push_str(CLEAR_BELOW);
        text
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
        // A failure cannot be reported.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        Picture { body: (1..=6).map(|n| format!("{n} {}\n", "x".repeat(40))).collect(), foot: "q quits".into() }
    }

    #[test]
    fn a_frame_fits_the_screen() {
        for (look, widest) in [(Style::PLAIN, 30), (Style { colour: false, unicode: true }, 30)] {
            let text = picture().frame(5, 30, look);
            assert!(text.starts_with(HOME) && text.ends_with(CLEAR_BELOW));
            assert_eq!(text.matches(END_OF_LINE).count(), 3);
            assert!(text.contains("3 more lines; q quits"), "{text:?}");
            assert_eq!(text.split(END_OF_LINE).map(console::measure_text_width).max(), Some(widest));
            assert_eq!(text.contains('…'), look.unicode);
        }
        assert!(picture().frame(24, 200, Style::PLAIN).contains("\nq quits"));
    }

    #[test]
    fn the_smallest_of_screens_shows_something() {
        let text = picture().frame(1, 8, Style::PLAIN);
        assert!(text.contains("1 xxxxxx\x1b[K") && text.contains("5 more l"), "{text:?}");
    }
}
