//! The fleet table of `status`, `top` and the demo.
//!
//! Layout is by `console`, which measures and pads coloured cells; [`columns`] adds no more than rows and indentation. A crate for tables
//! (`comfy-table`, `tabled`) wraps or cuts cells that do not fit, where this leaves whole columns out, which is the rest of this file.

use std::fmt::Write;

use console::measure_text_width;

use super::render::{self, Column, Style, Tone, columns, count, duration, of_limit, paint, rate};
use crate::admin::api::{BackendBody, FleetBody, MoveBody, StatusBody};

/// Columns and widths of a table, from the widest to the narrowest.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Cells of a fill bar.
    bar: usize,
    /// Columns ADDRESS, and REPORTED and HEARTBEAT.
    address: bool,
    heartbeat: bool,
}

const WHOLE: Layout = Layout { bar: 20, address: true, heartbeat: true };

const LAYOUTS: [Layout; 5] = [
    WHOLE,
    Layout { bar: 10, ..WHOLE },
    Layout { bar: 10, address: false, heartbeat: true },
    Layout { bar: 10, address: false, heartbeat: false },
    Layout { bar: 5, address: false, heartbeat: false },
];

/// Columns reserved for the progress of a drain, so that the layout does not change when one begins.
const NOTE: usize = 28;

/// All fleets, one line per backend.
pub fn fleet_table_in(status: &StatusBody, look: Style) -> String {
    fleet_table(status, look, WHOLE)
}

/// The same with the columns that a terminal of this width has room for. Its lines may be longer all the same.
pub(super) fn fleet_table_within(status: &StatusBody, look: Style, columns: usize) -> String {
    let width = |layout: &Layout| {
        let tables = status.fleets.iter().map(|fleet| backends(fleet, look, *layout, false));
        tables.flat_map(|t| t.lines().map(measure_text_width).collect::<Vec<_>>()).max().unwrap_or(0)
    };
    let fits = LAYOUTS.iter().find(|layout| width(layout) + NOTE <= columns);
    fleet_table(status, look, *fits.unwrap_or(&LAYOUTS[LAYOUTS.len() - 1]))
}

fn fleet_table(status: &StatusBody, look: Style, layout: Layout) -> String {
    let mut text = String::new();
    if status.shutting_down {
        text.push_str(&paint("Holdline is stopping\n", Tone::Bad, look));
    }
    for (n, fleet) in status.fleets.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        text.push_str(&heading(fleet, look));
        text.push_str(&backends(fleet, look, layout, true));
    }
    text
}

fn heading(fleet: &FleetBody, look: Style) -> String {
    let mut parts = vec![format!(
        "{}{}",
        count(fleet.sessions, "session"),
        fleet.capacity.map_or(", no limit".into(), |c| format!(" of {c}"))
    )];
    if fleet.queued > 0 {
        let waiting = format!("{} waiting, the oldest for {}", fleet.queued, duration(fleet.oldest_wait_ms));
        parts.push(paint(&waiting, Tone::Busy, look));
    }
    let backends = count(fleet.backends.len() as u64, "backend");
    parts.push(match fleet.leaving {
        true => format!("{backends}, {}", paint("leaving", Tone::Busy, look)),
        false => format!("{backends}, {} desired{}", fleet.desired, scale_note(fleet)),
    });
    let mut text = format!("{}  {}\n", paint(fleet.name.as_str(), Tone::Strong, look), parts.join("; "));
    let _ = writeln!(text, "  {}", traffic(fleet, look));
    if !fleet.reason.is_empty() {
        let _ = writeln!(text, "  {}", paint(&fleet.reason, Tone::Dim, look));
    }
    if let Some(rebalance) = &fleet.rebalance {
        let _ = writeln!(text, "  {}", paint(&format!("rebalance: {}", progress(rebalance)), Tone::Busy, look));
    }
    text
}

/// Current rates of a fleet, and its refusals since startup.
fn traffic(fleet: &FleetBody, look: Style) -> String {
    let mut refused: Vec<_> = fleet.refused_total.iter().filter(|(_, n)| **n > 0).collect();
    refused.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let refused = refused.iter().map(|(cause, n)| format!("{n} {cause}")).collect::<Vec<_>>().join(", ");
    let refusals = format!("{} refusals/s", rate(fleet.refused_per_s));
    let refusals = if fleet.refused_per_s > 0.0 { paint(&refusals, Tone::Bad, look) } else { refusals };
    let so_far = if refused.is_empty() { String::new() } else { format!("; refused in total: {refused}") };
    format!("{} arrivals/s, {} ends/s, {refusals}{so_far}", rate(fleet.arrivals_per_s), rate(fleet.ended_per_s))
}

fn scale_note(fleet: &FleetBody) -> String {
    // For a static fleet, "advice" already says that.
    let held = fleet.limited_by.as_ref().filter(|by| *by != "static");
    let held = held.map(|by| format!(", limited by {by}")).unwrap_or_default();
    match (fleet.elastic, fleet.scale_to) {
        (_, Some(_)) => " (fixed)".into(),
        (false, None) => format!(" (advice{held})"),
        (true, None) => format!(" ({} to {}{held})", fleet.min, fleet.max),
    }
}

fn backends(fleet: &FleetBody, look: Style, layout: Layout, notes: bool) -> String {
    if fleet.backends.is_empty() {
        return format!("  {}\n", paint("no backends", Tone::Dim, look));
    }
    let headings = [
        (true, Column::Left("BACKEND")),
        (layout.address, Column::Left("ADDRESS")),
        (true, Column::Left("PHASE")),
        (true, Column::Left("FILL")),
        (true, Column::Right("SESSIONS")),
        (layout.heartbeat, Column::Right("REPORTED")),
        (layout.heartbeat, Column::Right("HEARTBEAT")),
        (notes, Column::Left("")),
    ];
    let shown: Vec<Column> = headings.iter().filter(|(shown, _)| *shown).map(|(_, column)| *column).collect();
    let rows = fleet.backends.iter().map(|b| {
        let cells = row(b, fleet.fill, look, layout.bar);
        cells.into_iter().zip(&headings).filter(|(_, (shown, _))| *shown).map(|(cell, _)| cell).collect()
    });
    columns(&shown, &rows.collect::<Vec<Vec<String>>>(), 2, look)
}

fn row(backend: &BackendBody, fill: f64, look: Style, bar: usize) -> [String; 8] {
    let taken = u64::from(backend.sessions) + u64::from(backend.foreign);
    [
        backend.id.to_string(),
        backend.address.map_or("-".into(), |a| a.to_string()),
        render::phase(backend.phase, look),
        fill_bar(taken, backend.capacity, fill, look, bar),
        of_limit(backend.sessions.into(), backend.capacity.map(Into::into)),
        backend.reported.map_or("-".into(), |n| n.to_string()),
        backend.heartbeat_age_ms.map_or("never".into(), duration),
        backend.draining.as_ref().map(|m| paint(&progress(m), Tone::Busy, look)).unwrap_or_default(),
    ]
}

/// Green below the fleet's fill, yellow up to the capacity, red above it (a capacity may be lowered below what is there).
fn fill_bar(taken: u64, capacity: Option<u32>, fill: f64, look: Style, cells: usize) -> String {
    let Some(capacity) = capacity else { return String::new() };
    let share = if capacity > 0 { taken as f64 / f64::from(capacity) } else { taken.min(1) as f64 };
    let tone = match share {
        s if s > 1.0 => Tone::Bad,
        s if s > fill => Tone::Busy,
        _ => Tone::Good,
    };
    paint(&render::bar(share, cells, look), tone, look)
}

/// Progress of a move.
pub(super) fn progress(m: &MoveBody) -> String {
    let left = format!("{} of {} left", m.remaining, m.total);
    match (m.due_in_ms, m.deadline_in_ms) {
        (0, 0) => format!("{left}, the deadline passed"),
        (0, deadline) => format!("{left}, late, cut in {}", duration(deadline)),
        (due, _) => format!("{left}, due in {}", duration(due)),
    }
}

#[cfg(test)]
mod tests {
    use holdline_core::time::Moment;

    use super::*;
    use crate::admin::doubles::{backend, chat, fleet, moving, snapshot};
    use crate::admin::status_body;

    fn body() -> StatusBody {
        let mut idle = fleet("feed", vec![]);
        idle.scale_to = Some(0);
        idle.queued = 0;
        status_body(&snapshot(vec![chat(), idle]), "local", Moment::START)
    }

    #[test]
    fn plain_for_files_and_pipes() {
        let expected = "\
chat  62 sessions of 50; 4 waiting, the oldest for 1.2s; 3 backends, 3 desired (advice, limited by queue)
  3.3 arrivals/s, 1.5 ends/s, 0.5 refusals/s; refused in total: 9 queue_full
  62 sessions and 4 waiting need 3 backends of 50 at 80 %
  BACKEND  ADDRESS         PHASE     FILL                    SESSIONS  REPORTED  HEARTBEAT
  b-1      127.0.0.1:9001  ready     [####################]     50/50        50      250ms
  b-2      127.0.0.1:9001  draining  [#####...............]     12/50        12      250ms  12 of 40 left, due in 5.0s
  b-3      -               starting  [....................]      0/50         0      never

feed  0 sessions of 0; 0 backends, 3 desired (fixed)
  3.3 arrivals/s, 1.5 ends/s, 0.5 refusals/s; refused in total: 9 queue_full
  62 sessions and 4 waiting need 3 backends of 50 at 80 %
  no backends
";
        assert_eq!(fleet_table_in(&body(), Style::PLAIN), expected);
    }

    #[test]
    fn colours_and_blocks_change_nothing_but_the_look() {
        let look = Style { colour: true, unicode: true };
        let text = fleet_table_in(&body(), look);
        assert!(text.contains("\u{1b}[33m▕████████████████████▏\u{1b}[0m"), "full is yellow: {text}");
        assert!(text.contains("\u{1b}[32m▕████▊               ▏\u{1b}[0m"), "{text}");
        let blocks = fleet_table_in(&body(), Style { colour: false, unicode: true });
        assert_eq!(console::strip_ansi_codes(&text), blocks);
    }

    #[test]
    fn what_needs_a_look_is_said() {
        let mut view = fleet("chat", vec![backend("b-1", holdline_core::cause::Phase::Ready, 60, Some(50))]);
        view.rebalance = Some(moving(3, 9));
        let mut gone = fleet("feed", vec![]);
        gone.leaving = true;
        let mut status = status_body(&snapshot(vec![view, gone]), "local", Moment::START);
        status.shutting_down = true;
        let text = fleet_table_in(&status, Style { colour: true, unicode: false });
        assert!(text.starts_with("\u{1b}[31mHoldline is stopping"), "{text}");
        assert!(text.contains("rebalance: 3 of 9 left, due in 5.0s"), "{text}");
        assert!(text.contains("1.5 ends/s, \u{1b}[31m0.5 refusals/s\u{1b}[0m; refused"), "{text}");
        assert!(text.contains("0 backends, \u{1b}[33mleaving\u{1b}[0m\n"), "{text}");
        assert!(text.contains("\u{1b}[31m[####################]"), "above its capacity is red: {text}");
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns_whether_or_not_something_drains() {
        let mut status = body();
        let heads = |status: &StatusBody, columns| {
            let text = fleet_table_within(status, Style::PLAIN, columns);
            text.lines().find(|l| l.contains("BACKEND")).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for _ in 0..2 {
            assert_eq!(heads(&status, 130), "BACKEND ADDRESS PHASE FILL SESSIONS REPORTED HEARTBEAT");
            assert_eq!(heads(&status, 95), "BACKEND PHASE FILL SESSIONS REPORTED HEARTBEAT");
            assert_eq!(heads(&status, 70), "BACKEND PHASE FILL SESSIONS");
            assert_eq!(heads(&status, 10), "BACKEND PHASE FILL SESSIONS");
            status.fleets[0].backends[1].draining = None;
        }
    }

    #[test]
    fn a_quiet_fleet_refused_nobody() {
        let mut view = fleet("chat", vec![]);
        view.traffic = holdline_core::traffic::Traffic::default();
        let text = fleet_table_in(&status_body(&snapshot(vec![view]), "local", Moment::START), Style::PLAIN);
        assert!(text.contains("\n  0 arrivals/s, 0 ends/s, 0 refusals/s\n"), "{text}");
    }

    #[test]
    fn advice_is_not_said_twice() {
        let mut view = fleet("chat", vec![]);
        view.decision =
            std::sync::Arc::new(holdline_core::scale::Decision { limited_by: Some("static"), ..(*view.decision).clone() });
        let text = fleet_table_in(&status_body(&snapshot(vec![view]), "local", Moment::START), Style::PLAIN);
        assert!(text.contains("3 desired (advice)\n"), "{text}");
    }

    #[test]
    fn no_limit_has_no_bar() {
        let view = fleet("chat", vec![backend("b-1", holdline_core::cause::Phase::Ready, 7, None)]);
        let status = status_body(&snapshot(vec![view]), "local", Moment::START);
        let text = fleet_table_in(&status, Style::PLAIN);
        assert!(text.contains("7 sessions, no limit;") && text.contains("7/-") && !text.contains('['), "{text}");
    }
}
