//! The record of what was asked and answered: one JSON line per request, to a sink.
//!
//! ```text
//! data plane ──record──────► buffer (bounded, in order) ──writer thread──► sink
//! mutation   ──record_now──►   the same, and waits until its line is written
//! ```
//! A sink that is stuck never blocks the data plane: its lines are dropped and counted. A mutation is answered only
//! after its line was written. Lines hold names, identities and outcomes; never key material, plaintext or context.

mod event;
mod log;
mod sink;

pub use event::{Decision, Event};
pub use log::{AuditError, AuditLog};
pub use sink::{Sink, Stdout};
