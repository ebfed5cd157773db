//! Deletion: refused while tenants depend on it, whatever way it is asked for; and what stays and what goes.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod, Secret, Service},
};
use kes::crd::{KesCluster, TenantPhase};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    runner::{Case, Ending, Outcome},
    wait::{gone, until},
    world::{TENANT, World},
};

const CLUSTER: &str = "vault";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_cluster_that_tenants_depend_on_is_not_deleted_before_that_is_acknowledged", refused),
        Case::new("under_retain_volumes_and_secrets_outlive_the_cluster_and_a_new_one_takes_them_up", retain),
        Case::new("under_delete_nothing_is_left", delete),
    ]
}

async fn refused(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    // without certificates the stand-in makes no pods; that it was patched is enough to depend on us
    world.create_tenant(&namespace, json!({"requestAutoCert": true})).await?;
    let spec = json!({"deletionPolicy": "Delete", "tenants": [{"name": TENANT, "namespace": namespace, "keyName": "k"}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.ready(CLUSTER).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Patched, "WaitingForTemplate").await?;
    let before = world.fingerprint(CLUSTER).await?;
    let pod = world.api::<Pod>().get(&format!("{CLUSTER}-0")).await?;

    // said before anybody asked, it does not count
    let early = json!({"metadata": {"annotations": {"kes-operator.io/acknowledge-deletion": CLUSTER}}});
    world.raw_clusters().patch(CLUSTER, &PatchParams::default(), &Patch::Merge(early)).await?;
    until(world.raw_clusters(), CLUSTER, "no acknowledgement", |cluster: Option<&DynamicObject>| {
        let cluster = cluster.ok_or("no KesCluster")?;
        match cluster.annotations().get("kes-operator.io/acknowledge-deletion") {
            None => Ok(()),
            Some(name) => Err(name.clone()),
        }
    })
    .await?;

    // a foreground deletion collects what is owned first: nothing must be
    world.raw_clusters().delete(CLUSTER, &DeleteParams::foreground()).await?;
    let cluster = world.condition(CLUSTER, "Deletable", "False", "TenantsDepend").await?;
    let message =
        cluster.status.unwrap_or_default().conditions.into_iter().find(|found| found.type_ == "Deletable");
    let message = message.map(|found| found.message).unwrap_or_default();
    assert!(message.contains(&format!("{namespace}/{TENANT}")), "{message}");
    assert!(message.contains("kes-operator.io/acknowledge-deletion"), "{message}");
    let same_pod = world.api::<Pod>().get(&format!("{CLUSTER}-0")).await?;
    assert_eq!(same_pod.uid(), pod.uid());
    assert_eq!(world.fingerprint(CLUSTER).await?, before, "something of it was touched");
    // it is still looked after
    world.api::<Service>().delete(CLUSTER, &DeleteParams::default()).await?;
    until(world.api::<Service>(), CLUSTER, "its Service again", |service: Option<&Service>| {
        service
            .filter(|service| service.metadata.deletion_timestamp.is_none())
            .map(drop)
            .ok_or_else(|| "gone".into())
    })
    .await?;

    let wrong = json!({"metadata": {"annotations": {"kes-operator.io/acknowledge-deletion": "true"}}});
    world.raw_clusters().patch(CLUSTER, &PatchParams::default(), &Patch::Merge(wrong)).await?;
    let right = json!({"metadata": {"annotations": {"kes-operator.io/acknowledge-deletion": CLUSTER}}});
    assert!(world.raw_clusters().get_opt(CLUSTER).await?.is_some());
    world.raw_clusters().patch(CLUSTER, &PatchParams::default(), &Patch::Merge(right)).await?;
    gone(world.api::<KesCluster>(), CLUSTER).await?;
    gone(world.api::<StatefulSet>(), CLUSTER).await?;
    gone(world.api::<PersistentVolumeClaim>(), &format!("data-{CLUSTER}-0")).await?;
    // the Tenant is its user's
    assert!(world.tenant_text(&namespace, TENANT).await?.contains("MINIO_KMS_KES_ENDPOINT"));
    Ok(Ending::Held)
}

async fn retain(world: World) -> Outcome {
    let spec = json!({"enclaves": [{"name": "default", "keys": [{"name": "kept"}]}]});
    world.create_cluster(CLUSTER, &spec).await?;
    let cluster = world.ready(CLUSTER).await?;
    let id = cluster
        .status
        .as_ref()
        .and_then(|status| status.bootstrap.clone())
        .map(|bootstrap| bootstrap.cluster_id);
    assert_eq!(cluster.finalizers(), Vec::<String>::new(), "without tenants nothing waits for us");
    let claim = world.api::<PersistentVolumeClaim>().get(&format!("data-{CLUSTER}-0")).await?.uid();
    let secrets = secrets(&world).await?;
    assert!(secrets.len() >= 5, "{secrets:?}");

    world.raw_clusters().delete(CLUSTER, &DeleteParams::default()).await?;
    gone(world.api::<KesCluster>(), CLUSTER).await?;
    gone(world.api::<StatefulSet>(), CLUSTER).await?;
    gone(world.api::<Pod>(), &format!("{CLUSTER}-0")).await?;
    // the only one that can be made anew
    gone(world.api::<Secret>(), &format!("{CLUSTER}-server-tls")).await?;
    let left = crate::deletion::secrets(&world).await?;
    assert_eq!(
        left,
        secrets.into_iter().filter(|(name, _)| !name.ends_with("-server-tls")).collect::<Vec<_>>()
    );
    assert_eq!(world.api::<PersistentVolumeClaim>().get(&format!("data-{CLUSTER}-0")).await?.uid(), claim);

    world.create_cluster(CLUSTER, &spec).await?;
    let again = world.ready(CLUSTER).await?.status.unwrap_or_default();
    assert_eq!(again.bootstrap.map(|bootstrap| bootstrap.cluster_id), id, "the same cluster, not a new one");
    assert_eq!(again.keys, Some(1));
    Ok(Ending::Held)
}

async fn delete(world: World) -> Outcome {
    world.create_cluster(CLUSTER, &json!({"deletionPolicy": "Delete"})).await?;
    world.ready(CLUSTER).await?;
    let secrets = secrets(&world).await?;
    world.raw_clusters().delete(CLUSTER, &DeleteParams::default()).await?;
    gone(world.api::<KesCluster>(), CLUSTER).await?;
    gone(world.api::<PersistentVolumeClaim>(), &format!("data-{CLUSTER}-0")).await?;
    for (name, _) in secrets {
        gone(world.api::<Secret>(), &name).await?;
    }
    Ok(Ending::Held)
}

/// Names and UIDs of the Secrets that the operator made in the case's namespace.
async fn secrets(world: &World) -> anyhow::Result<Vec<(String, String)>> {
    let api: Api<Secret> = world.api();
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=kes-operator");
    let found = api.list(&ours).await?;
    Ok(found.items.iter().map(|secret| (secret.name_any(), secret.uid().unwrap_or_default())).collect())
}
