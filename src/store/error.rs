//! Why records cannot be opened, read or written, and what a person does about it.

use std::{io, path::PathBuf};

use super::tree::is_nonsense;

/// Why the records could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The engine could not do what was asked.
    #[error("failed to {step} the records: {source}")]
    Engine {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: lsm_tree::Error,
    },
    /// Bytes on the volume are not those that were written.
    #[error("'{}' is damaged: {why}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// One record cannot be read; others are not affected.
    #[error("record {record} cannot be read: {source}")]
    Unreadable {
        /// Kind, name and the id of the enclave.
        record: String,
        /// Why not.
        source: lsm_tree::Error,
    },
    /// The file system refused.
    #[error("failed to {step} '{}': {source}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// So many tables could not be merged that one more would make their list unreadable.
    #[error("{runs} tables of records cannot be merged, and their list can name no more")]
    TooManyTables {
        /// How many lie over each other.
        runs: usize,
    },
    /// A new list of tables took effect, but whether it will after a power cut is not known.
    #[error("'{}' names another list of tables than the one in use: the last change of it failed half-way", path.display())]
    HalfSwitched {
        /// The file.
        path: PathBuf,
    },
    /// Something changed records while all of them were to be replaced.
    #[error("the records changed while they were to be replaced; nothing was replaced")]
    Busy,
    /// The records are being closed.
    #[error("the records are closed")]
    Closed,
}

impl StoreError {
    pub(super) fn at(step: &'static str) -> impl FnOnce(lsm_tree::Error) -> Self {
        move |source| Self::Engine { step, source }
    }

    /// Whether the volume is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let (Self::Engine { source: lsm_tree::Error::Io(io), .. }
        | Self::Unreadable { source: lsm_tree::Error::Io(io), .. }
        | Self::Io { source: io, .. }) = self
        else {
            return false;
        };
        matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether it is about reading and not about what was read: the same bytes may well be readable later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let (Self::Engine { source: lsm_tree::Error::Io(io), .. }
        | Self::Unreadable { source: lsm_tree::Error::Io(io), .. }) = self
        else {
            return false;
        };
        !is_nonsense(io.kind())
    }

    /// Whether trying again in this life is of no use.
    #[must_use]
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::TooManyTables { .. } | Self::HalfSwitched { .. })
    }

    /// What the person in front of it can do.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            error if error.is_disk_full() => "Enlarge the volume; the server then goes on by itself.",
            error if error.is_passing() => {
                "Look at the volume and its node; what could not be read is read again by itself."
            }
            Self::Damaged { .. } | Self::Engine { .. } => {
                "Restore the whole data directory from its volume's snapshot or a backup; nothing was changed."
            }
            Self::Unreadable { .. } => {
                "Restore the data directory from a backup if the record is needed; all others work."
            }
            Self::TooManyTables { .. } => {
                "A table is damaged: restore the whole data directory from its volume's snapshot or a backup. Nothing is lost yet; reads go on."
            }
            Self::HalfSwitched { .. } => "Start the server again: the log replays what is not in a table.",
            Self::Io { .. } => "Check the path, its owner and its permissions.",
            Self::Busy => "Try again.",
            Self::Closed => "Start the server again.",
        }
    }
}
