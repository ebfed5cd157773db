//! Wiring as a user lives with it: both mounts, a time that the user chose, a human who edits at the same moment, and
//! something that keeps applying the Tenant from elsewhere.

use k8s_openapi::api::core::v1::Pod;
use kes::crd::{KesCluster, TenantPhase};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    contents,
    runner::{Case, Ending, Outcome},
    wait::until,
    world::{TENANT, World},
};

const CLUSTER: &str = "vault";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_tenant_of_another_namespace_is_not_touched_before_somebody_there_agrees", consent),
        Case::new("a_tenant_with_client_certificates_of_its_own_is_wired_by_a_volume", by_volume),
        Case::new("with_a_manual_restart_nothing_is_touched_before_the_approval", approved),
        Case::new("a_humans_concurrent_edit_of_the_tenant_is_never_lost", race),
        Case::new("who_keeps_removing_the_wiring_is_noticed_and_helped_with_render", tug_of_war),
    ]
}

fn named(namespace: &str, more: Value) -> Value {
    let mut tenant = json!({"name": TENANT, "namespace": namespace, "keyName": "k"});
    for (field, value) in more.as_object().into_iter().flatten() {
        tenant[field] = value.clone();
    }
    json!({"tenants": [tenant]})
}

async fn consent(world: World) -> Outcome {
    let namespace = world.namespace_with("t", json!({"kes-operator.io/allow-from": "somebody-else"})).await?;
    world.create_tenant(&namespace, json!({"requestAutoCert": true})).await?;
    let before = world.tenants(&namespace).get(TENANT).await?;
    world.create_cluster(CLUSTER, &named(&namespace, json!({}))).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Pending, "NotAllowed").await?;
    let from = &world.namespace;
    let way_out = format!("kubectl annotate namespace {namespace} kes-operator.io/allow-from={from}");
    assert!(tenant.message.contains(&way_out), "{}", tenant.message);
    world.ready(CLUSTER).await?;
    assert_eq!(world.tenants(&namespace).get(TENANT).await?.data["spec"], before.data["spec"]);
    let secrets = Api::<k8s_openapi::api::core::v1::Secret>::namespaced(world.client.clone(), &namespace);
    assert!(secrets.get_opt(&format!("kes-client-{CLUSTER}")).await?.is_none(), "nothing is put there");
    // whoever may write the Tenant can agree as well, and is heard at once
    let agreed =
        json!({"metadata": {"annotations": {"kes-operator.io/allow-from": format!("other, {from}")}}});
    world.tenants(&namespace).patch(TENANT, &world.as_user(), &Patch::Merge(agreed)).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Patched, "WaitingForTemplate").await?;
    Ok(Ending::Held)
}

async fn by_volume(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    // a client certificate of the user's, whose position is a path inside MinIO
    world.client_certificate(&namespace, "kafka").await?;
    let list = json!([{"name": "kafka", "type": "kubernetes.io/tls"}]);
    world
        .create_tenant(&namespace, json!({"requestAutoCert": false, "externalClientCertSecrets": list}))
        .await?;
    world.create_cluster(CLUSTER, &named(&namespace, json!({}))).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Verified, "Verified").await?;
    assert_eq!(tenant.injected.map(|injected| injected.path), Some("/etc/kes-client".into()));
    let wired = world.tenants(&namespace).get(TENANT).await?;
    assert_eq!(wired.data["spec"]["externalClientCertSecrets"], list, "the user's list stays");
    assert_eq!(
        wired.data["spec"]["additionalVolumes"][0]["secret"]["secretName"],
        format!("kes-client-{CLUSTER}")
    );

    // without the copy MinIO's pods could not start: it comes back, and MinIO is known by the same key
    let secrets = Api::<k8s_openapi::api::core::v1::Secret>::namespaced(world.client.clone(), &namespace);
    let name = format!("kes-client-{CLUSTER}");
    let old = secrets.get(&name).await?;
    let key = old.data.as_ref().and_then(|data| data.get("tls.key")).map(|key| key.0.clone());
    secrets.delete(&name, &Default::default()).await?;
    let again = contents::copy_again(&world, &namespace, old.uid().as_deref()).await?;
    assert!(!again.is_empty() && Some(again) == key, "another key");
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Verified, "Verified").await?;
    Ok(Ending::Held)
}

async fn approved(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    world.create_tenant(&namespace, json!({"requestAutoCert": false})).await?;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &namespace);
    let pod = format!("{TENANT}-pool-0-0");
    until(pods.clone(), &pod, "MinIO's pod Ready", |pod: Option<&Pod>| {
        let ready = pod.and_then(|pod| pod.status.as_ref()?.conditions.clone()).unwrap_or_default();
        let ready = ready.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if ready { Ok(()) } else { Err("not ready".into()) }
    })
    .await?;
    let before =
        (world.tenants(&namespace).get(TENANT).await?.data["spec"].clone(), pods.get(&pod).await?.uid());
    world.create_cluster(CLUSTER, &named(&namespace, json!({"restartPolicy": "Manual"}))).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Prepared, "ApprovalPending").await?;
    assert!(tenant.message.contains("kes-operator.io/approve-restart"), "{}", tenant.message);
    let now =
        (world.tenants(&namespace).get(TENANT).await?.data["spec"].clone(), pods.get(&pod).await?.uid());
    assert_eq!(now, before);

    let approval = json!({"metadata": {"annotations": {"kes-operator.io/approve-restart": format!("{namespace}/{TENANT}")}}});
    world.raw_clusters().patch(CLUSTER, &PatchParams::default(), &Patch::Merge(approval)).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Verified, "Verified").await?;
    assert_ne!(pods.get(&pod).await?.uid(), before.1);
    until(world.api::<KesCluster>(), CLUSTER, "the approval spent", |cluster: Option<&KesCluster>| {
        match cluster.map(|cluster| cluster.annotations().contains_key("kes-operator.io/approve-restart")) {
            Some(false) => Ok(()),
            _ => Err("it is still there".into()),
        }
    })
    .await?;
    let events: Api<k8s_openapi::api::events::v1::Event> = world.api();
    let told = events.list(&ListParams::default()).await?.items.into_iter();
    let told = told.filter(|event| event.reason.as_deref() == Some("TenantRestart"));
    let told = told.filter_map(|event| Some(event.event_time?.0)).min();
    let started = pods.get(&pod).await?.metadata.creation_timestamp.map(|time| time.0);
    let (told, started) = (told.expect("the outage is announced"), started.expect("a time"));
    // the API server's time of a pod has whole seconds
    assert!(told.as_second() <= started.as_second(), "told at {told}, and the pod is of {started}");
    Ok(Ending::Held)
}

/// A human adds variables, one after the other, while the operator wires, is switched off and on, and wires again. Each
/// write is guarded as kubectl edit's is; none may be lost, and neither may ours in the end.
async fn race(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    world.create_tenant(&namespace, json!({"requestAutoCert": true, "env": []})).await?;
    world.create_cluster(CLUSTER, &named(&namespace, json!({}))).await?;
    let tenants = world.tenants(&namespace);
    let human = async {
        for number in 0..60 {
            loop {
                let mut tenant = tenants.get(TENANT).await?;
                let env = tenant.data["spec"]["env"].as_array_mut().expect("a list");
                // sometimes at the front, so that ours move
                let entry = json!({"name": format!("HUMAN_{number}"), "value": "1"});
                if number % 2 == 0 {
                    env.insert(0, entry)
                } else {
                    env.push(entry)
                }
                match tenants.replace(TENANT, &PostParams::default(), &tenant).await {
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    answer => break answer.map(drop)?,
                }
            }
        }
        anyhow::Ok(())
    };
    let wisher = async {
        // another key: the operator has to write in the middle of it
        for key in ["k2", "k3", "k4", "k5", "k6"] {
            world.replace_spec(CLUSTER, &named(&namespace, json!({"keyName": key}))).await?;
            until(tenants.clone(), TENANT, &format!("key {key} in the Tenant"), |tenant| {
                let env = tenant
                    .and_then(|tenant| tenant.data["spec"]["env"].as_array().cloned())
                    .unwrap_or_default();
                let found = env
                    .iter()
                    .any(|entry| entry["name"] == "MINIO_KMS_KES_KEY_NAME" && entry["value"] == key);
                if found { Ok(()) } else { Err("another one".into()) }
            })
            .await?;
        }
        anyhow::Ok(())
    };
    let (human, wisher) = tokio::join!(human, wisher);
    human?;
    wisher?;
    let env = tenants.get(TENANT).await?.data["spec"]["env"].as_array().cloned().unwrap_or_default();
    let names: Vec<_> = env.iter().filter_map(|entry| entry["name"].as_str()).collect();
    let lost: Vec<_> = (0..60)
        .map(|number| format!("HUMAN_{number}"))
        .filter(|name| !names.contains(&name.as_str()))
        .collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert_eq!(names.len(), 65, "sixty of the human's and five of ours, none twice: {names:?}");
    Ok(Ending::Held)
}

async fn tug_of_war(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    world.create_tenant(&namespace, json!({"requestAutoCert": true})).await?;
    let source = world.tenants(&namespace).get(TENANT).await?.data["spec"].clone();
    let tenants = world.tenants(&namespace);
    world.create_cluster(CLUSTER, &named(&namespace, json!({}))).await?;
    // what a GitOps controller does: whenever the Tenant is not as in Git, it is put back
    let git = async {
        loop {
            let found = until(tenants.clone(), TENANT, "a difference from Git", |tenant| {
                let env = tenant.map(|tenant| tenant.data["spec"]["env"].clone()).unwrap_or_default();
                if env.as_array().is_some_and(|env| !env.is_empty()) { Ok(()) } else { Err("none".into()) }
            })
            .await;
            let Ok(Some(mut tenant)) = found else { return };
            tenant.data["spec"] = source.clone();
            let _ = tenants.replace(TENANT, &PostParams::default(), &tenant).await;
        }
    };
    let noticed =
        async { world.tenant_is(CLUSTER, &namespace, TenantPhase::Blocked, "ManagedElsewhere").await };
    let tenant = tokio::select! {
        () = git => anyhow::bail!("the operator gave up without a word"),
        tenant = noticed => tenant?,
    };
    let snippet = tenant.snippet.unwrap_or_default();
    assert!(snippet.contains("MINIO_KMS_KES_ENDPOINT") && snippet.contains("kes-client-vault"), "{snippet}");
    assert!(tenant.message.contains("mode to Render"), "{}", tenant.message);

    // the user does as he is told: mode Render, and what the snippet says goes into Git
    world.replace_spec(CLUSTER, &named(&namespace, json!({"mode": "Render"}))).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Prepared, "RenderPending").await?;
    let snippet: Value = serde_saphyr::from_str(&tenant.snippet.unwrap_or_default())?;
    let before = world.tenant_text(&namespace, TENANT).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Prepared, "RenderPending").await?;
    assert_eq!(world.tenant_text(&namespace, TENANT).await?, before, "it is not patched any more");
    tenants.patch(TENANT, &world.as_user(), &Patch::Merge(&snippet)).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Patched, "WaitingForTemplate").await?;
    Ok(Ending::Held)
}
