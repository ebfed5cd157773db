//! What a process used of the machine, by the kernel's own accounting.

/// User and system time, and bytes that were or will be written to disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) written: u64,
}

impl Usage {
    /// Of process `pid` so far (`proc_pid_stat(5)`, fields 14 and 15, 100 ticks a second; `proc_pid_io(5)`).
    /// All zero when it is gone.
    pub(crate) fn of(pid: u32) -> Self {
        let cpu = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
            let mut ticks = || fields.next()?.parse::<f64>().ok();
            Some((ticks()? + ticks()?) / 100.0)
        };
        Self {
            cpu_seconds: cpu().unwrap_or_default(),
            written: number(&format!("/proc/{pid}/io"), "write_bytes:").unwrap_or_default(),
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            written: self.written.saturating_sub(before.written),
        }
    }
}

/// The number after `name` in a file of the kernel.
pub(crate) fn number(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}
