//! Secrets: small values that applications keep here (contract §1.5). Their bytes have no `Debug`.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::Base64;
use crate::api::SecretName;

/// `POST /v1/secret/create/<s>`.
#[derive(Default, Deserialize, Serialize)]
pub struct CreateSecret {
    /// The value. The SDK kes-go v0.2 sends it as `secret`, which KES ignores and so keeps nothing.
    #[serde(default, alias = "secret")]
    pub bytes: Base64,
    /// `generic`, the only type there is; empty means the same.
    #[serde(
        default,
        rename = "type",
        deserialize_with = "or_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub kind: String,
}

/// Text, or `null` for none.
fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// `GET /v1/secret/describe/<s>`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SecretInfo {
    /// `generic`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed: when it was created, since secrets are never changed.
    pub mod_time: Timestamp,
    /// Who created it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

/// `GET /v1/secret/read/<s>`.
#[derive(Deserialize, Serialize)]
pub struct Secret {
    /// The value.
    #[serde(default)]
    pub bytes: Base64,
    /// What is known about it.
    #[serde(flatten)]
    pub info: SecretInfo,
}

/// One line of `GET /v1/secret/list/<pattern>`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SecretEntry {
    /// Name.
    pub name: SecretName,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub mod_time: Timestamp,
    /// Who created it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}
