//! `holdline demo`: the loop in a minute, with nothing to install. It runs what `holdline run` runs, on a configuration that it writes itself, and
//! looks at it through the admin API like any other client.

mod crowd;
mod ledger;
mod show;
mod stage;
mod summary;
mod user;
mod wave;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

use self::show::Show;
use self::stage::NODES;
use self::wave::Wave;
use super::failure::Failure;
use super::output::{Format, Out};
use crate::config::units::{Period, Scalar};
use crate::runtime::{self, Hooks, Stop};
use crate::telemetry::logs;

/// Holdline's usual addresses, if nobody has them.
const LISTENER_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9900;

/// Ports of the nodes.
const NODE_PORTS: (u16, u16) = (20_000, 20_999);

/// The api gets the first two of these that nobody has: one for users, one for nodes. Not any free port: those of the kernel's choice may be taken by a
/// connection before the api listens.
const API_PORTS: (u16, u16) = (19_000, 19_999);

/// Each server is two processes of some MiB.
const SERVERS_MAX: u32 = 200;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holdline demo                                  one minute with 120 clients
  holdline demo --clients 1000 --capacity 100    more clients, larger servers
  holdline demo --seconds 20 --wave 3s -o json   a short run for scripts

Exit status: 0 if no session was lost, no backend was above its capacity and no delta was missing, else 1.")]
pub(super) struct DemoArgs {
    /// Number of simulated users: three quarters use WebSockets, the others event streams or long-poll
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=5000))]
    clients: u32,
    /// Time over which the users arrive
    #[arg(long, value_name = "D", default_value = "15s", value_parser = period)]
    wave: Duration,
    /// Capacity of each server, in sessions
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=5000))]
    capacity: u32,
    /// Length of the demo; on a terminal, Holdline keeps running afterwards until Ctrl-C
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

fn period(text: &str) -> Result<Duration, String> {
    Period::parse(text).map(|Period(d)| d).map_err(|e| e.to_string())
}

/// Runs the show. The status of the process says whether all went well.
pub(super) fn run(args: &DemoArgs, out: Out) -> Result<(), Failure> {
    let servers = servers(args)?;
    let executable = std::env::current_exe().map_err(|e| Failure::Failed(format!("cannot find this program's own file: {e}")))?;
    let scratch = Scratch::new().map_err(|e| Failure::Failed(format!("cannot make a directory for the servers' logs: {e}")))?;
    let ports = api_ports()?;
    let text = configuration(args, servers, ports, &executable, scratch.path());
    let config =
        crate::config::parse(&text, "the demo's configuration", scratch.path()).map_err(|e| Failure::Failed(e.to_string()))?;
    let log = logs::init(&config.log).map_err(|e| Failure::Failed(format!("cannot start the log: {e}")))?;

    let wave = Wave { clients: args.clients, arrive_over: args.wave, show: Duration::from_secs(args.seconds) };
    let stop = Stop::default();
    stop_with_the_terminal(stop.clone()).map_err(|e| Failure::Failed(format!("cannot watch signals: {e}")))?;
    let mut show = Show::new(wave, out, args.output, stop.clone());
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let audience = std::thread::Builder::new().name("audience".to_owned()).spawn(move || match receive.recv() {
        Ok(running) => show.play(&running),
        // Holdline did not start; it says why.
        Err(_) => Ok(()),
    });
    let audience = audience.map_err(|e| Failure::Failed(format!("cannot start a thread: {e}")))?;
    let ready = Box::new(move |running| {
        // The audience waits for this alone.
        let _ = send.send(running);
    });
    let ran = runtime::run(config, Hooks { ready, stop, log: Some(log.dropped()), ..Hooks::default() });
    let shown = audience.join().unwrap_or_else(|_| Err(Failure::Failed("the demo's clients failed".to_owned())));
    ran.map_err(|e| Failure::Failed(e.to_string()))?;
    shown
}

/// A terminal that is closed ends the demo in order, so that it leaves nothing behind.
fn stop_with_the_terminal(stop: Stop) -> std::io::Result<()> {
    let mut hangups = Signals::new([SIGHUP])?;
    // It waits for ever, and ends with the process.
    std::thread::Builder::new().name("hangup".to_owned()).spawn(move || hangups.forever().for_each(|_| stop.stop()))?;
    Ok(())
}

/// The most servers that the crowd needs: at 80 %, and two more for the drains.
fn servers(args: &DemoArgs) -> Result<u32, Failure> {
    let (clients, capacity) = (args.clients, args.capacity);
    let servers = (f64::from(clients) / (f64::from(capacity) * 0.8)).ceil() as u32 + 2;
    if servers > SERVERS_MAX {
        return Err(Failure::Usage(format!(
            "{clients} clients on servers that take {capacity} each need up to {servers} servers, more than the {SERVERS_MAX} that \
             the demo starts; raise --capacity or lower --clients"
        )));
    }
    Ok(servers)
}

/// What a user would write, with a quick eye: shorter times, so that a minute shows it all.
fn configuration(args: &DemoArgs, max: u32, (api, internal): (u16, u16), executable: &Path, scratch: &Path) -> String {
    let (first, last) = NODE_PORTS;
    let db = scratch.join("live.db");
    let (capacity, length) = (args.capacity, args.clients.max(100));
    format!(
        r#"listeners: [ {{ address: "{listener}" }} ]
admin: {{ address: "{admin}" }}
log: {{ level: error, access: false }}
shutdown: {{ deadline: 5s }}
routes:
  - {{ path: /, fleet: api }}
  - {{ path: /live, fleet: {NODES} }}
  - {{ path: /live/poll, fleet: {NODES}, sessions: true }}
fleets:
  api:
    backends:
      process:
        command: [{executable:?}, live, api, --port, "{{port}}", --internal, "{internal}", --db, {db:?}]
        ports: "{api}-{api}"
        log_dir: {scratch:?}
        stop_timeout: 5s
    capacity: 10000
    scale: {{ min: 1, max: 1 }}
  {NODES}:
    backends:
      process:
        command: [{executable:?}, live, node, --port, "{{port}}", --api, "http://127.0.0.1:{internal}", --start-delay-ms, "500"]
        ports: "{first}-{last}"
        log_dir: {scratch:?}
        stop_timeout: 5s
    capacity: {capacity}
    affinity: {{ by: cookie }}
    queue: {{ length: {length}, timeout: 30s }}
    heartbeat: {{ probe: http, interval: 250ms }}
    drain: {{ deadline: 20s, rate_max: 20/s }}
    scale:
      min: 1
      max: {max}
      behavior:
        up: {{ policies: [ {{ amount: 100%, period: 5s }}, {{ amount: 4, period: 5s }} ] }}
        down: {{ stabilization: 3s }}
"#,
        listener = free(LISTENER_PORT),
        admin = free(ADMIN_PORT),
    )
}

/// The usual port if it is free, else any. Who takes it in between is told by the bind.
fn free(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

/// Two ports for the api.
fn api_ports() -> Result<(u16, u16), Failure> {
    let (first, last) = API_PORTS;
    let mut free = (first..=last).filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    match (free.next(), free.next()) {
        (Some(api), Some(internal)) => Ok((api, internal)),
        _ => Err(Failure::Failed(format!("no two of the ports {first}-{last} are free on 127.0.0.1; the api needs them"))),
    }
}

/// A directory that goes with the demo.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("holdline-demo-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The system cleans its temporary files if this fails.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_configuration_is_one_that_run_takes() {
        for (clients, capacity) in [(1, 1), (120, 20), (5000, 5000), (158, 1)] {
            let args = DemoArgs { clients, wave: Duration::ZERO, capacity, seconds: 60, output: Format::Table };
            let dir = std::env::temp_dir();
            let text = configuration(&args, servers(&args).unwrap(), (19_000, 19_001), Path::new("/bin/sh"), &dir);
            crate::config::parse(&text, "demo", &dir).unwrap_or_else(|e| panic!("{e}\n{text}"));
        }
    }

    #[test]
    fn a_crowd_for_too_many_servers_is_refused() {
        let args = DemoArgs { clients: 5000, wave: Duration::ZERO, capacity: 1, seconds: 60, output: Format::Table };
        let refused = servers(&args).unwrap_err();
        assert_eq!(refused.exit_status(), 2);
        assert!(refused.to_string().contains("--capacity"), "{refused}");
    }
}
