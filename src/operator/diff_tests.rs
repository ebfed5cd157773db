//! What is told of a change before it happens.

use serde_json::json;

use super::*;
use crate::operator::{cluster::validate::fixture, fake_api::FakeApi};

#[test]
fn each_field_that_differs_is_a_line_and_what_the_api_server_stamps_is_none() {
    let live = json!({"metadata": {"name": "a", "resourceVersion": "1", "annotations": {"kes-operator.io/applied": "x"}},
        "spec": {"size": "1Gi", "gone": 1, "list": ["a", "b"], "same": {"x": 1}}, "status": {"ready": 1}});
    let after = json!({"metadata": {"name": "a", "resourceVersion": "2", "annotations": {"kes-operator.io/applied": "y"}},
        "spec": {"size": "5Gi", "new": true, "list": ["a", "c", "d"], "same": {"x": 1}}, "status": {"ready": 2}});
    let found = difference("A a".into(), Some(&live), &after).unwrap();
    assert_eq!(
        found.lines,
        [
            "- spec.gone: 1",
            "~ spec.list[1]: \"b\" → \"c\"",
            "+ spec.list[2]: \"d\"",
            "+ spec.new: true",
            "~ spec.size: \"1Gi\" → \"5Gi\"",
        ]
    );
    assert_eq!(difference("A a".into(), Some(&live), &live).unwrap().verdict, "stays as it is");
    assert_eq!(difference("A a".into(), None, &live).unwrap().verdict, "is made");
}

const CLUSTER: &str = "/apis/kes-operator.io/v1alpha1/namespaces/keys/kesclusters/vault";

/// The answer for `manifest`, where `live` is there with everything that was made for it.
async fn asked(live: &KesCluster, manifest: Value) -> (FakeApi, Vec<Difference>) {
    let api = FakeApi::default();
    api.put(CLUSTER, serde_json::to_value(live).unwrap());
    let scope = Scope { operator: "ops", namespaces: &[] };
    let context = Context::new(api.client(), fixture::defaults(), Metrics::new(), &scope);
    cluster::reconcile(&context, live).await.unwrap();
    api.writes();
    let question = Question {
        manifest,
        image: Some("localhost/kes:dev".into()),
        domain: "cluster.local".into(),
        operator_namespace: "ops".into(),
    };
    let found = diff(api.client(), question).await.unwrap();
    (api, found)
}

fn manifest(cluster: &KesCluster) -> Value {
    let mut manifest = serde_json::to_value(cluster).unwrap();
    manifest.as_object_mut().unwrap().remove("status");
    manifest["metadata"] = json!({"name": "vault", "namespace": "keys"});
    manifest
}

#[tokio::test]
async fn what_leaves_the_manifest_is_told_and_so_is_what_goes_with_it() {
    let mut live = fixture::cluster();
    live.spec.pod = Some(serde_json::from_value(json!({"priorityClassName": "high"})).unwrap());
    let mut less = manifest(&live);
    less["spec"].as_object_mut().unwrap().remove("pod");
    less["spec"]["networkPolicy"] = json!({"enabled": false});
    let (api, found) = asked(&live, less).await;
    assert_eq!(api.writes(), Vec::<String>::new(), "it is a try");
    let of = |object: &str| found.iter().find(|difference| difference.object == object).unwrap().clone();
    let cluster = of("KesCluster keys/vault");
    assert!(
        cluster.lines.iter().any(|line| line == "- spec.pod: {\"priorityClassName\":\"high\"}"),
        "{:?}",
        cluster.lines
    );
    assert_eq!(of("NetworkPolicy keys/vault").verdict, "is deleted");
    assert!(found.iter().any(Difference::is_one));
}

#[tokio::test]
async fn the_same_manifest_differs_in_nothing_of_ours() {
    let live = fixture::cluster();
    let (_, found) = asked(&live, manifest(&live)).await;
    let objects: Vec<_> =
        found.iter().filter(|difference| !difference.object.starts_with("Tenant ")).collect();
    assert!(objects.len() >= 6);
    for difference in objects {
        assert!(!difference.is_one(), "{difference:?}");
    }
}
