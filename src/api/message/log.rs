//! Lines of the log streams (contract §7.4 and §7.5), as clients read them. The server writes them without detours.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One line of `GET /v1/log/audit`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AuditEvent {
    /// When the request was received.
    pub time: Timestamp,
    /// What was asked.
    pub request: AuditRequest,
    /// What was answered.
    pub response: AuditResponse,
    /// Name of the action, e.g. `CreateKey`; empty from other servers, like all that follows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// The enclave.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub enclave: String,
    /// `allow`, `deny`, or empty when the request did not get that far.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub decision: String,
    /// What decided, e.g. `allow[0]` for the first pattern of the policy's allow list.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// The request's id, as in the server's log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
}

/// What was asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AuditRequest {
    /// Where it came from.
    #[serde(default)]
    pub ip: String,
    /// The enclave as the request named it, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub enclave: String,
    /// The decoded path.
    #[serde(default)]
    pub path: String,
    /// Who asked, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
}

/// What was answered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AuditResponse {
    /// HTTP status code.
    pub code: u16,
    /// From receiving the request to its answer, in nanoseconds.
    #[serde(default)]
    pub time: u64,
}

/// One line of `GET /v1/log/error`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorEvent {
    /// What failed.
    #[serde(default)]
    pub message: String,
}
