//! Whole passes over a `KesCluster` whose volumes shall be larger.

use super::*;

const CLAIM: &str = "/api/v1/namespaces/keys/persistentvolumeclaims/data-vault-0";

#[tokio::test]
async fn larger_volumes_are_asked_for_first_and_then_the_set_is_made_anew_over_its_pods() {
    let world = World::new();
    world.pass().await;
    let labels = world.api.get(STATEFUL_SET).unwrap()["spec"]["selector"]["matchLabels"].clone();
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-vault-0", "namespace": "keys", "labels": labels},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
    world.api.put(CLAIM, claim);
    let mut cluster = world.api.get(CLUSTER).unwrap();
    cluster["spec"]["storage"] = json!({"size": "5Gi"});
    world.api.put(CLUSTER, cluster);

    let writes = world.pass().await;
    // whoever deletes it in another way takes the pods with it
    assert_eq!(
        writes,
        [format!("PATCH {CLAIM}"), format!("DELETE {STATEFUL_SET} Orphan"), format!("PUT {CLUSTER}/status")]
    );
    assert_eq!(world.api.get(CLAIM).unwrap()["spec"]["resources"]["requests"]["storage"], "5Gi");
    let (status, reason, message) = condition(&world, "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Expanding"));
    assert!(message.starts_with("volumes grow to 5Gi: ") && message.contains("its pods go on"), "{message}");

    world.pass().await;
    let set = world.api.get(STATEFUL_SET).unwrap();
    let template = &set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"];
    assert_eq!(template, "5Gi");
    assert_eq!(world.ready_reason(), "WaitingForPod");
    assert_eq!(world.pass().await, Vec::<String>::new());
}
