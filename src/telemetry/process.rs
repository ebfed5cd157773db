//! What the process uses of the machine, from `/proc` (`proc_pid_status(5)`).

/// Memory and threads of this process. Zero where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident anonymous memory in bytes, the nearest thing to Go's heap.
    pub heap_bytes: u64,
    /// Stack of the main thread in bytes.
    pub stack_bytes: u64,
    /// All resident memory in bytes.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// CPU time used so far, in seconds.
    pub cpu_seconds: f64,
}

impl Usage {
    /// As it is now.
    #[must_use]
    pub fn now() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self { cpu_seconds: cpu_seconds(&read("/proc/self/stat")), ..Self::parse(&read("/proc/self/status")) }
    }

    fn parse(status: &str) -> Self {
        let number = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next())
                .and_then(|number| number.parse::<u64>().ok())
                .unwrap_or(0)
        };
        Self {
            heap_bytes: number("RssAnon") * 1024,
            stack_bytes: number("VmStk") * 1024,
            resident_bytes: number("VmRSS") * 1024,
            threads: number("Threads"),
            cpu_seconds: 0.0,
        }
    }
}

/// User and system time from `proc_pid_stat(5)`, whose ticks are 100 a second on every Linux.
fn cpu_seconds(stat: &str) -> f64 {
    // the second field is the name in parentheses, which may hold anything
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    std::time::Duration::from_millis(ticks.saturating_mul(10)).as_secs_f64()
}

/// CPUs of the machine that this process may use.
pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_the_status_file() {
        let status =
            "Name:\tkes\nVmRSS:\t    2048 kB\nRssAnon:\t    1024 kB\nVmStk:\t     132 kB\nThreads:\t5\n";
        let want = Usage {
            heap_bytes: 1 << 20,
            stack_bytes: 132 << 10,
            resident_bytes: 2 << 20,
            threads: 5,
            cpu_seconds: 0.0,
        };
        assert_eq!(Usage::parse(status), want);
        assert_eq!(Usage::parse(""), Usage::default());
        let stat = "7 (a) name) S 1 7 7 0 -1 4 1 0 0 0 150 50 0 0 20 0 5 0";
        assert!((cpu_seconds(stat) - 2.0).abs() < 1e-9);
        assert!(cpu_seconds("").abs() < 1e-9);
    }
}
