//! The declaration: the spec of a `KesCluster`, with the reason of each default next to it.

#![expect(unreachable_pub, reason = "KubeSchema repeats each struct, `pub` and all, inside a function")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    pod::PodOverrides,
    status::KesClusterStatus,
    surroundings::{Monitoring, NetworkPolicy, Tls},
    wiring::{Tenant, TenantSelector},
};

/// A key service that keeps its own keys, and the MinIO tenants that it encrypts.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "kes-operator.io",
    version = "v1alpha1",
    kind = "KesCluster",
    plural = "kesclusters",
    namespaced,
    derive = "PartialEq",
    status = "KesClusterStatus",
    shortname = "kesc",
    category = "kes",
    doc = "A key service that keeps its own keys, and the MinIO tenants that it encrypts.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether the key service answers and holds what the spec asks for."
    ),
    printcolumn(
        name = "Members",
        type_ = "string",
        json_path = ".status.members",
        description = "Members that are ready, of those wanted."
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpoint",
        description = "Where clients reach the key API."
    ),
    printcolumn(
        name = "Tenants",
        type_ = "string",
        json_path = ".status.tenantsVerified",
        description = "MinIO tenants proved to be encrypted, of those named."
    ),
    printcolumn(
        name = "Keys",
        type_ = "integer",
        json_path = ".status.keys",
        description = "Keys of the spec that exist."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        description = "What is waited for, or what is wrong."
    ),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name must be 40 characters or fewer: names of Services and Secrets are made from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must begin with a letter and consist of a-z, 0-9 and '-': a Service gets this name"),
    validation = Rule::new("!self.metadata.name.startsWith('minio')").message("metadata.name must not begin with 'minio': Kubernetes makes variables MINIO_… of a Service's name in the pods beside it, and MinIO takes those for settings of its own")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.seal) == has(oldSelf.seal) && (!has(self.seal) || self.seal == oldSelf.seal)").message("spec.seal cannot be changed: the volumes are sealed with that very key. Put it back, or make a new KesCluster"),
    validation = Rule::new("(self.tenants.size() == 0 && !has(self.tenantSelector)) || self.enclaves.exists(e, e.name == 'default')").message("spec.enclaves must have one called 'default' where tenants are named or selected: MinIO always uses that one")
)]
pub struct KesClusterSpec {
    /// Number of members: odd, so that a majority always exists. This release runs one; several come with
    /// replication.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = Rule::new("self % 2 == 1").message("spec.replicas must be odd (1, 3, 5 or 7), so that a majority exists"))]
    pub replicas: i32,

    /// Image of the key server. Default: the operator's own, since both are one binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// When nodes pull the image: `IfNotPresent`, when they do not have it; `Always`, at every start of a pod; `Never`, when it was loaded onto them.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// The volume that each member keeps its keys on.
    #[serde(default)]
    pub storage: Storage,

    /// What happens to volumes, and to the Secrets without which they are worthless, when the KesCluster is deleted. `Retain`: they stay, and a new KesCluster of the same name takes them up again. `Delete`: they are deleted too, and every key and everything encrypted with it is lost for ever.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// What opens the sealed volumes. Absent: a Secret is generated, and never deleted by the operator under `Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,

    /// Separate worlds of keys, policies and identities. MinIO uses the enclave `default`.
    #[serde(default = "default_enclaves")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub enclaves: Vec<Enclave>,

    /// MinIO tenants that shall encrypt with keys of this cluster.
    #[serde(default)]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "name".into()]))]
    pub tenants: Vec<Tenant>,

    /// MinIO tenants by their labels: every Tenant that has them is encrypted too, also one that appears later. A Tenant
    /// that `tenants` names is treated as it says there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_selector: Option<TenantSelector>,

    /// Where the certificate of the key servers comes from. Absent: from an authority of the cluster's own, renewed in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// Which pods may reach the key servers. Absent: every pod reaches the API, which asks for a client certificate; only members reach each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,

    /// What is made for the Prometheus Operator, where it is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,

    /// Stop changing anything: neither Kubernetes objects nor keys nor tenants. Running pods go on; the status stays fresh.
    #[serde(default)]
    pub paused: bool,

    /// Changes to the pods that the operator makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOverrides>,
}

/// When nodes pull an image.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ImagePullPolicy {
    /// At every start of a pod.
    Always,
    /// When the node does not have it, the default.
    #[default]
    IfNotPresent,
    /// Never; the image must have been loaded onto the node.
    Never,
}

impl ImagePullPolicy {
    /// As Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// What is deleted together with a `KesCluster`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeletionPolicy {
    /// Volumes and the Secrets that open them stay, and a new KesCluster of the same name takes them up again. The default, because keys that are gone make every object encrypted with them unreadable.
    #[default]
    Retain,
    /// Volumes and Secrets are deleted too: every key is lost for ever.
    Delete,
}

/// The volume of one member.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("spec.storage.storageClassName cannot be changed: a volume keeps its class. Put it back, or make a new KesCluster")
)]
pub struct Storage {
    /// Size of the volume. A key takes about 220 bytes, so the default of 1Gi is enough for some four million.
    #[serde(default = "one_gibibyte")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"))]
    #[x_kube(validation = Rule::new("quantity(self).isGreaterThan(quantity('0'))").message("spec.storage.size must be greater than 0"))]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity(oldSelf)) >= 0").message("spec.storage.size cannot shrink: volumes only grow. Put the former size back"))]
    pub size: String,

    /// Class of the volume. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub storage_class_name: Option<String>,
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: one_gibibyte(), storage_class_name: None }
    }
}

/// What opens the sealed volumes.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seal {
    /// A Secret of yours that holds the unseal key: the base64 of 32 random bytes.
    pub secret_ref: SecretKeyReference,
}

/// One key of a Secret in the namespace of the KesCluster.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,

    /// Key inside the Secret.
    #[serde(default = "unseal_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A separate world of keys, policies and identities with an admin of its own.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enclave {
    /// Name of the enclave.
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    pub name: String,

    /// Keys that must exist. A key that never existed is created; one that existed and is gone is told about and never made anew. None is ever overwritten or deleted, also not when it leaves this list.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub keys: Vec<Key>,

    /// Rules that identities can be given.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub policies: Vec<PolicyRules>,

    /// Applications that get a client certificate and a policy.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub identities: Vec<IdentityGrant>,
}

/// A key by name.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Name of the key.
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    pub name: String,
}

/// Which requests are permitted and which are refused.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRules {
    /// Name of the policy.
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    pub name: String,

    /// Patterns of request paths that are permitted, for example `/v1/key/generate/app-*`.
    #[serde(default)]
    #[schemars(length(max = 128), inner(length(min = 1, max = 256), regex(pattern = r"^/")))]
    pub allow: Vec<String>,

    /// Patterns of request paths that are refused even where `allow` permits them.
    #[serde(default)]
    #[schemars(length(max = 128), inner(length(min = 1, max = 256), regex(pattern = r"^/")))]
    pub deny: Vec<String>,

    /// What the patterns mean. `Glob`, as in KES v0.22: a `*` stays within one element of the path. `Prefix`, as in later KES: a `*` at the end matches any rest, also beyond `/`, and everything else is literal.
    #[serde(default, rename = "match")]
    pub matching: Matching,
}

/// What the patterns of a policy mean.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Matching {
    /// As in KES v0.22: a `*` stays within one element of the path. The default.
    #[default]
    Glob,
    /// As in later KES: a `*` at the end matches any rest, also beyond `/`; everything else is literal.
    Prefix,
}

/// An application: it gets a Secret with a client certificate, and a policy.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityGrant {
    /// Name of the application, unique in its enclave.
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    pub name: String,

    /// Name of a policy in the same enclave.
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    pub policy: String,

    /// Name of the Secret to write: `tls.crt`, `tls.key` and the `ca.crt` that the key service is trusted by. Generated once; the identity is the key.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub secret_name: String,
}

fn one() -> i32 {
    1
}

fn one_gibibyte() -> String {
    "1Gi".into()
}

fn unseal_key() -> String {
    "KES_UNSEAL_KEY".into()
}

pub(super) fn default_enclave() -> String {
    crate::api::DEFAULT_ENCLAVE.into()
}

fn default_enclaves() -> Vec<Enclave> {
    vec![Enclave { name: default_enclave(), keys: Vec::new(), policies: Vec::new(), identities: Vec::new() }]
}
