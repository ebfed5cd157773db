//! What the spec says about policies, identities and keys converges through the key API, as an application finds it; and a
//! cluster at rest is left alone.

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use k8s_openapi::api::{
    core::v1::{Pod, Secret},
    events::v1::Event,
    networking::v1::NetworkPolicy,
};
use kes::{
    api::{KeyName, PolicyName, message::Policy},
    client::{Client, Config, Trust},
    crd::{KesCluster, TenantPhase},
    pki::ClientIdentity,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};
use serde_json::{Value, json};

use crate::{
    drift::comes_back,
    forward::Forward,
    runner::{Case, Ending, Outcome},
    wait::{patience, until},
    world::{TENANT, World},
};

const CLUSTER: &str = "vault";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("policies_identities_and_keys_of_the_spec_converge_as_an_application_finds_it", converge),
        Case::new("a_ready_cluster_at_rest_writes_nothing_in_forced_passes", at_rest),
    ]
}

/// A client of the key API with the certificate in a Secret of the case's namespace.
pub(crate) async fn client(world: &World, forward: &Forward, secret: &str) -> anyhow::Result<Client> {
    let secret = world.api::<Secret>().get(secret).await?;
    let data = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name));
        bytes.map(|bytes| bytes.0.clone()).unwrap_or_default()
    };
    Ok(Client::new(Config {
        endpoint: format!("https://{CLUSTER}.{}.svc:7373", world.namespace),
        connect_to: Some(forward.address),
        identity: ClientIdentity::from_pem(&data("tls.crt"), &data("tls.key"))?,
        trust: Trust::Pem(data("ca.crt")),
        enclave: None,
        timeout: Duration::from_secs(20),
    })?)
}

/// Asks for data keys until they are refused: a pass takes its time.
async fn until_refused(client: &Client, key: &KeyName, what: &str) -> anyhow::Result<()> {
    let mut last = String::new();
    let asked = tokio::time::timeout(patience(), async {
        loop {
            let answer = client.generate(key, b"").await;
            if is_refused(&answer) {
                return;
            }
            last = answer.err().map_or_else(|| "it was allowed".into(), |error| error.to_string());
            tokio::task::yield_now().await;
        }
    });
    if asked.await.is_err() {
        bail!("{what}: no refusal came; last answer: {last}");
    }
    Ok(())
}

fn is_refused<T>(answer: &Result<T, kes::client::Error>) -> bool {
    let error = answer.as_ref().err().and_then(|error| error.api());
    error.is_some_and(|error| error.message().contains("not authorized"))
}

fn spec(allow: &[&str], keys: &[&str], with_application: bool) -> Value {
    let keys: Vec<_> = keys.iter().map(|key| json!({"name": key})).collect();
    let mut enclave = json!({"name": "default", "keys": keys});
    if with_application {
        enclave["policies"] = json!([{"name": "app", "allow": allow}]);
        enclave["identities"] = json!([{"name": "app", "policy": "app", "secretName": "app-kes"}]);
    }
    json!({"enclaves": [enclave]})
}

async fn converge(world: World) -> Outcome {
    let generate = "/v1/key/generate/first";
    world.create_cluster(CLUSTER, &spec(&[generate], &["first", "second"], true)).await?;
    world.ready(CLUSTER).await?;
    let forward = Forward::to(world.api(), &format!("{CLUSTER}-0"), 7373).await?;
    let app = client(&world, &forward, "app-kes").await?;
    let admin = client(&world, &forward, &format!("{CLUSTER}-enclave-default-admin")).await?;
    let (first, second) = (KeyName::new("first")?, KeyName::new("second")?);

    // the application's own Secret opens what its policy says and no more
    app.generate(&first, b"").await?;
    assert!(is_refused(&app.generate(&second, b"").await), "another key");

    // the spec's policy changes
    let other = "/v1/key/generate/second";
    world.replace_spec(CLUSTER, &spec(&[other], &["first", "second"], true)).await?;
    until_refused(&app, &first, "the refusal").await?;
    app.generate(&second, b"").await?;

    // somebody widens it through the API: it is put back, also by a pass that was under way
    let policy = PolicyName::new("app")?;
    let everything = Policy { allow: vec!["/v1/key/generate/*".into()], ..Policy::default() };
    while is_refused(&app.generate(&first, b"").await) {
        admin.write_policy(&policy, &everything).await?;
    }
    comes_back::<NetworkPolicy>(&world, CLUSTER).await?;
    until_refused(&app, &first, "the policy as the spec has it").await?;
    app.generate(&second, b"").await?;

    // the application and a key leave the spec
    world.replace_spec(CLUSTER, &spec(&[], &["second"], false)).await?;
    until_refused(&app, &second, "the end of the application").await?;
    let cluster = world.condition(CLUSTER, "Pruned", "False", "KeptForSafety").await?;
    let conditions = cluster.status.unwrap_or_default().conditions;
    let pruned = conditions.iter().find(|found| found.type_ == "Pruned").expect("it was waited for");
    assert!(pruned.message.contains("key first of enclave default"), "{}", pruned.message);
    admin.generate(&first, b"").await?;
    assert!(admin.read_policy(&policy).await.is_err(), "its policy is gone");
    Ok(Ending::Held)
}

/// What a pass could write: the KesCluster, the Tenant as the operator sees it, events, and changes in the key service.
async fn written(world: &World, namespace: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let cluster = world.api::<KesCluster>().get(CLUSTER).await?;
    found.insert("KesCluster".into(), cluster.resource_version().unwrap_or_default());
    found.insert("Tenant".into(), world.tenant_text(namespace, TENANT).await?);
    for place in [&world.namespace, namespace] {
        let events: Api<Event> = Api::namespaced(world.client.clone(), place);
        for event in events.list(&ListParams::default()).await? {
            let is_ours = event.reporting_controller.as_deref().is_some_and(|name| name.contains("kes"));
            if is_ours {
                let version = event.resource_version().unwrap_or_default();
                found.insert(format!("event {}", event.name_any()), version);
            }
        }
    }
    let lines = world.api::<Pod>().logs(&format!("{CLUSTER}-0"), &LogParams::default()).await?;
    let paths = lines.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line["request"]["path"].as_str()?.to_owned())
    });
    let changes = ["/create/", "/write/", "/assign/", "/delete/", "/import/"];
    let (mut all, mut mutations) = (0, 0);
    for path in paths {
        all += 1;
        mutations += usize::from(changes.iter().any(|change| path.contains(change)));
    }
    assert!(mutations > 0, "the audit has the changes of the beginning, of {all} lines");
    found.insert("changes in the audit".into(), mutations.to_string());
    Ok(found)
}

async fn at_rest(world: World) -> Outcome {
    let namespace = world.tenant_namespace("t").await?;
    world.create_tenant(&namespace, json!({"requestAutoCert": false})).await?;
    let mut spec = spec(&["/v1/key/generate/first"], &["first"], true);
    spec["tenants"] = json!([{"name": TENANT, "namespace": namespace, "keyName": "k"}]);
    world.create_cluster(CLUSTER, &spec).await?;
    world.ready(CLUSTER).await?;
    world.tenant_is(CLUSTER, &namespace, TenantPhase::Verified, "Verified").await?;
    world.condition(CLUSTER, "Progressing", "False", "UpToDate").await?;
    // the first is the end of all that went before
    comes_back::<NetworkPolicy>(&world, CLUSTER).await?;
    comes_back::<NetworkPolicy>(&world, CLUSTER).await?;
    let (before, objects) = (written(&world, &namespace).await?, world.fingerprint(CLUSTER).await?);
    // passes over one cluster follow each other, so two of these three came to their end
    for _ in 0..3 {
        comes_back::<NetworkPolicy>(&world, CLUSTER).await?;
    }
    assert_eq!(written(&world, &namespace).await?, before);
    assert_eq!(world.fingerprint(CLUSTER).await?, objects);
    Ok(Ending::Held)
}

/// Waits until the copy of a tenant's certificate is there anew, and returns its private key.
pub(crate) async fn copy_again(world: &World, namespace: &str, old: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), namespace);
    let name = format!("kes-client-{CLUSTER}");
    let found = until(secrets, &name, "the copy again", |secret: Option<&Secret>| match secret {
        Some(secret) if secret.uid().as_deref() != old => Ok(()),
        Some(_) => Err("it is the old one".into()),
        None => Err("there is none".into()),
    })
    .await?;
    let data = found.and_then(|secret| secret.data).unwrap_or_default();
    Ok(data.get("tls.key").map(|key| key.0.clone()).unwrap_or_default())
}
