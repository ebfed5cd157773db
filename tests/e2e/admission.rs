//! The admission policy of `config/admission-policy`: who writes a KesCluster reaches only Tenants that he may patch himself,
//! also by the annotations that have one restarted or unwired.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    runner::{Case, Ending, Outcome},
    wait::patience,
    world::World,
};

const AUTHOR: &str = "kes-e2e-author";
const CLUSTER: &str = "vault";
const APPROVE: &str = "kes-operator.io/approve-restart";
const UNWIRE: &str = "kes-operator.io/unwire";

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("whom_the_admission_policy_lets_reach_which_tenants", reach)]
}

/// Installs the policy for the case's namespace only.
async fn install(world: &World) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/admission-policy/policy.yaml"))?;
    let mut documents = Vec::new();
    for part in text.split("\n---\n") {
        documents.push(serde_saphyr::from_str::<Value>(part)?);
    }
    let [policy, binding] = documents.as_mut_slice() else { anyhow::bail!("two documents are expected") };
    let name = format!("{}-tenants", world.namespace);
    policy["metadata"] = json!({"name": name});
    binding["metadata"] = json!({"name": name});
    binding["spec"]["policyName"] = name.clone().into();
    binding["spec"]["matchResources"] =
        json!({"namespaceSelector": {"matchLabels": {"kes-e2e": world.namespace}}});
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(policy.clone())?;
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(binding.clone())?;
    Api::all(world.client.clone()).create(&PostParams::default(), &policy).await?;
    Api::all(world.client.clone()).create(&PostParams::default(), &binding).await?;
    Ok(())
}

async fn uninstall(world: &World) {
    let name = format!("{}-tenants", world.namespace);
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    let _ = bindings.delete(&name, &DeleteParams::default()).await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    let _ = policies.delete(&name, &DeleteParams::default()).await;
}

/// Gives the author the verbs on a resource, in the case's namespace.
async fn allow(world: &World, name: &str, group: &str, resource: &str) -> anyhow::Result<()> {
    let role: Role = serde_json::from_value(json!({"metadata": {"name": name},
        "rules": [{"apiGroups": [group], "resources": [resource], "verbs": ["*"]}]}))?;
    world.api::<Role>().create(&PostParams::default(), &role).await?;
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "name": AUTHOR, "apiGroup": "rbac.authorization.k8s.io"}]}))?;
    world.api::<RoleBinding>().create(&PostParams::default(), &binding).await?;
    Ok(())
}

/// The same KesClusters, as somebody with few rights.
async fn as_author(world: &World) -> anyhow::Result<World> {
    let mut config = kube::Config::infer().await?;
    config.auth_info.impersonate = Some(AUTHOR.into());
    Ok(World { client: Client::try_from(config)?, namespace: world.namespace.clone() })
}

/// Asks again until the answer is as wanted: rights and policies reach the API server's parts after some seconds.
async fn until_answered<F>(what: &str, wanted: bool, ask: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = Result<DynamicObject, kube::Error>>,
{
    let asking = async {
        let mut pace = tokio::time::interval(Duration::from_millis(250));
        loop {
            pace.tick().await;
            match ask().await {
                Ok(_) if wanted => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 403 && !wanted => return Ok(()),
                Ok(_) | Err(kube::Error::Api(_)) => {}
                Err(error) => return Err(error),
            }
        }
    };
    tokio::time::timeout(patience(), asking)
        .await
        .with_context(|| format!("{what}: it is never {wanted}"))??;
    Ok(())
}

async fn annotate(author: &World, annotations: Value) -> Result<DynamicObject, kube::Error> {
    let patch = json!({"metadata": {"annotations": annotations}});
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    author.raw_clusters().patch(CLUSTER, &dry, &Patch::Merge(patch)).await
}

async fn reach(world: World) -> Outcome {
    let outcome = reach_installed(&world).await;
    uninstall(&world).await;
    outcome.map(|()| Ending::Held)
}

async fn reach_installed(world: &World) -> anyhow::Result<()> {
    let namespace = &world.namespace;
    allow(world, "writer", "kes-operator.io", "kesclusters").await?;
    let author = as_author(world).await?;
    let nothing = json!({});
    until_answered("the right to write KesClusters", true, || author.create_cluster(CLUSTER, &nothing))
        .await?;
    install(world).await?;
    let own = format!("{namespace}/minio");
    until_answered("the policy", false, || annotate(&author, json!({UNWIRE: own}))).await?;

    let refused = |answer: Result<DynamicObject, kube::Error>, what: &str| match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            assert!(status.message.contains("that you may patch yourself"), "{what}: {}", status.message);
        }
        answer => panic!("{what}: {answer:?}"),
    };
    for note in [UNWIRE, APPROVE] {
        for value in [own.clone(), format!(" , {own}"), "elsewhere/minio".into(), "nonsense".into()] {
            refused(annotate(&author, json!({note: value})).await, &format!("{note}={value}"));
        }
    }
    annotate(&author, json!({"team": "storage", UNWIRE: "", APPROVE: " , "})).await?;
    let tenants =
        |of: &str| json!({"spec": {"tenants": [{"name": "minio", "namespace": of, "keyName": "k"}]}});
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let name = async |of: &str| author.raw_clusters().patch(CLUSTER, &dry, &Patch::Merge(tenants(of))).await;
    refused(name(namespace).await, "a Tenant of the own namespace");

    // what somebody else asked for may stay, and be taken out one by one
    let theirs = json!({"metadata": {"annotations": {APPROVE: "a/one, b/two"}}, "spec": {"tenants": [
        {"name": "one", "namespace": "a", "keyName": "k"}, {"name": "two", "namespace": "b", "keyName": "k"}]}});
    world.raw_clusters().patch(CLUSTER, &world.as_user(), &Patch::Merge(theirs)).await?;
    annotate(&author, json!({"team": "storage"})).await?;
    annotate(&author, json!({APPROVE: "b/two"})).await?;
    refused(annotate(&author, json!({APPROVE: "b/two,a/three"})).await, "one more than there was");

    allow(world, "patcher", "minio.min.io", "tenants").await?;
    until_answered("the right to patch Tenants", true, || annotate(&author, json!({UNWIRE: own}))).await?;
    annotate(&author, json!({APPROVE: format!("b/two, {own}")})).await?;
    refused(
        annotate(&author, json!({UNWIRE: format!("{own},elsewhere/minio")})).await,
        "a Tenant of elsewhere",
    );
    refused(
        annotate(&author, json!({UNWIRE: format!("{namespace}x/minio")})).await,
        "a namespace that begins alike",
    );
    Ok(())
}
