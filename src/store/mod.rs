//! Records on disk: what a record is called, how a change is applied to all of them, and the directory they live in.
//!
//! `consensus` decides the order of changes; this room applies them, deterministically, and answers reads.
//! Values are sealed before they come here: this room sees names, never key material.

mod batch;
mod change;
mod copy;
mod directory;
mod error;
mod record;
mod records;
mod sweep;
#[cfg(test)]
mod tests;
mod tree;
mod upkeep;

pub use change::{Change, Digest, Outcome, digest};
pub use copy::Copy;
pub use directory::{Directory, DirectoryError, FORMAT, Manifest};
pub use error::StoreError;
pub use record::{EnclaveId, Kind, RecordKey};
pub use records::{Limits, Records};
