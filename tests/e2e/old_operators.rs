//! A MinIO Operator that cannot give MinIO a certificate is refused, by its version or by what its CRD would drop; the Tenant
//! stays as it is and is wired after the upgrade. Alone, since the CRD is everybody's.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kes::crd::TenantPhase;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    runner::{Case, Ending, Outcome},
    world::{TENANT, World},
};

const CLUSTER: &str = "vault";
const TENANTS: &str = "tenants.minio.min.io";
const VERSION: &str = "operator.min.io/version";

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::alone("a_minio_operator_before_4_5_is_refused_by_version_and_its_tenant_left_alone", refused)]
}

async fn say(world: &World, version: &Value) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let patch = json!({"metadata": {"annotations": {VERSION: version}}});
    definitions.patch(TENANTS, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn refused(world: World) -> Outcome {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let before = definitions.get_metadata(TENANTS).await?.annotations().get(VERSION).cloned();
    let outcome = refused_by_version(&world).await;
    say(&world, &json!(before)).await?;
    outcome?;
    // the definition is not watched: a change of the spec brings the next pass about
    let spec =
        |key: &str| json!({"tenants": [{"name": TENANT, "namespace": namespace(&world), "keyName": key}]});
    world.replace_spec(CLUSTER, &spec("tenant-key")).await?;
    world.tenant_reaches(CLUSTER, &namespace(&world), TenantPhase::Patched).await?;
    Ok(Ending::Held)
}

fn namespace(world: &World) -> String {
    format!("{}-t", world.namespace)
}

async fn refused_by_version(world: &World) -> anyhow::Result<()> {
    say(world, &json!("v4.4.28")).await?;
    let namespace = world.tenant_namespace("t").await?;
    world.create_tenant(&namespace, json!({"requestAutoCert": false})).await?;
    let spec = json!({"tenants": [{"name": TENANT, "namespace": namespace, "keyName": "tenant-key"}]});
    world.create_cluster(CLUSTER, &spec).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Blocked, "OperatorTooOld").await?;
    assert!(tenant.message.contains("v4.4.28") && tenant.message.contains("v4.5.0"), "{}", tenant.message);
    assert_eq!(tenant.injected, None);
    world.ready(CLUSTER).await?;
    world.condition(CLUSTER, "TenantsWired", "False", "OperatorTooOld").await?;
    let live = world.tenants(&namespace).get(TENANT).await?;
    assert!(live.data["spec"]["env"].is_null() && live.data["spec"]["externalClientCertSecrets"].is_null());
    Ok(())
}
