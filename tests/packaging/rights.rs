//! No right of the operator is too much. That it has all it needs is `operator::rights`' test, and equality that the chart's
//! are the same.

use serde_json::Value;

use crate::{documents, render::Tools, text};

/// Rules of the role called `name` in a file of `config/rbac`.
fn rules(file: &str, name: &str) -> Vec<Value> {
    let role = documents(&text(format!("config/rbac/{file}")))
        .into_iter()
        .find(|object| object["metadata"]["name"] == name && object["rules"].is_array())
        .unwrap();
    role["rules"].as_array().unwrap().clone()
}

fn operator() -> Vec<Value> {
    let mut all = rules("roles/clusters.yaml", "kes-operator");
    all.extend(rules("roles/tenants.yaml", "kes-operator-tenants"));
    all.extend(rules("account/leader_election.yaml", "kes-operator-leader-election"));
    all.extend(rules("account/storage_classes.yaml", "kes-operator-storage-classes"));
    all.extend(rules("account/tenant_definition.yaml", "kes-operator-tenant-definition"));
    all
}

fn lists(rule: &Value, field: &str, word: &str) -> bool {
    rule[field].as_array().unwrap().iter().any(|entry| entry == word)
}

#[test]
fn no_rule_has_a_wildcard_or_hands_rights_on() {
    for rule in operator() {
        for field in ["apiGroups", "resources", "verbs"] {
            assert!(!lists(&rule, field, "*"), "{rule}");
        }
        for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
            assert!(!lists(&rule, "verbs", verb), "{rule}");
        }
        for resource in ["pods/exec", "pods/portforward", "serviceaccounts/token", "nodes"] {
            assert!(!lists(&rule, "resources", resource), "{rule}");
        }
        // whether one agrees to something is read from its annotations, one at a time
        if lists(&rule, "resources", "namespaces") {
            assert_eq!(rule["verbs"], serde_json::json!(["get"]), "{rule}");
        }
    }
}

#[test]
fn no_secret_is_ever_updated_or_deleted() {
    for rule in operator().iter().filter(|rule| lists(rule, "resources", "secrets")) {
        assert!(!lists(rule, "verbs", "update") && !lists(rule, "verbs", "delete"), "{rule}");
    }
}

#[test]
fn a_tenant_namespace_gets_the_tenant_role_only_and_others_none() {
    let Some(tools) = Tools::find("rights by namespace") else { return };
    let rendered = tools
        .chart("charts/kes-operator", &["--set", "watchNamespaces={a,b}", "--set", "tenantNamespaces={b,t}"])
        .unwrap();
    let roles: Vec<_> = rendered.keys().filter_map(|key| key.strip_prefix("RoleBinding ")).collect();
    assert_eq!(
        roles,
        [
            "a/kes-operator",
            "a/kes-operator-tenants",
            "b/kes-operator",
            "b/kes-operator-tenants",
            "kes-operator/kes-operator-leader-election",
            "t/kes-operator-tenants",
        ]
    );
    let deployment = &rendered["Deployment kes-operator/kes-operator"];
    let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(variables.contains(&serde_json::json!({"name": "KES_WATCH_NAMESPACE", "value": "a,b"})));
}

#[test]
fn nobody_writes_kesclusters_unless_somebody_says_so() {
    let Some(tools) = Tools::find("rights of people") else { return };
    let edit = |arguments: &[&str]| {
        let rendered = tools.chart("charts/kes-operator", arguments).unwrap();
        let role = rendered["ClusterRole -/kes-operator-edit"].clone();
        !role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"].is_null()
    };
    assert!(!edit(&[]));
    assert!(edit(&["--set", "rbac.aggregateToEdit=true"]));
}
