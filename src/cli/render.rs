//! Text for terminals: bars, columns, quantities. Pure functions, independent of the terminal.

use console::{Alignment, measure_text_width, pad_str, style};
use holdline_core::cause::Phase;

/// What the output can display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// ANSI colours.
    pub colour: bool,
    /// Block characters; else ASCII.
    pub unicode: bool,
}

impl Style {
    /// For files and pipes.
    pub const PLAIN: Style = Style { colour: false, unicode: false };
}

/// The meaning of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Normal.
    Good,
    /// In transition.
    Busy,
    /// Needs attention.
    Bad,
    /// Secondary.
    Dim,
    /// Emphasised.
    Strong,
}

/// `text` in the colour of `tone`, where colours are shown.
pub fn paint(text: &str, tone: Tone, look: Style) -> String {
    if !look.colour || text.is_empty() {
        return text.to_owned();
    }
    let styled = style(text).force_styling(true);
    match tone {
        Tone::Good => styled.green(),
        Tone::Busy => styled.yellow(),
        Tone::Bad => styled.red(),
        Tone::Dim => styled.dim(),
        Tone::Strong => styled.bold(),
    }
    .to_string()
}

/// A backend's phase, coloured.
pub fn phase(phase: Phase, look: Style) -> String {
    let tone = match phase {
        Phase::Ready => Tone::Good,
        Phase::Starting | Phase::Draining => Tone::Busy,
        Phase::Suspect | Phase::Dead => Tone::Bad,
        Phase::Drained => Tone::Dim,
    };
    paint(phase.as_str(), tone, look)
}

/// A bar of `width` cells, `share` of it filled; beyond 1 it is full. Something above zero is never shown as nothing, and something
/// below one never as full.
pub fn bar(share: f64, width: usize, look: Style) -> String {
    let steps = if look.unicode { 8 } else { 1 };
    let all = width * steps;
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 ≤ share ≤ 1 and widths are small")]
    let mut filled = (share * all as f64).round() as usize;
    if share > 0.0 && share < 1.0 {
        filled = filled.clamp(1, all.saturating_sub(1).max(1));
    }
    if !look.unicode {
        return format!("[{}{}]", "#".repeat(filled), ".".repeat(all - filled));
    }
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let (full, part) = (filled / 8, PARTS[filled % 8]);
    let rest = width - full - usize::from(!part.is_empty());
    format!("▕{}{part}{}▏", "█".repeat(full), " ".repeat(rest))
}

/// Milliseconds, in the two largest units.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match (ms, s) {
        (0..1_000, _) => format!("{ms}ms"),
        (1_000..10_000, _) => format!("{s}.{}s", ms % 1000 / 100),
        (_, 0..60) => format!("{s}s"),
        (_, 60..3_600) => format!("{}m{:02}s", s / 60, s % 60),
        (_, 3_600..86_400) => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// Bytes in powers of 1024.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let power = ((n.ilog2() / 10) as usize).min(UNITS.len());
    let value = n as f64 / 1024f64.powi(i32::try_from(power).unwrap_or(i32::MAX));
    format!("{value:.1} {}", UNITS[power - 1])
}

/// A measured rate, with one decimal below 100.
pub fn rate(per_s: f64) -> String {
    match per_s {
        0.0 => "0".to_owned(),
        few if few < 100.0 => format!("{few:.1}"),
        many => format!("{many:.0}"),
    }
}

/// `n` with the right form of a noun: `1 session`, `2 sessions`.
pub fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// A count and its limit; `-` if no limit is set.
pub fn of_limit(n: u64, limit: Option<u64>) -> String {
    limit.map_or_else(|| format!("{n}/-"), |limit| format!("{n}/{limit}"))
}

/// A point in Unix time as `2026-11-24 06:57:24Z`.
pub fn unix_time(ms: u64) -> String {
    let (days, s) = (ms / 86_400_000, ms / 1_000 % 86_400);
    // Days to date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days, for dates after 1970.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", s / 3_600, s / 60 % 60, s % 60)
}

/// A column's heading; numbers go to the right.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Text.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// Rows under headings, two spaces between columns, `indent` spaces before each line; cells may carry colours.
pub fn columns(headings: &[Column], rows: &[Vec<String>], indent: usize, look: Style) -> String {
    let heads: Vec<String> = headings
        .iter()
        .map(|h| match h {
            Column::Left(text) | Column::Right(text) => paint(text, Tone::Dim, look),
        })
        .collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&heads).chain(rows).collect();
    let width = |n: usize| lines.iter().filter_map(|l| l.get(n)).map(|cell| measure_text_width(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(headings).zip(&widths).map(|((cell, heading), width)| {
            let alignment = match heading {
                Column::Left(_) => Alignment::Left,
                Column::Right(_) => Alignment::Right,
            };
            pad_str(cell, *width, alignment, None)
        });
        let joined = cells.collect::<Vec<_>>().join("  ");
        text.push_str(&" ".repeat(indent));
        text.push_str(joined.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: Style = Style { colour: false, unicode: true };

    #[test]
    fn bars_in_blocks_and_in_ascii() {
        assert_eq!(bar(0.5, 4, BLOCKS), "▕██  ▏");
        assert_eq!(bar(0.28, 4, BLOCKS), "▕█▏  ▏");
        assert_eq!(bar(1.0, 4, BLOCKS), "▕████▏");
        assert_eq!(bar(0.0, 4, BLOCKS), "▕    ▏");
        assert_eq!(bar(0.5, 4, Style::PLAIN), "[##..]");
        assert_eq!(bar(1.7, 4, Style::PLAIN), "[####]");
        assert_eq!(bar(f64::NAN, 4, Style::PLAIN), "[....]");
    }

    #[test]
    fn a_little_is_not_nothing_and_nearly_full_is_not_full() {
        assert_eq!(bar(0.001, 4, BLOCKS), "▕▏   ▏");
        assert_eq!(bar(0.999, 4, BLOCKS), "▕███▉▏");
        assert_eq!(bar(0.001, 4, Style::PLAIN), "[#...]");
        assert_eq!(bar(0.999, 4, Style::PLAIN), "[###.]");
    }

    #[test]
    fn every_bar_is_as_wide_as_asked() {
        for n in 0..=1000 {
            for look in [BLOCKS, Style::PLAIN] {
                assert_eq!(measure_text_width(&bar(f64::from(n) / 1000.0, 20, look)), 22, "{n}");
            }
        }
    }

    #[test]
    fn quantities() {
        let times = [0, 999, 1_000, 1_250, 10_000, 59_999, 61_000, 3_600_000, 90_000_000].map(duration);
        assert_eq!(times, ["0ms", "999ms", "1.0s", "1.2s", "10s", "59s", "1m01s", "1h00m", "1d01h"]);
        let sizes = [0, 1023, 1024, 1536, 3_000_000, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "2.9 MiB", "16384.0 PiB"]);
        assert_eq!([0.0, 0.1, 12.0, 99.94, 100.0, 1234.5].map(rate), ["0", "0.1", "12.0", "99.9", "100", "1234"]);
        assert_eq!((of_limit(3, Some(5)), of_limit(3, None)), ("3/5".into(), "3/-".into()));
        assert_eq!((count(1, "session"), count(0, "session")), ("1 session".into(), "0 sessions".into()));
    }

    #[test]
    fn dates() {
        assert_eq!(unix_time(0), "1970-01-01 00:00:00Z");
        assert_eq!(unix_time(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(unix_time(1_700_000_000_000), "2023-11-14 22:13:20Z");
        assert_eq!(unix_time(4_107_542_399_000), "2100-02-28 23:59:59Z");
    }

    #[test]
    fn columns_align_whatever_the_colour() {
        let look = Style { colour: true, unicode: true };
        let row = |name: &str, n: &str| vec![phase(Phase::Ready, look), name.into(), n.into()];
        let headings = [Column::Left("PHASE"), Column::Left("NAME"), Column::Right("N")];
        let text = columns(&headings, &[row("a", "1"), row("long", "1000")], 2, look);
        let plain = console::strip_ansi_codes(&text).into_owned();
        assert_eq!(plain, "  PHASE  NAME     N\n  ready  a        1\n  ready  long  1000\n");
        assert!(text.contains("\u{1b}[32mready\u{1b}[0m"), "{text:?}");
    }
}
