//! The named rules of a cluster: each thing that is waited for and each step that is refused, with its sentence.

use std::fmt;

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
            Self::ObjectRefused { .. } => "ObjectRefused".into(),
        }
    }

    /// Whether time alone may resolve it; otherwise a person has to act.
    pub(crate) fn is_wait(&self) -> bool {
        match self {
            Self::WaitingForPod { .. }
            | Self::WaitingForServer { .. }
            | Self::WaitingForReadiness { .. }
            | Self::Bootstrapping
            | Self::ContentsRefused { .. } => true,
            Self::Paused
            | Self::InvalidSpec { .. }
            | Self::SealSecretUnusable { .. }
            | Self::SecretLost { .. }
            | Self::SecretChanged { .. }
            | Self::SecretUnreadable { .. }
            | Self::DataLost { .. }
            | Self::OtherCluster { .. }
            | Self::Sealed { .. }
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
            Self::SecretLost { purpose, secret } => write!(
                f,
                "Secret {secret} ({purpose}) was generated and is gone. It is not replaced, because {}; running pods are \
                 left alone. Restore the Secret with its labels from a backup",
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
                 KesCluster and create it again"
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
            Self::ObjectRefused { object, problem } => {
                write!(f, "the API server refused {object}: {problem}")
            }
        }
    }
}
