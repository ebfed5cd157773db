//! The machine that is measured on, its disk, and what a server occupies there.

use std::time::{Duration, Instant};

use crate::usage::number;

/// Resident memory of a process in bytes (`proc_pid_status(5)`).
pub(crate) fn resident(pid: u32) -> u64 {
    number(&format!("/proc/{pid}/status"), "VmRSS:").unwrap_or_default() * 1024
}

/// The machine in one line, for the reader of a report.
pub(crate) fn describe() -> String {
    let line = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = line("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = line("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    let memory = number("/proc/meminfo", "MemTotal:").unwrap_or_default() >> 20;
    format!(
        "{cores} × {}, {memory} GiB, Linux {}, load average at start {load}",
        model.map_or("unknown CPU", |(_, model)| model),
        line("/proc/sys/kernel/osrelease").trim(),
    )
}

/// Median time of an `fdatasync` after an appended block of 4 KiB, in `directory`.
pub(crate) fn sync_time(directory: &std::path::Path) -> std::io::Result<Duration> {
    use std::io::Write as _;
    let mut file = tempfile::tempfile_in(directory)?;
    let mut times = Vec::new();
    for _ in 0..50 {
        file.write_all(&[0; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Bytes that the files under `directory` occupy on disk.
pub(crate) fn occupied(directory: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => occupied(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
