//! What all of it is for: objects that MinIO encrypts with the tenant's key, and reads again after a restart of everything.

use anyhow::Context as _;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kes::crd::TenantPhase;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    runner::{Case, Ending, Outcome},
    tool::output,
    wait::{patience, until},
    world::{TENANT, World},
};

const CLUSTER: &str = "vault";
const KEY: &str = "tenant-key";
const TEXT: &str = "what nobody is to read on the volume\n";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "objects_are_encrypted_with_the_tenants_key_and_outlive_a_restart_of_everything",
            encrypted,
        ),
        Case::new("a_minio_that_gave_up_without_its_key_service_is_started_when_that_is_back", gave_up),
    ]
}

/// The pod in which the original `mc` knows the tenant as `t`.
struct Mc {
    namespace: String,
}

impl Mc {
    async fn start(world: &World, namespace: &str) -> anyhow::Result<Self> {
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), namespace);
        let host = format!("http://minio:minio123@minio.{namespace}.svc.cluster.local");
        let pod = serde_json::from_value(json!({"metadata": {"name": "mc"}, "spec": {
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true},
            "containers": [{"name": "mc", "image": "localhost/mc:test", "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "MC_HOST_t", "value": host}]}],
        }}))?;
        pods.create(&PostParams::default(), &pod).await?;
        ready(pods, "mc", None).await?;
        Ok(Self { namespace: namespace.into() })
    }

    /// What `mc` printed, with `input` at its standard input.
    async fn run(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = Command::new("kubectl");
        // mc retries without end where nobody answers
        command.args(["-n", &self.namespace, "exec", "-i", "mc", "--", "timeout", "20", "mc", "--json"]);
        command.args(arguments);
        output(command, input).await
    }

    /// The same until it succeeds: a MinIO that has just started refuses its first requests.
    async fn until(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(500));
        let mut last = anyhow::anyhow!("it was not tried");
        let tries = async {
            loop {
                tick.tick().await;
                match self.run(arguments, input).await {
                    Ok(text) => return text,
                    Err(error) => last = error,
                }
            }
        };
        let ended = tokio::time::timeout(patience(), tries).await;
        ended.map_err(|_| last.context(format!("mc {arguments:?} did not succeed within {:?}", patience())))
    }
}

/// Waits for a Ready pod called `name` that is not `old`.
async fn ready(pods: Api<Pod>, name: &str, old: Option<&str>) -> anyhow::Result<String> {
    let found = until(pods, name, "Ready", |pod: Option<&Pod>| {
        let pod = pod.ok_or("there is no such pod")?;
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let is_ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
        if pod.uid().as_deref() == old {
            Err("it is the former one".into())
        } else if is_ready {
            Ok(())
        } else {
            Err("not ready".into())
        }
    });
    found.await?.and_then(|pod| pod.uid()).context("its UID")
}

async fn encrypted(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    world.create_tenant(&namespace, json!({"requestAutoCert": false})).await?;
    let spec = json!({"tenants": [{"name": TENANT, "namespace": namespace, "keyName": KEY}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Verified, "Verified").await?;

    let mc = Mc::start(&world, &namespace).await?;
    mc.until(&["mb", "--ignore-existing", "t/sealed"], "").await?;
    mc.until(&["encrypt", "set", "sse-kms", KEY, "t/sealed"], "").await?;
    // a key of the tenant's own, made by MinIO with its client certificate
    mc.until(&["admin", "kms", "key", "create", "t", "made-by-minio"], "").await?;
    let answer = mc.until(&["admin", "kms", "key", "status", "t", "made-by-minio"], "").await?;
    let status: Value = serde_json::from_str(&answer)?;
    assert!(status["status"] == "success" && status["keyId"] == "made-by-minio", "{answer}");
    assert!(status.get("encryptionError").and_then(Value::as_str).unwrap_or_default().is_empty(), "{answer}");
    assert!(status.get("decryptionError").and_then(Value::as_str).unwrap_or_default().is_empty(), "{answer}");

    mc.until(&["pipe", "t/sealed/object"], TEXT).await?;
    let stat: Value = serde_json::from_str(&mc.until(&["stat", "t/sealed/object"], "").await?)?;
    let named = stat["metadata"].as_object().into_iter().flatten().find_map(|(name, value)| {
        name.eq_ignore_ascii_case("x-amz-server-side-encryption-aws-kms-key-id").then(|| value.as_str())?
    });
    assert!(named.is_some_and(|named| named.rsplit(':').next() == Some(KEY)), "the object's key: {named:?}");

    let both = [
        (world.api::<Pod>(), format!("{CLUSTER}-0")),
        (Api::namespaced(world.client.clone(), &namespace), format!("{TENANT}-pool-0-0")),
    ];
    let mut old = Vec::new();
    for (pods, name) in &both {
        old.push(ready(pods.clone(), name, None).await?);
        pods.delete(name, &DeleteParams::default()).await?;
    }
    for ((pods, name), old) in both.iter().zip(&old) {
        ready(pods.clone(), name, Some(old)).await?;
    }
    // without --json mc prints the object and nothing else; with it as well
    assert!(mc.until(&["cat", "t/sealed/object"], "").await? == TEXT, "the object is not what was put");
    Ok(Ending::Held)
}

async fn gave_up(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    world.create_tenant(&namespace, json!({"requestAutoCert": false})).await?;
    let spec = json!({"tenants": [{"name": TENANT, "namespace": namespace, "keyName": KEY}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Verified, "Verified").await?;

    // the operator would not let it be away
    let mut paused = spec.clone();
    paused["paused"] = json!(true);
    world.replace_spec(CLUSTER, &paused).await?;
    world.condition(CLUSTER, "Paused", "True", "Paused").await?;
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    world.api::<StatefulSet>().patch(CLUSTER, &PatchParams::default(), &none).await?;
    crate::wait::gone(world.api::<Pod>(), &format!("{CLUSTER}-0")).await?;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &namespace);
    let name = format!("{TENANT}-pool-0-0");
    pods.delete(&name, &DeleteParams::default()).await?;
    // three times in vain: the kubelet waits for 40 seconds now
    let waits = until(pods.clone(), &name, "the third pause before a start", |pod: Option<&Pod>| {
        let statuses =
            pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_deref()).unwrap_or_default();
        let gave_up = statuses.iter().any(|container| {
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
            container.restart_count >= 3 && reason == Some("CrashLoopBackOff")
        });
        let restarts: Vec<_> = statuses.iter().map(|container| container.restart_count).collect();
        if gave_up { Ok(()) } else { Err(format!("restarts: {restarts:?}")) }
    });
    let old = waits.await?.and_then(|pod| pod.uid()).context("its UID")?;

    world.replace_spec(CLUSTER, &spec).await?;
    ready(pods.clone(), &name, Some(&old)).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Verified, "Verified").await?;
    Ok(Ending::Held)
}
