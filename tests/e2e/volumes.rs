//! Volume expansion: a class that cannot expand is a named refusal; one that can grows without a restart.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::{
    runner::{Case, Ending, Outcome},
    wait::until,
    world::World,
};

const CLUSTER: &str = "vault";

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("volumes_grow_where_their_class_allows_it_and_nothing_restarts", grow)]
}

async fn grow(world: World) -> Outcome {
    let classes: Api<StorageClass> = Api::all(world.client.clone());
    let default = classes.list(&Default::default()).await?;
    let is_default = |class: &&StorageClass| {
        class
            .annotations()
            .get("storageclass.kubernetes.io/is-default-class")
            .is_some_and(|value| value == "true")
    };
    let Some(default) = default.iter().find(is_default) else {
        return Ok(Ending::Skipped("the cluster has no default StorageClass".into()));
    };
    // a copy of it that does not allow expansion, until it does
    let name = world.namespace.clone();
    let mut class = default.clone();
    class.metadata = kube::api::ObjectMeta { name: Some(name.clone()), ..Default::default() };
    class.allow_volume_expansion = Some(false);
    classes.create(&PostParams::default(), &class).await?;

    let spec = |size: &str| json!({"storage": {"size": size, "storageClassName": name}});
    world.create_cluster(CLUSTER, &spec("100Mi")).await?;
    world.ready(CLUSTER).await?;
    let pod = world.api::<Pod>().get(&format!("{CLUSTER}-0")).await?.uid();
    let set = world.api::<StatefulSet>().get(CLUSTER).await?.uid();
    world.replace_spec(CLUSTER, &spec("200Mi")).await?;
    let cluster = world.condition(CLUSTER, "Degraded", "True", "ExpansionRefused").await?;
    let message =
        cluster.status.unwrap_or_default().conditions.into_iter().find(|found| found.type_ == "Degraded");
    let message = message.map(|found| found.message).unwrap_or_default();
    assert!(
        message.contains(&name) && message.contains("put the former spec.storage.size back"),
        "{message}"
    );
    world.ready(CLUSTER).await?;
    assert_eq!(world.api::<StatefulSet>().get(CLUSTER).await?.uid(), set);

    let allow = json!({"allowVolumeExpansion": true});
    classes.patch(&name, &Default::default(), &kube::api::Patch::Merge(allow)).await?;
    until(
        world.api::<PersistentVolumeClaim>(),
        &format!("data-{CLUSTER}-0"),
        "a larger claim",
        |claim: Option<&PersistentVolumeClaim>| {
            let size = claim.and_then(|claim| {
                claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage").cloned()
            });
            match size {
                Some(size) if size.0 == "200Mi" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        },
    )
    .await?;
    until(
        world.api::<StatefulSet>(),
        CLUSTER,
        "another StatefulSet with a larger template",
        |found: Option<&StatefulSet>| {
            let found = found.ok_or("none")?;
            let text = serde_json::to_string(&found.spec).unwrap_or_default();
            if found.uid() != set && text.contains("200Mi") {
                Ok(())
            } else {
                Err("it is the old one".into())
            }
        },
    )
    .await?;
    world.condition(CLUSTER, "Degraded", "False", "AsWanted").await?;
    world.ready(CLUSTER).await?;
    assert_eq!(world.api::<Pod>().get(&format!("{CLUSTER}-0")).await?.uid(), pod, "nothing was restarted");
    classes.delete(&name, &DeleteParams::default()).await?;
    Ok(Ending::Held)
}
