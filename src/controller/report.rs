//! The body of a heartbeat, pulled or pushed: the backend's own report.

use holdline_core::event::Heartbeat;
use serde::Deserialize;

/// The longest body that is read; a report has a hundred bytes.
pub const REPORT_MAX: usize = 64 * 1024;

/// `{"sessions": 412, "capacity": 1000, "state": "ready" | "draining"}`; each is optional, other keys are the backend's own.
#[derive(Debug, Deserialize)]
struct Report {
    sessions: Option<u32>,
    capacity: Option<u32>,
    state: Option<ReportedState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReportedState {
    Ready,
    Draining,
}

/// A body that looks like a report but is invalid.
#[derive(Debug, thiserror::Error)]
#[error("{0}; expected {{\"sessions\": N, \"capacity\": N, \"state\": \"ready\" | \"draining\"}}, each optional")]
pub struct BadReport(#[from] serde_json::Error);

/// Parses a body into a heartbeat that is `ready` by its status. A body that is not a JSON object ("OK") is accepted as an empty report.
///
/// # Errors
/// An object with invalid values: negative, too large, or an unknown state.
pub fn read_report(body: &[u8], ready: bool) -> Result<Heartbeat, BadReport> {
    let mut heartbeat = Heartbeat { ready, ..Heartbeat::default() };
    if body.trim_ascii_start().first() == Some(&b'{') {
        let report: Report = serde_json::from_slice(body)?;
        heartbeat.sessions = report.sessions;
        heartbeat.capacity = report.capacity;
        heartbeat.draining = report.state == Some(ReportedState::Draining);
    }
    Ok(heartbeat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let heartbeat = read_report(br#" {"sessions": 412, "capacity": 1000, "state": "draining", "load": 0.3}"#, true).unwrap();
        assert_eq!((heartbeat.sessions, heartbeat.capacity), (Some(412), Some(1000)));
        assert!(heartbeat.ready && heartbeat.draining);
    }

    #[test]
    fn no_report_is_no_news() {
        for body in [&b""[..], b"OK", b"<html>", b"[1]", b"412", b"{}", b"\xff\xfe"] {
            assert_eq!(read_report(body, true).unwrap(), Heartbeat { ready: true, ..Heartbeat::default() });
        }
    }

    #[test]
    fn rubbish_is_told_from_nothing() {
        for body in [
            r#"{"sessions": -1}"#,
            r#"{"sessions": 4294967296}"#,
            r#"{"sessions": 1.5}"#,
            r#"{"capacity": "many"}"#,
            r#"{"state": "tired"}"#,
            r#"{"sessions": 1"#,
            r#"{"sessions": 1, "sessions": 2}"#,
        ] {
            let error = read_report(body.as_bytes(), true).unwrap_err().to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }
}
