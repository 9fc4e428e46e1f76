//! CPU time of other processes, as the kernel counts it (proc(5)): all their threads, user and system.

use std::fs;

use crate::Failure;

/// Clock ticks a second in `/proc`; the same on every Linux that this runs on (sysconf(_SC_CLK_TCK)).
const TICKS_PER_S: f64 = 100.0;

/// A count that began.
pub(crate) struct Cpu {
    pids: Vec<u32>,
    ticks_before: u64,
}

impl Cpu {
    /// `pids`: numbers with commas between; none at all is fine.
    pub(crate) fn of(pids: &str) -> Result<Self, Failure> {
        let pids: Vec<u32> = pids.split(',').filter(|p| !p.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
        let ticks_before = ticks(&pids)?;
        Ok(Cpu { pids, ticks_before })
    }

    /// Prints what each of the `done` cost since the count began.
    pub(crate) fn print(&self, done: u64) -> Result<(), Failure> {
        if !self.pids.is_empty() && done > 0 {
            let ticks = ticks(&self.pids)? - self.ticks_before;
            println!("cpu_us {:.2}", ticks as f64 / TICKS_PER_S * 1e6 / done as f64);
        }
        Ok(())
    }
}

fn ticks(pids: &[u32]) -> Result<u64, Failure> {
    pids.iter().map(|pid| used(&fs::read_to_string(format!("/proc/{pid}/stat"))?)).sum()
}

/// Fields 14 and 15, counted behind the name, which may have anything in it.
fn used(stat: &str) -> Result<u64, Failure> {
    let (_, rest) = stat.rsplit_once(')').ok_or("`/proc/PID/stat` has no name in it")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok());
    Ok(ticks(11).zip(ticks(12)).map(|(user, system)| user + system).ok_or("`/proc/PID/stat` is too short")?)
}

#[cfg(test)]
mod tests {
    use super::used;

    #[test]
    fn user_and_system_time_stand_behind_any_name() {
        assert_eq!(used("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0").unwrap(), 300);
        assert!(used("7 (a").is_err());
    }
}
