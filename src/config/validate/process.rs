//! Process fleets: whether the program can be started, and enough ports.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use holdline_core::policy::ProcessPolicy;

use super::super::Programs;
use super::super::located::At;
use super::super::raw_fleet::Process;
use super::super::raw_scale::Scale;
use super::super::units::PortRange;
use super::check::{Check, default_mark, later};

pub(super) fn process(check: &mut Check<'_>, fleet: &str, raw: &At<Process>, scale: &Scale) -> ProcessPolicy {
    let at = format!("fleets.{fleet}.backends.process");
    let process = &raw.value;
    let ports = process.ports.value;
    let count = u32::from(ports.last - ports.first) + 1;
    if count < scale.max.value.0 {
        let what =
            format!("{at}.ports {ports} has {count} ports, fewer than scale.max {}{}", scale.max.value, default_mark(&scale.max));
        check.wrong(
            later(&process.ports, &scale.max),
            what,
            "widen the range or lower scale.max; every backend needs a port of its own",
        );
    }
    ProcessPolicy {
        command: command(check, &at, raw),
        ports: (ports.first, ports.last),
        env: env(check, &at, process),
        ready_timeout: check.positive(&format!("{at}.ready_timeout"), &process.ready_timeout),
        stop_timeout: process.stop_timeout.value.0,
        log_dir: check.path(&process.log_dir.value),
    }
}

fn command(check: &mut Check<'_>, at: &str, raw: &At<Process>) -> Vec<String> {
    let process = &raw.value;
    let mut command: Vec<String> = process.command.value.iter().map(|word| word.value.clone()).collect();
    let Some(program) = command.first().filter(|p| !p.is_empty()) else {
        let line = later(raw, &process.command);
        check.wrong(line, format!("{at}.command is empty"), "write the program and its arguments: [server, --port, \"{port}\"]");
        return command;
    };
    let given = |text: &str| text.contains("{port}");
    if !command.iter().any(|w| given(w)) && !process.env.0.iter().any(|(_, v)| given(&v.value)) {
        let what = format!("{at}: neither command nor env contains {{port}}");
        check.wrong(
            process.command.line,
            what,
            "pass the port to the child: command: [server, --port, \"{port}\"], or env: { PORT: \"{port}\" }",
        );
    }
    if program.contains('/') {
        command[0] = check.path(program).to_string_lossy().into_owned();
    }
    if check.programs == Programs::LookUp {
        look_up(check, at, process, &command[0]);
    }
    command
}

/// Reports why the program cannot be started.
fn look_up(check: &mut Check<'_>, at: &str, process: &Process, program: &str) {
    let line = process.command.value[0].line;
    if program.contains('/') {
        let path = Path::new(program);
        if !path.is_file() {
            let what = format!("{at}.command: no such program: {program}");
            check.wrong(line, what, "correct the path (a relative one starts at the directory of this file), or build it first");
        } else if !is_executable(path) {
            check.wrong(line, format!("{at}.command: {program} is not executable"), format!("chmod +x {program}"));
        }
        return;
    }
    // The program is looked up in the PATH of the child.
    let own = process.env.0.iter().find(|(key, _)| key.value == "PATH").map(|(_, path)| OsString::from(&path.value));
    let path = own.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    if !std::env::split_paths(&path).any(|dir| is_executable(&dir.join(program))) {
        let what = format!("{at}.command: `{program}` is not in PATH");
        check.wrong(line, what, "install it, or write its path: ./bin/server starts at the directory of this file");
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn env(check: &mut Check<'_>, at: &str, process: &Process) -> Vec<(String, String)> {
    for (n, (key, _)) in process.env.0.iter().enumerate() {
        let name = key.value.as_str();
        if name.is_empty() || name.contains(['=', '\0']) {
            check.wrong(key.line, format!("{at}.env: `{name}` is not a valid variable name"), "write a name without `=`");
        }
        if let Some((first, _)) = process.env.0[..n].iter().find(|(other, _)| other.value == key.value) {
            check.wrong(key.line, format!("{at}.env: `{name}` is already on line {}", first.line), "remove one");
        }
    }
    process.env.0.iter().map(|(key, value)| (key.value.clone(), value.value.clone())).collect()
}

/// Port ranges of all process fleets, which must not overlap each other or Holdline's own ports.
#[derive(Default)]
pub(super) struct Ranges(Vec<(String, PortRange)>);

impl Ranges {
    /// Adds the range of `fleet`.
    pub(super) fn add(&mut self, check: &mut Check<'_>, fleet: &str, raw: &Process, own: &[SocketAddr]) {
        let range = raw.ports.value;
        let what = format!("fleets.{fleet}.backends.process.ports {range}{}", default_mark(&raw.ports));
        for (other, theirs) in &self.0 {
            if range.first <= theirs.last && theirs.first <= range.last {
                check.wrong(
                    raw.ports.line,
                    format!("{what} overlaps {theirs} of fleet `{other}`"),
                    "give each fleet a range of its own",
                );
            }
        }
        for address in own {
            if (range.first..=range.last).contains(&address.port()) {
                check.wrong(
                    raw.ports.line,
                    format!("{what} contains the port of {address}, where Holdline listens"),
                    "move the range or the port",
                );
            }
        }
        self.0.push((fleet.to_owned(), range));
    }
}
