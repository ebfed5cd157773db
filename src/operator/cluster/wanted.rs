//! What a spec that obeys every rule asks for: made by validate (tenants settled by select), the only input of the steps behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::purpose::Purpose;
use crate::{
    api::{API_PORT, EnclaveName, KeyName, PolicyName, message::Policy},
    crd::{self, DeletionPolicy, ImagePullPolicy, Mode, Mount, PodOverrides, RestartPolicy},
};

/// A spec that obeys every rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) owner: OwnerReference,
    /// Tenants depend on the cluster, or may soon: nothing may be collected together with the `KesCluster`.
    pub(crate) guarded: bool,
    pub(crate) domain: String,
    /// Members: one, in this release.
    pub(crate) replicas: i32,
    pub(crate) image: String,
    pub(crate) pull_policy: ImagePullPolicy,
    pub(crate) storage: crd::Storage,
    pub(crate) deletion: DeletionPolicy,
    pub(crate) seal: Seal,
    pub(crate) enclaves: Vec<Enclave>,
    /// Those that the spec names; after [`super::select::settle`] all that a pass is about.
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) selection: Option<Selection>,
    pub(crate) tls: Tls,
    pub(crate) network: crd::NetworkPolicy,
    pub(crate) monitoring: crd::Monitoring,
    pub(crate) pod: PodOverrides,
}

/// Where the server's certificate comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tls {
    /// The cluster's own authority.
    Own { validity: Duration },
    /// A Secret of the user's.
    Secret { name: String },
    /// cert-manager, which puts it into a Secret that we name.
    Issuer { issuer: crd::IssuerReference, secret: String },
}

impl Tls {
    /// The Secret that somebody else keeps up to date.
    pub(crate) fn source(&self) -> Option<&str> {
        match self {
            Self::Own { .. } => None,
            Self::Secret { name } | Self::Issuer { secret: name, .. } => Some(name),
        }
    }
}

/// Which Tenants are meant by their labels, and how they are treated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Selection {
    /// As the API server takes it.
    pub(crate) labels: String,
    /// Where to look; empty means wherever the operator does.
    pub(crate) namespaces: Vec<String>,
    pub(crate) enclave: EnclaveName,
    /// Absent: each tenant has its own.
    pub(crate) key: Option<KeyName>,
    pub(crate) restart: RestartPolicy,
    pub(crate) mount: Mount,
    pub(crate) mode: Mode,
    pub(crate) policy: Option<PolicyName>,
}

/// Where the unseal key is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seal {
    pub(crate) secret: String,
    pub(crate) key: String,
    /// Made by the operator, not brought by the user.
    pub(crate) generated: bool,
}

/// An enclave and what it shall hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Enclave {
    pub(crate) name: EnclaveName,
    pub(crate) keys: BTreeSet<KeyName>,
    pub(crate) policies: BTreeMap<PolicyName, Policy>,
    pub(crate) identities: Vec<Grant>,
}

/// An application and its policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Grant {
    pub(crate) name: String,
    pub(crate) policy: PolicyName,
    pub(crate) secret: String,
}

/// A MinIO Tenant that shall be wired.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tenant {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) enclave: EnclaveName,
    pub(crate) key: KeyName,
    pub(crate) restart: RestartPolicy,
    pub(crate) mount: Mount,
    pub(crate) mode: Mode,
    /// Absent: one is made for it.
    pub(crate) policy: Option<PolicyName>,
    pub(crate) standing: Standing,
}

/// Whether the spec asks for a tenant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// By name or by label.
    Wanted,
    /// No more. What was put into it stays until somebody asks for its removal.
    Left { unwire: bool },
}

impl Wanted {
    /// Owners of an object that goes with the `KesCluster`.
    pub(crate) fn owners(&self) -> Option<Vec<OwnerReference>> {
        (!self.guarded).then(|| vec![self.owner.clone()])
    }

    pub(crate) fn has_tenant(&self, namespace: &str, name: &str) -> bool {
        self.tenants.iter().any(|tenant| tenant.namespace == namespace && tenant.name == name)
    }

    /// Names that tenants and the operator check the server's certificate against.
    pub(crate) fn checked_names(&self) -> [String; 2] {
        [self.server_name(), self.full_server_name()]
    }

    /// Name that the server's certificate is checked against.
    pub(crate) fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// The same with the domain of the Kubernetes cluster, as clients in other namespaces use it.
    pub(crate) fn full_server_name(&self) -> String {
        format!("{}.{}", self.server_name(), self.domain)
    }

    /// Where clients reach the key API.
    pub(crate) fn endpoint(&self) -> String {
        format!("https://{}:{API_PORT}", self.full_server_name())
    }

    /// Every Secret with generated key material, the authority first.
    pub(crate) fn purposes(&self) -> Vec<Purpose> {
        let mut purposes = vec![Purpose::Authority, Purpose::ServerCertificate];
        if self.seal.generated {
            purposes.push(Purpose::Seal);
        }
        purposes.push(Purpose::SystemAdmin);
        for enclave in &self.enclaves {
            purposes.push(Purpose::EnclaveAdmin(enclave.name.clone()));
            for Grant { name, secret, policy: _ } in &enclave.identities {
                purposes.push(Purpose::Identity {
                    enclave: enclave.name.clone(),
                    name: name.clone(),
                    secret: secret.clone(),
                });
            }
        }
        for tenant in &self.tenants {
            purposes.push(Purpose::Tenant { namespace: tenant.namespace.clone(), name: tenant.name.clone() });
        }
        purposes
    }
}
