//! What a case works with: a namespace of its own, a client, and words for KesClusters and Tenants.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Context as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Event, Namespace, Pod, Secret},
};
use kes::crd::{KesCluster, TenantPhase, TenantStatus};
use kube::{
    Api, Client, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch,
        PatchParams, PostParams,
    },
};
use serde_json::{Value, json};

use crate::wait::until;

/// Who the tests are to the API server.
const MANAGER: &str = "kes-e2e";
/// Where `make test-cluster` installs the operator.
pub(crate) const OPERATOR_NAMESPACE: &str = "kes-operator";

/// Name of every case's Tenant; there is one per namespace.
pub(crate) const TENANT: &str = "myminio";

/// One case's part of the cluster.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) client: Client,
    /// Namespace of the case; everything in it goes when the case ends.
    pub(crate) namespace: String,
}

impl World {
    pub(crate) async fn new(client: Client, case: &str) -> anyhow::Result<Self> {
        let slug: String =
            case.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
        let stamp =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() % 10_000_000;
        let namespace = format!("e2e-{}-{stamp}", slug.trim_matches('-').to_lowercase());
        let world = Self { client, namespace };
        world.make_namespace(&world.namespace, json!({})).await?;
        Ok(world)
    }

    async fn make_namespace(&self, name: &str, annotations: Value) -> anyhow::Result<()> {
        let namespace: Namespace = serde_json::from_value(
            json!({"metadata": {"name": name, "labels": {"kes-e2e": self.namespace}, "annotations": annotations}}),
        )?;
        Api::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .context("namespace")?;
        Ok(())
    }

    /// Another namespace of this case, for a Tenant, which agrees to be wired by the case's KesClusters.
    pub(crate) async fn tenant_namespace(&self, suffix: &str) -> anyhow::Result<String> {
        self.namespace_with(suffix, json!({"kes-operator.io/allow-from": self.namespace})).await
    }

    /// Another namespace of this case.
    pub(crate) async fn namespace_with(&self, suffix: &str, annotations: Value) -> anyhow::Result<String> {
        let name = format!("{}-{suffix}", self.namespace);
        self.make_namespace(&name, annotations).await?;
        Ok(name)
    }

    /// Asks for the removal of everything. Nobody waits for it: names are never used twice.
    pub(crate) async fn remove(&self) {
        if std::env::var_os("KES_E2E_KEEP").is_some() {
            return;
        }
        let clusters = self.api::<KesCluster>();
        // a refusal of deletion would keep the namespace for ever
        for cluster in clusters.list(&ListParams::default()).await.into_iter().flatten() {
            let name = cluster.name_any();
            let acknowledged =
                json!({"metadata": {"annotations": {"kes-operator.io/acknowledge-deletion": name}}});
            // it counts only while a deletion waits
            let _ = clusters.delete(&name, &DeleteParams::background()).await;
            let _ = clusters.patch(&name, &PatchParams::default(), &Patch::Merge(&acknowledged)).await;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let ours = ListParams::default().labels(&format!("kes-e2e={}", self.namespace));
        for namespace in namespaces.list(&ours).await.into_iter().flatten() {
            let _ = namespaces.delete(&namespace.name_any(), &DeleteParams::background()).await;
        }
    }

    /// The API of `K` in the case's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The API of KesClusters as untyped JSON, so that what is not in our types can be written too.
    pub(crate) fn raw_clusters(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("kes-operator.io", "v1alpha1", "KesCluster");
        let resource = ApiResource::from_gvk_with_plural(&kind, "kesclusters");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    pub(crate) fn tenants(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("minio.min.io", "v2", "Tenant");
        let resource = ApiResource::from_gvk_with_plural(&kind, "tenants");
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// Creates a KesCluster called `name`.
    pub(crate) async fn create_cluster(
        &self,
        name: &str,
        spec: &Value,
    ) -> Result<DynamicObject, kube::Error> {
        let cluster = json!({"apiVersion": "kes-operator.io/v1alpha1", "kind": "KesCluster",
            "metadata": {"name": name}, "spec": spec});
        let cluster: DynamicObject = serde_json::from_value(cluster).map_err(kube::Error::SerdeError)?;
        self.raw_clusters().create(&PostParams::default(), &cluster).await
    }

    /// Puts `spec` in the place of the KesCluster's spec.
    pub(crate) async fn replace_spec(&self, name: &str, spec: &Value) -> Result<DynamicObject, kube::Error> {
        let api = self.raw_clusters();
        loop {
            let mut cluster = api.get(name).await?;
            cluster.data["spec"] = spec.clone();
            match api.replace(name, &PostParams::default(), &cluster).await {
                // the operator wrote the status in between
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                answer => return answer,
            }
        }
    }

    /// Waits until the operator's word about the present spec has `status` and `reason` for condition `kind`.
    pub(crate) async fn condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> anyhow::Result<KesCluster> {
        condition_of(self.api(), name, kind, status, reason).await
    }

    pub(crate) async fn ready(&self, name: &str) -> anyhow::Result<KesCluster> {
        self.condition(name, "Ready", "True", "Serving").await
    }

    /// Waits until the KesCluster's word about a tenant has this phase and reason.
    pub(crate) async fn tenant_is(
        &self,
        cluster: &str,
        tenant_namespace: &str,
        phase: TenantPhase,
        reason: &str,
    ) -> anyhow::Result<TenantStatus> {
        let what = format!("tenant {tenant_namespace} in phase {phase} {reason}");
        let find = |cluster: &KesCluster| {
            let status = cluster.status.as_ref()?;
            status.tenants.iter().find(|tenant| tenant.namespace == tenant_namespace).cloned()
        };
        let found = until(self.api::<KesCluster>(), cluster, &what, |cluster: Option<&KesCluster>| {
            let cluster = cluster.ok_or("there is no such KesCluster")?;
            let tenant = find(cluster).ok_or("the status does not name the tenant yet")?;
            let seen = format!("{} {}: {}", tenant.phase, tenant.reason, tenant.message);
            let current = cluster.status.as_ref().and_then(|status| status.observed_generation)
                == cluster.metadata.generation;
            if current && tenant.phase == phase && tenant.reason == reason { Ok(()) } else { Err(seen) }
        });
        let cluster = found.await?.context("it is there")?;
        find(&cluster).context("it was there a moment ago")
    }

    /// Waits until the wiring of a tenant is in `phase` or further.
    pub(crate) async fn tenant_reaches(
        &self,
        cluster: &str,
        tenant_namespace: &str,
        phase: TenantPhase,
    ) -> anyhow::Result<()> {
        let order =
            [TenantPhase::Prepared, TenantPhase::Patched, TenantPhase::Restarting, TenantPhase::Verified];
        let rank = |phase| order.iter().position(|known| *known == phase);
        until(
            self.api::<KesCluster>(),
            cluster,
            &format!("tenant {tenant_namespace} at {phase}"),
            |found: Option<&KesCluster>| {
                let tenants =
                    found.and_then(|found| Some(found.status.as_ref()?.tenants.clone())).unwrap_or_default();
                let tenant = tenants
                    .iter()
                    .find(|tenant| tenant.namespace == tenant_namespace)
                    .ok_or("not named yet")?;
                let seen = format!("{} {}: {}", tenant.phase, tenant.reason, tenant.message);
                if rank(tenant.phase) >= rank(phase) { Ok(()) } else { Err(seen) }
            },
        )
        .await
        .map(drop)
    }

    /// A Secret with a client certificate that has nothing to do with us.
    pub(crate) async fn client_certificate(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let pair = kes::pki::self_signed_client(name, std::time::Duration::from_secs(86_400))?;
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": pair.certificate, "tls.key": pair.key.as_str()}});
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        secrets.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(secret)).await?;
        Ok(())
    }

    /// Everything that the operator made for a cluster in the case's namespace: kind/name → resourceVersion. Of pods,
    /// whose status moves by itself, the UID.
    pub(crate) async fn fingerprint(&self, cluster: &str) -> anyhow::Result<BTreeMap<String, String>> {
        use k8s_openapi::api::{
            apps::v1::StatefulSet,
            core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
        };
        let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={cluster}"));
        let mut found = BTreeMap::new();
        macro_rules! all {
            ($($kind:ty),*) => {$(
                for object in self.api::<$kind>().list(&ours).await? {
                    let version = object.resource_version().unwrap_or_default();
                    found.insert(format!("{}/{}", stringify!($kind), object.name_any()), version);
                }
            )*};
        }
        all!(StatefulSet, ConfigMap, Secret, Service, ServiceAccount, PersistentVolumeClaim);
        for pod in self.api::<Pod>().list(&ours).await? {
            found.insert(format!("Pod/{}", pod.name_any()), pod.uid().unwrap_or_default());
        }
        Ok(found)
    }

    /// The Secret with a Tenant's root credentials and whatever `more` says.
    pub(crate) async fn write_configuration(
        &self,
        namespace: &str,
        name: &str,
        more: &str,
    ) -> anyhow::Result<()> {
        let text = format!(
            "export MINIO_ROOT_USER=\"minio\"\nexport MINIO_ROOT_PASSWORD=\"minio123\"\nexport MINIO_BROWSER=\"off\"\n{more}"
        );
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "stringData": {"config.env": text}});
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        secrets.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(secret)).await?;
        Ok(())
    }

    /// A Tenant of one server with one volume, and its configuration Secret; `fields` are added to its spec.
    pub(crate) async fn create_tenant(
        &self,
        namespace: &str,
        fields: Value,
    ) -> anyhow::Result<DynamicObject> {
        self.write_configuration(namespace, "storage-configuration", "").await?;
        let mut tenant = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant", "metadata": {"name": TENANT}, "spec": {
            "image": "localhost/minio:test",
            "configuration": {"name": "storage-configuration"},
            "mountPath": "/export",
            "podManagementPolicy": "Parallel",
            "pools": [{"name": "pool-0", "servers": 1, "volumesPerServer": 1, "volumeClaimTemplate": {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}}}],
        }});
        for (field, value) in fields.as_object().into_iter().flatten() {
            tenant["spec"][field] = value.clone();
        }
        let tenant: DynamicObject = serde_json::from_value(tenant)?;
        Ok(self.tenants(namespace).create(&PostParams::default(), &tenant).await?)
    }

    /// A Tenant's text at the API server, without what the MinIO Operator writes into it all the time.
    pub(crate) async fn tenant_text(&self, namespace: &str, name: &str) -> anyhow::Result<String> {
        let path = format!("/apis/minio.min.io/v2/namespaces/{namespace}/tenants/{name}");
        let request = http::Request::get(path).body(Vec::new())?;
        let mut tenant: Value = serde_json::from_str(&self.client.request_text(request).await?)?;
        tenant["status"] = Value::Null;
        tenant["metadata"]["resourceVersion"] = Value::Null;
        if let Some(fields) = tenant["metadata"]["managedFields"].as_array_mut() {
            fields.retain(|entry| entry["subresource"] != "status");
        }
        Ok(tenant.to_string())
    }

    /// What a person would ask for first after a failure.
    pub(crate) async fn diagnose(&self) -> String {
        let mut text = String::new();
        for cluster in self.api::<KesCluster>().list(&ListParams::default()).await.into_iter().flatten() {
            let _ = writeln!(text, "KesCluster {}:", cluster.name_any());
            let status = cluster.status.unwrap_or_default();
            for condition in &status.conditions {
                let _ = writeln!(
                    text,
                    "  {}={} {}: {}",
                    condition.type_, condition.status, condition.reason, condition.message
                );
            }
            for tenant in &status.tenants {
                let _ = writeln!(
                    text,
                    "  tenant {}/{} {} {}: {}",
                    tenant.namespace, tenant.name, tenant.phase, tenant.reason, tenant.message
                );
            }
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let ours = ListParams::default().labels(&format!("kes-e2e={}", self.namespace));
        for namespace in namespaces.list(&ours).await.into_iter().flatten() {
            let namespace = namespace.name_any();
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            for pod in pods.list(&ListParams::default()).await.into_iter().flatten() {
                let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
                let _ = writeln!(text, "pod {namespace}/{}: {phase}", pod.name_any());
            }
            let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
            for event in events.list(&ListParams::default()).await.into_iter().flatten().rev().take(12) {
                let _ = writeln!(
                    text,
                    "event {namespace}/{}: {} {}",
                    event.involved_object.name.unwrap_or_default(),
                    event.reason.unwrap_or_default(),
                    event.message.unwrap_or_default()
                );
            }
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        for pod in pods.list(&ListParams::default()).await.into_iter().flatten() {
            let last = LogParams { tail_lines: Some(15), ..LogParams::default() };
            let lines = pods.logs(&pod.name_any(), &last).await.unwrap_or_default();
            let _ = writeln!(text, "last lines of {}:\n{lines}", pod.name_any());
        }
        text
    }

    /// Field manager of writes that a user would make.
    pub(crate) fn as_user(&self) -> PatchParams {
        PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
    }
}

/// Waits until a `KesCluster` anywhere is Ready in its present spec.
pub(crate) async fn is_ready(clusters: Api<KesCluster>, name: &str) -> anyhow::Result<KesCluster> {
    condition_of(clusters, name, "Ready", "True", "Serving").await
}

async fn condition_of(
    clusters: Api<KesCluster>,
    name: &str,
    kind: &str,
    status: &str,
    reason: &str,
) -> anyhow::Result<KesCluster> {
    let what = format!("condition {kind}={status} {reason}");
    let found = until(clusters, name, &what, |cluster: Option<&KesCluster>| {
        let cluster = cluster.ok_or("there is no such KesCluster")?;
        let conditions =
            cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let condition =
            conditions.iter().find(|condition| condition.type_ == kind).ok_or("no such condition yet")?;
        let seen = format!("{}={} {}: {}", kind, condition.status, condition.reason, condition.message);
        let current = condition.observed_generation == cluster.metadata.generation;
        let right = condition.status == status && condition.reason == reason;
        if current && right { Ok(()) } else { Err(seen) }
    });
    found.await?.context("it is there")
}
