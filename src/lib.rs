//! A replicated, KES-compatible key service and the Kubernetes operator that runs it, in one binary.
//!
//! Each module is a room; `docs/design/rooms.md` says why each exists, and `tests/rooms.rs` fails when a room
//! uses one that it may not.

pub mod api;
pub mod audit;
pub mod authz;
pub mod cli;
pub mod client;
pub mod consensus;
pub mod crd;
pub mod crypto;
pub mod operator;
pub mod pki;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod world;
