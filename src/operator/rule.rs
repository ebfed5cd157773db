//! The named rules of a cluster: each thing that is waited for and each step that is refused, with its sentence.

use std::fmt;

use jiff::Timestamp;

use super::cluster::purpose::Purpose;

/// Why the next step is not taken now. The name becomes the reason of a condition, the sentence its message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// `spec.paused`.
    Paused,
    /// The spec breaks a rule that the schema cannot express.
    InvalidSpec { field: String, problem: String },
    /// A Secret of the user's that the spec refers to does not serve.
    SealSecretUnusable { secret: String, problem: String },
    /// A Secret with a server certificate that the spec refers to does not serve.
    ServerSecretUnusable { secret: String, problem: String },
    /// cert-manager has not made the certificate yet.
    WaitingForCertificate { issuer: String, secret: String },
    /// cert-manager is not installed.
    CertManagerMissing { issuer: String },
    /// Tenants would not trust the certificate that the spec asks for.
    TrustWouldChange { tenants: Vec<String> },
    /// A certificate that somebody else should renew expires.
    CertificateExpires { secret: String, at: Timestamp },
    /// The volumes cannot grow.
    ExpansionRefused { class: String, problem: String },
    /// The StatefulSet is made anew for larger volumes.
    Expanding { size: String },
    /// Tenants cannot be listed by their labels.
    SelectionRefused { problem: String },
    /// More Tenants carry the labels than one key service takes.
    TooManySelected { found: usize, most: usize },
    /// A Secret that was generated is gone.
    SecretLost { purpose: Purpose, secret: String },
    /// A Secret that was generated holds other key material than it did.
    SecretChanged { purpose: Purpose, secret: String },
    /// A Secret that was generated cannot be read.
    SecretUnreadable { secret: String, problem: String },
    /// The pod is not there or does not run.
    WaitingForPod { pod: String, detail: String },
    /// The pod runs but the key server does not answer.
    WaitingForServer { pod: String, detail: String },
    /// The key server answers but does not call itself ready.
    WaitingForReadiness { pod: String },
    /// The bootstrap is under way.
    Bootstrapping,
    /// The member has no data although the cluster was bootstrapped.
    DataLost { pod: String, cluster_id: String },
    /// The member belongs to another cluster.
    OtherCluster { pod: String, expected: String, found: String },
    /// The member holds its root key no longer.
    Sealed { pod: String },
    /// The key API refused or failed while the spec's contents were written.
    ContentsRefused { step: String, problem: String },
    /// Keys that existed are gone from the key service.
    KeyLost { keys: Vec<String> },
    /// A pass did not come to its end; `reason` is the step.
    PassFailed { reason: &'static str, problem: String },
    /// A Kubernetes object was refused.
    ObjectRefused { object: String, problem: String },
}

impl Rule {
    /// Its name, for `reason`.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Paused => "Paused".into(),
            Self::InvalidSpec { .. } => "InvalidSpec".into(),
            Self::SealSecretUnusable { .. } => "SealSecretUnusable".into(),
            Self::ServerSecretUnusable { .. } => "ServerSecretUnusable".into(),
            Self::WaitingForCertificate { .. } => "WaitingForCertificate".into(),
            Self::CertManagerMissing { .. } => "CertManagerMissing".into(),
            Self::TrustWouldChange { .. } => "TrustWouldChange".into(),
            Self::CertificateExpires { .. } => "CertificateExpires".into(),
            Self::ExpansionRefused { .. } => "ExpansionRefused".into(),
            Self::Expanding { .. } => "Expanding".into(),
            Self::SelectionRefused { .. } => "SelectionRefused".into(),
            Self::TooManySelected { .. } => "TooManySelected".into(),
            Self::SecretLost { purpose, .. } => format!("{}SecretLost", purpose.reason()),
            Self::SecretChanged { purpose, .. } => format!("{}SecretChanged", purpose.reason()),
            Self::SecretUnreadable { .. } => "SecretUnreadable".into(),
            Self::WaitingForPod { .. } => "WaitingForPod".into(),
            Self::WaitingForServer { .. } => "WaitingForServer".into(),
            Self::WaitingForReadiness { .. } => "WaitingForReadiness".into(),
            Self::Bootstrapping => "Bootstrapping".into(),
            Self::DataLost { .. } => "DataLost".into(),
            Self::OtherCluster { .. } => "OtherCluster".into(),
            Self::Sealed { .. } => "Sealed".into(),
            Self::ContentsRefused { .. } => "ContentsRefused".into(),
            Self::KeyLost { .. } => "KeyLost".into(),
            Self::PassFailed { reason, .. } => (*reason).into(),
            Self::ObjectRefused { .. } => "ObjectRefused".into(),
        }
    }

    /// Whether time alone may resolve it; otherwise a person has to act.
    pub(crate) fn is_wait(&self) -> bool {
        match self {
            Self::WaitingForPod { .. }
            | Self::WaitingForServer { .. }
            | Self::WaitingForReadiness { .. }
            | Self::WaitingForCertificate { .. }
            | Self::Bootstrapping
            | Self::Expanding { .. }
            | Self::SelectionRefused { .. }
            | Self::PassFailed { .. }
            | Self::ContentsRefused { .. } => true,
            Self::Paused
            | Self::InvalidSpec { .. }
            | Self::SealSecretUnusable { .. }
            | Self::ServerSecretUnusable { .. }
            | Self::CertManagerMissing { .. }
            | Self::TrustWouldChange { .. }
            | Self::CertificateExpires { .. }
            | Self::ExpansionRefused { .. }
            | Self::TooManySelected { .. }
            | Self::SecretLost { .. }
            | Self::SecretChanged { .. }
            | Self::SecretUnreadable { .. }
            | Self::DataLost { .. }
            | Self::OtherCluster { .. }
            | Self::Sealed { .. }
            | Self::KeyLost { .. }
            | Self::ObjectRefused { .. } => false,
        }
    }
}

/// What, why, what next.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("spec.paused is true: nothing is changed until it is false"),
            Self::InvalidSpec { field, problem } => write!(f, "{field}: {problem}. Nothing was changed"),
            Self::SealSecretUnusable { secret, problem } => write!(
                f,
                "Secret {secret} cannot open the volumes: {problem}. Correct it, or spec.seal.secretRef"
            ),
            Self::ServerSecretUnusable { secret, problem } => write!(
                f,
                "Secret {secret} cannot be the servers' certificate: {problem}. Servers that run keep the former one; \
                 correct the Secret, or spec.tls"
            ),
            Self::WaitingForCertificate { issuer, secret } => {
                write!(
                    f,
                    "waiting for cert-manager to write a certificate of issuer {issuer} into Secret {secret}"
                )
            }
            Self::CertManagerMissing { issuer } => write!(
                f,
                "the API server does not know certificates.cert-manager.io, so issuer {issuer} cannot be asked. Install \
                 cert-manager, or remove spec.tls.issuerRef"
            ),
            Self::TrustWouldChange { tenants } => write!(
                f,
                "the certificate that spec.tls asks for is signed by an authority that these tenants do not know: {}. MinIO \
                 reads authorities only when it starts, so the servers keep the former certificate. Put the new authority \
                 beside the former one into ca.crt, restart those tenants, and then exchange the certificate",
                tenants.join(", ")
            ),
            Self::CertificateExpires { secret, at } => write!(
                f,
                "the certificate in Secret {secret} expires at {at}, and whoever keeps that Secret has not renewed it. \
                 Renew it: with an expired one MinIO reaches no key"
            ),
            Self::ExpansionRefused { class, problem } => write!(
                f,
                "the volumes cannot grow: {problem}. They keep their size; put the former spec.storage.size back, or let \
                 StorageClass {class} allow expansion"
            ),
            Self::Expanding { size } => {
                write!(
                    f,
                    "volumes grow to {size}: the StatefulSet is made anew, and its pods go on meanwhile"
                )
            }
            Self::SelectionRefused { problem } => write!(
                f,
                "failed to list Tenants for spec.tenantSelector: {problem}. Tenants of there that are known are looked after as \
                 they are, and none is found there before that works"
            ),
            Self::TooManySelected { found, most } => write!(
                f,
                "spec.tenantSelector selects {found} Tenants, and one KesCluster takes {most} by their labels: those that are \
                 wired, and then by name. Narrow it with namespaces or labels, or make another KesCluster for the rest"
            ),
            Self::SecretLost { purpose, secret } => write!(
                f,
                "Secret {secret} ({purpose}) was generated and is gone (or has lost its labels). It is not replaced, because {}; running pods are \
                 left alone. Restore the Secret, or its labels, from a backup",
                purpose.why_never_replaced()
            ),
            Self::SecretChanged { purpose, secret } => write!(
                f,
                "Secret {secret} ({purpose}) holds other key material than the one that was generated. Nothing is changed, \
                 because {}; restore its former content from a backup",
                purpose.why_never_replaced()
            ),
            Self::SecretUnreadable { secret, problem } => write!(
                f,
                "Secret {secret} cannot be used: {problem}. Restore its former content from a backup"
            ),
            Self::WaitingForPod { pod, detail } => write!(f, "waiting for pod {pod}: {detail}"),
            Self::WaitingForServer { pod, detail } => {
                write!(f, "waiting for the key server in pod {pod} to answer: {detail}")
            }
            Self::WaitingForReadiness { pod } => write!(f, "waiting for pod {pod} to become ready"),
            Self::Bootstrapping => f.write_str("the first member is being initialised"),
            Self::DataLost { pod, cluster_id } => write!(
                f,
                "pod {pod} has an empty volume, but cluster {cluster_id} was bootstrapped before: its keys are gone from \
                 there. It is not initialised anew, since new keys under the old names would make encrypted data \
                 unreadable for good. Bring the old volume back; or, if you mean to lose those keys, delete the \
                 KesCluster, take the annotation kes-operator.io/cluster-id off its Secret '…-system-admin', and create \
                 it again"
            ),
            Self::OtherCluster { pod, expected, found } => write!(
                f,
                "pod {pod} holds the data of cluster {found}, not of {expected}. Give it the volume that belongs to this \
                 KesCluster"
            ),
            Self::Sealed { pod } => {
                write!(f, "pod {pod} is sealed and serves nothing; delete the pod to unseal it")
            }
            Self::ContentsRefused { step, problem } => {
                write!(f, "failed to {step}: {problem}; it is tried again")
            }
            Self::KeyLost { keys } => write!(
                f,
                "these keys existed and are gone: {}. They are not created anew, because other material under the old names \
                 would look well and leave everything encrypted before unreadable for good. Bring back the volume, or import \
                 the keys ('kubectl kes key import'); if you mean to begin with other material, 'kubectl kes key create'",
                keys.join(", ")
            ),
            Self::PassFailed { problem, .. } => write!(
                f,
                "the operator's last pass did not come to its end: {problem}. It is tried again, more slowly each time; what \
                 runs is left as it is"
            ),
            Self::ObjectRefused { object, problem } => {
                write!(f, "the API server refused {object}: {problem}")
            }
        }
    }
}
