//! Why there is no consensus: what, why, and what a person does about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{PROPOSE_TIMEOUT, whole::Mismatch};
use crate::store::StoreError;

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file cannot be opened.
    #[error("failed to open the log '{}': {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: redb::Error,
    },
    /// The file is not as it was written.
    #[error("the log '{}' is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
}

impl LogError {
    pub(super) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), why: why.into() }
    }

    /// What `error` of the library means for `path`.
    pub(super) fn of(path: &Path, error: redb::Error) -> Self {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        match error {
            redb::Error::Corrupted(why) => Self::damaged(path, why),
            redb::Error::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
                Self::damaged(path, "it is no log, or cut short")
            }
            source => Self::Open { path: path.into(), source },
        }
    }

    /// What the person in front of it can do.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Open { .. } => "Check the path, its owner, its permissions and the space on its volume.",
            Self::Damaged { .. } => {
                "Restore the whole data directory, as it was at one moment, from its volume's snapshot or a backup."
            }
        }
    }
}

/// Why a change did not get its place in the log, or the log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log could not be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The records could not be opened.
    #[error(transparent)]
    Records(#[from] StoreError),
    /// Log and records do not belong together.
    #[error(transparent)]
    Mixed(#[from] Mismatch),
    /// A change that was acknowledged may be missing from the records, and which cannot be told.
    #[error("failed to apply the log once more: {0}")]
    Replay(#[source] StoreError),
    /// The volume is full: the change was not made.
    #[error("no space left on the volume")]
    DiskFull,
    /// The volume is full: the change waits, and may be made when there is space.
    #[error("no space left on the volume: the change was not confirmed and may still be made")]
    DiskFullMeanwhile,
    /// No answer in time: the change may still be made.
    #[error("the change was not confirmed within {} seconds", PROPOSE_TIMEOUT.as_secs())]
    Timeout,
    /// This member cannot accept changes now.
    #[error("the log accepts no changes: {0}")]
    Unavailable(String),
}
