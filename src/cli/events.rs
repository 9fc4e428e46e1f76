//! `holdline events`.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt;

use super::ClientArgs;
use super::client::Client;
use super::failure::Failure;
use super::output::{Format, Out};
use super::render::{Tone, paint, unix_time};
use super::status::unknown_fleet;
use crate::admin::api::EventBody;

/// Attempts to find a Holdline again that went away while it was followed; it may be restarting.
const RECONNECTS: u32 = 10;

/// Between two attempts.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// The longest line an event may have; more is not an event of ours.
const LINE_MAX: usize = 1024 * 1024;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdline events --follow\n  holdline events -o json | jq 'select(.kind == \"scale\")'")]
pub(super) struct EventsArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Continue with new events until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Show only this fleet
    #[arg(long)]
    fleet: Option<String>,
}

pub(super) async fn events(args: &EventsArgs, out: &mut Out) -> Result<(), Failure> {
    let client = args.client.client()?;
    let mut last = 0;
    if let Some(fleet) = &args.fleet {
        let status = client.status().await?.body;
        // One that is not configured any more may still have events.
        let is_known = status.fleets.iter().any(|f| f.name.as_str() == fleet);
        if !is_known && read(args, &client, Until::Now, &mut last, out).await? == 0 {
            return Err(unknown_fleet(fleet, &status));
        }
    }
    let until = if args.follow { Until::Stopped } else { Until::Now };
    read(args, &client, until, &mut last, out).await?;
    if !args.follow {
        return Ok(());
    }
    let mut attempts = 0;
    loop {
        let before = last;
        match read(args, &client, until, &mut last, out).await {
            Ok(_) | Err(Failure::NoAnswer { .. }) if last != before => attempts = 0,
            Ok(_) | Err(Failure::NoAnswer { .. }) if attempts < RECONNECTS => attempts += 1,
            Ok(_) => return Err(client.no_answer("it ends the stream again and again")),
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Which events are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Those there are.
    Now,
    /// Those to come as well.
    Stopped,
}

/// One stream, to its end; how many events of it were shown.
async fn read(args: &EventsArgs, client: &Client, until: Until, last: &mut u64, out: &mut Out) -> Result<u64, Failure> {
    let path = match until {
        Until::Now => "/v1/events?follow=0",
        Until::Stopped => "/v1/events",
    };
    let mut shown = 0;
    let mut body = client.stream(path, *last).await?.into_body();
    let mut lines = Lines::default();
    while let Some(frame) = body.frame().await {
        let chunk = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(_)) => continue,
            // A stream that breaks while it is followed is taken up again.
            Err(_) if until == Until::Stopped => return Ok(shown),
            Err(error) => return Err(client.no_answer(format!("the events broke off: {error}"))),
        };
        for line in lines.feed(&chunk)? {
            let Some(data) = line.strip_prefix("data: ") else { continue };
            shown += u64::from(show(args, data, last, out)?);
        }
    }
    Ok(shown)
}

/// Whether it is one of those that were asked for.
fn show(args: &EventsArgs, data: &str, last: &mut u64, out: &mut Out) -> Result<bool, Failure> {
    let event: EventBody = serde_json::from_str(data).map_err(|e| Failure::Failed(format!("not an event ({e}): {data}")))?;
    *last = event.id;
    if args.fleet.as_deref().is_some_and(|f| event.notice.fleet.as_ref().is_none_or(|name| name.as_str() != f)) {
        return Ok(false);
    }
    match args.client.output {
        Format::Json => out.line(data)?,
        Format::Table => {
            let name = |n: Option<&str>| n.unwrap_or("-").to_owned();
            let fleet = name(event.notice.fleet.as_ref().map(|f| f.as_str()));
            let place = event.notice.backend.as_ref().map_or(fleet.clone(), |b| format!("{fleet}/{b}"));
            let when = paint(&unix_time(event.at_unix_ms), Tone::Dim, out.style);
            out.line(&format!("{when}  {place}  {}", event.notice.message))?;
        }
    }
    Ok(true)
}

/// Puts lines together from whatever chunks they come in.
#[derive(Default)]
struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// The lines that `chunk` completes.
    fn feed(&mut self, chunk: &Bytes) -> Result<Vec<String>, Failure> {
        self.pending.extend_from_slice(chunk);
        let mut lines = Vec::new();
        while let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
        }
        if self.pending.len() > LINE_MAX {
            return Err(Failure::Failed("the event stream sends a line without end; is this a Holdline?".into()));
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_from_any_split() {
        let text = b"id: 1\r\ndata: x\n\ndata: y\n";
        for at in 0..=text.len() {
            let mut lines = Lines::default();
            let mut all = lines.feed(&Bytes::copy_from_slice(&text[..at])).expect("short");
            all.extend(lines.feed(&Bytes::copy_from_slice(&text[at..])).expect("short"));
            assert_eq!(all, ["id: 1", "data: x", "", "data: y"], "split at {at}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        assert!(lines.feed(&Bytes::from(vec![b'x'; LINE_MAX + 1])).is_err());
    }
}
