//! The declaration, part two: MinIO tenants, by name and by label.

#![expect(unreachable_pub, reason = "KubeSchema repeats each struct, `pub` and all, inside a function")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::default_enclave;

/// A MinIO Tenant that shall encrypt with this cluster.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// Name of the Tenant. It may appear later than this resource.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Namespace of the Tenant. Where it is not the KesCluster's own, it has to agree: by the annotation `kes-operator.io/allow-from: <namespace of the KesCluster>` on that Namespace, or on the Tenant.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,

    /// Enclave that the tenant's keys are in. MinIO releases since 2024 cannot choose one, so it has to be `default`.
    #[serde(default = "default_enclave")]
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    #[x_kube(validation = Rule::new("self == 'default'").message("spec.tenants[].enclave must be 'default': MinIO cannot choose an enclave and always uses that one"))]
    pub enclave: String,

    /// The tenant's default key. It is created once; one that existed and is gone is told about and never replaced.
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    pub key_name: String,

    /// Whether the operator restarts the tenant's pods, all at once (some seconds of outage), so that encryption begins. `Automatic`: once, as soon as everything is proved. `Manual`: nothing is changed in the Tenant before you approve it with the annotation `kes-operator.io/approve-restart: <namespace>/<name>` on the KesCluster.
    #[serde(default)]
    pub restart_policy: RestartPolicy,

    /// How the client certificate gets into MinIO's pods. `ClientCertSecrets`: an entry in the Tenant's `externalClientCertSecrets`. `AdditionalVolumes`: a pair of entries in `additionalVolumes` and `additionalVolumeMounts`, with MinIO Operator 5.0.9 or newer. `Auto`: the former where the Tenant's list is empty, else the latter, because positions in that list are paths inside MinIO.
    #[serde(default)]
    pub mount: Mount,

    /// Whether the operator changes the Tenant, or only says what to put into it. `Patch`: the operator changes it, by one guarded patch. `Render`: you do, or what applies the Tenant on your behalf, and `status.tenants[].snippet` says what has to be in it.
    #[serde(default)]
    pub mode: Mode,

    /// Name of a policy in the enclave. Default: one made for this tenant, which permits what MinIO needs, except to
    /// create its default key anew and to touch the default keys of the other tenants and the keys that the enclave has in the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    pub policy: Option<String>,
}

/// Which Tenants are encrypted because of their labels, and how.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.matchLabels.size() + self.matchExpressions.size() > 0").message("spec.tenantSelector needs matchLabels or matchExpressions: without any it would select every Tenant")
)]
pub struct TenantSelector {
    /// Labels that a Tenant must have, all of them.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub match_labels: BTreeMap<String, String>,

    /// Further conditions on a Tenant's labels, all of which must hold.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<LabelExpression>,

    /// Namespaces in which to look. Empty: every namespace that the operator watches. Each but the KesCluster's own has to agree, as for `spec.tenants`.
    #[serde(default)]
    #[schemars(
        length(max = 128),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub namespaces: Vec<String>,

    /// Enclave that the tenants' keys are in. MinIO releases since 2024 cannot choose one, so it has to be `default`.
    #[serde(default = "default_enclave")]
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    #[x_kube(validation = Rule::new("self == 'default'").message("spec.tenantSelector.enclave must be 'default': MinIO cannot choose an enclave and always uses that one"))]
    pub enclave: String,

    /// Default key of all of them. Absent: each gets one of its own, called `<namespace>_<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    pub key_name: Option<String>,

    /// Whether the operator restarts the tenants' pods, all of one tenant at once, so that encryption begins. `Automatic`: once, as soon as everything is proved. `Manual`: nothing is changed in a Tenant before you approve it with the annotation `kes-operator.io/approve-restart: <namespace>/<name>` on the KesCluster.
    #[serde(default)]
    pub restart_policy: RestartPolicy,

    /// How the client certificate gets into MinIO's pods. `ClientCertSecrets`: an entry in the Tenant's `externalClientCertSecrets`. `AdditionalVolumes`: a pair of entries in `additionalVolumes` and `additionalVolumeMounts`, with MinIO Operator 5.0.9 or newer. `Auto`: the former where the Tenant's list is empty, else the latter, because positions in that list are paths inside MinIO.
    #[serde(default)]
    pub mount: Mount,

    /// Whether the operator changes the Tenants, or only says what to put into them. `Patch`: the operator changes each, by one guarded patch. `Render`: you do, or what applies the Tenants on your behalf, and `status.tenants[].snippet` says what has to be in each.
    #[serde(default)]
    pub mode: Mode,

    /// Name of a policy in the enclave. Default: one made for each tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[0-9A-Za-z_-]+$"))]
    pub policy: Option<String>,
}

/// A condition on one label.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.operator in ['Exists', 'DoesNotExist'] ? self.values.size() == 0 : self.values.size() > 0").message("values are needed for In and NotIn, and must be absent for Exists and DoesNotExist")
)]
pub struct LabelExpression {
    /// Name of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,

    /// What must hold about the label. `In`: it has one of the values. `NotIn`: it has none of them, or is not there. `Exists`: it is there, with whatever value. `DoesNotExist`: it is not there.
    pub operator: LabelOperator,

    /// Values that are meant by `In` and `NotIn`.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// What must hold about a label.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is not there.
    NotIn,
    /// It is there, with whatever value.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// Who changes a Tenant.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Mode {
    /// The operator, by one guarded patch. The default.
    #[default]
    Patch,
    /// You, or what applies the Tenant on your behalf: `status.tenants[].snippet` says what has to be in it. The operator
    /// still makes the certificate, proves the key service and verifies the result.
    Render,
}

/// Who restarts a tenant's pods.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum RestartPolicy {
    /// The operator, once, as soon as everything is proved. MinIO does not take up a key service while it runs, so this is the default.
    #[default]
    Automatic,
    /// You choose the time: nothing is changed in the Tenant before you approve it with the annotation `kes-operator.io/approve-restart: <namespace>/<name>` on the KesCluster. Then all pods are restarted at once.
    Manual,
}

/// How the client certificate gets into MinIO's pods.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Mount {
    /// `ClientCertSecrets` where the user's list is empty, else `AdditionalVolumes`, because positions in that list are paths inside MinIO.
    #[default]
    Auto,
    /// An entry in the Tenant's `externalClientCertSecrets`.
    ClientCertSecrets,
    /// A pair of entries in `additionalVolumes` and `additionalVolumeMounts` (MinIO Operator 5.0.9 or newer).
    AdditionalVolumes,
}
