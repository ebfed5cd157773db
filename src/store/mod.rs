//! Records on disk: what a record is called, how a change is applied to all of them, and the directory they live in.
//!
//! `consensus` decides the order of changes; this room applies them, deterministically, and answers reads.
//! Values are sealed before they come here: this room sees names, never key material.

mod change;
mod directory;
mod error;
mod record;
mod records;
mod tree;
mod upkeep;

pub use change::{Change, Outcome};
pub use directory::{Directory, DirectoryError, FORMAT, Manifest};
pub use error::StoreError;
pub use record::{EnclaveId, Kind, RecordKey};
pub use records::{Copy, Limits, Records};
