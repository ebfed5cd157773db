//! Every way to install the operator, one after the other: each time it finishes a change of a `KesCluster`, and the key
//! server's pod is the one from before. The last way is the demo's, so that the cluster is left as it was.

use std::{fs, path::Path};

use anyhow::Context as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    runner::{Case, Ending, Outcome},
    tool::{repository, run},
    wait::{gone, rolled_out},
    world::{OPERATOR_NAMESPACE, World},
};

const CLUSTER: &str = "vault";
/// What any way installs has this label.
const OURS: &str = "app.kubernetes.io/name=kes-operator";

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::alone("every_way_to_install_the_operator_works_and_restarts_no_key_server", ways)]
}

async fn ways(world: World) -> Outcome {
    let key = |name: &str| json!({"enclaves": [{"name": "default", "keys": [{"name": name}]}]});
    world.create_cluster(CLUSTER, &key("before")).await?;
    world.ready(CLUSTER).await?;
    let pods: Api<Pod> = world.api();
    let pod = pods.get(&format!("{CLUSTER}-0")).await?.uid();
    let watched = format!("watchNamespaces={{{}}}", world.namespace);
    let hardened = repository("charts/kes-operator/values-hardened.yaml");
    let hardened = hardened.to_str().context("the path of the hardened values")?;
    let mut keys = vec![json!({"name": "before"})];
    for way in ["kustomize", "kustomize-one-namespace", "helm-one-namespace", "helm-hardened", "helm"] {
        let attempt = async {
            remove(&world).await.context("removing what was there")?;
            match way {
                "kustomize" => kustomize(&repository("config/default")).await,
                "kustomize-one-namespace" => one_namespace(&world).await,
                "helm-one-namespace" => helm(&["--set", &watched]).await,
                "helm-hardened" => {
                    helm(&["--values", hardened, "--set", "image.pullPolicy=IfNotPresent"]).await
                }
                _ => helm(&[]).await,
            }?;
            rolled_out(Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE), "kes-operator").await?;
            keys.push(json!({"name": way}));
            let spec = json!({"spec": {"enclaves": [{"name": "default", "keys": keys}]}});
            world.raw_clusters().patch(CLUSTER, &PatchParams::default(), &Patch::Merge(spec)).await?;
            let cluster = world.ready(CLUSTER).await?;
            let made = cluster.status.and_then(|status| status.keys);
            assert!(
                usize::try_from(made.unwrap_or(0))? == keys.len(),
                "{made:?} of {} keys exist",
                keys.len()
            );
            assert!(pods.get(&format!("{CLUSTER}-0")).await?.uid() == pod, "the key server was restarted");
            anyhow::Ok(())
        };
        attempt.await.with_context(|| format!("installed by {way}"))?;
    }
    Ok(Ending::Held)
}

/// Everything that any way installs, but not the definition: with it Kubernetes would delete every `KesCluster`.
async fn remove(world: &World) -> anyhow::Result<()> {
    // a way that is not Helm's leaves no release
    let _ = run("helm", &["-n", OPERATOR_NAMESPACE, "uninstall", "kes-operator"]).await;
    let client = &world.client;
    delete(&Api::<Deployment>::namespaced(client.clone(), OPERATOR_NAMESPACE)).await?;
    delete(&Api::<ServiceAccount>::namespaced(client.clone(), OPERATOR_NAMESPACE)).await?;
    everywhere::<RoleBinding>(world).await?;
    everywhere::<Role>(world).await?;
    delete(&Api::<ClusterRoleBinding>::all(client.clone())).await?;
    delete(&Api::<ClusterRole>::all(client.clone())).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    for pod in pods.list(&ListParams::default().labels(OURS)).await? {
        gone(pods.clone(), &pod.name_any()).await?;
    }
    Ok(())
}

async fn delete<K>(api: &Api<K>) -> anyhow::Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.delete_collection(&DeleteParams::background(), &ListParams::default().labels(OURS)).await?;
    Ok(())
}

async fn everywhere<K>(world: &World) -> anyhow::Result<()>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    for found in Api::<K>::all(world.client.clone()).list(&ListParams::default().labels(OURS)).await? {
        let namespace = found.namespace().unwrap_or_default();
        let api = Api::<K>::namespaced(world.client.clone(), &namespace);
        api.delete(&found.name_any(), &DeleteParams::default()).await?;
    }
    Ok(())
}

async fn kustomize(folder: &Path) -> anyhow::Result<()> {
    let folder = folder.to_str().context("the path of the kustomization")?;
    run("kubectl", &["apply", "--server-side", "--force-conflicts", "-k", folder]).await.map(drop)
}

/// As the comment in `config/namespace-scoped` says: the namespace is written in three places.
async fn one_namespace(world: &World) -> anyhow::Result<()> {
    let copy = tempfile::tempdir()?;
    let at = |path: &str| copy.path().join(path);
    for folder in ["config", "crds"] {
        let from = repository(folder);
        run("cp", &["-r", from.to_str().context("its path")?, at("").to_str().context("its path")?]).await?;
    }
    for (file, line) in [
        ("config/namespace-scoped/watched/kustomization.yaml", "namespace: "),
        ("config/namespace-scoped/watched/namespace.yaml", "  name: "),
        ("config/namespace-scoped/operator/kustomization.yaml", "          value: "),
    ] {
        let text = fs::read_to_string(at(file))?;
        let (old, new) = (format!("\n{line}kes\n"), format!("\n{line}{}\n", world.namespace));
        assert!(text.contains(&old), "{file} has no line {old:?}");
        fs::write(at(file), text.replace(&old, &new))?;
    }
    kustomize(&at("config/namespace-scoped")).await
}

/// As the demo does; what another way left is taken over.
async fn helm(more: &[&str]) -> anyhow::Result<()> {
    let namespace = repository("config/manager/namespace.yaml");
    let namespace = namespace.to_str().context("its path")?;
    run("kubectl", &["apply", "--server-side", "--force-conflicts", "-f", namespace]).await?;
    let chart = repository("charts/kes-operator");
    let chart = chart.to_str().context("the path of the chart")?;
    let all = ["upgrade", "--install", "kes-operator", chart, "--namespace", OPERATOR_NAMESPACE];
    run("helm", &[&all[..], &["--set", "image.tag=dev", "--take-ownership"], more].concat()).await.map(drop)
}
