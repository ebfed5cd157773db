//! The report: what the operator says about a `KesCluster`, and the few facts that it must remember.

#![expect(unreachable_pub, reason = "KubeSchema repeats each struct, `pub` and all, inside a function")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw and did.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KesClusterStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`, `Progressing`, `Degraded`, `QuorumHealthy`, `CertificatesReady`, `TenantsWired`, `Pruned`, `Paused`, and while it is being deleted `Deletable`: each with a reason and a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The one bootstrap of this cluster. Once `Completed` it never happens again, whatever is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,

    /// Where clients reach the key API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,

    /// Members that are ready, of those wanted, for example `1/1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<String>,

    /// Keys of the spec and of its tenants that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<i64>,

    /// Tenants proved to be encrypted, of those named, for example `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants_verified: Option<String>,

    /// One entry per tenant of the spec: how far its wiring is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "name".into()]))]
    pub tenants: Vec<TenantStatus>,

    /// Secrets with key material that were generated, so that a lost or exchanged one is noticed and never silently replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<IssuedSecret>,

    /// What the operator put into each enclave, so that what leaves the spec can be told from what others made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["enclave".into()]))]
    pub contents: Vec<EnclaveContents>,

    /// The certificate that the key servers present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,

    /// Pods that exist; for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// Labels of the pods; for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// The record of the one bootstrap.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// Random id, recorded before the first member is told to initialise itself.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,

    /// How far it is. `Started`: the id is recorded. `Completed`: the first member holds it, and one without it has lost its data.
    pub phase: BootstrapPhase,

    /// When it was completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// How far the bootstrap is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum BootstrapPhase {
    /// The id is recorded; the first member may or may not know it yet.
    Started,
    /// The first member holds the id. A member that says otherwise has lost its data.
    Completed,
}

/// A Secret with key material that the operator generated.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedSecret {
    /// Name of the Secret.
    pub name: String,

    /// Identity of its certificate, or a one-way fingerprint of its content.
    pub fingerprint: String,
}

/// What the operator put into one enclave.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnclaveContents {
    /// Name of the enclave.
    pub enclave: String,

    /// Keys that it made or found. They are never deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,

    /// Policies that it wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,

    /// Identities that it gave a policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,

    /// Whose each of the keys is. What it does not name was made by a release that did not note it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub key_owners: Vec<KeyOwners>,
}

/// Whose a key is, so that it stays denied to others when those who have it leave the spec.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyOwners {
    /// Name of the key.
    pub key: String,

    /// Tenants that have or had it as their default, as `namespace/name`. Without any it is the applications'.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
}

/// The certificate that the key servers present.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Secret that it is in.
    pub secret: String,

    /// When it expires.
    pub not_after: Time,

    /// When it is renewed; absent where somebody else renews it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_at: Option<Time>,
}

/// How far the wiring of one tenant is.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// Namespace of the Tenant.
    pub namespace: String,

    /// Name of the Tenant.
    pub name: String,

    /// Step that is reached. `Pending`: the Tenant, its CRD or the key service is not there yet. `Prepared`: the Secret is in the tenant's namespace. `Patched`: the Tenant was patched. `Restarting`: its pods are being replaced. `Verified`: every pod runs with the key service and answers. `Conflict`: the Tenant says something else about encryption, so nothing was patched. `Blocked`: a rule forbids the next step. `Orphaned`: the spec no longer asks for it, and the wiring stays until its removal is asked for. `Unwiring`: the wiring is being taken out.
    pub phase: TenantPhase,

    /// The rule that decides what happens next.
    pub reason: String,

    /// The same as a sentence.
    pub message: String,

    /// Since when the phase is this one.
    pub since: Time,

    /// UID of the Tenant that was wired; another one is a new Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,

    /// What was put into the Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected: Option<Injected>,

    /// With `mode: Render`: what has to be in the Tenant, as YAML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

/// What was put into a Tenant, so that it can be told from what a user wrote.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Injected {
    /// URL of the key service.
    pub endpoint: String,

    /// The tenant's default key.
    pub key_name: String,

    /// How the certificate is mounted: by `ClientCertSecrets` or by `AdditionalVolumes`, as in the spec.
    pub mount: MountKind,

    /// Directory or slot that the certificate is read from inside MinIO.
    pub path: String,

    /// When the API server took the patch. Pods that are older do not know it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patched_at: Option<Time>,

    /// Whether every pod was seen started after the patch.
    #[serde(default)]
    pub restarted: bool,

    /// Whether a restart was approved, for tenants with `restartPolicy: Manual`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub approved: bool,

    /// It was written down right before the patch was sent: whether the Tenant has it, only the Tenant itself says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub intended: bool,

    /// How often the same entries were put back within a day after somebody removed them.
    #[serde(default)]
    pub repeats: i32,

    /// How many pods confirmed that they can encrypt. When the Tenant has another number of them, all are asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_pods: Option<i32>,
}

/// How the certificate is mounted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum MountKind {
    /// `externalClientCertSecrets`.
    ClientCertSecrets,
    /// `additionalVolumes` and `additionalVolumeMounts`.
    AdditionalVolumes,
}

/// Steps of the wiring of one tenant, in order, and the two ways that it stops.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TenantPhase {
    /// The Tenant, its CRD or the key service is not there yet; nothing was changed.
    Pending,
    /// The Secret is in the tenant's namespace; the key service is being proved with it.
    Prepared,
    /// The Tenant was patched; its StatefulSets are being changed by the MinIO Operator.
    Patched,
    /// The tenant's pods are being replaced.
    Restarting,
    /// Every pod runs with the key service and answers.
    Verified,
    /// The Tenant says something else about encryption; nothing was patched.
    Conflict,
    /// A rule forbids the next step.
    Blocked,
    /// The spec no longer asks for it. The wiring stays until its removal is asked for.
    Orphaned,
    /// The wiring is being taken out, as was asked for.
    Unwiring,
}

impl std::fmt::Display for TenantPhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pending => "Pending",
            Self::Prepared => "Prepared",
            Self::Patched => "Patched",
            Self::Restarting => "Restarting",
            Self::Verified => "Verified",
            Self::Conflict => "Conflict",
            Self::Blocked => "Blocked",
            Self::Orphaned => "Orphaned",
            Self::Unwiring => "Unwiring",
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_false(flag: &bool) -> bool {
    !*flag
}
