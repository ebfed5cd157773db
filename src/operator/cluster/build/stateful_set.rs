//! The members: a StatefulSet with a volume each, under the restricted Pod Security Standard.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec},
        core::v1::{
            Capabilities, ConfigMapProjection, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
            KeyToPath, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext, PodSpec,
            PodTemplateSpec, Probe, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
            SecretKeySelector, SecretProjection, SecurityContext, TopologySpreadConstraint, Volume,
            VolumeMount, VolumeProjection, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    super::wanted::Wanted,
    config_map::{DIRECTORY, FILE},
};
use crate::{
    api::{API_PORT, HEALTH_PORT, PEER_PORT},
    crd::{PodOverrides, Storage},
    operator::names,
};

/// Name of the volume; claims are called `data-<pod>`.
const VOLUME: &str = "data";
const VOLUME_DIRECTORY: &str = "/var/lib/kes";
/// Below the mount point, because a fresh file system has a `lost+found` there.
const DATA_DIRECTORY: &str = "/var/lib/kes/data";
/// Non-root user and group of the image.
const USER: i64 = 65_532;

/// Builds it. `Parallel`, because a member may become ready only when others are there.
pub(super) fn stateful_set(wanted: &Wanted, config: &str, storage: &Storage) -> StatefulSet {
    StatefulSet {
        metadata: super::metadata(wanted, wanted.name.clone(), "server"),
        spec: Some(StatefulSetSpec {
            replicas: Some(wanted.replicas),
            service_name: Some(names::headless_service(&wanted.name)),
            pod_management_policy: Some("Parallel".into()),
            selector: LabelSelector {
                match_labels: Some(names::selector_labels(&wanted.name)),
                ..LabelSelector::default()
            },
            // always Retain: a StatefulSet that is deleted by mistake must not take the keys with it; claims that
            // shall go with the KesCluster are owned by the KesCluster
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".into()),
                when_scaled: Some("Retain".into()),
            }),
            template: template(wanted, config),
            volume_claim_templates: Some(vec![claim(wanted, storage)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn template(wanted: &Wanted, config: &str) -> PodTemplateSpec {
    let PodOverrides {
        resources,
        node_selector,
        tolerations,
        affinity,
        topology_spread_constraints,
        annotations,
        priority_class_name,
    } = &wanted.pod;
    let mut annotations = annotations.clone();
    annotations.insert(names::CONFIG_ANNOTATION.into(), names::digest(config.as_bytes())[..16].into());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(names::labels(&wanted.name, "server")),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(wanted.name.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            node_selector: (!node_selector.is_empty()).then(|| node_selector.clone()),
            tolerations: (!tolerations.is_empty()).then(|| tolerations.clone()),
            affinity: affinity.clone(),
            topology_spread_constraints: Some(
                topology_spread_constraints.clone().unwrap_or_else(|| vec![spread(wanted)]),
            ),
            priority_class_name: priority_class_name.clone(),
            termination_grace_period_seconds: Some(30),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                fs_group_change_policy: Some("OnRootMismatch".into()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![container(wanted, resources.clone())],
            volumes: Some(vec![configuration(wanted)]),
            ..PodSpec::default()
        }),
    }
}

/// Members on different nodes, as far as there are enough.
fn spread(wanted: &Wanted) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some(names::selector_labels(&wanted.name)),
            match_expressions: None,
        }),
        ..TopologySpreadConstraint::default()
    }
}

fn container(wanted: &Wanted, resources: Option<ResourceRequirements>) -> Container {
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.into()),
        container_port: number.into(),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    let mount = |name: &str, path: &str, read_only: Option<bool>| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only,
        ..VolumeMount::default()
    };
    Container {
        name: "kes".into(),
        image: Some(wanted.image.clone()),
        image_pull_policy: Some(wanted.pull_policy.as_str().into()),
        args: Some(
            ["server", "--config", &format!("{DIRECTORY}/{FILE}"), DATA_DIRECTORY].map(str::to_owned).into(),
        ),
        env: Some(vec![EnvVar {
            name: "KES_UNSEAL_KEY".into(),
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: wanted.seal.secret.clone(),
                    key: wanted.seal.key.clone(),
                    optional: None,
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        ports: Some(vec![port("api", API_PORT), port("peer", PEER_PORT), port("health", HEALTH_PORT)]),
        // one second: what a client sees after a restart is this plus the start
        readiness_probe: Some(probe("/readyz", 1, 3)),
        // slow and patient: a restart helps little and costs availability
        liveness_probe: Some(probe("/livez", 10, 6)),
        resources: Some(resources.unwrap_or_else(default_resources)),
        // the last lines of a server that refuses to start say why; the status shows them
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            mount(VOLUME, VOLUME_DIRECTORY, None),
            mount("configuration", DIRECTORY, Some(true)),
        ]),
        ..Container::default()
    }
}

/// Configuration and certificates in one projected volume, since a mount inside a read-only mount is not possible.
fn configuration(wanted: &Wanted) -> Volume {
    let item = |key: &str, path: &str| KeyToPath { key: key.into(), path: path.into(), mode: None };
    Volume {
        name: "configuration".into(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some(vec![
                VolumeProjection {
                    config_map: Some(ConfigMapProjection {
                        name: names::config_map(&wanted.name),
                        items: Some(vec![item(FILE, FILE)]),
                        optional: None,
                    }),
                    ..VolumeProjection::default()
                },
                VolumeProjection {
                    secret: Some(SecretProjection {
                        name: names::server_secret(&wanted.name),
                        items: Some(
                            ["tls.crt", "tls.key", "ca.crt"]
                                .map(|key| item(key, &format!("tls/{key}")))
                                .into(),
                        ),
                        optional: None,
                    }),
                    ..VolumeProjection::default()
                },
            ]),
        }),
        ..Volume::default()
    }
}

fn claim(wanted: &Wanted, storage: &Storage) -> PersistentVolumeClaim {
    let Storage { size, storage_class_name } = storage;
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(VOLUME.into()),
            labels: Some(names::selector_labels(&wanted.name)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(size.clone()))])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("health".into()),
            scheme: Some("HTTP".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Requests without limits: a throttled or killed key service makes storage wait.
fn default_resources() -> ResourceRequirements {
    let requests =
        [("cpu", "50m"), ("memory", "64Mi")].map(|(name, value)| (name.to_owned(), Quantity(value.into())));
    ResourceRequirements { requests: Some(requests.into()), ..ResourceRequirements::default() }
}
