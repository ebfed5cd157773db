//! Policies, and what an identity is told of itself, in the shapes of both KES generations (contract §1.11).
//!
//! ```text
//! v0.22   read  {"allow":["<rule>"],…}            self  {"policy_name":"p","policy":{"allow":["<rule>"],…},…}
//! v2025   read  {"allow":{"<rule>":{}},…}         self  {"policy":"p","allow":{"<rule>":{}},…}
//! ```
//! Reading accepts both. Writing is a setting of the server, since no answer pleases the clients of both.

use std::fmt;

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::is_false;
use crate::api::{Identity, PolicyName};

/// Whose shapes the server writes where clients of KES v0.22.3 and those of later KES contradict each other: policy read
/// and self-describe.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Generation {
    /// The `kes` command and the Go SDK of v0.22.3.
    #[default]
    #[serde(rename = "v0.22")]
    V022,
    /// The `kes` command of 2024 and later, and the Go SDK kms-go.
    #[serde(rename = "v2025")]
    V2025,
}

/// What the patterns of a policy mean.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Matching {
    /// Go's `path.Match`, as in KES v0.22.3: `*` stays within one element of the path.
    #[default]
    Glob,
    /// As in later KES: a `*` at the end matches any rest, also beyond `/`; everything else is literal.
    Prefix,
}

impl Matching {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_glob(&self) -> bool {
        *self == Self::Glob
    }
}

/// `POST /v1/policy/assign/<p>`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AssignPolicy {
    /// Who gets the policy.
    pub identity: Identity,
}

/// `POST /v1/policy/write/<p>`. Old SDKs send `Allow`, `Deny`, `null` and an extra `Info` (contract §3.1); rules may also
/// be the keys of an object, as later KES writes them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Policy {
    /// Patterns of paths that are permitted.
    #[serde(default, alias = "Allow", deserialize_with = "rules")]
    pub allow: Vec<String>,
    /// Patterns of paths that are refused; deny wins.
    #[serde(default, alias = "Deny", deserialize_with = "rules")]
    pub deny: Vec<String>,
    /// What the patterns mean; ours, absent from KES.
    #[serde(default, rename = "match", skip_serializing_if = "Matching::is_glob")]
    pub matching: Matching,
}

/// `GET /v1/policy/read/<p>`. Written in the shape of v0.22.3; see [`PolicyBody::keyed`] for the other.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PolicyBody {
    /// Patterns of paths that are permitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "rules")]
    pub allow: Vec<String>,
    /// Patterns of paths that are refused; deny wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "rules")]
    pub deny: Vec<String>,
    /// What the patterns mean; ours, absent from KES.
    #[serde(default, rename = "match", skip_serializing_if = "Matching::is_glob")]
    pub matching: Matching,
    /// When it was last written.
    #[serde(default)]
    pub created_at: Timestamp,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

impl PolicyBody {
    /// The same as later KES writes it.
    #[must_use]
    pub fn keyed<'p>(&'p self, name: &'p PolicyName) -> KeyedPolicy<'p> {
        let Self { allow, deny, matching, created_at, created_by } = self;
        KeyedPolicy {
            name,
            allow: Keys(allow),
            deny: Keys(deny),
            matching: *matching,
            created_at: *created_at,
            created_by,
        }
    }
}

/// `GET /v1/policy/read/<p>` in the shape of later KES.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KeyedPolicy<'p> {
    name: &'p PolicyName,
    #[serde(skip_serializing_if = "Keys::is_empty")]
    allow: Keys<'p>,
    #[serde(skip_serializing_if = "Keys::is_empty")]
    deny: Keys<'p>,
    #[serde(rename = "match", skip_serializing_if = "Matching::is_glob")]
    matching: Matching,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "str::is_empty")]
    created_by: &'p str,
}

/// `GET /v1/policy/describe/<p>` and one line of a policy listing.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PolicyInfo {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PolicyName>,
    /// When it was last written.
    pub created_at: Timestamp,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

/// `GET /v1/identity/self/describe`. Written in the shape of v0.22.3; see [`SelfInfo::keyed`] for the other.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(from = "AnySelf")]
pub struct SelfInfo {
    /// The caller.
    pub identity: Identity,
    /// Whether it is the enclave's admin.
    #[serde(skip_serializing_if = "is_false")]
    pub admin: bool,
    /// Name of its policy, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_name: String,
    /// When it was assigned.
    pub created_at: Timestamp,
    /// Who assigned it, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// The policy itself; for an admin only a zero `created_at`.
    pub policy: PolicyBody,
}

impl SelfInfo {
    /// The same as later KES writes it.
    #[must_use]
    pub fn keyed(&self) -> KeyedSelf<'_> {
        let Self { identity, admin, policy_name, created_at, created_by, policy } = self;
        KeyedSelf {
            identity,
            admin: *admin,
            policy: policy_name,
            allow: Keys(&policy.allow),
            deny: Keys(&policy.deny),
            matching: policy.matching,
            created_at: *created_at,
            created_by,
        }
    }
}

/// `GET /v1/identity/self/describe` in the shape of later KES.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KeyedSelf<'s> {
    identity: &'s Identity,
    #[serde(skip_serializing_if = "is_false")]
    admin: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    policy: &'s str,
    #[serde(skip_serializing_if = "Keys::is_empty")]
    allow: Keys<'s>,
    #[serde(skip_serializing_if = "Keys::is_empty")]
    deny: Keys<'s>,
    #[serde(rename = "match", skip_serializing_if = "Matching::is_glob")]
    matching: Matching,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "str::is_empty")]
    created_by: &'s str,
}

/// Either shape of self-describe.
#[derive(Deserialize)]
struct AnySelf {
    identity: Identity,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    policy_name: String,
    created_at: Timestamp,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    policy: NameOrBody,
    #[serde(default, deserialize_with = "rules")]
    allow: Vec<String>,
    #[serde(default, deserialize_with = "rules")]
    deny: Vec<String>,
    #[serde(default, rename = "match")]
    matching: Matching,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NameOrBody {
    Name(String),
    Body(PolicyBody),
}

impl Default for NameOrBody {
    fn default() -> Self {
        Self::Name(String::new())
    }
}

impl From<AnySelf> for SelfInfo {
    fn from(wire: AnySelf) -> Self {
        let AnySelf { identity, admin, policy_name, created_at, created_by, policy, allow, deny, matching } =
            wire;
        let (policy_name, policy) = match policy {
            NameOrBody::Body(body) => (policy_name, body),
            NameOrBody::Name(name) => {
                (name, PolicyBody { allow, deny, matching, created_at, created_by: String::new() })
            }
        };
        Self { identity, admin, policy_name, created_at, created_by, policy }
    }
}

/// Rules as the keys of an object.
#[derive(Clone, Copy, Debug)]
struct Keys<'r>(&'r [String]);

impl Keys<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Keys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Nothing {}
        serializer.collect_map(self.0.iter().map(|rule| (rule, Nothing {})))
    }
}

/// Rules as a list, as the keys of an object, or `null`.
fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Rules;
    impl<'de> Visitor<'de> for Rules {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of patterns, or an object whose keys are patterns")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut rules = Vec::new();
            while let Some(rule) = list.next_element()? {
                rules.push(rule);
            }
            Ok(rules)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            let mut rules = Vec::new();
            while let Some((rule, IgnoredAny)) = object.next_entry()? {
                rules.push(rule);
            }
            Ok(rules)
        }
    }
    deserializer.deserialize_any(Rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> PolicyBody {
        PolicyBody {
            allow: vec!["/v1/key/*".into(), "/v1/status".into()],
            deny: vec!["/v1/key/x".into()],
            matching: Matching::Prefix,
            created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            created_by: "admin".into(),
        }
    }

    #[test]
    fn a_policy_is_read_as_lists_as_objects_and_as_the_old_go_sdk_sends_it() {
        for text in [
            r#"{"allow":["/v1/key/*"],"deny":null}"#,
            r#"{"Allow":["/v1/key/*"],"Deny":null,"Info":{"name":"","created_at":"0001-01-01T00:00:00Z"}}"#,
            r#"{"allow":{"/v1/key/*":{}}}"#,
        ] {
            let policy: Policy = serde_json::from_str(text).unwrap();
            assert_eq!(policy.allow, ["/v1/key/*"], "{text}");
            assert!(policy.deny.is_empty() && policy.matching == Matching::Glob);
        }
        let prefix: Policy = serde_json::from_str(r#"{"allow":["/v1/*"],"match":"prefix"}"#).unwrap();
        assert_eq!(prefix.matching, Matching::Prefix);
        for bad in [r#"{"allow":7}"#, r#"{"allow":[7]}"#, r#"{"match":"regex"}"#] {
            assert!(serde_json::from_str::<Policy>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_policy_is_written_and_read_back_in_both_shapes() {
        let (body, name) = (body(), PolicyName::new("p").unwrap());
        let lists = serde_json::to_string(&body).unwrap();
        let keys = serde_json::to_string(&body.keyed(&name)).unwrap();
        assert_eq!(
            lists,
            r#"{"allow":["/v1/key/*","/v1/status"],"deny":["/v1/key/x"],"match":"prefix","created_at":"2026-01-02T03:04:05Z","created_by":"admin"}"#
        );
        assert_eq!(
            keys,
            r#"{"name":"p","allow":{"/v1/key/*":{},"/v1/status":{}},"deny":{"/v1/key/x":{}},"match":"prefix","created_at":"2026-01-02T03:04:05Z","created_by":"admin"}"#
        );
        for text in [lists, keys] {
            let back: PolicyBody = serde_json::from_str(&text).unwrap();
            assert_eq!((back.allow, back.deny), (body.allow.clone(), body.deny.clone()));
        }
    }

    #[test]
    fn what_an_identity_is_told_of_itself_is_written_and_read_back_in_both_shapes() {
        let info = SelfInfo {
            identity: Identity::new("app").unwrap(),
            admin: false,
            policy_name: "p".into(),
            created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            created_by: String::new(),
            policy: body(),
        };
        let new = serde_json::to_string(&info.keyed()).unwrap();
        assert_eq!(
            new,
            r#"{"identity":"app","policy":"p","allow":{"/v1/key/*":{},"/v1/status":{}},"deny":{"/v1/key/x":{}},"match":"prefix","created_at":"2026-01-02T03:04:05Z"}"#
        );
        for text in [serde_json::to_string(&info).unwrap(), new] {
            let back: SelfInfo = serde_json::from_str(&text).unwrap();
            assert_eq!((&*back.policy_name, &back.policy.deny), ("p", &info.policy.deny), "{text}");
        }
        // the admin of later KES has no policy at all
        let admin = r#"{"identity":"app","admin":true,"created_at":"2026-01-02T03:04:05Z"}"#;
        let admin: SelfInfo = serde_json::from_str(admin).unwrap();
        assert!(admin.admin && admin.policy_name.is_empty() && admin.policy.allow.is_empty());
    }
}
