//! What is read of a Tenant: the fields that decide the shape of its pods, and nothing else.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde::Deserialize;
use serde_json::Value;

/// The API of Tenants, read as untyped JSON because the schema is not ours.
pub(crate) fn api_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("minio.min.io", "v2", "Tenant"), "tenants")
}

/// A Tenant's name, namespace, owner reference and the part of its spec that this stand-in honours.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) spec: Spec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) image: String,
    pub(crate) image_pull_policy: Option<String>,
    pub(crate) configuration: Option<NameRef>,
    pub(crate) env: Vec<EnvVar>,
    pub(crate) external_cert_secret: Vec<CertRef>,
    pub(crate) external_client_cert_secrets: Vec<CertRef>,
    pub(crate) external_ca_cert_secret: Vec<CertRef>,
    pub(crate) additional_volumes: Vec<Value>,
    pub(crate) additional_volume_mounts: Vec<Value>,
    pub(crate) mount_path: Option<String>,
    pub(crate) pod_management_policy: Option<String>,
    pub(crate) request_auto_cert: Option<bool>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) readiness: Option<Value>,
    pub(crate) liveness: Option<Value>,
    pub(crate) startup: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NameRef {
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EnvVar {
    pub(crate) name: String,
    /// Absent for `valueFrom`, which the real sidecar silently renders as an empty string, and so do we.
    pub(crate) value: String,
}

/// A reference to a Secret with a certificate; its *declared* type, not the Secret's own, decides the file keys.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CertRef {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) servers: u32,
    pub(crate) volumes_per_server: u32,
    pub(crate) volume_claim_template: Value,
    pub(crate) resources: Option<Value>,
    pub(crate) node_selector: Option<Value>,
    pub(crate) affinity: Option<Value>,
    pub(crate) tolerations: Option<Value>,
    pub(crate) security_context: Option<Value>,
    pub(crate) container_security_context: Option<Value>,
    pub(crate) annotations: serde_json::Map<String, Value>,
    pub(crate) labels: serde_json::Map<String, Value>,
}

impl Tenant {
    pub(crate) fn parse(object: &DynamicObject) -> Result<Self, String> {
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        Ok(Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            spec: serde_json::from_value(spec).map_err(|error| format!("spec cannot be read: {error}"))?,
        })
    }

    /// Why nothing can be made for this Tenant, as a sentence for its status.
    pub(crate) fn refusal(&self) -> Option<String> {
        if self.spec.configuration.as_ref().is_none_or(|c| c.name.is_empty()) {
            return Some(
                "spec.configuration.name is missing: it names the Secret with config.env".to_owned(),
            );
        }
        if self.auto_cert() {
            return Some(
                "this is a stand-in for the MinIO Operator and makes no certificates: set spec.requestAutoCert to false"
                    .to_owned(),
            );
        }
        if self.spec.pools.is_empty() {
            return Some("spec.pools is empty".to_owned());
        }
        self.spec
            .pools
            .iter()
            .find(|pool| pool.name.is_empty() || pool.servers == 0 || pool.volumes_per_server == 0)
            .map(|pool| format!("pool {:?} needs a name, servers and volumesPerServer", pool.name))
    }

    pub(crate) fn tls(&self) -> bool {
        self.auto_cert() || !self.spec.external_cert_secret.is_empty()
    }

    /// Whether the operator is asked for the servers' certificate; it is unless the Tenant says no.
    pub(crate) fn auto_cert(&self) -> bool {
        self.spec.request_auto_cert != Some(false)
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls() { "https" } else { "http" }
    }

    pub(crate) fn statefulset_name(&self, pool: &Pool) -> String {
        format!("{}-{}", self.name, pool.name)
    }

    /// Where MinIO sees volume `index` of a pool: `/export` for a single one, `/export0`, `/export1`… otherwise.
    pub(crate) fn export_path(&self, pool: &Pool, index: u32) -> String {
        let base = self.mount_path();
        if pool.volumes_per_server == 1 { base } else { format!("{base}{index}") }
    }

    pub(crate) fn mount_path(&self) -> String {
        match self.spec.mount_path.as_deref() {
            None | Some("") => "/export".to_owned(),
            Some(path) => path.to_owned(),
        }
    }
}
