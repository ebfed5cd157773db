//! The definition of Tenants goes and comes back: KesClusters stay well, and tenants are picked up again. Alone, since
//! every Tenant of the cluster goes with it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kes::crd::TenantPhase;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::json;

use crate::{
    runner::{Case, Ending, Outcome},
    wait::{established, gone},
    world::{TENANT, World},
};

const CLUSTER: &str = "vault";
const TENANTS: &str = "tenants.minio.min.io";

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::alone(
        "without_the_definition_of_tenants_a_cluster_is_well_and_waits_for_it",
        absent_then_installed,
    )]
}

async fn absent_then_installed(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let found = definitions.get(TENANTS).await?;
    definitions.delete(TENANTS, &DeleteParams::default()).await?;
    gone(definitions.clone(), TENANTS).await?;

    let spec = json!({"tenants": [{"name": TENANT, "namespace": namespace, "keyName": "k"}]});
    world.create_cluster(CLUSTER, &spec).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Pending, "TenantApiMissing").await?;
    assert!(tenant.message.contains("MinIO Operator"), "{}", tenant.message);
    world.ready(CLUSTER).await?;

    let again = CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(TENANTS.into()),
            annotations: Some(found.annotations().clone()),
            labels: Some(found.labels().clone()),
            ..ObjectMeta::default()
        },
        spec: found.spec,
        status: None,
    };
    definitions.create(&PostParams::default(), &again).await?;
    established(&world.client, TENANTS).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Pending, "TenantMissing").await?;
    world.create_tenant(&namespace, json!({"requestAutoCert": false})).await?;
    // whether the MinIO Operator takes the new definition up is its business; that the Tenant is patched is ours
    world.tenant_reaches(CLUSTER, &namespace, TenantPhase::Patched).await?;
    Ok(Ending::Held)
}
