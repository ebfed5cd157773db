//! build: makes every object that belongs to a cluster. Pure; one file per Kubernetes kind.

pub(crate) mod config_map;
pub(crate) mod secret;
mod service;
mod service_account;
mod stateful_set;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Service, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::validate::Wanted;
use crate::{api::Identity, crd::Storage, operator::names};

/// What is built besides the Secrets, which are made once and never rebuilt.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    pub(crate) service_account: ServiceAccount,
    pub(crate) config_map: ConfigMap,
    pub(crate) headless_service: Service,
    pub(crate) service: Service,
    pub(crate) stateful_set: StatefulSet,
}

/// Builds all of them. `storage` is what the volumes have or get, which may differ from what the spec asks for.
pub(crate) fn build(wanted: &Wanted, system_admin: &Identity, storage: &Storage) -> Objects {
    let config = config_map::server_config(system_admin);
    Objects {
        service_account: service_account::service_account(wanted),
        config_map: config_map::config_map(wanted, &config),
        headless_service: service::headless(wanted),
        service: service::client(wanted),
        stateful_set: stateful_set::stateful_set(wanted, &config, storage),
    }
}

/// Metadata of an object that lives and dies with the `KesCluster`.
fn metadata(wanted: &Wanted, name: String, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(wanted.namespace.clone()),
        labels: Some(names::labels(&wanted.name, component)),
        owner_references: Some(vec![wanted.owner.clone()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::validate::fixture::wanted, *};
    use crate::crd::{DeletionPolicy, PodOverrides};

    fn admin() -> Identity {
        Identity::new(&"a1".repeat(32)).unwrap()
    }

    #[test]
    fn the_whole_set_is_as_recorded() {
        let wanted = wanted();
        let Objects { service_account, config_map, headless_service, service, stateful_set } =
            build(&wanted, &admin(), &wanted.storage);
        insta::assert_yaml_snapshot!("service_account", service_account);
        insta::assert_yaml_snapshot!("config_map", config_map);
        insta::assert_yaml_snapshot!("headless_service", headless_service);
        insta::assert_yaml_snapshot!("service", service);
        insta::assert_yaml_snapshot!("stateful_set", stateful_set);
    }

    #[test]
    fn pod_overrides_reach_the_pod() {
        let mut wanted = wanted();
        wanted.pod = serde_saphyr::from_str::<PodOverrides>(
            "{nodeSelector: {disk: ssd}, annotations: {team: storage}, priorityClassName: high,
              resources: {limits: {memory: 1Gi}}, tolerations: [{key: dedicated, operator: Exists}]}",
        )
        .unwrap();
        wanted.storage.storage_class_name = Some("fast".into());
        wanted.seal.secret = "mine".into();
        insta::assert_yaml_snapshot!(
            "stateful_set_with_overrides",
            build(&wanted, &admin(), &wanted.storage).stateful_set
        );
    }

    #[test]
    fn the_configuration_decides_when_pods_are_replaced() {
        let wanted = wanted();
        let template =
            |admin: &Identity| build(&wanted, admin, &wanted.storage).stateful_set.spec.unwrap().template;
        assert_eq!(template(&admin()), template(&admin()));
        assert_ne!(template(&admin()), template(&Identity::new("other").unwrap()));
    }

    #[test]
    fn under_retain_a_secret_outlives_the_cluster() {
        use super::super::purpose::Purpose;
        let mut wanted = wanted();
        let owners = |wanted: &Wanted, purpose: &Purpose| {
            secret::secret(wanted, purpose, Default::default())
                .metadata
                .owner_references
                .unwrap_or_default()
                .len()
        };
        assert_eq!(owners(&wanted, &Purpose::Seal), 0);
        assert_eq!(owners(&wanted, &Purpose::SystemAdmin), 0);
        assert_eq!(owners(&wanted, &Purpose::ServerCertificate), 1);
        wanted.deletion = DeletionPolicy::Delete;
        assert_eq!(owners(&wanted, &Purpose::Seal), 1);
    }
}
