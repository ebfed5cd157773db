//! unreadable: a `KesCluster` that does not fit its type is told so on itself: an event, and its condition Ready. It was
//! stored under another definition, and no pass can be made over it, so what runs is left alone.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::events::EventType,
};
use serde_json::{Value, json};

use super::{Context, cluster::report::News, condition, names};
use crate::crd::{self, KesCluster};

const REASON: &str = "Unreadable";

/// What was said last about each, so that an API server that refuses the condition does not make an event of each pass.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<(String, String), String>>);

/// Tells it, unless it was told already. `error` is what the deserialiser says, which knows no field.
///
/// # Errors
/// When the resource cannot be read, or its condition not be written; the event was sent by then.
pub(super) async fn tell(
    context: &Context,
    told: &Told,
    namespace: &str,
    name: &str,
    error: &str,
) -> Result<(), kube::Error> {
    let resource = ApiResource::erase::<KesCluster>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let Some(live) = api.get_opt(name).await? else { return Ok(()) };
    if live.clone().try_parse::<KesCluster>().is_ok() {
        return Ok(());
    }
    context.metrics.cluster(namespace, name, false, 0, 0);
    let message = message(&live, error);
    if told.is_new(namespace, name, &message) && !is_said(&live, &message) {
        let note = message.clone();
        let news = News { kind: EventType::Warning, action: "Reconcile", reason: REASON.into(), note };
        context.tell_about(&live.object_ref(&resource), news).await;
    }
    if is_said(&live, &message) {
        return Ok(());
    }
    let version = live.resource_version();
    let conditions = with_ready(&live, message, context.now());
    let patch = json!({"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}});
    let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
    api.patch_status(name, &params, &Patch::Merge(patch)).await.map(drop)
}

impl Told {
    fn is_new(&self, namespace: &str, name: &str, message: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.insert((namespace.to_owned(), name.to_owned()), message.to_owned());
        before.is_none_or(|before| before != message)
    }
}

/// The fields that do not fit, by the schema of this release; else what the deserialiser said.
fn message(live: &DynamicObject, error: &str) -> String {
    let object = serde_json::to_value(live).unwrap_or_default();
    let (_, problems) = crd::check(&object);
    let what = if problems.is_empty() { error.to_owned() } else { problems.join("; ") };
    condition::cut(format!(
        "this KesCluster cannot be read, because it was stored under another definition: {what}. Nothing is changed and what \
         runs goes on; correct that with 'kubectl edit', or apply the manifest anew, and see that the CRD is of the operator's \
         release"
    ))
}

fn conditions(live: &DynamicObject) -> Vec<Value> {
    live.data["status"]["conditions"].as_array().cloned().unwrap_or_default()
}

fn is_said(live: &DynamicObject, message: &str) -> bool {
    conditions(live)
        .iter()
        .any(|known| known["type"] == "Ready" && known["reason"] == REASON && known["message"] == message)
}

/// Its conditions as they are, whatever is in them, with another Ready.
fn with_ready(live: &DynamicObject, message: String, now: jiff::Timestamp) -> Vec<Value> {
    let (ready, mut others): (Vec<_>, Vec<_>) =
        conditions(live).into_iter().partition(|known| known["type"] == "Ready");
    let since = ready.first().filter(|known| known["status"] == "False");
    let since = since.and_then(|known| serde_json::from_value(known["lastTransitionTime"].clone()).ok());
    let ready = Condition {
        type_: "Ready".into(),
        status: "False".into(),
        reason: REASON.into(),
        message,
        last_transition_time: since.unwrap_or(Time(now)),
        observed_generation: live.metadata.generation,
    };
    others.insert(0, json!(ready));
    others
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::operator::{cluster::validate::fixture, context::Scope, fake_api::FakeApi, metrics::Metrics};

    const CLUSTER: &str = "/apis/kes-operator.io/v1alpha1/namespaces/keys/kesclusters/vault";

    /// Stored when `spec.replicas` was something else.
    fn old() -> (FakeApi, Context) {
        let api = FakeApi::default();
        let mut cluster = serde_json::to_value(fixture::cluster()).unwrap();
        cluster["spec"]["replicas"] = "one".into();
        cluster["status"] = json!({"keys": 7, "conditions": [{"type": "Ready", "status": "True", "reason": "Serving",
            "message": "", "lastTransitionTime": "2026-11-25T10:00:00Z"}, {"type": "Paused", "status": "False",
            "reason": "Active", "message": "", "lastTransitionTime": "2026-11-25T10:00:00Z"}]});
        api.put(CLUSTER, cluster);
        let scope = Scope { operator: "ops", namespaces: &[] };
        let context = Context::new(api.client(), fixture::defaults(), Metrics::new(), &scope);
        (api, context)
    }

    async fn told(context: &Context, told: &Told) -> Result<(), kube::Error> {
        tell(context, told, "keys", "vault", "invalid type: string, expected i32").await
    }

    #[tokio::test]
    async fn it_is_told_once_with_the_field_and_the_way_out_and_nothing_else_is_touched() {
        let (api, context) = old();
        let memory = Told::default();
        told(&context, &memory).await.unwrap();
        let status = api.get(CLUSTER).unwrap()["status"].clone();
        let ready = &status["conditions"][0];
        assert_eq!(
            (&ready["type"], &ready["status"], &ready["reason"]),
            (&json!("Ready"), &json!("False"), &json!(REASON))
        );
        let words = ready["message"].as_str().unwrap();
        assert!(words.contains("spec.replicas: \"one\" is not of type integer"), "{words}");
        assert!(words.contains("kubectl edit"), "{words}");
        assert_eq!(status["conditions"][1]["type"], "Paused");
        assert_eq!(status["keys"], 7);
        assert_eq!(api.events().len(), 1);
        api.writes();

        // another pass, another watch, another operator
        told(&context, &memory).await.unwrap();
        told(&context, &Told::default()).await.unwrap();
        assert_eq!(api.writes(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn where_the_condition_is_refused_there_is_one_event_all_the_same() {
        let (api, context) = old();
        api.refuse(Method::PATCH, "/kesclusters/vault/status", 422);
        let memory = Told::default();
        for _ in 0..3 {
            assert!(told(&context, &memory).await.is_err());
        }
        assert_eq!(api.events().len(), 1);
        // another problem is told again
        let mut cluster = api.get(CLUSTER).unwrap();
        cluster["spec"]["paused"] = "no".into();
        api.put(CLUSTER, cluster);
        assert!(told(&context, &memory).await.is_err());
        assert_eq!(api.events().len(), 2);
    }

    #[tokio::test]
    async fn one_that_was_corrected_meanwhile_is_left_alone() {
        let (api, context) = old();
        api.put(CLUSTER, serde_json::to_value(fixture::cluster()).unwrap());
        told(&context, &Told::default()).await.unwrap();
        assert_eq!((api.writes(), api.events().len()), (Vec::new(), 0));
    }
}
