//! Whether an identity may do an action in an enclave. Pure: no I/O, no clock, no allocation.
//!
//! ```text
//! (identity, enclave, role, path) ──authorize::<Action>──► Authorized<Action> ──► service
//!                                                     └──► Denied { rule }     ──► 403
//! ```
//! `service` takes an [`Authorized`] of the very action that it performs, and only [`authorize`] makes one, so a
//! handler that forgets to ask does not compile.

pub mod action;
mod authorize;
mod pattern;
mod policy;

pub use action::{Action, Scope};
pub use authorize::{Authorized, Denied, Role, Rule, authorize, may_be_open};
pub use pattern::{Flaw, Pattern, PatternError};
pub use policy::{Decision, List, Policy, PolicyError};
