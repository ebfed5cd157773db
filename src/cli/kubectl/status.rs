//! `kubectl kes status`: one screen about a KesCluster, as the operator sees it and as its members say.

use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::{
    place::{Place, names},
    status_json, tenants, way,
};
use crate::{
    api::message::Cluster,
    cli::{
        duration,
        failure::Failure,
        kubernetes,
        terminal::{Color, Format, date, row, table},
    },
    crd::{KesCluster, KesClusterStatus},
    operator,
};

/// Events on the screen.
const EVENTS: usize = 8;

#[derive(clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    format: Format,
}

/// What the screen shows.
pub(super) struct Screen {
    pub(super) cluster: KesCluster,
    pub(super) pods: Vec<Pod>,
    /// What a member says of itself, or why it could not be asked.
    pub(super) member: Result<Cluster, String>,
    pub(super) events: Vec<Event>,
    pub(super) now: Timestamp,
}

impl Status {
    pub(super) async fn run(self, place: &Place) -> Result<String, Failure> {
        let (client, cluster) = place.find().await?;
        let (namespace, name) = names(&cluster);
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let which = ListParams::default().labels(&operator::pod_selector(&name));
        let pods = pods.list(&which).await;
        let pods = pods.map_err(|error| kubernetes::failed("list the key service's pods", &error))?.items;
        let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let about = ListParams::default().fields(&format!("regarding.name={name},regarding.kind=KesCluster"));
        // a screen without events is better than none
        let events = events.list(&about).await.map(|events| events.items).unwrap_or_default();
        let member = ask(&client, &cluster).await;
        let screen = Screen { cluster, pods, member, events, now: Timestamp::now() };
        Ok(match self.format.json {
            true => super::json_line(&status_json::of(&screen)),
            false => show(&screen, self.format.color),
        })
    }
}

async fn ask(client: &Client, cluster: &KesCluster) -> Result<Cluster, String> {
    let way = way::lead(client, cluster).await.map_err(|failure| failure.what().to_owned())?;
    let client = way.client(None).map_err(|failure| failure.what().to_owned())?;
    client.cluster().await.map_err(|error| error.to_string())
}

fn show(screen: &Screen, color: Color) -> String {
    let Screen { cluster, pods, member, events, now } = screen;
    let (namespace, name) = names(cluster);
    let none = KesClusterStatus::default();
    let status = cluster.status.as_ref().unwrap_or(&none);
    let line = |label: &str, value: &str| format!("  {}", row(color, label, value));
    let ready = status.conditions.iter().find(|found| found.type_ == "Ready");
    let (mark, word) = match ready {
        Some(found) if found.status == "True" => (color.green("●"), found.message.clone()),
        Some(found) => ("○".into(), format!("{}: {}", found.reason, found.message)),
        None => ("○".into(), "the operator has said nothing about it yet".into()),
    };
    let mut text = format!("{mark} {}  {word}\n", color.bold(&format!("{namespace}/{name}")));
    if status.observed_generation != cluster.metadata.generation {
        text += &line("Note", "the operator has not seen the last change of the spec yet");
    }
    text += &line("Endpoint", status.endpoint.as_deref().unwrap_or("-"));
    text += &line("Members", status.members.as_deref().unwrap_or("-"));
    for pod in pods {
        text += &line("", &member_line(pod, member, &name));
    }
    let seal = cluster.spec.seal.as_ref().map_or_else(
        || format!("Secret {}, made by the operator", operator::seal_secret(&name)),
        |seal| format!("Secret {}, yours", seal.secret_ref.name),
    );
    text += &line("Seal", &seal);
    if let Some(certificate) = &status.certificate {
        let renewal = certificate.renewal_at.as_ref().map_or_else(
            || "renewed by whoever keeps its Secret".into(),
            |at| format!("renewed {}", date(at.0)),
        );
        text += &line("TLS", &format!("valid until {}, {renewal}", date(certificate.not_after.0)));
    }
    if let Some(bootstrap) = &status.bootstrap {
        text += &line("Id", &bootstrap.cluster_id);
    }
    text += &line("Keys", &status.keys.map_or_else(|| "-".into(), |keys| keys.to_string()));
    text += &line("Tenants", status.tenants_verified.as_deref().unwrap_or("-"));

    text += &format!("\n{}\n", color.bold("Conditions"));
    let conditions: Vec<_> = status
        .conditions
        .iter()
        .map(|found| {
            vec![found.type_.clone(), found.status.clone(), found.reason.clone(), found.message.clone()]
        })
        .collect();
    text += &table(color, &["TYPE", "STATUS", "REASON", "MESSAGE"], &conditions);
    if !status.tenants.is_empty() {
        text += &format!("\n{}\n{}", color.bold("Tenants"), tenants::rows(color, &status.tenants));
    }
    let events = last(events);
    if !events.is_empty() {
        text += &format!("\n{}\n", color.bold("Last events"));
        let rows: Vec<_> = events.iter().map(|(at, event)| event_row(*at, event, *now)).collect();
        text += &table(color, &["AGE", "TYPE", "REASON", "MESSAGE"], &rows);
    }
    text
}

fn member_line(pod: &Pod, member: &Result<Cluster, String>, cluster: &str) -> String {
    let name = pod.name_any();
    let phase =
        pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_else(|| "Unknown".into());
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_else(|| "no node".into());
    let restarts = restarts(pod);
    // the first member is the one that is asked
    let says = match member {
        Ok(found) if name == format!("{cluster}-0") => {
            let leads = found.member_id.is_some() && found.member_id == found.leader_id;
            match (found.initialised, found.sealed) {
                (true, false) if leads => "leads, unsealed".to_owned(),
                (true, false) => "follows, unsealed".to_owned(),
                (true, true) => "sealed".to_owned(),
                (false, _) => "not initialised".to_owned(),
            }
        }
        Ok(_) => String::new(),
        Err(why) => why.clone(),
    };
    format!("{name}  {phase} on {node}, {restarts} restarts; {says}")
}

/// The last events, the newest first.
pub(super) fn last(events: &[Event]) -> Vec<(Timestamp, &Event)> {
    let mut events: Vec<_> = events.iter().map(|event| (when(event), event)).collect();
    events.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    events.truncate(EVENTS);
    events
}

/// How often the containers of a pod ended and began again.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// When an event happened last.
fn when(event: &Event) -> Timestamp {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let own = event.event_time.as_ref().map(|time| time.0);
    let old = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    let made = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    series.or(own).or(old).or(made).unwrap_or_default()
}

fn event_row(at: Timestamp, event: &Event, now: Timestamp) -> Vec<String> {
    let age = u64::try_from(now.duration_since(at).as_secs()).unwrap_or_default();
    vec![
        duration::show(age),
        event.type_.clone().unwrap_or_default(),
        event.reason.clone().unwrap_or_default(),
        event.note.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_screen_says_what_a_person_asks_for_first() {
        let cluster = serde_json::from_value(json!({"apiVersion": "kes-operator.io/v1alpha1", "kind": "KesCluster",
            "metadata": {"name": "vault", "namespace": "keys", "generation": 3}, "spec": {},
            "status": {"observedGeneration": 3, "endpoint": "https://vault.keys.svc.cluster.local:7373", "members": "1/1",
                "keys": 2, "tenantsVerified": "1/2", "bootstrap": {"clusterID": "c0ffee", "phase": "Completed"},
                "certificate": {"secret": "vault-server-tls", "notAfter": "2027-11-25T10:00:00Z", "renewalAt": "2027-07-25T10:00:00Z"},
                "conditions": [
                    {"type": "Ready", "status": "True", "reason": "Serving", "message": "the key service answers",
                        "lastTransitionTime": "2026-11-25T10:00:00Z"},
                    {"type": "TenantsWired", "status": "False", "reason": "TenantMissing", "message": "team/other is Pending",
                        "lastTransitionTime": "2026-11-25T10:00:00Z"}],
                "tenants": [
                    {"namespace": "team", "name": "minio", "phase": "Verified", "reason": "Verified",
                        "message": "all 4 pods can encrypt", "since": "2026-11-25T10:00:00Z"},
                    {"namespace": "team", "name": "other", "phase": "Pending", "reason": "TenantMissing",
                        "message": "there is no such Tenant", "since": "2026-11-25T10:00:00Z"}]}}))
        .unwrap();
        let pod = serde_json::from_value(
            json!({"metadata": {"name": "vault-0"}, "spec": {"containers": [], "nodeName": "n1"},
            "status": {"phase": "Running"}}),
        )
        .unwrap();
        let event = |at: &str, reason: &str| {
            serde_json::from_value(
                json!({"metadata": {}, "eventTime": at, "type": "Normal", "reason": reason,
                "note": "what happened"}),
            )
            .unwrap()
        };
        let screen = Screen {
            cluster,
            pods: vec![pod],
            member: Ok(serde_json::from_value(
                json!({"cluster_id": "c0ffee", "initialised": true, "sealed": false,
                "version": "0.1.0", "member_id": "m1", "leader_id": "m1", "applied": 7}),
            )
            .unwrap()),
            events: vec![
                event("2026-11-25T10:00:00.000000Z", "Bootstrapped"),
                event("2026-11-25T10:04:30.000000Z", "Serving"),
            ],
            now: "2026-11-25T10:05:00Z".parse().unwrap(),
        };
        insta::assert_snapshot!(show(&screen, Color::Never));
        let object = serde_json::to_value(status_json::of(&screen)).unwrap();
        insta::assert_snapshot!("the_screen_for_a_program", serde_json::to_string_pretty(&object).unwrap());
    }
}
