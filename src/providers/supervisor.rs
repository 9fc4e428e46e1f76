//! `holdline supervise`: the small process between Holdline and one backend, so that a backend never outlives Holdline.
//!
//! The parent-death signal follows the spawning thread and misses grandchildren (`docs/architecture.md`); a pipe does not.
//! Holdline holds the write end of the supervisor's stdin: a byte is an order, EOF means that Holdline is gone, even by SIGKILL.
//! Stdout reports events to Holdline, one per line; stderr is the backend's log. Single-threaded, no runtime.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use holdline_core::time::Moment;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getrlimit, setrlimit};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use crate::clock::Clock;

/// The hidden subcommand's name.
pub const SUBCOMMAND: &str = "supervise";
/// Order: SIGTERM to the group, SIGKILL after the stop timeout. The end of the pipe means the same.
pub(super) const STOP: u8 = b't';
/// Order: SIGKILL to the group at once.
pub(super) const KILL: u8 = b'k';

/// Runs `--stop-timeout Nms [--open-files N] -- COMMAND ARGS…` until its process group is gone.
///
/// Exit status: 0 when a backend ran (its own end is a line on stdout), 1 when it could not be started, 2 on bad arguments.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(Args { stop_timeout, open_files, command }) = parse(args) else {
        eprintln!("holdline supervise: internal command of `holdline run`, not meant to be called directly");
        return ExitCode::from(2);
    };
    if let Some(files) = open_files {
        limit_open_files(files);
    }
    match Group::start(&command, stop_timeout) {
        Ok((mut group, wake)) => {
            say(&format!("started {}", group.leader.as_raw_nonzero()));
            group.watch(wake);
            end_escaped();
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("failed {} {error}", error.raw_os_error().unwrap_or(0)));
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, PartialEq)]
struct Args {
    stop_timeout: Duration,
    /// The soft limit that the backend gets; `None`: ours.
    open_files: Option<u64>,
    command: Vec<OsString>,
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Args> {
    if args.next()? != "--stop-timeout" {
        return None;
    }
    let stop_timeout = Duration::from_millis(args.next()?.to_str()?.strip_suffix("ms")?.parse().ok()?);
    let mut next = args.next()?;
    let mut open_files = None;
    if next == "--open-files" {
        open_files = Some(args.next()?.to_str()?.parse().ok()?);
        next = args.next()?;
    }
    let command: Vec<_> = args.collect();
    (next == "--" && !command.is_empty()).then_some(Args { stop_timeout, open_files, command })
}

/// Holdline raised the limit for its own sockets. Backends get the original one: select(2) breaks above 1024, and some programs
/// close every possible descriptor at startup.
fn limit_open_files(files: u64) {
    let limit = getrlimit(Resource::Nofile);
    let lowered = Rlimit { current: Some(limit.maximum.map_or(files, |most| files.min(most))), ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, lowered) {
        eprintln!("holdline supervise: cannot set the limit of open files, it stays {:?}: {error}", limit.current);
    }
}

/// A write fails only when Holdline is gone; the line is not needed then.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The backend's process group. Its id is its leader's.
struct Group {
    leader: Pid,
    stop_timeout: Duration,
    clock: Clock,
    /// When SIGTERM is followed by SIGKILL; `None`: SIGTERM was not sent yet, or SIGKILL was.
    kill_at: Option<Moment>,
    stopping: bool,
    leader_ended: bool,
}

impl Group {
    fn start(command: &[OsString], stop_timeout: Duration) -> io::Result<(Group, Wake)> {
        // Before the child exists, so that its end cannot be missed.
        let wake = Wake::new()?;
        // What the backend starts and leaves behind becomes our child, so that we can wait for the whole group.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let child =
            Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).stdout(io::stderr()).process_group(0).spawn()?;
        let leader = Pid::from_child(&child);
        let group = Group { leader, stop_timeout, clock: Clock::start(), kill_at: None, stopping: false, leader_ended: false };
        Ok((group, wake))
    }

    /// Carries out orders until no process of the group is left.
    fn watch(&mut self, mut wake: Wake) {
        while !self.reap() {
            if self.kill_at.is_some_and(|at| self.clock.now() >= at) {
                self.kill();
            }
            match wake.wait(self.kill_at.map(|at| at.since(self.clock.now()))) {
                Woken::Stop => self.stop(),
                Woken::Kill => self.kill(),
                Woken::Look => {}
            }
        }
    }

    /// Collects what ended; whether the whole group did.
    fn reap(&mut self) -> bool {
        loop {
            // Any child first: adopted ones that left the group must not stay as zombies.
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                self.ended(pid, status);
            }
            match rustix::process::waitpgid(self.leader, WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status),
                Ok(None) => {
                    if self.leader_ended {
                        // Workers without their leader are useless and keep its port bound.
                        self.stop();
                    }
                    return false;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) {
        if pid == self.leader {
            self.leader_ended = true;
            say(&format!("exited {}", ExitStatus::from_raw(status.as_raw())));
        }
    }

    fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.signal(Signal::TERM);
            self.kill_at = Some(self.clock.now() + self.stop_timeout);
        }
    }

    fn kill(&mut self) {
        self.stopping = true;
        self.kill_at = None;
        self.signal(Signal::KILL);
    }

    /// The id is the group's as long as a member lives or is not reaped, so [`Group::reap`] must have said that one does.
    fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.leader, signal);
    }
}

/// Ends descendants that left the group (`setsid`): adopted by us, they are no better than other orphans.
fn end_escaped() {
    let children = || std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    loop {
        let pids: Vec<_> = children().split_whitespace().filter_map(|p| Pid::from_raw(p.parse().ok()?)).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

enum Woken {
    Stop,
    Kill,
    /// A child ended or the time is up.
    Look,
}

/// What the supervisor waits for: orders, signals, ends of children.
struct Wake {
    orders: Option<io::Stdin>,
    signals: UnixStream,
    ends: UnixStream,
}

impl Wake {
    fn new() -> io::Result<Self> {
        Ok(Wake { orders: Some(io::stdin()), signals: pipe(&[SIGTERM, SIGINT, SIGHUP])?, ends: pipe(&[SIGCHLD])? })
    }

    /// Waits for the next of them, at most `timeout`.
    fn wait(&mut self, timeout: Option<Duration>) -> Woken {
        let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: t.subsec_nanos().into() });
        let ready = {
            let stdin = self.orders.as_ref().map(|s| s.as_fd());
            // Once the pipe has ended, its place is taken by a descriptor that is polled anyway.
            let orders = stdin.unwrap_or(self.ends.as_fd());
            let fds = [orders, self.signals.as_fd(), self.ends.as_fd()];
            let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            // An interrupted poll tells of nothing: the caller looks and comes back.
            if poll(&mut fds, timeout.as_ref()).is_err() {
                return Woken::Look;
            }
            fds.map(|fd| !fd.revents().is_empty())
        };
        drain(&mut self.ends);
        if drain(&mut self.signals) {
            return Woken::Stop;
        }
        if ready[0] { self.order() } else { Woken::Look }
    }

    fn order(&mut self) -> Woken {
        let Some(stdin) = &self.orders else { return Woken::Look };
        let mut byte = [0];
        // Past the standard library's buffer: what lay there would not wake a poll.
        match rustix::io::read(stdin, &mut byte) {
            Ok(1) if byte[0] == KILL => Woken::Kill,
            Ok(1) => Woken::Stop,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Woken::Look,
            Ok(_) | Err(_) => {
                self.orders = None;
                Woken::Stop
            }
        }
    }
}

/// A stream that becomes readable on any of `signals`.
fn pipe(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for &signal in signals {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Empties `stream`; whether there was anything.
fn drain(stream: &mut UnixStream) -> bool {
    let mut bytes = [0; 64];
    let mut any = false;
    while matches!(stream.read(&mut bytes), Ok(1..)) {
        any = true;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Option<(u128, Option<u64>, usize)> {
        parse(args.iter().map(OsString::from)).map(|a| (a.stop_timeout.as_millis(), a.open_files, a.command.len()))
    }

    #[test]
    fn arguments_are_strict() {
        assert_eq!(parsed(&["--stop-timeout", "250ms", "--", "a", "--b"]), Some((250, None, 2)));
        assert_eq!(parsed(&["--stop-timeout", "250ms", "--open-files", "1024", "--", "a"]), Some((250, Some(1024), 1)));
        for bad in [
            &["--stop-timeout", "250ms", "--"][..],
            &["--stop-timeout", "250", "--", "a"],
            &["--stop-timeout", "-1ms", "--", "a"],
            &["--stop", "1ms", "--", "a"],
            &["--stop-timeout", "1ms", "a"],
            &["--stop-timeout", "1ms", "--open-files", "--", "a"],
            &["--stop-timeout", "1ms", "--open-files", "9", "a"],
            &[],
        ] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
    }
}
