//! The table, as the README has it, and the same as JSON with every round.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Failure;
use crate::figures::Figures;
use crate::options::Options;

/// Rows of the table: the metric's name in the results, and what it is called.
const METRICS: [(&str, &str); 24] = [
    ("memory", "user memory per idle WebSocket, B"),
    ("memory_large", "the same at 100,000 over eleven processes, B"),
    ("memory_sse", "user memory per idle event stream, B"),
    ("memory_tls", "user memory per idle WebSocket over TLS, B"),
    ("handshakes", "handshakes/s"),
    ("handshakes_cpu", "CPU per handshake, µs"),
    ("tls_handshakes", "full TLS 1.3 handshakes/s"),
    ("tls_handshakes_cpu", "CPU per full TLS handshake, µs"),
    ("roundtrips_100", "round trips/s on 100 connections"),
    ("roundtrips_100_p99", "p99 of these, µs"),
    ("roundtrips_100_cpu", "CPU per round trip, µs"),
    ("roundtrips_1000", "round trips/s on 1,000 connections"),
    ("roundtrips_1000_p99", "p99 of these, µs"),
    ("roundtrips_1000_cpu", "CPU per round trip, µs"),
    ("paced_p50", "p50 at 10,000 messages/s, µs"),
    ("paced_p99", "p99 at 10,000 messages/s, µs"),
    ("paced_cpu", "CPU per message, µs"),
    ("bulk_64k", "messages of 64 KiB, MB/s"),
    ("bulk_1m", "messages of 1 MiB, MB/s"),
    ("flood_rate", "handshakes/s of a flood (half of the contender's own most)"),
    ("flood_p50", "p50 of 100 held sessions meanwhile, µs"),
    ("flood_p99", "p99 of 100 held sessions meanwhile, µs"),
    ("flood_left_out", "handshakes of the flood left out"),
    ("calm_p99", "p99 of 100 held sessions without a flood, µs"),
];

/// Columns in this order; those that were not run are left out.
const CONTENDERS: [&str; 4] = ["holdline", "haproxy", "nginx", "envoy"];

/// The contender that is compared with the others.
const OWN: &str = "holdline";

pub(crate) fn write(options: &Options) -> Result<(), Failure> {
    let results = read(&std::fs::read_to_string(options.text("results")?)?)?;
    print!("{}", results.table());
    let lines = |key: &str| options.text(key).map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let document = json!({
        "machine": options.text("machine")?,
        "versions": lines("versions")?,
        "notes": lines("notes")?,
        "contenders": results.document(),
    });
    std::fs::write(options.text("json")?, format!("{document:#}\n"))?;
    Ok(())
}

struct Results(BTreeMap<String, BTreeMap<String, Figures>>);

fn read(lines: &str) -> Result<Results, Failure> {
    let mut values: BTreeMap<String, BTreeMap<String, Figures>> = BTreeMap::new();
    for line in lines.lines() {
        let &[contender, metric, value] = line.split(' ').collect::<Vec<_>>().as_slice() else {
            return Err(format!("`{line}` is not CONTENDER METRIC VALUE").into());
        };
        if !METRICS.iter().any(|(name, _)| *name == metric) {
            return Err(format!("`{line}`: no metric is called `{metric}`").into());
        }
        let value = value.parse().map_err(|_| format!("`{line}`: not a number"))?;
        values.entry(contender.into()).or_default().entry(metric.into()).or_default().0.push(value);
    }
    Ok(Results(values))
}

impl Results {
    fn of(&self, contender: &str, metric: &str) -> Option<&Figures> {
        self.0.get(contender)?.get(metric)
    }

    /// Our own figures and each peer's with our ratio to it, for the metrics that anybody has.
    fn table(&self) -> String {
        let columns: Vec<&str> = CONTENDERS.into_iter().filter(|c| self.0.contains_key(*c)).collect();
        let mut rows = vec![[vec![String::new()], columns.iter().map(|c| name(c).to_owned()).collect()].concat()];
        for (metric, heading) in METRICS {
            if columns.iter().any(|c| self.of(c, metric).is_some()) {
                let cells = columns.iter().map(|c| self.cell(c, metric)).collect();
                rows.push([vec![heading.to_owned()], cells].concat());
            }
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = format!("|{}|\n", widths.iter().map(|w| "-".repeat(w + 2)).collect::<Vec<_>>().join("|"));
        line(&rows[0]) + &rule + &rows[1..].iter().map(line).collect::<String>()
    }

    fn cell(&self, contender: &str, metric: &str) -> String {
        let Some(figures) = self.of(contender, metric) else { return "–".to_owned() };
        let text = format!("{} ±{:.0} %", grouped(figures.median()), figures.spread() * 100.0);
        let ours = self.of(OWN, metric).filter(|_| contender != OWN);
        match ours.and_then(|ours| Some((ours.ratio(figures)?, ours.ratio_interval(figures)?))) {
            Some((ratio, (low, high))) => format!("{text}, {ratio:.2} ({low:.2}–{high:.2})"),
            None => text,
        }
    }

    fn document(&self) -> Value {
        let metric = |contender: &str, metric: &str, figures: &Figures| {
            let ours = self.of(OWN, metric).filter(|_| contender != OWN);
            json!({
                "median": figures.median(), "lowest": figures.lowest(), "highest": figures.highest(), "rounds": figures.0,
                "holdline_to_this": ours.and_then(|o| o.ratio(figures)),
                "holdline_to_this_95": ours.and_then(|o| o.ratio_interval(figures)).map(|(low, high)| [low, high]),
            })
        };
        let of = |contender: &String, metrics: &BTreeMap<String, Figures>| {
            metrics.iter().map(|(name, figures)| (name.clone(), metric(contender, name, figures))).collect::<Map<_, _>>().into()
        };
        self.0.iter().map(|(contender, metrics)| (contender.clone(), of(contender, metrics))).collect::<Map<_, _>>().into()
    }
}

fn name(contender: &str) -> &str {
    match contender {
        "holdline" => "Holdline",
        "haproxy" => "HAProxy",
        "envoy" => "Envoy",
        other => other,
    }
}

/// `11105.2` as `11,105`; small figures keep a decimal.
fn grouped(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_a_metric_and_a_ratio_a_peer() {
        let results =
            "holdline memory 900\nholdline memory 800\nholdline memory 1000\nhaproxy memory 4500\nholdline handshakes 11105\n";
        let results = read(results).unwrap();
        // Columns are padded.
        let table =
            results.table().lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect::<String>();
        assert!(table.contains("| user memory per idle WebSocket, B | 900 ±11 % | 4,500 ±0 %, 0.20 (0.18–0.22) |"), "{table}");
        assert!(table.contains("| 11,105 ±0 % | –"), "{table}");
        assert_eq!(table.lines().count(), 4, "metrics that nobody has are left out:\n{table}");
        let document = results.document();
        assert_eq!(document["haproxy"]["memory"]["holdline_to_this"], 0.2, "{document:#}");
        assert_eq!(document["holdline"]["memory"]["rounds"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn what_is_no_figure_is_named() {
        assert!(read("holdline memory").is_err_and(|e| e.to_string().contains("CONTENDER METRIC VALUE")));
        assert!(read("holdline tea 1").is_err_and(|e| e.to_string().contains("no metric is called `tea`")));
        assert!(read("holdline memory much").is_err_and(|e| e.to_string().contains("not a number")));
    }
}
