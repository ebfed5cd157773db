//! Whatever of ours is deleted or edited heals; a Secret with key material never comes back as a different one.

use std::fmt::Debug;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
    },
};
use kes::{api::KeyName, crd::KesCluster};
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    contents,
    forward::Forward,
    runner::{Case, Ending, Outcome},
    wait::until,
    world::World,
};

const CLUSTER: &str = "vault";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("every_object_that_is_deleted_or_edited_heals", heals),
        Case::new("a_lost_seal_secret_is_told_and_never_replaced", seal_lost),
        Case::new("an_emptied_volume_is_data_lost_and_never_initialised_anew", emptied),
        Case::new("a_killed_pod_comes_back_on_its_volume_with_its_keys", pod_killed),
    ]
}

/// Deletes the object and waits for another one of that name.
pub(crate) async fn comes_back<K>(world: &World, name: &str) -> anyhow::Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let old = world.api::<K>().get_metadata(name).await?.uid();
    world.api::<K>().delete(name, &DeleteParams::default()).await?;
    until(world.api::<K>(), name, &format!("another {}", K::kind(&())), |found: Option<&K>| match found {
        Some(found) if found.uid() != old => Ok(()),
        Some(_) => Err("it is the old one".into()),
        None => Err("there is none".into()),
    })
    .await?;
    Ok(())
}

async fn heals(world: World) -> Outcome {
    let spec = json!({"enclaves": [{"name": "default", "keys": [{"name": "k"}]}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.ready(CLUSTER).await?;
    comes_back::<ConfigMap>(&world, &format!("{CLUSTER}-config")).await?;
    comes_back::<Service>(&world, CLUSTER).await?;
    comes_back::<Service>(&world, &format!("{CLUSTER}-hl")).await?;
    comes_back::<ServiceAccount>(&world, CLUSTER).await?;
    comes_back::<NetworkPolicy>(&world, CLUSTER).await?;
    comes_back::<Secret>(&world, &format!("{CLUSTER}-server-tls")).await?;
    comes_back::<StatefulSet>(&world, CLUSTER).await?;
    world.ready(CLUSTER).await?;

    // an edit of every kind that has something to edit
    let merge = |patch: serde_json::Value| Patch::Merge(patch);
    let params = PatchParams::default();
    world
        .api::<ConfigMap>()
        .patch(
            &format!("{CLUSTER}-config"),
            &params,
            &merge(json!({"data": {"config.yml": "address: evil"}})),
        )
        .await?;
    world
        .api::<Service>()
        .patch(
            CLUSTER,
            &params,
            &merge(json!({"spec": {"selector": {"app.kubernetes.io/instance": "other"}}})),
        )
        .await?;
    world
        .api::<ServiceAccount>()
        .patch(CLUSTER, &params, &merge(json!({"automountServiceAccountToken": true})))
        .await?;
    world.api::<NetworkPolicy>().patch(CLUSTER, &params, &merge(json!({"spec": {"ingress": []}}))).await?;
    world.api::<StatefulSet>().patch(CLUSTER, &params, &merge(json!({"spec": {"replicas": 2}}))).await?;
    until(
        world.api::<ConfigMap>(),
        &format!("{CLUSTER}-config"),
        "its text again",
        |map: Option<&ConfigMap>| {
            let text = map.and_then(|map| map.data.as_ref()?.get("config.yml").cloned()).unwrap_or_default();
            if text.contains("bootstrap: await") { Ok(()) } else { Err(text) }
        },
    )
    .await?;
    until(world.api::<Service>(), CLUSTER, "its selector again", |service: Option<&Service>| {
        let selector =
            service.and_then(|service| service.spec.as_ref()?.selector.clone()).unwrap_or_default();
        if selector["app.kubernetes.io/instance"] == CLUSTER { Ok(()) } else { Err(format!("{selector:?}")) }
    })
    .await?;
    until(world.api::<ServiceAccount>(), CLUSTER, "no token again", |account: Option<&ServiceAccount>| {
        match account.and_then(|account| account.automount_service_account_token) {
            Some(false) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    until(world.api::<NetworkPolicy>(), CLUSTER, "its rules again", |policy: Option<&NetworkPolicy>| {
        let rules = policy
            .and_then(|policy| policy.spec.as_ref()?.ingress.as_ref().map(Vec::len))
            .unwrap_or_default();
        if rules == 3 { Ok(()) } else { Err(format!("{rules} rules")) }
    })
    .await?;
    until(world.api::<StatefulSet>(), CLUSTER, "its one member again", |set: Option<&StatefulSet>| {
        let replicas = set.and_then(|set| set.spec.as_ref()?.replicas);
        if replicas == Some(1) { Ok(()) } else { Err(format!("{replicas:?}")) }
    })
    .await?;
    let cluster = world.ready(CLUSTER).await?;
    assert_eq!(cluster.status.and_then(|status| status.keys), Some(1));
    Ok(Ending::Held)
}

async fn seal_lost(world: World) -> Outcome {
    let spec = json!({"enclaves": [{"name": "default", "keys": [{"name": "k"}]}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.ready(CLUSTER).await?;
    let name = format!("{CLUSTER}-seal");
    let pod = world.api::<Pod>().get(&format!("{CLUSTER}-0")).await?.uid();
    let mut kept = world.api::<Secret>().get(&name).await?;
    world.api::<Secret>().delete(&name, &DeleteParams::default()).await?;
    let cluster = world.condition(CLUSTER, "Ready", "False", "SealSecretLost").await?;
    let conditions = cluster.status.unwrap_or_default().conditions;
    let ready = conditions.iter().find(|found| found.type_ == "Ready").expect("a condition");
    assert!(ready.message.contains("Restore the Secret"), "{}", ready.message);
    assert!(world.api::<Secret>().get_opt(&name).await?.is_none(), "no other one is made");
    assert_eq!(world.api::<Pod>().get(&format!("{CLUSTER}-0")).await?.uid(), pod, "what runs goes on");

    let forward = Forward::to(world.api(), &format!("{CLUSTER}-0"), 7373).await?;
    let client = contents::client(&world, &forward, &format!("{CLUSTER}-enclave-default-admin")).await?;
    let key = KeyName::new("k")?;
    let made = client.generate(&key, b"").await?;
    client.decrypt(&key, made.ciphertext.as_ref(), b"").await?;

    // the way out that the sentence names
    kept.metadata.resource_version = None;
    kept.metadata.uid = None;
    world.api::<Secret>().create(&PostParams::default(), &kept).await?;
    world.ready(CLUSTER).await?;
    Ok(Ending::Held)
}

async fn emptied(world: World) -> Outcome {
    let spec = json!({"enclaves": [{"name": "default", "keys": [{"name": "k"}]}]});
    world.create_cluster(CLUSTER, &spec).await?;
    let id = bootstrapped(&world.ready(CLUSTER).await?);
    assert!(id.is_some());
    // its claim goes with what is on it, as when a node's disk is replaced; the StatefulSet makes an empty one
    let claim = format!("data-{CLUSTER}-0");
    let old = world.api::<PersistentVolumeClaim>().get(&claim).await?.uid();
    world.api::<PersistentVolumeClaim>().delete(&claim, &DeleteParams::default()).await?;
    world.api::<Pod>().delete(&format!("{CLUSTER}-0"), &DeleteParams::default().grace_period(0)).await?;
    let cluster = world.condition(CLUSTER, "Ready", "False", "DataLost").await?;
    assert_ne!(world.api::<PersistentVolumeClaim>().get(&claim).await?.uid(), old, "another volume");
    let conditions = cluster.status.clone().unwrap_or_default().conditions;
    let ready = conditions.iter().find(|found| found.type_ == "Ready").expect("a condition");
    assert!(ready.message.contains("Bring the old volume back"), "{}", ready.message);
    assert_eq!(bootstrapped(&cluster), id, "the record stays");

    // more passes change nothing about it
    comes_back::<NetworkPolicy>(&world, CLUSTER).await?;
    comes_back::<NetworkPolicy>(&world, CLUSTER).await?;
    let cluster = world.condition(CLUSTER, "Ready", "False", "DataLost").await?;
    assert_eq!(bootstrapped(&cluster), id);
    let forward = Forward::to(world.api(), &format!("{CLUSTER}-0"), 7373).await?;
    let client = contents::client(&world, &forward, &format!("{CLUSTER}-system-admin")).await?;
    let answer = client.cluster().await?;
    assert!(!answer.initialised && answer.cluster_id.is_none(), "it was initialised anew");
    Ok(Ending::Held)
}

fn bootstrapped(cluster: &KesCluster) -> Option<String> {
    cluster.status.as_ref()?.bootstrap.as_ref().map(|bootstrap| bootstrap.cluster_id.clone())
}

async fn pod_killed(world: World) -> Outcome {
    let spec = json!({"enclaves": [{"name": "default", "keys": [{"name": "k1"}, {"name": "k2"}]}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.ready(CLUSTER).await?;
    let claim = format!("data-{CLUSTER}-0");
    let volume =
        world.api::<PersistentVolumeClaim>().get(&claim).await?.spec.and_then(|spec| spec.volume_name);
    // no grace: as a node that is cut off
    world.api::<Pod>().delete(&format!("{CLUSTER}-0"), &DeleteParams::default().grace_period(0)).await?;
    world.condition(CLUSTER, "QuorumHealthy", "False", "NoMajority").await?;
    let cluster = world.ready(CLUSTER).await?;
    assert_eq!(cluster.status.and_then(|status| status.keys), Some(2));
    let after =
        world.api::<PersistentVolumeClaim>().get(&claim).await?.spec.and_then(|spec| spec.volume_name);
    assert_eq!(after, volume);
    Ok(Ending::Held)
}
