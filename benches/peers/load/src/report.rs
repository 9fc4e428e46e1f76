//! The table, and the same as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Failure, Options};

/// Metrics in the order of the table: name in the results, heading, and whether less is better.
const METRICS: [(&str, &str, bool); 4] = [
    ("memory", "user B/idle session", true),
    ("handshakes", "handshakes/s", false),
    ("roundtrips", "round trips/s", false),
    ("p99", "round trip p99 µs", true),
];

/// The contender that the others are compared with.
const BASE: &str = "haproxy";

/// What one contender's rounds gave for one metric.
struct Figures {
    median: f64,
    lowest: f64,
    highest: f64,
    rounds: usize,
}

impl Figures {
    fn of(mut values: Vec<f64>) -> Figures {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        Figures { median: (values[(n - 1) / 2] + values[n / 2]) / 2.0, lowest: values[0], highest: values[n - 1], rounds: n }
    }

    /// Half the range, as a share of the median.
    fn spread(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.highest - self.lowest) / 2.0 / self.median }
    }
}

pub(crate) fn write(options: &Options) -> Result<(), Failure> {
    let contenders = read(&std::fs::read_to_string(options.text("results")?)?)?;
    print!("{}", table(&contenders));
    let document = json!({
        "machine": options.text("machine")?,
        "versions": options.text("versions")?.lines().collect::<Vec<_>>(),
        "contenders": document(&contenders),
    });
    std::fs::write(options.text("json")?, format!("{document:#}\n"))?;
    Ok(())
}

type Contenders = BTreeMap<String, BTreeMap<String, Figures>>;

fn read(lines: &str) -> Result<Contenders, Failure> {
    let mut values: BTreeMap<String, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    for line in lines.lines() {
        let &[contender, metric, value] = line.split(' ').collect::<Vec<_>>().as_slice() else {
            return Err(format!("`{line}` is not CONTENDER METRIC VALUE").into());
        };
        let value = value.parse().map_err(|_| format!("`{line}`: not a number"))?;
        values.entry(contender.into()).or_default().entry(metric.into()).or_default().push(value);
    }
    let figures = |metrics: BTreeMap<String, Vec<f64>>| metrics.into_iter().map(|(m, v)| (m, Figures::of(v))).collect();
    Ok(values.into_iter().map(|(contender, metrics)| (contender, figures(metrics))).collect())
}

/// How many times better than [`BASE`].
fn ratio(contenders: &Contenders, contender: &str, metric: &str, less_is_better: bool) -> Option<f64> {
    let own = contenders.get(contender)?.get(metric)?.median;
    let base = contenders.get(BASE)?.get(metric)?.median;
    let ratio = if less_is_better { base / own } else { own / base };
    ratio.is_finite().then_some(ratio)
}

fn table(contenders: &Contenders) -> String {
    let mut rows = vec![vec!["contender".to_owned()]];
    rows[0].extend(METRICS.map(|(_, heading, _)| format!("{heading} (×{BASE})")));
    for (contender, metrics) in contenders {
        let mut row = vec![contender.clone()];
        for (metric, _, less) in METRICS {
            row.push(match (metrics.get(metric), ratio(contenders, contender, metric, less)) {
                (Some(f), Some(r)) => format!("{:.0} ±{:.0} % ({r:.2})", f.median, f.spread() * 100.0),
                (Some(f), None) => format!("{:.0} ±{:.0} %", f.median, f.spread() * 100.0),
                (None, _) => "–".to_owned(),
            });
        }
        rows.push(row);
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

fn document(contenders: &Contenders) -> Value {
    let metric = |contender: &str, (name, _, less): (&str, &str, bool)| {
        let f = contenders.get(contender)?.get(name)?;
        let ratio = ratio(contenders, contender, name, less);
        let figures = json!({
            "median": f.median, "lowest": f.lowest, "highest": f.highest, "rounds": f.rounds, "times_better_than_haproxy": ratio,
        });
        Some((name.to_owned(), figures))
    };
    let of = |contender: &String| METRICS.into_iter().filter_map(|m| metric(contender, m)).collect::<serde_json::Map<_, _>>();
    contenders.keys().map(|c| (c.clone(), Value::Object(of(c)))).collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_spread_and_ratios() {
        let results =
            "holdline memory 900\nholdline memory 800\nholdline memory 1000\nhaproxy memory 4500\nholdline handshakes 10\n";
        let contenders = read(results).unwrap();
        let memory = &contenders["holdline"]["memory"];
        assert_eq!((memory.median, memory.rounds), (900.0, 3));
        assert!((memory.spread() - 1.0 / 9.0).abs() < 1e-9);
        assert_eq!(ratio(&contenders, "holdline", "memory", true), Some(5.0));
        assert_eq!(ratio(&contenders, "holdline", "handshakes", false), None);
        let text = table(&contenders);
        assert!(text.contains("900 ±11 % (5.00)") && text.contains("–"), "{text}");
        assert!(read("holdline memory").is_err());
    }
}
