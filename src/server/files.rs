//! Open files: every connection is one, so their limit is a limit of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are no connection: log, records, certificates, sockets of the runtime.
const OWN: u64 = 256;

/// Raises this process's limit of open files as far as the system lets it, and returns it.
pub(super) fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // a refusal leaves the limit as it was, and that is what is told below
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections there may be with `files` open files, at most `wanted`.
pub(super) fn connections(files: u64, wanted: usize) -> usize {
    let left = files.saturating_sub(OWN).max(files / 2);
    usize::try_from(left).unwrap_or(usize::MAX).clamp(1, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_server_itself_are_kept_free() {
        for (files, want) in [(u64::MAX, 10_000), (20_000, 10_000), (1024, 768), (256, 128), (1, 1), (0, 1)] {
            assert_eq!(connections(files, 10_000), want, "{files}");
        }
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        let raised = raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current.unwrap_or(u64::MAX), raised);
        assert_eq!(current, maximum);
    }
}
