//! What happens to a node, as far as it can be done to one: its kubelet and its containerd are killed and started again.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kes::{
    api::KeyName,
    client::{Client, Config, Trust},
    pki::ClientIdentity,
};
use kube::ResourceExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    forward::Forward,
    runner::{Case, Ending, Outcome},
    wait::patience,
    world::World,
};

const CLUSTER: &str = "vault";

pub(crate) fn cases() -> Vec<Case> {
    // what else runs on the node feels it too
    vec![Case::alone("a_key_service_outlives_kubelet_and_containerd_of_its_node", restarted)]
}

/// Processes of a node of `tests/cluster` with one of these names, found below the node's first process. Nothing where
/// the cluster is another one.
fn processes(node: &str, names: &[&str]) -> Option<Vec<Pid>> {
    let folder = std::env::var_os("K8S_DIR").map(PathBuf::from)?;
    let first: i32 =
        fs::read_to_string(folder.join("run").join(format!("{node}.pid"))).ok()?.trim().parse().ok()?;
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut called = BTreeMap::new();
    for entry in fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // pid (name) state parent …; the name may have blanks and brackets in it
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let (Some(from), Some(to)) = (stat.find('('), stat.rfind(')')) else { continue };
        let parent = stat[to + 1..].split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        children.entry(parent).or_default().push(pid);
        called.insert(pid, stat[from + 1..to].to_owned());
    }
    let (mut open, mut found) = (vec![first], Vec::new());
    while let Some(pid) = open.pop() {
        open.extend(children.get(&pid).into_iter().flatten());
        if called.get(&pid).is_some_and(|name| names.contains(&name.as_str())) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Some(found)
}

async fn restarted(world: World) -> Outcome {
    let spec = json!({"enclaves": [{"name": "default", "keys": [{"name": "k"}]}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.ready(CLUSTER).await?;
    let name = format!("{CLUSTER}-0");
    let pod = world.api::<Pod>().get(&name).await?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).context("its node")?;
    let Some(killed) = processes(&node, &["kubelet", "containerd"]) else {
        return Ok(Ending::Skipped(format!("node {node} is none of tests/cluster's (K8S_DIR)")));
    };
    assert_eq!(killed.len(), 2, "one kubelet and one containerd");
    let claim = format!("data-{CLUSTER}-0");
    let volume = world.api::<PersistentVolumeClaim>().get(&claim).await?.uid();
    let secret = world
        .api::<k8s_openapi::api::core::v1::Secret>()
        .get(&format!("{CLUSTER}-enclave-default-admin"))
        .await?;
    let data = |key: &str| {
        secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone()).unwrap_or_default()
    };
    let ask = async || {
        let forward = Forward::to(world.api(), &name, 7373).await?;
        let client = Client::new(Config {
            endpoint: format!("https://{CLUSTER}.{}.svc:7373", world.namespace),
            connect_to: Some(forward.address),
            identity: ClientIdentity::from_pem(&data("tls.crt"), &data("tls.key"))?,
            trust: Trust::Pem(data("ca.crt")),
            enclave: None,
            timeout: std::time::Duration::from_secs(10),
        })?;
        let key = KeyName::new("k")?;
        let made = client.generate(&key, b"").await?;
        anyhow::Ok(made)
    };
    ask().await?;
    for pid in &killed {
        kill_process(*pid, Signal::KILL)?;
    }
    // a port-forward needs the kubelet, so an answer says that both are back
    let again = async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(500));
        loop {
            tick.tick().await;
            let back = processes(&node, &["kubelet", "containerd"])
                .is_some_and(|now| now.len() == 2 && now.iter().all(|pid| !killed.contains(pid)));
            if back && ask().await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(patience(), again).await.context("the key service does not answer again")?;
    let same = world.api::<Pod>().get(&name).await?;
    let restarts = |pod: &Pod| -> i32 {
        pod.status
            .iter()
            .flat_map(|status| status.container_statuses.iter().flatten())
            .map(|one| one.restart_count)
            .sum()
    };
    assert_eq!((same.uid(), restarts(&same)), (pod.uid(), restarts(&pod)), "the server itself went on");
    assert_eq!(world.api::<PersistentVolumeClaim>().get(&claim).await?.uid(), volume);
    let cluster = world.ready(CLUSTER).await?;
    assert_eq!(cluster.status.and_then(|status| status.keys), Some(1));
    Ok(Ending::Held)
}
