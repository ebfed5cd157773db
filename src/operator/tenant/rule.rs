//! The named rules of a tenant's wiring: what is waited for, what is refused, and why, with a sentence each.

use std::fmt;

use super::version::Version;
use crate::operator::{
    names::ALLOW_FROM,
    requests::{APPROVE_RESTART, UNWIRE},
};

/// Why the wiring is where it is. The name becomes `reason`, the sentence `message`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// The MinIO Operator is not installed.
    TenantApiMissing,
    /// The MinIO Operator is older than what the wiring needs.
    OperatorTooOld { version: Version },
    /// The MinIO Operator would ignore the volumes that the wiring needs.
    OperatorWithoutVolumes { version: Version },
    /// The API server does not store fields that the wiring needs: the CRD is older than they are.
    FieldsUnknown { fields: Vec<String> },
    /// No such Tenant.
    TenantMissing,
    /// The Tenant is being deleted.
    TenantDeleting,
    /// Nobody in the Tenant's namespace has agreed to it.
    NotAllowed { from: String, namespace: String },
    /// The key service does not serve yet.
    KeyServiceNotReady { why: String },
    /// MinIO cannot choose an enclave.
    EnclaveUnsupported { enclave: String },
    /// The client certificate is lost.
    CertificateLost { why: String },
    /// The Tenant runs a KES of its own.
    BuiltInKes,
    /// Another KMS is configured.
    ForeignKms { variable: String, place: &'static str },
    /// One variable is there twice.
    DuplicateVariable { variable: String },
    /// Our mount is not as it was injected.
    MountChanged { what: String },
    /// The MinIO Operator would ignore the volumes.
    VolumesUnequal { volumes: usize, mounts: usize },
    /// A Secret of our name belongs to somebody else.
    SecretTaken { secret: String },
    /// The key service was tried with the tenant's certificate, and failed.
    ProofFailed { problem: String },
    /// Some pods are down, so the rest must not be restarted.
    TenantNotReady { pods: Vec<String> },
    /// Somebody else wrote the Tenant at the same time.
    TenantChanged,
    /// Somebody keeps removing what was put there.
    ManagedElsewhere { repeats: i32 },
    /// The patch is about to be sent.
    Patching,
    /// The API server refused or did not answer.
    ApiRefused { step: String, problem: String },
    /// The MinIO Operator has to change its StatefulSets.
    WaitingForTemplate { stateful_set: Option<String> },
    /// It had long to do that.
    OperatorSilent { minutes: i64 },
    /// A person approves the restart of the pods.
    RestartPending { pods: usize },
    /// A person approves the patch, and the restart that it brings.
    ApprovalPending { pods: usize },
    /// Somebody else changes the Tenant.
    RenderPending,
    /// The `KesCluster` is being deleted.
    ClusterDeleting,
    /// The spec no longer asks for it, and it is wired.
    LeftWired,
    /// The wiring is gone from the Tenant, but pods run with it.
    PodsStillUse,
    /// MinIO would not start without a key service.
    AutoEncryptionOn,
    /// The wiring was taken out.
    Unwired,
    /// The MinIO Operator has to take the certificate out of its StatefulSets.
    WaitingForRemoval { stateful_set: String },
    /// All pods were deleted together.
    PodsDeleted { pods: usize },
    /// Pods are starting.
    WaitingForPods { ready: usize, wanted: usize },
    /// A pod does not confirm that it can encrypt.
    WaitingForHealth { pod: String, problem: String },
    /// Done; of so many pods so many are ready now.
    Verified { pods: usize, ready: usize },
}

impl Rule {
    /// Its name.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::TenantApiMissing => "TenantApiMissing",
            Self::OperatorTooOld { .. } => "OperatorTooOld",
            Self::OperatorWithoutVolumes { .. } => "OperatorWithoutVolumes",
            Self::FieldsUnknown { .. } => "FieldsUnknown",
            Self::TenantMissing => "TenantMissing",
            Self::TenantDeleting => "TenantDeleting",
            Self::NotAllowed { .. } => "NotAllowed",
            Self::KeyServiceNotReady { .. } => "KeyServiceNotReady",
            Self::EnclaveUnsupported { .. } => "EnclaveUnsupported",
            Self::CertificateLost { .. } => "CertificateLost",
            Self::BuiltInKes => "BuiltInKes",
            Self::ForeignKms { .. } => "ForeignKms",
            Self::DuplicateVariable { .. } => "DuplicateVariable",
            Self::MountChanged { .. } => "MountChanged",
            Self::VolumesUnequal { .. } => "VolumesUnequal",
            Self::SecretTaken { .. } => "SecretTaken",
            Self::ProofFailed { .. } => "ProofFailed",
            Self::TenantNotReady { .. } => "TenantNotReady",
            Self::TenantChanged => "TenantChanged",
            Self::ManagedElsewhere { .. } => "ManagedElsewhere",
            Self::Patching => "Patching",
            Self::ApiRefused { .. } => "ApiRefused",
            Self::WaitingForTemplate { .. } => "WaitingForTemplate",
            Self::OperatorSilent { .. } => "OperatorSilent",
            Self::RestartPending { .. } => "RestartPending",
            Self::ApprovalPending { .. } => "ApprovalPending",
            Self::RenderPending => "RenderPending",
            Self::ClusterDeleting => "ClusterDeleting",
            Self::LeftWired => "LeftWired",
            Self::PodsStillUse => "PodsStillUse",
            Self::AutoEncryptionOn => "AutoEncryptionOn",
            Self::Unwired => "Unwired",
            Self::WaitingForRemoval { .. } => "WaitingForRemoval",
            Self::PodsDeleted { .. } => "PodsDeleted",
            Self::WaitingForPods { .. } => "WaitingForPods",
            Self::WaitingForHealth { .. } => "WaitingForHealth",
            Self::Verified { .. } => "Verified",
        }
    }
}

/// What, why, what next.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TenantApiMissing => f.write_str(
                "the API server does not know tenants.minio.min.io; it is wired once the MinIO Operator is installed",
            ),
            Self::OperatorTooOld { version } => write!(
                f,
                "the CRD of Tenants says that the MinIO Operator is {version}, and those before {} cannot give MinIO a client \
                 certificate. Nothing is changed; upgrade the MinIO Operator together with its CRD",
                Version::FIRST
            ),
            Self::OperatorWithoutVolumes { version } => write!(
                f,
                "the CRD of Tenants says that the MinIO Operator is {version}, and those before {} ignore additionalVolumes, so \
                 MinIO would start without its certificate. Nothing is changed; set mount to ClientCertSecrets, or upgrade the \
                 MinIO Operator together with its CRD",
                Version::FIRST_WITH_VOLUMES
            ),
            Self::FieldsUnknown { fields } => write!(
                f,
                "the API server would drop {} from the Tenant, because the CRD of Tenants is older than that, and MinIO would \
                 not start without it. Nothing is changed; upgrade the MinIO Operator together with its CRD",
                fields.join(", ")
            ),
            Self::TenantMissing => f.write_str("there is no such Tenant; it is wired once it appears"),
            Self::TenantDeleting => f.write_str("the Tenant is being deleted; nothing is done to it"),
            Self::NotAllowed { from, namespace } => write!(
                f,
                "a KesCluster of namespace {from} may have no Tenant of namespace {namespace} patched and restarted before \
                 somebody there has agreed; whoever may: 'kubectl annotate namespace {namespace} {ALLOW_FROM}={from}', or \
                 the same annotation on the Tenant"
            ),
            Self::KeyServiceNotReady { why } => write!(f, "the key service does not serve yet: {why}"),
            Self::EnclaveUnsupported { enclave } => write!(
                f,
                "MinIO releases since 2024 cannot choose an enclave and always use 'default', so enclave {enclave} cannot \
                 serve it; set enclave to default"
            ),
            Self::CertificateLost { why } => f.write_str(why),
            Self::BuiltInKes => f.write_str(
                "the Tenant has spec.kes, a KES of its own. It is not touched; to use this key service, move its keys \
                 here and remove spec.kes",
            ),
            Self::ForeignKms { variable, place } => write!(
                f,
                "{place} sets {variable}, so another key management is configured. Nothing is overwritten; remove the \
                 variable if this key service shall be used, but only after the keys that data is encrypted with are here"
            ),
            Self::DuplicateVariable { variable } => {
                write!(f, "spec.env sets {variable} more than once and the last one would win; remove the others")
            }
            Self::MountChanged { what } => write!(f, "{what}. It is not overwritten; restore or rename it"),
            Self::VolumesUnequal { volumes, mounts } => write!(
                f,
                "spec.additionalVolumes has {volumes} entries and spec.additionalVolumeMounts {mounts}; the MinIO Operator \
                 ignores both unless they are equally many"
            ),
            Self::SecretTaken { secret } => write!(
                f,
                "a Secret {secret} that was not made for this KesCluster is in the tenant's namespace; delete or rename it"
            ),
            Self::ProofFailed { problem } => write!(
                f,
                "the key service was tried with the tenant's certificate and did not encrypt and decrypt: {problem}. \
                 MinIO is not pointed at it before it does"
            ),
            Self::TenantNotReady { pods } => write!(
                f,
                "some of the tenant's pods are not ready ({}), so the others are not restarted; it goes on when all are \
                 ready",
                pods.join(", ")
            ),
            Self::TenantChanged => f.write_str("the Tenant was changed by somebody else meanwhile; it is tried again"),
            Self::ManagedElsewhere { repeats } => write!(
                f,
                "the wiring was put back {repeats} times within a day and removed each time, so something applies this \
                 Tenant from elsewhere. It is not patched again until a day has passed, because each time restarts MinIO; \
                 MinIO's next start would be without its keys. Put what status.tenants[].snippet shows into that source, and \
                 set the tenant's mode to Render"
            ),
            Self::Patching => f.write_str("everything is proved, and the Tenant is patched now"),
            Self::ApiRefused { step, problem } => write!(f, "failed to {step}: {problem}; it is tried again"),
            Self::WaitingForTemplate { stateful_set: None } => {
                f.write_str("the Tenant was patched; waiting for the MinIO Operator to make its StatefulSets")
            }
            Self::WaitingForTemplate { stateful_set: Some(set) } => write!(
                f,
                "the Tenant was patched; waiting for the MinIO Operator to put the certificate into StatefulSet {set}"
            ),
            Self::OperatorSilent { minutes } => write!(
                f,
                "the Tenant was patched {minutes} minutes ago, and the MinIO Operator has not put the certificate into its \
                 StatefulSets; see whether it runs ('kubectl get pods -A -l name=minio-operator'). A pod that restarts before \
                 that does not come back"
            ),
            Self::RestartPending { pods } => write!(
                f,
                "{pods} pods run without the key service and restartPolicy is Manual; when some seconds of outage suit you, \
                 approve the restart with the annotation {APPROVE_RESTART} on the KesCluster, or delete them all together"
            ),
            Self::ApprovalPending { pods } => write!(
                f,
                "everything is proved; the Tenant is patched and its {pods} pods are restarted together, which takes some \
                 seconds of outage, when you approve it with the annotation {APPROVE_RESTART} on the KesCluster"
            ),
            Self::RenderPending => f.write_str(
                "everything is proved, and mode is Render: put what snippet shows into the source that the Tenant comes from",
            ),
            Self::ClusterDeleting => {
                f.write_str("the KesCluster is being deleted, so no further tenant is wired")
            }
            Self::LeftWired => write!(
                f,
                "the spec no longer asks for this tenant. Its wiring stays, since MinIO could not read what it encrypted; \
                 name it again, or have the wiring taken out with the annotation {UNWIRE} on the KesCluster"
            ),
            Self::PodsStillUse => f.write_str(
                "the wiring was taken out of the Tenant, but its pods still run with it, so their identity stays known; \
                 delete them all together",
            ),
            Self::AutoEncryptionOn => f.write_str(
                "the Tenant sets MINIO_KMS_AUTO_ENCRYPTION, with which MinIO does not start without a key service; remove \
                 that variable first",
            ),
            Self::Unwired => f.write_str("the wiring was taken out of the Tenant"),
            Self::WaitingForRemoval { stateful_set } => write!(
                f,
                "the wiring was taken out of the Tenant; waiting for the MinIO Operator to take the certificate out of \
                 StatefulSet {stateful_set}"
            ),
            Self::PodsDeleted { pods } => {
                write!(f, "{pods} pods were deleted together, so that all come back with the key service")
            }
            Self::WaitingForPods { ready, wanted } => {
                write!(f, "waiting for the tenant's pods: {ready} of {wanted} are ready")
            }
            Self::WaitingForHealth { pod, problem } => {
                write!(f, "waiting for pod {pod} to confirm that it can encrypt: {problem}")
            }
            Self::Verified { pods, ready } if ready == pods => {
                write!(f, "all {pods} pods started with the key service and can encrypt")
            }
            Self::Verified { pods, ready } => {
                write!(
                    f,
                    "all {pods} pods started with the key service and could encrypt; {ready} of them are ready now"
                )
            }
        }
    }
}
