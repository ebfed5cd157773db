//! Why a request is refused, and what a client is told: the one place that renders to the API's errors.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    api::{ApiError, Fault},
    authz::PolicyError,
    consensus,
    crypto::{RecordError, SealError},
    store::{DirectoryError, Outcome, RecordKey, StoreError},
};

/// Why a request is refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cluster was not bootstrapped yet.
    #[error("cluster is not initialised yet")]
    NotInitialised,
    /// Bootstrapped before, under another id.
    #[error("server already belongs to another cluster")]
    OtherCluster,
    /// A rule of the API was broken; the text is the contract's.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// A policy has a malformed pattern.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The unseal key is missing or wrong.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The records cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change did not get its place in the log.
    #[error(transparent)]
    Consensus(#[from] consensus::Error),
    /// One record does not open or makes no sense; others are not affected.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The key that sealed it was rotated while the change was on its way.
    #[error("the key that protects this was rotated meanwhile: try again")]
    Stale,
    /// What the change depends on cannot be read from the volume: it was not made.
    #[error("the change was not made: what it depends on cannot be read")]
    Unreadable,
    /// The unseal key is being changed, and a root key could not be wrapped under the new one.
    #[error(
        "a root key could not be wrapped under the new unseal key ({0}): keep the previous one and start again"
    )]
    NotRewrapped(String),
    /// The directory has no root key or cluster record.
    #[error("'{0}' holds no cluster: its first records are missing")]
    NoCluster(String),
}

/// One record that does not open or makes no sense.
#[derive(Clone, Debug, thiserror::Error)]
#[error("record {record} is damaged: {why}")]
pub struct Damage {
    /// Kind, name and the id of the enclave.
    pub(super) record: String,
    /// What does not fit.
    pub(super) why: String,
    /// Whether it is the volume that could not be read, and not what was read: then it is read again.
    pub(super) is_passing: bool,
}

impl Damage {
    pub(super) fn new(key: &RecordKey, why: impl std::fmt::Display) -> Self {
        Self { record: key.to_string(), why: why.to_string(), is_passing: false }
    }

    /// A record that the volume does not let be read now.
    pub(super) fn passing(key: &RecordKey, why: &StoreError) -> Self {
        Self { is_passing: true, ..Self::new(key, why) }
    }
}

impl Error {
    pub(super) fn damaged(key: &RecordKey, why: impl std::fmt::Display) -> Self {
        Self::Damaged(Damage::new(key, why))
    }

    /// What the client is told.
    #[must_use]
    pub fn to_api(&self) -> ApiError {
        match self {
            Self::NotInitialised => ApiError::NOT_INITIALISED,
            Self::OtherCluster => ApiError::OTHER_CLUSTER,
            Self::Refused(refused) => refused.clone(),
            Self::Policy(error) => ApiError::new(Fault::BadRequest, error.to_string()),
            Self::Consensus(consensus::Error::DiskFull) => ApiError::STORAGE_FULL,
            Self::Consensus(consensus::Error::DiskFullMeanwhile) => ApiError::STORAGE_FULL_MEANWHILE,
            Self::Consensus(consensus::Error::Timeout | consensus::Error::Unavailable(_)) => {
                ApiError::new(Fault::Unavailable, self.to_string())
            }
            Self::Store(error) if error.is_disk_full() => ApiError::STORAGE_FULL,
            Self::Damaged(Damage { record, why, is_passing: false }) => damaged(record, why),
            Self::Damaged(Damage { record, why, is_passing: true }) => away(&format_args!("{record}: {why}")),
            Self::Store(error) if error.is_passing() => away(error),
            Self::Store(StoreError::Unreadable { record, source }) => damaged(record, &source.to_string()),
            Self::Stale => ApiError::new(Fault::Unavailable, self.to_string()),
            Self::Unreadable => ApiError::new(
                Fault::Internal,
                "record is damaged: the change was not made, see the server's log",
            ),
            Self::Directory(_)
            | Self::Seal(_)
            | Self::Store(_)
            | Self::Consensus(_)
            | Self::NotRewrapped(_)
            | Self::NoCluster(_) => {
                ApiError::new(Fault::Internal, "internal error: see the server's log").because(self)
            }
        }
    }
}

/// Answers that told of a damaged record since the start of the process.
static DAMAGED: AtomicU64 = AtomicU64::new(0);

/// How often a damaged record was met since the start of the process.
#[must_use]
pub fn damaged_records_met() -> u64 {
    DAMAGED.load(Relaxed)
}

/// The id tells whether two answers are about the same record.
fn damaged(record: &str, why: &str) -> ApiError {
    DAMAGED.fetch_add(1, Relaxed);
    let id = fingerprint(record);
    ApiError::new(Fault::Internal, format!("record is damaged (id {id})"))
        .because(format_args!("{record}: {why}"))
}

/// Clients try a 503 again.
fn away(why: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(Fault::Unavailable, "the volume cannot be read now: try again").because(why)
}

fn fingerprint(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().take(4).map(|b| format!("{b:02x}")).collect()
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> Self {
        Self::new(Fault::Internal, error.to_string())
    }
}

/// Turns an outcome into success or the errors that fit the thing: (exists, missing).
pub(super) fn outcome(outcome: Outcome, exists: ApiError, missing: ApiError) -> Result<(), Error> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Exists => Err(exists.into()),
        Outcome::Missing => Err(missing.into()),
        Outcome::NoEnclave => Err(ApiError::ENCLAVE_NOT_FOUND.into()),
        Outcome::Unreadable => Err(Error::Unreadable),
        // replaced by somebody else meanwhile, which only happens to those who change the whole
        Outcome::Changed => Err(exists.into()),
        Outcome::Stale => Err(Error::Stale),
    }
}
