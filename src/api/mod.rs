//! The vocabulary that crosses rooms and the wire: parsed names, messages, and the exact error texts of KES.
//!
//! This is the bottom room: it knows no other, does no I/O, and every other room may use it.

mod any_case;
pub mod error;
pub mod message;
pub mod name;

pub(crate) use any_case::AnyCase;
pub use error::{ApiError, Fault};
pub use name::{EnclaveName, Identity, KeyName, NameError, PolicyName, SecretName};

/// Port of the key API (mutual TLS).
pub const API_PORT: u16 = 7373;
/// Port that members of one cluster talk to each other on (mutual TLS under the cluster's own CA).
pub const PEER_PORT: u16 = 7374;
/// Port of `/livez`, `/readyz` and `/metrics` (plain HTTP, no key material).
pub const HEALTH_PORT: u16 = 7375;
/// The enclave that a request without a selector means.
pub const DEFAULT_ENCLAVE: &str = "default";
