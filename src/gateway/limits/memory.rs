//! What Holdline uses of the machine's memory, the kernel's sockets included, which weigh more than sessions do.
//!
//! The control group tells it best, if it is Holdline's own (a container, a service): it knows every page, and its limit is what the
//! kernel kills by. A group that is shared with other programs says nothing of us; then it is the resident memory, four KiB for each
//! socket, and of all TCP buffers of the machine the share of our sockets among all.
//!
//! The files stay open: memory runs short when descriptors do.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdline_core::pressure::{Change, Pressure};
use tokio::time::MissedTickBehavior;

use super::descriptors::Descriptors;
use crate::clock::Clock;
use crate::telemetry::Metrics;

/// A storm of handshakes can fill as much as it does in this time beyond the ceiling.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Of a TCP socket in Linux 6: `tcp_sock` 2.4 KB, inode and dentry 1 KB, file and epoll entries 0.5 KB.
const SOCKET_BYTES: u64 = 4096;

/// `memory.stat` has about 2 KB.
const FILE_MAX: usize = 16 << 10;

/// Keeps `is_short` to whether memory in use is above `ceiling`, which a reload changes, for ever.
pub(crate) async fn watch(
    meter: Option<Meter>,
    ceiling: impl Fn() -> Option<u64>,
    descriptors: &Descriptors,
    is_short: &AtomicBool,
    metrics: &Metrics,
    clock: Clock,
) {
    let mut pressure = Pressure::default();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_told = false;
    loop {
        looks.tick().await;
        let ceiling = ceiling();
        let read = meter.as_ref().map_or(Err(io::ErrorKind::Unsupported.into()), |m| m.read(descriptors.sockets()));
        let used = match read {
            Ok(used) => used,
            Err(error) => {
                if ceiling.is_some() && !is_told {
                    tracing::warn!(%error, "memory in use cannot be told: limits.memory refuses nothing");
                    is_told = true;
                }
                continue;
            }
        };
        metrics.memory(used, ceiling);
        let change = pressure.look(used, ceiling, clock.now());
        is_short.store(pressure.refuses(), Ordering::Relaxed);
        match change {
            Some(Change::Refuses) => {
                tracing::warn!(used, ceiling, "memory is above limits.memory: no new session begins");
            }
            Some(Change::Admits { since }) => {
                let after_ms = clock.now().since(since).as_millis() as u64;
                tracing::info!(used, ceiling, after_ms, "memory is below limits.memory: sessions begin again");
            }
            None => {}
        }
    }
}

/// Where memory in use is read.
#[derive(Debug)]
pub struct Meter(Kind);

#[derive(Debug)]
enum Kind {
    Group {
        used: File,
        /// `None`: nothing is known of its cache.
        stat: Option<File>,
        /// The line of what the kernel can take back at once: files that were read or written and not used since.
        cache: &'static str,
    },
    Process {
        statm: File,
        sockstat: Option<File>,
    },
}

impl Meter {
    /// For this process, before it starts others. `None`: this system has neither of the files.
    pub fn find() -> Option<Self> {
        Self::find_in(Path::new("/proc"), Path::new("/sys/fs/cgroup"), std::process::id())
    }

    fn find_in(proc: &Path, groups: &Path, pid: u32) -> Option<Self> {
        if let Some(group) = own_group(proc, groups, pid) {
            return Some(Meter(group));
        }
        let statm = File::open(proc.join("self/statm")).ok()?;
        let sockstat = File::open(proc.join("self/net/sockstat")).ok();
        Some(Meter(Kind::Process { statm, sockstat }))
    }

    /// Bytes in use. `sockets`: as many are ours.
    fn read(&self, sockets: usize) -> io::Result<u64> {
        let mut buffer = [0; FILE_MAX];
        match &self.0 {
            Kind::Group { used, stat, cache } => {
                let used = number(text(used, &mut buffer)?.trim())?;
                let Some(stat) = stat else { return Ok(used) };
                let line = text(stat, &mut buffer)?.lines().find_map(|l| l.strip_prefix(cache)?.strip_prefix(' ')?.parse().ok());
                Ok(used.saturating_sub(line.unwrap_or(0)))
            }
            Kind::Process { statm, sockstat } => {
                let page = rustix::param::page_size() as u64;
                let resident = number(text(statm, &mut buffer)?.split(' ').nth(1).unwrap_or_default())?;
                let sockets = sockets as u64;
                let buffers = match sockstat {
                    Some(file) => share_of_buffers(text(file, &mut buffer)?, sockets) * page,
                    None => 0,
                };
                Ok(resident * page + sockets * SOCKET_BYTES + buffers)
            }
        }
    }
}

/// Pages of TCP buffers that are ours, if all sockets have alike: `TCP: inuse 7 orphan 0 tw 2 alloc 9 mem 120`.
fn share_of_buffers(sockstat: &str, sockets: u64) -> u64 {
    let line = sockstat.lines().find_map(|l| l.strip_prefix("TCP: ")).unwrap_or_default();
    let after = |word: &str| -> u64 {
        let mut words = line.split(' ').skip_while(|w| *w != word).skip(1);
        words.next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    after("mem").saturating_mul(sockets) / after("alloc").max(sockets).max(1)
}

/// The control group of this process, if it contains only this process, its children and its ancestors.
fn own_group(proc: &Path, groups: &Path, pid: u32) -> Option<Kind> {
    let memberships = fs::read_to_string(proc.join("self/cgroup")).ok()?;
    // `hierarchy:controllers:path`, without controllers in version 2.
    memberships.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let (root, used, cache) = match controllers {
            "" => (groups.to_owned(), "memory.current", "inactive_file"),
            _ if controllers.split(',').any(|c| c == "memory") => {
                (groups.join("memory"), "memory.usage_in_bytes", "total_inactive_file")
            }
            _ => return None,
        };
        // In a container the path may be the host's, and the root ours.
        let is_ours = |dir: &PathBuf| dir.join(used).is_file() && holds_only_us(proc, dir, pid);
        let dir = [root.join(path), root].into_iter().find(is_ours)?;
        let stat = File::open(dir.join("memory.stat")).ok();
        Some(Kind::Group { used: File::open(dir.join(used)).ok()?, stat, cache })
    })
}

/// Whether we are in the group, and everybody else in it is one who started us: an init, a shell.
fn holds_only_us(proc: &Path, dir: &Path, pid: u32) -> bool {
    let Ok(members) = fs::read_to_string(dir.join("cgroup.procs")) else { return false };
    let family: Vec<u32> = std::iter::successors(Some(pid), |pid| parent(proc, *pid)).take(64).collect();
    let mut members = members.lines().map(|l| l.parse().unwrap_or(0)).peekable();
    members.peek().is_some() && members.all(|member| family.contains(&member))
}

/// `pid (name) state ppid …`, and the name may have anything in it.
fn parent(proc: &Path, pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split(' ').nth(2)?.parse().ok().filter(|parent| *parent > 0)
}

fn text<'a>(file: &File, buffer: &'a mut [u8]) -> io::Result<&'a str> {
    let length = file.read_at(buffer, 0)?;
    std::str::from_utf8(&buffer[..length]).map_err(io::Error::other)
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/proc` and `/sys/fs/cgroup` of a machine that is not there. We are 7, started by 6, started by 1.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str, membership: &str) -> Self {
            let machine = Machine(std::env::temp_dir().join(format!("holdline-memory-{}-{name}", std::process::id())));
            machine.write("proc/self/cgroup", membership);
            machine.write("proc/self/statm", "900 100 20 1 0 80 0\n");
            machine.write(
                "proc/self/net/sockstat",
                "sockets: used 99\nTCP: inuse 8 orphan 0 tw 5 alloc 20 mem 50\nUDP: inuse 0 mem 7\n",
            );
            machine.write("proc/7/stat", "7 (hold) line) S 6 7 7 0");
            machine.write("proc/6/stat", "6 (sh) S 1 6 6 0");
            machine.write("proc/1/stat", "1 (init) S 0 1 1 0");
            machine
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn used(&self, sockets: usize) -> u64 {
            let meter = Meter::find_in(&self.0.join("proc"), &self.0.join("cgroup"), 7).unwrap();
            meter.read(sockets).unwrap()
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_group_of_ones_own_counts_without_its_cold_cache() {
        let machine = Machine::new("v2", "0::/system.slice/holdline.service\n");
        let file = |name: &str, text: &str| machine.write(&format!("cgroup/system.slice/holdline.service/{name}"), text);
        file("memory.current", "5000000\n");
        file("memory.stat", "anon 1000\ninactive_file 2000000\nactive_file 7\n");
        file("cgroup.procs", "7\n6\n");
        assert_eq!(machine.used(3), 3_000_000);
    }

    #[test]
    fn in_a_container_the_root_is_ours() {
        let machine = Machine::new("v1", "9:name=systemd:/docker/abc\n4:memory,hugetlb:/docker/abc\n0::/\n");
        machine.write("cgroup/memory/memory.usage_in_bytes", "4000\n");
        machine.write("cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n");
        machine.write("cgroup/memory/cgroup.procs", "1\n7\n");
        assert_eq!(machine.used(3), 3_000);
    }

    #[test]
    fn a_group_with_others_in_it_says_nothing_of_us() {
        let machine = Machine::new("shared", "0::/user.slice\n");
        machine.write("cgroup/user.slice/memory.current", "9000000000\n");
        let page = rustix::param::page_size() as u64;
        for others in ["7\n8\n", "6\n0\n7\n", ""] {
            machine.write("cgroup/user.slice/cgroup.procs", others);
            assert_eq!(machine.used(4), 100 * page + 4 * SOCKET_BYTES + 10 * page, "{others:?}");
        }
        assert_eq!(machine.used(40), 100 * page + 40 * SOCKET_BYTES + 50 * page, "no more than there is");
    }

    #[test]
    fn this_process_can_be_measured() {
        let used = Meter::find().unwrap().read(0).unwrap();
        assert!(used > 1 << 20, "{used}");
    }
}
