//! The declaration, part four: certificates, network and monitoring.

#![expect(unreachable_pub, reason = "KubeSchema repeats each struct, `pub` and all, inside a function")]

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the certificate of the key servers comes from.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.serverSecretRef) && has(self.issuerRef))").message("spec.tls takes serverSecretRef or issuerRef, not both")
)]
pub struct Tls {
    /// A Secret of yours with `tls.crt`, `tls.key` and the `ca.crt` that clients trust it by. You renew it; the servers take it up without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_secret_ref: Option<SecretReference>,

    /// An issuer of cert-manager, which then makes and renews the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerReference>,

    /// Days that a certificate from the cluster's own authority is valid; it is renewed with the same key after two thirds of them.
    #[serde(default = "a_year")]
    #[schemars(range(min = 1, max = 3650))]
    pub validity_days: i32,
}

/// A Secret in the namespace of the KesCluster.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerReference {
    /// Name of the issuer.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,

    /// `Issuer` in the namespace of the KesCluster, or `ClusterIssuer`.
    #[serde(default)]
    pub kind: IssuerKind,

    /// API group of the issuer, for issuers that are not cert-manager's own.
    #[serde(default = "cert_manager")]
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
}

/// Kind of an issuer.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum IssuerKind {
    /// In the namespace of the KesCluster.
    #[default]
    Issuer,
    /// Outside of namespaces.
    ClusterIssuer,
}

impl IssuerKind {
    /// As cert-manager spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "Issuer",
            Self::ClusterIssuer => "ClusterIssuer",
        }
    }
}

/// Which pods may reach the key servers.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Whether a NetworkPolicy is made at all. Default: yes.
    #[serde(default = "yes")]
    pub enabled: bool,

    /// Who may reach the key API besides the namespaces of the tenants and the operator. Empty: every pod.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub from: Vec<NetworkPolicyPeer>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: true, from: Vec::new() }
    }
}

/// What is made for the Prometheus Operator.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Whether a ServiceMonitor and a PrometheusRule are made where their definitions are installed. Default: yes.
    #[serde(default = "yes")]
    pub enabled: bool,

    /// Labels of both, by which a Prometheus selects them.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub labels: BTreeMap<String, String>,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self { enabled: true, labels: BTreeMap::new() }
    }
}

fn yes() -> bool {
    true
}

/// Days of a certificate's life: long enough that a renewal that fails is noticed in time.
fn a_year() -> i32 {
    365
}

fn cert_manager() -> String {
    "cert-manager.io".into()
}
