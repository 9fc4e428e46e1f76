//! Stand-in until `config::units` is merged.
use std::time::Duration;

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (n, unit) = text.split_at(at);
    let n: u64 = n.parse().map_err(|_| format!("`{text}` is no duration; write 250ms, 10s or 5m"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(n)),
        "s" => Ok(Duration::from_secs(n)),
        "m" => Ok(Duration::from_secs(n * 60)),
        "h" => Ok(Duration::from_secs(n * 3600)),
        _ => Err(format!("`{text}` is no duration; write 250ms, 10s or 5m")),
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    text.strip_suffix("/s").and_then(|n| n.parse().ok()).ok_or_else(|| format!("`{text}` is no rate; write 100/s"))
}
