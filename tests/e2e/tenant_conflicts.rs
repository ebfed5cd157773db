//! A Tenant that is missing or says something else about encryption: a condition on that tenant, nothing patched, and
//! picked up when it changes.

use kes::crd::TenantPhase;
use kube::api::{Patch, PostParams};
use serde_json::{Value, json};

use crate::{
    runner::{Case, Ending, Outcome},
    wait::until,
    world::{TENANT, World},
};

const CLUSTER: &str = "vault";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_missing_tenant_is_waited_for_and_wired_when_it_appears", missing),
        Case::new("a_tenant_with_its_own_kes_is_not_touched_until_that_is_gone", own_kes),
        Case::new("a_tenant_with_a_foreign_kms_in_env_is_not_touched_until_that_is_gone", foreign_env),
        Case::new(
            "a_tenant_with_a_foreign_kms_in_config_env_is_not_touched_until_that_is_gone",
            foreign_config,
        ),
    ]
}

fn spec(tenant_namespace: &str) -> Value {
    json!({"tenants": [{"name": TENANT, "namespace": tenant_namespace, "keyName": "tenant-key"}]})
}

async fn missing(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    world.create_cluster(CLUSTER, &spec(&namespace)).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Pending, "TenantMissing").await?;
    assert!(tenant.message.contains("wired once it appears"), "{}", tenant.message);
    world.ready(CLUSTER).await?;
    world.condition(CLUSTER, "TenantsWired", "False", "TenantMissing").await?;

    // a real MinIO of one server
    world.create_tenant(&namespace, json!({"requestAutoCert": false})).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Verified, "Verified").await?;
    assert!(tenant.injected.is_some_and(|injected| injected.restarted));
    world.condition(CLUSTER, "TenantsWired", "True", "Verified").await?;
    Ok(Ending::Held)
}

async fn own_kes(world: World) -> Outcome {
    let conflicting = json!({"kes": {"kesSecret": {"name": "kes-configuration"}, "replicas": 2}});
    untouched_until(world, conflicting, "BuiltInKes", "remove spec.kes", |world, namespace| async move {
        let gone = json!({"spec": {"kes": null}});
        world.tenants(&namespace).patch(TENANT, &world.as_user(), &Patch::Merge(gone)).await?;
        Ok(())
    })
    .await
}

async fn foreign_env(world: World) -> Outcome {
    let theirs = json!({"name": "THEIRS", "value": "kept"});
    let foreign = json!({"name": "MINIO_KMS_KES_ENDPOINT", "value": "https://other.example:7373"});
    let conflicting = json!({"env": [theirs.clone(), foreign]});
    untouched_until(
        world,
        conflicting,
        "ForeignKms",
        "MINIO_KMS_KES_ENDPOINT",
        |world, namespace| async move {
            let gone = json!({"spec": {"env": [theirs]}});
            world.tenants(&namespace).patch(TENANT, &world.as_user(), &Patch::Merge(gone)).await?;
            Ok(())
        },
    )
    .await
}

async fn foreign_config(world: World) -> Outcome {
    let conflicting = json!({"configuration": {"name": "foreign-configuration"}});
    untouched_until(world, conflicting, "ForeignKms", "config.env", |world, namespace| async move {
        // the Tenant itself does not change at all: only its configuration Secret does
        world.write_configuration(&namespace, "foreign-configuration", "").await
    })
    .await
}

/// A Tenant with `conflicting` fields stays byte for byte as it is, is named in a condition with `reason` and `words`,
/// and is wired after `resolve`.
async fn untouched_until<F>(
    world: World,
    conflicting: Value,
    reason: &str,
    words: &str,
    resolve: impl FnOnce(World, String) -> F,
) -> Outcome
where
    F: Future<Output = anyhow::Result<()>>,
{
    let namespace = world.tenant_namespace("t").await?;
    world
        .write_configuration(
            &namespace,
            "foreign-configuration",
            "export MINIO_KMS_SECRET_KEY=\"k:c2VjcmV0\"\n",
        )
        .await?;
    // the stand-in makes no certificates and so no pods for this Tenant: what is looked at is the Tenant
    let mut fields = json!({"requestAutoCert": true});
    for (field, value) in conflicting.as_object().into_iter().flatten() {
        fields[field] = value.clone();
    }
    world.create_tenant(&namespace, fields).await?;
    until(world.tenants(&namespace), TENANT, "a status from the MinIO Operator", |tenant| {
        let state = tenant.and_then(|tenant| tenant.data["status"]["currentState"].as_str());
        state.map(|_| ()).ok_or_else(|| "no status".into())
    })
    .await?;
    let before = world.tenant_text(&namespace, TENANT).await?;

    world.create_cluster(CLUSTER, &spec(&namespace)).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Conflict, reason).await?;
    assert!(tenant.message.contains(words), "{}", tenant.message);
    assert_eq!(tenant.injected, None);
    world.ready(CLUSTER).await?;
    world.condition(CLUSTER, "TenantsWired", "False", reason).await?;
    // a pass later it is still so
    let mut more = spec(&namespace);
    more["enclaves"] = json!([{"name": "default", "keys": [{"name": "another"}]}]);
    world.replace_spec(CLUSTER, &more).await?;
    world.ready(CLUSTER).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Conflict, reason).await?;
    assert_eq!(world.tenant_text(&namespace, TENANT).await?, before, "the Tenant was touched");
    assert!(!before.contains("kes-operator"), "we never wrote it");
    let secrets =
        kube::Api::<k8s_openapi::api::core::v1::Secret>::namespaced(world.client.clone(), &namespace);
    assert!(
        secrets.get_opt(&format!("kes-client-{CLUSTER}")).await?.is_none(),
        "no Secret is left there either"
    );

    resolve(world.clone(), namespace.clone()).await?;
    let tenant = world.tenant_is(CLUSTER, &namespace, TenantPhase::Patched, "WaitingForTemplate").await?;
    assert!(tenant.injected.is_some());
    let wired = world.tenants(&namespace).get(TENANT).await?;
    let env = wired.data["spec"]["env"].as_array().cloned().unwrap_or_default();
    let ours =
        env.iter().filter(|entry| entry["name"].as_str().unwrap_or_default().starts_with("MINIO_KMS_KES_"));
    assert_eq!(ours.count(), 5, "{env:?}");
    if before.contains("THEIRS") {
        assert_eq!(env[0], json!({"name": "THEIRS", "value": "kept"}));
    }
    // the API server takes it as it is
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    world.tenants(&namespace).replace(TENANT, &dry_run, &wired).await?;
    Ok(Ending::Held)
}
