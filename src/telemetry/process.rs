//! What the process uses of the machine, from `/proc` (`proc_pid_status(5)`).

/// Memory and threads of this process. Zero where the system does not say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Resident anonymous memory in bytes, the nearest thing to Go's heap.
    pub heap_bytes: u64,
    /// Stack of the main thread in bytes.
    pub stack_bytes: u64,
    /// All resident memory in bytes.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// As it is now.
    #[must_use]
    pub fn now() -> Self {
        std::fs::read_to_string("/proc/self/status").map(|status| Self::parse(&status)).unwrap_or_default()
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
        }
    }
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
        let want = Usage { heap_bytes: 1 << 20, stack_bytes: 132 << 10, resident_bytes: 2 << 20, threads: 5 };
        assert_eq!(Usage::parse(status), want);
        assert_eq!(Usage::parse(""), Usage::default());
    }
}
