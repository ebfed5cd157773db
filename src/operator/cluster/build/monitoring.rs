//! What the Prometheus Operator turns into scraping and alarms.

use kube::core::DynamicObject;
use serde_json::json;

use super::super::wanted::Wanted;
use crate::operator::names;

/// Scrapes the health port of every member.
pub(super) fn service_monitor(wanted: &Wanted) -> DynamicObject {
    super::dynamic(
        wanted,
        &super::SERVICE_MONITOR.resource(),
        wanted.name.clone(),
        &wanted.monitoring.labels,
        json!({"spec": {
            "selector": {"matchLabels": names::labels(&wanted.name, "server")},
            // of the two Services only the headless one has this port
            "endpoints": [{"port": "health", "path": "/metrics", "interval": "30s"}],
        }}),
    )
}

/// Says when somebody should look.
pub(super) fn prometheus_rule(wanted: &Wanted) -> DynamicObject {
    let Wanted { name, namespace, .. } = wanted;
    let members = format!(r#"namespace="{namespace}",service="{}""#, names::headless_service(name));
    let alert =
        |alert: &str, expression: String, after: &str, severity: &str, summary: String, next: &str| {
            json!({"alert": alert, "expr": expression, "for": after, "labels": {"severity": severity},
            "annotations": {"summary": summary, "description": next}})
        };
    let rules = [
        alert(
            "KesMemberDown",
            format!("up{{{members}}} == 0"),
            "2m",
            "critical",
            format!("A member of key service {namespace}/{name} does not answer"),
            "MinIO reads and writes nothing encrypted while no member answers. kubectl describe kescluster says what is \
             waited for.",
        ),
        alert(
            "KesNoMember",
            format!("absent(up{{{members}}})"),
            "5m",
            "critical",
            format!("Key service {namespace}/{name} has no member"),
            "Look at its StatefulSet and at the conditions of the KesCluster.",
        ),
        alert(
            "KesFailing",
            format!(r#"sum(rate(kes_requests_total{{{members},code="5xx"}}[5m])) > 0"#),
            "5m",
            "warning",
            format!("Key service {namespace}/{name} answers some requests with an error of its own"),
            "The logs of its pods name each failure; a full or broken volume is the usual reason.",
        ),
    ];
    super::dynamic(
        wanted,
        &super::PROMETHEUS_RULE.resource(),
        wanted.name.clone(),
        &wanted.monitoring.labels,
        json!({"spec": {"groups": [{"name": format!("kes.{namespace}.{name}"), "rules": rules}]}}),
    )
}
