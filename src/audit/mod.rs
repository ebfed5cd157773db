//! The record of what was asked and answered: one JSON line per request, to a sink.
//!
//! ```text
//! data plane ──record──────► buffer (bounded, in order) ──writer thread──► sink
//! mutation   ──record_now──►   the same, and waits until its line is written
//! both       ──feed────────► who follows the enclave's log (bounded each)
//! ```
//! A sink that is stuck or fails never blocks the data plane: its lines are dropped and counted when too many wait. A
//! mutation is answered only after its line was written, and none begins while the sink fails. Lines hold names, identities and outcomes; never key material, plaintext or context.

mod event;
mod feed;
mod file;
mod log;
mod sink;
mod text;

pub use event::{Cause, Decision, Event};
pub use feed::{Feed, Subscription, TooManyReaders};
pub use file::{File, FileError};
pub use log::{AuditError, AuditLog};
pub use sink::{All, Sink, Stdout};
