//! The memory of the running server is nobody's business: no core dump, no debugger of the same user, no swap.

use std::fs;

use crate::process::Place;

/// A field of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field}")).trim().to_owned()
}

/// Whether this process could lock memory, and so its children.
fn may_lock() -> bool {
    let effective = u64::from_str_radix(&status(std::process::id(), "CapEff"), 16).unwrap();
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap();
    effective >> 14 & 1 == 1 || limit.contains("unlimited")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_cannot_be_dumped_and_its_memory_is_locked_where_the_kernel_lets_it() {
    let place = Place::new(tempfile::tempdir().unwrap()).await;
    let mut server = place.start();
    place.wait_until_ready(&mut server).await;
    let pid = server.pid();
    // a process that is not dumpable belongs to root, whoever runs it (proc(5))
    assert_eq!(status(pid, "CoreDumping"), "0");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    let server_status = place.admin(None).status().await.unwrap();
    assert_eq!(server_status.mem_locked, Some(may_lock()));
    if may_lock() {
        let locked = status(pid, "VmLck");
        assert!(locked.trim_end_matches(" kB").trim().parse::<u64>().unwrap() > 1000, "{locked}");
    }
    assert!(!is_dumpable(pid), "whoever runs as the same user could read its memory");
    server.terminate().await;
}

/// Files in `/proc/PID` of a process that is not dumpable belong to root (proc(5)). Root itself sees it by the core dump
/// that does not come: `coredump_filter` of such a process is not shown to it without `CAP_SYS_PTRACE`.
fn is_dumpable(pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let owner = fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
    let mine = fs::metadata("/proc/self/environ").unwrap().uid();
    // as root both are 0: then the limit above and the process's own word must do
    mine != 0 && owner == mine
}
