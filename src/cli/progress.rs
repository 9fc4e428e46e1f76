//! Progress of a move: a bar on a terminal, lines elsewhere. On stderr, to keep stdout for the result.

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::render::Style;
use super::table;
use crate::admin::api::MoveBody;

/// A line is written for every such part of the whole.
const LINES: u32 = 10;

pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { total: u32, shown: Option<u32> },
}

impl Progress {
    /// `look`: of standard output, if it is a terminal; a bar needs stderr to be one too.
    pub(super) fn new(total: u32, look: Option<Style>) -> Self {
        let Some(look) = look.filter(|_| Term::stderr().is_term()) else {
            return Progress::Lines { total, shown: None };
        };
        let bar = ProgressBar::with_draw_target(Some(total.into()), ProgressDrawTarget::stderr());
        // The template is a constant; were it wrong, the default style would do.
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}  {msg}") {
            bar.set_style(style.progress_chars(if look.unicode { "█░" } else { "#." }));
        }
        Progress::Bar(bar)
    }

    pub(super) fn show(&mut self, m: &MoveBody) {
        let text = table::progress(m);
        match self {
            Progress::Bar(bar) => {
                bar.set_length(m.total.into());
                bar.set_position(m.total.saturating_sub(m.remaining).into());
                bar.set_message(text);
            }
            Progress::Lines { total, shown } => {
                let tenth = m.total.saturating_sub(m.remaining) * LINES / (*total).max(m.total).max(1);
                if shown.is_none_or(|last| last != tenth) {
                    eprintln!("{text}");
                    *shown = Some(tenth);
                }
            }
        }
    }

    pub(super) fn end(&mut self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
