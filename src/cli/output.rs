//! Output of commands, and the style that its destination supports.

use std::io::{self, Write};

use clap::ValueEnum;
use console::Term;
use serde::Serialize;

use super::failure::Failure;
use super::render::Style;

/// The form of a command's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for a terminal.
    Table,
    /// JSON.
    Json,
}

/// Standard output, or a test's buffer.
pub(super) struct Out {
    sink: Box<dyn Write + Send>,
    /// The style that the output supports.
    pub(super) style: Style,
    /// Standard output is a terminal that supports cursor movement.
    pub(super) terminal: bool,
}

impl Out {
    pub(super) fn stdout() -> Self {
        let term = Term::stdout();
        Out { sink: Box::new(io::stdout()), style: style_of(&term), terminal: term.is_term() && !is_dumb() }
    }

    #[cfg(test)]
    pub(super) fn to(sink: impl Write + Send + 'static) -> Self {
        Out { sink: Box::new(sink), style: Style::PLAIN, terminal: false }
    }

    /// Writes text as it is, and at once.
    pub(super) fn print(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.sink.write_all(text.as_bytes()).and_then(|()| self.sink.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Failed(format!("cannot write the output: {error}")),
        })
    }

    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.print(&format!("{text}\n"))
    }

    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|e| Failure::Failed(format!("cannot write JSON: {e}")))?;
        self.line(&text)
    }
}

/// Knows no escape sequences (terminfo, `dumb`).
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|name| name == "dumb")
}

/// Colours and block characters for a terminal that shows them; plain ASCII for files, pipes and everything else.
pub(super) fn style_of(term: &Term) -> Style {
    if !term.is_term() {
        return Style::PLAIN;
    }
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    Style { colour: term.features().colors_supported() && !no_colour, unicode: locale_is_utf8() }
}

/// The first of these that is set decides (POSIX, "Environment Variables", 8.2).
fn locale_is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(|name| std::env::var(name).ok()).find(|v| !v.is_empty());
    set.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}
