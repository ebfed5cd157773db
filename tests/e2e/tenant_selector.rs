//! Tenants by label: one that appears later is wired without a touch of the KesCluster; one that loses the label keeps its
//! wiring until its removal is asked for.

use k8s_openapi::api::core::v1::Pod;
use kes::crd::{KesCluster, TenantPhase};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    runner::{Case, Ending, Outcome},
    wait::until,
    world::{TENANT, World},
};

const CLUSTER: &str = "vault";

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new(
        "a_tenant_with_the_label_is_wired_and_unwired_when_it_loses_it_and_that_is_asked_for",
        by_label,
    )]
}

async fn by_label(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    let label = json!({"encrypt-with": world.namespace});
    let spec = json!({"tenantSelector": {"matchLabels": label}});
    world.create_cluster(CLUSTER, &spec).await?;
    let generation = world.ready(CLUSTER).await?.metadata.generation;
    world.condition(CLUSTER, "TenantsWired", "True", "NoTenants").await?;

    // who only carries the labels, and nobody there has agreed, gets nothing and is not named
    let stranger = world.namespace_with("s", json!({})).await?;
    world.create_tenant(&stranger, json!({"requestAutoCert": true})).await?;
    let labelled = json!({"metadata": {"labels": label}});
    world.tenants(&stranger).patch(TENANT, &world.as_user(), &Patch::Merge(labelled)).await?;
    until(world.api::<KesCluster>(), CLUSTER, "a word about consent", |cluster: Option<&KesCluster>| {
        let words = cluster.map(|cluster| text(cluster, "TenantsWired")).unwrap_or_default();
        if words.contains("nobody has agreed (1)") { Ok(()) } else { Err(words) }
    })
    .await?;
    let cluster = world.condition(CLUSTER, "TenantsWired", "True", "NoTenants").await?;
    assert!(!serde_json::to_string(&cluster.status)?.contains(&stranger), "it is not named");
    let secrets =
        world.api::<k8s_openapi::api::core::v1::Secret>().list_metadata(&Default::default()).await?;
    let secrets: Vec<_> = secrets.items.iter().map(ResourceExt::name_any).collect();
    assert!(!secrets.iter().any(|name| name.contains(&stranger)), "{secrets:?}");

    // without the label it is none of ours, with it it is
    world
        .create_tenant(
            &namespace,
            json!({"requestAutoCert": false, "env": [{"name": "THEIRS", "value": "kept"}]}),
        )
        .await?;
    let before = world.tenants(&namespace).get(TENANT).await?;
    let labelled = json!({"metadata": {"labels": label}});
    world.tenants(&namespace).patch(TENANT, &world.as_user(), &Patch::Merge(labelled)).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Verified, "Verified").await?;
    assert_eq!(tenant.injected.map(|injected| injected.key_name), Some(format!("{namespace}_{TENANT}")));
    let cluster: KesCluster = world.api::<KesCluster>().get(CLUSTER).await?;
    assert_eq!(cluster.metadata.generation, generation, "nobody touched the KesCluster");

    // the label goes: the wiring stays, and is told about
    let unlabelled = json!({"metadata": {"labels": {"encrypt-with": null}}});
    world.tenants(&namespace).patch(TENANT, &world.as_user(), &Patch::Merge(unlabelled)).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Orphaned, "LeftWired").await?;
    let cluster = world.condition(CLUSTER, "Pruned", "False", "KeptForSafety").await?;
    assert!(text(&cluster, "Pruned").contains(&format!("{namespace}/{TENANT}")));
    let wired = world.tenants(&namespace).get(TENANT).await?;
    assert_eq!(env(&wired.data).len(), 6);

    // asked for, it is taken out, and MinIO starts without it
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &namespace);
    let pod = format!("{TENANT}-pool-0-0");
    let old = pods.get(&pod).await?.uid();
    let asked =
        json!({"metadata": {"annotations": {"kes-operator.io/unwire": format!("{namespace}/{TENANT}")}}});
    world.raw_clusters().patch(CLUSTER, &PatchParams::default(), &Patch::Merge(asked)).await?;
    until(
        world.api::<KesCluster>(),
        CLUSTER,
        "the tenant forgotten, and the request with it",
        |cluster: Option<&KesCluster>| {
            let cluster = cluster.ok_or("no KesCluster")?;
            let tenants = cluster.status.as_ref().map(|status| status.tenants.clone()).unwrap_or_default();
            match tenants.first() {
                Some(tenant) => Err(format!("{} {}: {}", tenant.phase, tenant.reason, tenant.message)),
                None if cluster.annotations().contains_key("kes-operator.io/unwire") => {
                    Err("the annotation is there".into())
                }
                None => Ok(()),
            }
        },
    )
    .await?;
    let after = world.tenants(&namespace).get(TENANT).await?;
    assert_eq!(after.data["spec"]["env"], before.data["spec"]["env"]);
    let clients = after.data["spec"]["externalClientCertSecrets"].as_array().map_or(0, Vec::len);
    assert_eq!(clients, 0);
    let pod = pods.get(&pod).await?;
    assert_ne!(pod.uid(), old);
    let mounts = serde_json::to_string(&pod.spec)?;
    assert!(!mounts.contains("kes-client-"), "{mounts}");
    let cluster = world.condition(CLUSTER, "Pruned", "False", "KeptForSafety").await?;
    assert!(text(&cluster, "Pruned").contains("key "), "its key is kept: {}", text(&cluster, "Pruned"));
    Ok(Ending::Held)
}

fn env(tenant: &Value) -> Vec<Value> {
    tenant["spec"]["env"].as_array().cloned().unwrap_or_default()
}

fn text(cluster: &KesCluster, kind: &str) -> String {
    let status = cluster.status.clone().unwrap_or_default();
    let found = status.conditions.into_iter().find(|condition| condition.type_ == kind);
    found.map(|condition| condition.message).unwrap_or_default()
}
