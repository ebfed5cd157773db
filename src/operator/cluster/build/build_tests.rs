//! Snapshots of everything that is built.

use super::{super::validate::fixture, *};
use crate::{
    crd::{self, DeletionPolicy, PodOverrides},
    operator::cluster::wanted::Tls,
};

fn admin() -> Identity {
    Identity::new(&"a1".repeat(32)).unwrap()
}

/// Nothing depends on it, so everything is owned.
fn wanted() -> Wanted {
    let mut wanted = fixture::wanted();
    wanted.guarded = false;
    wanted
}

fn build_with(wanted: &Wanted, admin: &Identity, apis: Apis) -> Objects {
    build(wanted, &Basis { system_admin: admin, storage: &wanted.storage, apis, operator_namespace: "ops" })
}

#[test]
fn the_whole_set_is_as_recorded() {
    let wanted = wanted();
    let Objects {
        service_account,
        config_map,
        headless_service,
        service,
        network_policy,
        disruption_budget,
        stateful_set,
        optional,
    } = build_with(&wanted, &admin(), Apis::default());
    insta::assert_yaml_snapshot!("service_account", service_account);
    insta::assert_yaml_snapshot!("config_map", config_map);
    insta::assert_yaml_snapshot!("headless_service", headless_service);
    insta::assert_yaml_snapshot!("service", service);
    insta::assert_yaml_snapshot!("network_policy", network_policy);
    insta::assert_yaml_snapshot!("stateful_set", stateful_set);
    assert!(disruption_budget.is_none(), "a single member has none");
    assert!(optional.is_empty(), "the API server knows nothing of that kind");
}

#[test]
fn what_several_members_and_other_operators_need_is_as_recorded() {
    let mut wanted = wanted();
    wanted.replicas = 3;
    wanted.monitoring.labels = [("release".to_owned(), "prometheus".to_owned())].into();
    wanted.network.from =
        serde_saphyr::from_str("[{namespaceSelector: {matchLabels: {team: apps}}}]").unwrap();
    wanted.tls = super::super::wanted::Tls::Issuer {
        issuer: serde_saphyr::from_str("{name: company, kind: ClusterIssuer}").unwrap(),
        secret: "vault-issued-tls".into(),
    };
    let objects = build_with(&wanted, &admin(), Apis { monitoring: true, cert_manager: true });
    insta::assert_yaml_snapshot!("disruption_budget", objects.disruption_budget);
    insta::assert_yaml_snapshot!("network_policy_with_peers", objects.network_policy);
    let optional: Vec<_> = objects.optional.into_iter().map(|optional| optional.object).collect();
    insta::assert_yaml_snapshot!("optional", optional);
    wanted.monitoring.enabled = false;
    wanted.network.enabled = false;
    let objects = build_with(&wanted, &admin(), Apis { monitoring: true, cert_manager: false });
    assert!(objects.network_policy.is_none());
    assert!(objects.optional.iter().all(|optional| optional.object.is_none()), "they are taken away");
}

#[test]
fn pod_overrides_reach_the_pod() {
    let mut wanted = wanted();
    wanted.pod = serde_saphyr::from_str::<PodOverrides>(
        "{nodeSelector: {disk: ssd}, annotations: {team: storage}, priorityClassName: high,
          resources: {limits: {memory: 1Gi}}, tolerations: [{key: dedicated, operator: Exists}],
          affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone}]}},
          topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]}",
    )
    .unwrap();
    wanted.storage.storage_class_name = Some("fast".into());
    wanted.seal.secret = "mine".into();
    insta::assert_yaml_snapshot!(
        "stateful_set_with_overrides",
        build_with(&wanted, &admin(), Apis::default()).stateful_set
    );
}

/// Everything of a spec, and whether pods that run have to be replaced for a change of it: what only a new container can take
/// up. Without `..`, so that a new field has to be decided about.
#[test]
fn only_what_a_running_server_cannot_take_up_replaces_pods() {
    type Change = fn(&mut Wanted);
    let crd::KesClusterSpec {
        replicas: _,
        image: _,
        image_pull_policy: _,
        storage: _,
        deletion_policy: _,
        seal: _,
        enclaves: _,
        tenants: _,
        tenant_selector: _,
        tls: _,
        network_policy: _,
        monitoring: _,
        paused: _,
        pod: _,
    } = fixture::cluster().spec;
    let changes: [(&str, bool, Change); 15] = [
        ("replicas", false, |w| w.replicas = 3),
        ("storage", false, |w| w.storage.size = "5Gi".into()),
        ("deletionPolicy", false, |w| w.deletion = DeletionPolicy::Delete),
        ("enclaves", false, |w| w.enclaves[0].keys.clear()),
        ("enclaves: identities", false, |w| w.enclaves[0].identities.clear()),
        ("tenants", false, |w| w.tenants.clear()),
        ("tenantSelector", false, |w| w.guarded = true),
        ("tls: own", false, |w| w.tls = Tls::Own { validity: std::time::Duration::from_secs(86_400) }),
        ("tls: yours", false, |w| w.tls = Tls::Secret { name: "mine".into() }),
        ("networkPolicy", false, |w| w.network.enabled = false),
        ("monitoring", false, |w| w.monitoring.enabled = false),
        ("image", true, |w| w.image = "localhost/kes:next".into()),
        ("imagePullPolicy", true, |w| w.pull_policy = crd::ImagePullPolicy::Always),
        // cannot be changed once there is a cluster
        ("seal", true, |w| w.seal.secret = "mine".into()),
        ("pod", true, |w| w.pod.priority_class_name = Some("high".into())),
    ];
    let template = |wanted: &Wanted| {
        let apis = Apis { monitoring: true, cert_manager: true };
        build_with(wanted, &admin(), apis).stateful_set.spec.unwrap().template
    };
    let before = template(&wanted());
    for (what, replaces, change) in changes {
        let mut wanted = wanted();
        change(&mut wanted);
        assert_eq!(template(&wanted) != before, replaces, "{what}");
    }
}

#[test]
fn the_configuration_decides_when_pods_are_replaced() {
    let wanted = wanted();
    let template =
        |admin: &Identity| build_with(&wanted, admin, Apis::default()).stateful_set.spec.unwrap().template;
    assert_eq!(template(&admin()), template(&admin()));
    assert_ne!(template(&admin()), template(&Identity::new("other").unwrap()));
}

#[test]
fn under_retain_a_secret_outlives_the_cluster() {
    use super::super::purpose::Purpose;
    let mut wanted = wanted();
    let owners = |wanted: &Wanted, purpose: &Purpose| {
        let secret = secret::secret(wanted, purpose, BTreeMap::default());
        secret.metadata.owner_references.unwrap_or_default().len()
    };
    assert_eq!(owners(&wanted, &Purpose::Seal), 0);
    assert_eq!(owners(&wanted, &Purpose::SystemAdmin), 0);
    assert_eq!(owners(&wanted, &Purpose::ServerCertificate), 1);
    wanted.deletion = DeletionPolicy::Delete;
    assert_eq!(owners(&wanted, &Purpose::Seal), 1);
}

#[test]
fn while_tenants_depend_on_it_nothing_is_collected_with_the_cluster() {
    use super::super::purpose::Purpose;
    let mut wanted = wanted();
    wanted.guarded = true;
    wanted.deletion = DeletionPolicy::Delete;
    let objects = build_with(&wanted, &admin(), Apis { monitoring: true, cert_manager: false });
    assert_eq!(objects.stateful_set.metadata.owner_references, None);
    assert_eq!(objects.service.metadata.owner_references, None);
    assert_eq!(objects.network_policy.unwrap().metadata.owner_references, None);
    let secret = secret::secret(&wanted, &Purpose::ServerCertificate, BTreeMap::default());
    assert_eq!(secret.metadata.owner_references.unwrap_or_default(), []);
}
