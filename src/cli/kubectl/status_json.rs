//! `kubectl kes status --json`: the screen for a program.

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::Pod, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::ResourceExt;
use serde::Serialize;

use super::{
    place::names,
    status::{Screen, last, restarts},
    tenants,
};
use crate::{api::message::Cluster, operator};

#[derive(Serialize)]
pub(super) struct Status<'a> {
    namespace: String,
    name: String,
    /// Whether the operator has seen the last change of the spec.
    current: bool,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    members: Vec<Member>,
    /// What the first member says of itself; absent where it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a Cluster>,
    /// Why it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_error: Option<&'a str>,
    seal: Seal,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<i64>,
    conditions: Vec<Stated<'a>>,
    tenants: Vec<tenants::Object<'a>>,
    /// The last ones, the newest first.
    events: Vec<Happened<'a>>,
}

#[derive(Serialize)]
struct Member {
    pod: String,
    phase: Option<String>,
    node: Option<String>,
    restarts: i32,
}

#[derive(Serialize)]
struct Seal {
    secret: String,
    /// Made by the operator, not brought by the user.
    generated: bool,
}

#[derive(Serialize)]
struct Certificate<'a> {
    secret: &'a str,
    not_after: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_at: Option<String>,
}

#[derive(Serialize)]
struct Stated<'a> {
    r#type: &'a str,
    status: &'a str,
    reason: &'a str,
    message: &'a str,
    since: String,
}

#[derive(Serialize)]
struct Happened<'a> {
    at: String,
    r#type: Option<&'a str>,
    reason: Option<&'a str>,
    note: Option<&'a str>,
}

/// Everything that the screen shows.
pub(super) fn of(screen: &Screen) -> Status<'_> {
    let Screen { cluster, pods, member, events, now: _ } = screen;
    let (namespace, name) = names(cluster);
    let status = cluster.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let (secret, generated) = match &cluster.spec.seal {
        None => (operator::seal_secret(&name), true),
        Some(seal) => (seal.secret_ref.name.clone(), false),
    };
    Status {
        current: status.and_then(|status| status.observed_generation) == cluster.metadata.generation,
        ready: conditions.iter().any(|known| known.type_ == "Ready" && known.status == "True"),
        endpoint: status.and_then(|status| status.endpoint.as_deref()),
        members: pods.iter().map(self::member).collect(),
        cluster: member.as_ref().ok(),
        cluster_error: member.as_ref().err().map(String::as_str),
        seal: Seal { secret, generated },
        certificate: status.and_then(|status| status.certificate.as_ref()).map(|known| Certificate {
            secret: &known.secret,
            not_after: known.not_after.0.to_string(),
            renewal_at: known.renewal_at.as_ref().map(|at| at.0.to_string()),
        }),
        keys: status.and_then(|status| status.keys),
        conditions: conditions.iter().map(stated).collect(),
        tenants: tenants::objects(status.map(|status| status.tenants.as_slice()).unwrap_or_default()),
        events: last(events).into_iter().map(happened).collect(),
        namespace,
        name,
    }
}

fn member(pod: &Pod) -> Member {
    Member {
        pod: pod.name_any(),
        phase: pod.status.as_ref().and_then(|status| status.phase.clone()),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        restarts: restarts(pod),
    }
}

fn stated(condition: &Condition) -> Stated<'_> {
    let Condition { type_, status, reason, message, last_transition_time, observed_generation: _ } =
        condition;
    Stated { r#type: type_, status, reason, message, since: last_transition_time.0.to_string() }
}

fn happened((at, event): (Timestamp, &Event)) -> Happened<'_> {
    let (kind, reason, note) = (event.type_.as_deref(), event.reason.as_deref(), event.note.as_deref());
    Happened { at: at.to_string(), r#type: kind, reason, note }
}
