//! Keeps secret memory out of swap, core dumps and debuggers, as far as the kernel allows it.

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};

/// What [`harden`] reached. Nothing here is a reason not to start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryLock {
    /// Whether all memory of the process is locked, so that no key is ever written to swap.
    pub locked: bool,
    /// Whether core dumps and attaching of debuggers by the same user are off.
    pub undumpable: bool,
    /// Why memory is not locked, and what to do about it; `None` when it is.
    pub reason: Option<String>,
}

/// Bit of `CAP_IPC_LOCK` in a capability set (`capabilities(7)`).
const CAP_IPC_LOCK: u32 = 14;

/// Locks memory and forbids dumps. Call it once, first thing in the process.
///
/// All memory is locked, also what is mapped later, page by page as it is touched (`mlockall(2)`, `MCL_ONFAULT`). Under
/// a limit that would make later allocations fail, so it is only tried where there is none: `RLIMIT_MEMLOCK` unlimited
/// or `CAP_IPC_LOCK`.
#[must_use]
pub fn harden() -> MemoryLock {
    let no_dump = set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok();
    let no_core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).is_ok();
    let reason = lock_all().err();
    MemoryLock { locked: reason.is_none(), undumpable: no_dump && no_core, reason }
}

fn lock_all() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock).current;
    if let Some(bytes) = limit
        && !has_capability(CAP_IPC_LOCK)
    {
        return Err(format!(
            "memory is not locked: RLIMIT_MEMLOCK is {bytes} bytes; make it unlimited, grant CAP_IPC_LOCK, or run without swap"
        ));
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(|error| format!("memory is not locked: mlockall failed: {error}; run without swap"))
}

fn has_capability(bit: u32) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| effective_capability(&status, bit))
}

fn effective_capability(status: &str, bit: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read_from_the_effective_set() {
        assert!(effective_capability("Name:\tkes\nCapEff:\t0000000000004000\n", CAP_IPC_LOCK));
        assert!(!effective_capability(
            "CapPrm:\t0000000000004000\nCapEff:\t0000000000000000\n",
            CAP_IPC_LOCK
        ));
        assert!(!effective_capability("", CAP_IPC_LOCK));
    }
}
