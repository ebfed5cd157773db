//! What the operator must be allowed to do, asked at the start, so that a missing right is a sentence and not a pass that
//! fails half-way. `config/rbac` and the chart give exactly these.

use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use super::reach::{Unreachable, no_answer};

/// Questions at the same time.
const AT_ONCE: usize = 8;

/// Where a right is needed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Place {
    /// In the namespaces of KesClusters.
    Clusters,
    /// In the namespaces of Tenants.
    Tenants,
    /// In the namespace of the lease.
    Lease,
    /// Outside of namespaces.
    Everywhere,
}

/// One rule of a role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right {
    pub(crate) place: Place,
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    /// The one object that it is about; absent: all of them.
    pub(crate) name: Option<&'static str>,
    pub(crate) verbs: &'static [&'static str],
    /// Whether it is missed only by a part that is optional.
    pub(crate) optional: bool,
    /// What it is for, after "to".
    pub(crate) purpose: &'static str,
}

const fn must(
    place: Place,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    purpose: &'static str,
) -> Right {
    Right { place, group, resource, name: None, verbs, optional: false, purpose }
}

const fn may(
    place: Place,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    purpose: &'static str,
) -> Right {
    Right { place, group, resource, name: None, verbs, optional: true, purpose }
}

const WATCHED: &[&str] = &["get", "list", "watch", "create", "patch"];
const PRUNED: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// Every right, in the order of the roles.
pub(crate) const RIGHTS: &[Right] = &[
    must(
        Place::Clusters,
        "kes-operator.io",
        "kesclusters",
        &["get", "list", "watch", "patch"],
        "follow them",
    ),
    must(Place::Clusters, "kes-operator.io", "kesclusters/status", &["update"], "report"),
    may(Place::Clusters, "kes-operator.io", "kesclusters/finalizers", &["update"], "own objects"),
    must(Place::Clusters, "", "configmaps", WATCHED, "configure key servers"),
    must(Place::Clusters, "", "services", WATCHED, "give key servers names"),
    must(Place::Clusters, "", "serviceaccounts", WATCHED, "run key servers without rights"),
    must(Place::Clusters, "apps", "statefulsets", PRUNED, "run key servers, and expand their volumes"),
    must(Place::Clusters, "policy", "poddisruptionbudgets", PRUNED, "keep a majority during drains"),
    must(Place::Clusters, "networking.k8s.io", "networkpolicies", PRUNED, "close ports"),
    may(Place::Clusters, "monitoring.coreos.com", "servicemonitors", PRUNED, "have key servers measured"),
    may(Place::Clusters, "monitoring.coreos.com", "prometheusrules", PRUNED, "have alarms raised"),
    may(Place::Clusters, "cert-manager.io", "certificates", PRUNED, "use spec.tls.issuerRef"),
    must(Place::Clusters, "", "secrets", WATCHED, "keep key material"),
    must(
        Place::Clusters,
        "",
        "persistentvolumeclaims",
        &["list", "patch"],
        "keep, expand or release volumes",
    ),
    must(Place::Clusters, "", "pods", &["get", "list", "watch"], "see key servers"),
    must(Place::Clusters, "events.k8s.io", "events", &["create", "patch"], "tell what changes"),
    may(Place::Tenants, "minio.min.io", "tenants", &["get", "list", "watch", "patch"], "wire MinIO tenants"),
    may(Place::Tenants, "", "secrets", &["get", "create", "patch"], "give MinIO tenants their certificate"),
    may(
        Place::Tenants,
        "",
        "namespaces",
        &["get"],
        "see whether a namespace lets its Tenants be wired from another one",
    ),
    may(Place::Tenants, "apps", "statefulsets", &["list"], "see whether MinIO has its certificate"),
    may(Place::Tenants, "", "pods", &["list", "delete"], "restart MinIO together"),
    must(Place::Lease, "coordination.k8s.io", "leases", &["get", "create", "update"], "act alone"),
    may(Place::Everywhere, "storage.k8s.io", "storageclasses", &["get"], "know whether volumes can grow"),
    Right {
        place: Place::Everywhere,
        group: "apiextensions.k8s.io",
        resource: "customresourcedefinitions",
        name: Some("tenants.minio.min.io"),
        verbs: &["get"],
        optional: true,
        purpose: "know whether the MinIO Operator is too old",
    },
];

/// Asks for every right. The answer: sentences about rights that are missing, and about optional ones.
///
/// # Errors
/// When the API server does not answer: then nothing more is asked.
pub(crate) async fn probe(
    client: &Client,
    namespaces: &[String],
    lease: &str,
) -> Result<Missing, Unreachable> {
    let everywhere = [String::new()];
    let watched = if namespaces.is_empty() { &everywhere } else { namespaces };
    let lease = [lease.to_owned()];
    let places = RIGHTS.iter().flat_map(|right| {
        let namespaces: &[String] = match right.place {
            Place::Clusters | Place::Tenants => watched,
            Place::Lease => &lease,
            Place::Everywhere => &everywhere,
        };
        namespaces.iter().map(move |namespace| (right, namespace))
    });
    let places: Vec<_> = places.collect();
    let mut missing = Missing::default();
    let mut answers =
        stream::iter(places.into_iter().map(|(right, namespace)| async move {
            (right, namespace, denied(client, right, namespace).await)
        }))
        .buffered(AT_ONCE);
    while let Some((right, namespace, denied)) = answers.next().await {
        let denied = denied?;
        if denied.is_empty() {
            continue;
        }
        let sentence = sentence(right, &denied, namespace);
        if right.optional { missing.optional.push(sentence) } else { missing.needed.push(sentence) }
    }
    Ok(missing)
}

/// Sentences about what is not allowed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Missing {
    pub(crate) needed: Vec<String>,
    pub(crate) optional: Vec<String>,
}

/// The verbs of `right` that are denied in `namespace`; empty means every namespace.
async fn denied(client: &Client, right: &Right, namespace: &str) -> Result<Vec<&'static str>, Unreachable> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (right.resource, None),
    };
    let mut denied = Vec::new();
    for verb in right.verbs {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(right.group.into()),
                    resource: Some(resource.into()),
                    subresource: subresource.map(str::to_owned),
                    name: right.name.map(str::to_owned),
                    verb: Some((*verb).into()),
                    namespace: Some(namespace).filter(|namespace| !namespace.is_empty()).map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        match reviews.create(&PostParams::default(), &review).await {
            Ok(review) if review.status.as_ref().is_some_and(|status| status.allowed) => {}
            Ok(_) => denied.push(*verb),
            Err(error) => match no_answer(&error) {
                Some(found) => return Err(found.clone()),
                // who may not even ask learns from the calls themselves
                None => tracing::debug!(%error, "failed to ask for a right"),
            },
        }
    }
    Ok(denied)
}

fn sentence(right: &Right, denied: &[&str], namespace: &str) -> String {
    let Right { group, resource, name, purpose, place, .. } = right;
    let resource = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
    let resource = name.map_or(resource.clone(), |name| format!("{resource} {name}"));
    let place = match (place, namespace) {
        (Place::Everywhere, _) => String::new(),
        (_, "") => " in every namespace".into(),
        (_, namespace) => format!(" in namespace {namespace}"),
    };
    format!("it may not {} {resource}{place}, which it needs to {purpose}", denied.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    /// Verbs by group, resource and the one name that they are limited to.
    type Table = BTreeMap<(String, String, Option<String>), BTreeSet<String>>;

    fn role(file: &str, name: &str) -> Table {
        let path = format!("{}/config/rbac/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let documents: Vec<Value> =
            text.split("\n---\n").map(|part| serde_saphyr::from_str(part).unwrap()).collect();
        let role = documents.iter().find(|role| role["metadata"]["name"] == name && role["rules"].is_array());
        let words = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        let mut table = Table::new();
        for rule in role.unwrap()["rules"].as_array().unwrap() {
            let one = rule["resourceNames"][0].as_str().map(str::to_owned);
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    table
                        .entry((group.clone(), resource, one.clone()))
                        .or_default()
                        .extend(words(&rule["verbs"]));
                }
            }
        }
        table
    }

    fn asked(place: Place) -> Table {
        let mut table = Table::new();
        for right in RIGHTS.iter().filter(|right| right.place == place) {
            let verbs = right.verbs.iter().map(|verb| (*verb).to_owned());
            table
                .entry((right.group.into(), right.resource.into(), right.name.map(str::to_owned)))
                .or_default()
                .extend(verbs);
        }
        table
    }

    #[test]
    fn the_roles_give_what_is_asked_for_and_nothing_else() {
        let mut given: BTreeMap<Place, Table> = BTreeMap::new();
        for (place, file, name) in [
            (Place::Clusters, "roles/clusters.yaml", "kes-operator"),
            (Place::Tenants, "roles/tenants.yaml", "kes-operator-tenants"),
            (Place::Lease, "account/leader_election.yaml", "kes-operator-leader-election"),
            (Place::Everywhere, "account/storage_classes.yaml", "kes-operator-storage-classes"),
            (Place::Everywhere, "account/tenant_definition.yaml", "kes-operator-tenant-definition"),
        ] {
            given.entry(place).or_default().extend(role(file, name));
        }
        for (place, table) in given {
            assert_eq!(table, asked(place), "{place:?}");
        }
    }

    #[tokio::test]
    async fn where_no_answer_comes_nothing_more_is_asked() {
        let (service, mut handle) =
            tower_test::mock::pair::<http::Request<kube::client::Body>, http::Response<kube::client::Body>>();
        let away = Unreachable { address: "https://kubernetes".into(), cause: "nobody is there".into() };
        let error = away.clone();
        let asked = tokio::spawn(async move {
            let mut asked = 0;
            while let Some((_, send)) = handle.next_request().await {
                asked += 1;
                send.send_error(error.clone());
            }
            asked
        });
        assert_eq!(probe(&Client::new(service, "keys"), &[], "ops").await, Err(away));
        let asked = asked.await.unwrap();
        assert!((1..=AT_ONCE).contains(&asked), "{asked} questions");
    }

    #[test]
    fn a_missing_right_is_a_sentence_with_its_purpose() {
        let right = RIGHTS.iter().find(|right| right.resource == "leases").unwrap();
        assert_eq!(
            sentence(right, &["create", "update"], "ops"),
            "it may not create, update leases.coordination.k8s.io in namespace ops, which it needs to act alone"
        );
    }
}
