//! What each generated Secret is for, what it is called, and whether it may ever be made anew.

use std::fmt;

use super::super::names;
use crate::api::EnclaveName;

/// A Secret with key material that the operator generates.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Purpose {
    /// Certificate authority of the cluster. First, because the server's certificate is signed by it.
    Authority,
    /// The server's certificate.
    ServerCertificate,
    /// What opens the sealed volumes.
    Seal,
    /// Who may create enclaves and bootstrap.
    SystemAdmin,
    /// Who may do everything in one enclave.
    EnclaveAdmin(EnclaveName),
    /// An application of the spec.
    Identity { enclave: EnclaveName, name: String, secret: String },
    /// A MinIO tenant.
    Tenant { namespace: String, name: String },
}

impl Purpose {
    /// Name of the Secret.
    pub(crate) fn secret(&self, cluster: &str) -> String {
        match self {
            Self::Authority => names::authority_secret(cluster),
            Self::ServerCertificate => names::server_secret(cluster),
            Self::Seal => names::seal_secret(cluster),
            Self::SystemAdmin => names::system_admin_secret(cluster),
            Self::EnclaveAdmin(enclave) => names::enclave_admin_secret(cluster, enclave),
            Self::Identity { secret, .. } => secret.clone(),
            Self::Tenant { namespace, name } => names::tenant_secret(cluster, namespace, name),
        }
    }

    /// Beginning of the reasons about it, as in `SealSecretLost`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Authority => "Authority",
            Self::ServerCertificate => "ServerCertificate",
            Self::Seal => "Seal",
            Self::SystemAdmin => "SystemAdmin",
            Self::EnclaveAdmin(_) => "EnclaveAdmin",
            Self::Identity { .. } => "Identity",
            Self::Tenant { .. } => "Tenant",
        }
    }

    /// Value of the component label.
    pub(crate) fn component(&self) -> &'static str {
        match self {
            Self::Authority => "ca",
            Self::ServerCertificate => "server-certificate",
            Self::Seal => "seal",
            Self::SystemAdmin => "system-admin",
            Self::EnclaveAdmin(_) => "enclave-admin",
            Self::Identity { .. } => "identity",
            Self::Tenant { .. } => "tenant",
        }
    }

    /// Whether another one serves as well. Only the server's certificate: its authority vouches for each.
    pub(crate) fn is_replaceable(&self) -> bool {
        matches!(self, Self::ServerCertificate)
    }

    /// Whether it is a certificate that a client of the key service shows.
    pub(crate) fn is_client(&self) -> bool {
        match self {
            Self::SystemAdmin | Self::EnclaveAdmin(_) | Self::Identity { .. } | Self::Tenant { .. } => true,
            Self::Authority | Self::ServerCertificate | Self::Seal => false,
        }
    }

    /// Second half of a sentence about the loss.
    pub(crate) fn why_never_replaced(&self) -> &'static str {
        match self {
            Self::Authority => "every client trusts that very certificate",
            Self::ServerCertificate => "clients are connected with it",
            Self::Seal => "another unseal key does not open the volumes",
            Self::SystemAdmin => "the members know that very identity as their owner",
            Self::EnclaveAdmin(_) => "the enclave knows that very identity as its admin",
            Self::Identity { .. } => "applications may run with that very identity",
            Self::Tenant { .. } => "MinIO runs with that very identity",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority => f.write_str("certificate authority"),
            Self::ServerCertificate => f.write_str("server certificate"),
            Self::Seal => f.write_str("unseal key"),
            Self::SystemAdmin => f.write_str("system admin"),
            Self::EnclaveAdmin(enclave) => write!(f, "admin of enclave {enclave}"),
            Self::Identity { enclave, name, .. } => write!(f, "identity {name} of enclave {enclave}"),
            Self::Tenant { namespace, name } => write!(f, "client of tenant {namespace}/{name}"),
        }
    }
}
