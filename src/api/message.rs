//! Requests and replies of the key API as JSON (contract §1.5 and §1.8).
//!
//! Bytes are base64 (RFC 4648 §4), times RFC 3339 in UTC. Messages that carry key material redact themselves:
//! they have no `Debug`.

mod log;
mod policy;
mod secret;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EnclaveName, Identity, KeyName};
pub use log::{AuditEvent, AuditRequest, AuditResponse, ErrorEvent};
pub use policy::{
    AssignPolicy, Generation, KeyedPolicy, KeyedSelf, Matching, Policy, PolicyBody, PolicyInfo, SelfInfo,
};
pub use secret::{CreateSecret, Secret, SecretEntry, SecretInfo};

/// Bytes that travel as base64; `null` and a missing field are empty. Wiped when dropped, since many are secret.
#[derive(Clone, Default, Eq, PartialEq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Base64(pub Vec<u8>);

/// `GET /version`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Version {
    /// Release of the server.
    pub version: String,
    /// Commit it was built from, or empty.
    #[serde(default)]
    pub commit: String,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// Release of the server.
    pub version: String,
    /// Operating system, e.g. `linux`.
    pub os: String,
    /// CPU architecture in Go's spelling, e.g. `amd64`.
    pub arch: String,
    /// Seconds since start.
    pub uptime: u64,
    /// Logical CPUs of the machine.
    pub num_cpu: usize,
    /// Logical CPUs that the server uses.
    pub num_cpu_used: usize,
    /// Resident heap in bytes.
    pub mem_heap_used: u64,
    /// Stack in bytes.
    pub mem_stack_used: u64,
    /// Whether secret memory is locked; absent from other servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_locked: Option<bool>,
    /// Nanoseconds that reading a record took; absent from KES v0.22.3 and when nothing could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keystore_latency: Option<u64>,
    /// Whether no record could be read.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keystore_unreachable: bool,
    /// The same: the Go SDKs fail when they get only one of both.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keystore_unavailable: bool,
}

/// One row of `GET /v1/api`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ApiRoute {
    /// HTTP method.
    pub method: String,
    /// Path; a trailing slash means that a name follows.
    pub path: String,
    /// Largest body in bytes; 0 for none.
    pub max_body: u64,
    /// Seconds; 0 for no limit.
    pub timeout: u64,
}

/// `POST /v1/key/import/<k>`: fields of both KES generations.
#[derive(Default, Deserialize, Serialize)]
pub struct ImportKey {
    /// Key material (KES v0.22.3).
    #[serde(default, skip_serializing_if = "Base64::is_empty")]
    pub bytes: Base64,
    /// Algorithm (KES v0.22.3); absent or empty means undefined.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub algorithm: String,
    /// Key material (KES 2024 and later).
    #[serde(default, skip_serializing_if = "Base64::is_empty")]
    pub key: Base64,
    /// Algorithm (KES 2024 and later).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cipher: String,
}

/// `GET /v1/key/describe/<k>` and one line of a key listing.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeyInfo {
    /// Name.
    pub name: KeyName,
    /// Hex of the first 16 bytes of SHA-256 over the key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// `AES256-GCM_SHA256`, `XCHACHA20-POLY1305`, or absent when undefined.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub algorithm: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who created it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

/// `POST /v1/key/generate/<k>`.
#[derive(Default, Deserialize, Serialize)]
pub struct GenerateKey {
    /// Bytes that the ciphertext is bound to.
    #[serde(default, skip_serializing_if = "Base64::is_empty")]
    pub context: Base64,
}

/// A data key, in clear and encrypted.
#[derive(Deserialize, Serialize)]
pub struct DataKey {
    /// 32 random bytes.
    pub plaintext: Base64,
    /// The same, encrypted under the named key.
    pub ciphertext: Base64,
}

/// `POST /v1/key/encrypt/<k>`.
#[derive(Default, Deserialize, Serialize)]
pub struct Encrypt {
    /// What to encrypt.
    #[serde(default)]
    pub plaintext: Base64,
    /// Bytes that the ciphertext is bound to.
    #[serde(default, skip_serializing_if = "Base64::is_empty")]
    pub context: Base64,
}

/// Reply of encrypt.
#[derive(Deserialize, Serialize)]
pub struct Ciphertext {
    /// The ciphertext in one of the three KES layouts.
    pub ciphertext: Base64,
}

/// `POST /v1/key/decrypt/<k>` and one element of bulk decrypt.
#[derive(Default, Deserialize, Serialize)]
pub struct Decrypt {
    /// A ciphertext in any of the three KES layouts.
    #[serde(default)]
    pub ciphertext: Base64,
    /// The bytes it was bound to.
    #[serde(default, skip_serializing_if = "Base64::is_empty")]
    pub context: Base64,
}

/// `PUT /v1/key/hmac/<k>`.
#[derive(Default, Deserialize, Serialize)]
pub struct Hmac {
    /// What to authenticate.
    #[serde(default)]
    pub message: Base64,
}

/// Reply of HMAC.
#[derive(Deserialize, Serialize)]
pub struct Mac {
    /// HMAC-SHA-256 of the message: 32 bytes.
    pub hmac: Base64,
}

/// Reply of decrypt.
#[derive(Deserialize, Serialize)]
pub struct Plaintext {
    /// The plaintext.
    pub plaintext: Base64,
}

/// `GET /v1/identity/describe/<i>`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IdentityInfo {
    /// Whether it is the enclave's admin.
    #[serde(default, skip_serializing_if = "is_false")]
    pub admin: bool,
    /// Name of its policy, or empty.
    #[serde(default)]
    pub policy: String,
    /// When it was assigned.
    pub created_at: Timestamp,
    /// Who assigned it, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

/// `POST /v1/enclave/create/<e>`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CreateEnclave {
    /// Who administers the enclave.
    pub admin: Identity,
}

/// `GET /v1/enclave/describe/<e>`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EnclaveInfo {
    /// Name.
    pub name: EnclaveName,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who created it.
    pub created_by: String,
}

/// `GET /v1/enclave/list/<pattern>`: names for the SDK kes-go v0.2, which asked first and reads nothing else, and more.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct EnclaveList {
    /// Names, in their order.
    #[serde(default)]
    pub names: Vec<EnclaveName>,
    /// Where to go on; always empty, since all are listed.
    #[serde(default)]
    pub continue_at: String,
    /// The same with what is known about each; ours.
    #[serde(default)]
    pub enclaves: Vec<EnclaveInfo>,
}

/// `POST /v1/sys/bootstrap`: ours, used once by the operator. Idempotent for the same id.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Bootstrap {
    /// The id that the operator recorded before it called.
    pub cluster_id: String,
}

/// `GET /v1/sys/cluster`: ours, for the operator and `kes status`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Cluster {
    /// Absent before bootstrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Whether the cluster was bootstrapped.
    pub initialised: bool,
    /// Whether the root key is away from memory.
    pub sealed: bool,
    /// Release of the server.
    pub version: String,
    /// Random id of the member that answers; absent before bootstrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// Member that leads, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_id: Option<String>,
    /// Index of the last applied change.
    pub applied: u64,
}

/// `GET /v1/sys/rotation`: ours, for `kes seal info` and whoever waits for a rotation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Rotation {
    /// The root key.
    pub root: RootRotation,
    /// The enclaves that can be read, by name.
    pub enclaves: Vec<EnclaveRotation>,
    /// Records that were sealed again since the server was started.
    pub resealed: u64,
    /// Records that do not open and keep a former version alive.
    pub damaged: u64,
}

/// Versions of the root key.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RootRotation {
    /// The version that seals.
    pub version: u32,
    /// Versions that still seal something; none when no rotation is under way.
    pub former: Vec<u32>,
}

/// Versions of an enclave's key.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EnclaveRotation {
    /// The enclave.
    pub name: EnclaveName,
    /// The version that seals.
    pub version: u32,
    /// Versions that still seal something; none when no rotation is under way.
    pub former: Vec<u32>,
}

/// The body of every refusal.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Refusal {
    /// What the client is told.
    #[serde(default)]
    pub message: String,
}

impl Base64 {
    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for Base64 {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Base64 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let text = zeroize::Zeroizing::new(STANDARD.encode(&self.0));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Base64;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("base64 text or null")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Base64, E> {
                decode(text).map(Base64).ok_or_else(|| E::custom("invalid base64"))
            }
            fn visit_unit<E: serde::de::Error>(self) -> Result<Base64, E> {
                Ok(Base64::default())
            }
            fn visit_none<E: serde::de::Error>(self) -> Result<Base64, E> {
                Ok(Base64::default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What Go's decoder takes: padded, with line breaks anywhere, and with any bits after the last byte.
fn decode(text: &str) -> Option<Vec<u8>> {
    use base64::{
        Engine,
        alphabet::STANDARD,
        engine::{GeneralPurpose, GeneralPurposeConfig},
    };
    const GO: GeneralPurpose =
        GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    let is_break = |c: char| matches!(c, '\n' | '\r');
    GO.decode(text).ok().or_else(|| {
        text.contains(is_break)
            .then(|| zeroize::Zeroizing::new(text.replace(is_break, "")))
            .and_then(|text| GO.decode(text.as_bytes()).ok())
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        for text in ["aGVsbG8=", "aGVs\\nbG8=", "\\r\\naGVsbG8=\\n", "aGVsbG9="] {
            let body = format!(r#"{{"context":"{text}"}}"#);
            let read: GenerateKey = serde_json::from_str(&body).unwrap();
            assert_eq!(read.context.as_ref(), b"hello", "{text}");
        }
        for text in ["aGVsbG8", "aGVs bG8=", "_-8=", "aGVsbG8==", "="] {
            let body = format!(r#"{{"context":"{text}"}}"#);
            assert!(serde_json::from_str::<GenerateKey>(&body).is_err(), "{text}");
        }
    }

    #[test]
    fn null_and_missing_bytes_are_empty() {
        for body in [r#"{"context":null}"#, "{}", r#"{"context":""}"#] {
            assert!(serde_json::from_str::<GenerateKey>(body).unwrap().context.is_empty(), "{body}");
        }
        assert!(serde_json::from_str::<GenerateKey>(r#"{"context":"??"}"#).is_err());
    }
}
