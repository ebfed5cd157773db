//! Tables for a tenant that left the spec.

use serde_json::{Value, json};

use super::*;
use crate::crd::MountKind;

const SECRET: &str = "kes-client-vault";

fn injected(mount: MountKind) -> Injected {
    let path = match mount {
        MountKind::ClientCertSecrets => "/tmp/certs/client-0",
        MountKind::AdditionalVolumes => "/etc/kes-client",
    };
    serde_json::from_value(
        json!({"endpoint": "https://vault.keys.svc:7373", "keyName": "k", "mount": mount, "path": path,
        "patchedAt": "2026-11-25T10:00:30Z", "restarted": true}),
    )
    .unwrap()
}

/// A Tenant with the user's entries around ours.
fn wired(mount: MountKind) -> Value {
    let mut env = vec![json!({"name": "THEIRS", "value": "1"})];
    env.extend(
        patch::variables(&injected(mount))
            .into_iter()
            .map(|(name, value)| json!({"name": name, "value": value})),
    );
    let mut spec = json!({"env": env});
    match mount {
        MountKind::ClientCertSecrets => {
            spec["externalClientCertSecrets"] = json!([{"name": SECRET, "type": "cert-manager.io/v1"}]);
        }
        MountKind::AdditionalVolumes => {
            spec["additionalVolumes"] =
                json!([{"name": "theirs"}, {"name": "kes-client", "secret": {"secretName": SECRET}}]);
            spec["additionalVolumeMounts"] = json!([{"name": "theirs"}, {"name": "kes-client"}]);
        }
    }
    spec
}

fn seen(spec: &Value) -> Seen {
    let tenant = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant", "spec": spec,
        "metadata": {"name": "myminio", "namespace": "team", "uid": "u"}});
    Seen { installed: true, tenant: serde_json::from_value(tenant).unwrap(), ..Seen::default() }
}

fn status(phase: TenantPhase, mount: MountKind) -> TenantStatus {
    let mut status: TenantStatus = serde_json::from_value(json!({"namespace": "team", "name": "myminio",
        "phase": "Verified", "reason": "", "message": "", "since": "2026-11-25T10:00:00Z", "uid": "u"}))
    .unwrap();
    status.phase = phase;
    status.injected = Some(injected(mount));
    status
}

fn pod(second: u32, mounted: bool) -> Pod {
    let volumes = if mounted { json!([{"name": "v", "secret": {"secretName": SECRET}}]) } else { json!([]) };
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "p",
            "creationTimestamp": format!("2026-11-25T10:00:{second:02}Z")},
        "spec": {"containers": [], "volumes": volumes},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))
    .unwrap()
}

fn summary(step: Step) -> String {
    match step {
        Step::Forget => "forget".into(),
        Step::Hold(phase, rule, _) => format!("{phase} {}", rule.reason()),
        Step::Patch(fields, _) => format!("patch {}", fields.keys().cloned().collect::<Vec<_>>().join(",")),
        Step::Restart(pods, _) => format!("restart {}", pods.len()),
    }
}

#[test]
fn a_wired_tenant_is_left_alone_until_its_removal_is_asked_for() {
    for (mount, fields) in [
        (MountKind::ClientCertSecrets, "patch env,externalClientCertSecrets"),
        (MountKind::AdditionalVolumes, "patch additionalVolumeMounts,additionalVolumes,env"),
    ] {
        let seen = seen(&wired(mount));
        let before = status(TenantPhase::Verified, mount);
        assert_eq!(summary(plan(&seen, SECRET, &before, false)), "Orphaned LeftWired");
        assert_eq!(summary(plan(&seen, SECRET, &before, true)), fields);
        assert!(depends(seen.tenant.as_ref(), &before, SECRET));
    }
}

#[test]
fn only_what_is_ours_by_name_and_value_is_taken_out() {
    let seen = seen(&wired(MountKind::AdditionalVolumes));
    let before = status(TenantPhase::Verified, MountKind::AdditionalVolumes);
    let Step::Patch(fields, _) = plan(&seen, SECRET, &before, true) else { panic!() };
    assert_eq!(fields["env"], json!([{"name": "THEIRS", "value": "1"}]));
    assert_eq!(fields["additionalVolumes"], json!([{"name": "theirs"}]));
    assert_eq!(fields["additionalVolumeMounts"], json!([{"name": "theirs"}]));
}

#[test]
fn a_slot_with_others_behind_it_stays_and_the_variables_go() {
    let mount = MountKind::ClientCertSecrets;
    let mut spec = wired(mount);
    spec["externalClientCertSecrets"].as_array_mut().unwrap().push(json!({"name": "kafka"}));
    let Step::Patch(fields, _) = plan(&seen(&spec), SECRET, &status(TenantPhase::Verified, mount), true)
    else {
        panic!()
    };
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["env"]);
    // afterwards the slot alone neither makes it depend nor keeps it from being done
    spec["env"] = json!([]);
    let mut later = seen(&spec);
    later.pods = vec![pod(40, true)];
    let before = status(TenantPhase::Unwiring, mount);
    assert!(!depends(later.tenant.as_ref(), &before, SECRET));
    assert_eq!(summary(plan(&later, SECRET, &before, true)), "forget");
}

#[test]
fn minio_that_would_not_start_without_a_key_service_is_not_unwired() {
    let mount = MountKind::ClientCertSecrets;
    let mut spec = wired(mount);
    spec["env"].as_array_mut().unwrap().push(json!({"name": "MINIO_KMS_AUTO_ENCRYPTION", "value": "on"}));
    let before = status(TenantPhase::Verified, mount);
    assert_eq!(summary(plan(&seen(&spec), SECRET, &before, true)), "Orphaned AutoEncryptionOn");
    let mut in_secret = seen(&wired(mount));
    in_secret.config_env = Some("export MINIO_KMS_AUTO_ENCRYPTION=\"on\"".into());
    assert_eq!(summary(plan(&in_secret, SECRET, &before, true)), "Orphaned AutoEncryptionOn");
}

#[test]
fn after_the_patch_all_stale_pods_go_together_and_then_it_is_forgotten() {
    let mount = MountKind::ClientCertSecrets;
    let before = status(TenantPhase::Unwiring, mount);
    let mut seen = seen(&json!({"env": []}));
    seen.pods = vec![pod(0, true), pod(1, true)];
    seen.stateful_sets = vec![
        serde_json::from_value(json!({"metadata": {"name": "pool"}, "spec": {"replicas": 2, "selector": {}, "serviceName": "s",
            "template": {"spec": {"containers": [], "volumes": [{"name": "v", "secret": {"secretName": SECRET}}]}}}}))
        .unwrap(),
    ];
    assert_eq!(summary(plan(&seen, SECRET, &before, true)), "Unwiring WaitingForRemoval");
    let template = &mut seen.stateful_sets[0].spec.as_mut().unwrap().template;
    template.spec.as_mut().unwrap().volumes = None;
    assert_eq!(summary(plan(&seen, SECRET, &before, true)), "restart 2");
    seen.pods = vec![pod(40, false)];
    assert_eq!(summary(plan(&seen, SECRET, &before, true)), "Unwiring WaitingForPods");
    seen.pods.push(pod(41, false));
    assert_eq!(summary(plan(&seen, SECRET, &before, true)), "forget");
}

#[test]
fn what_somebody_else_took_out_is_forgotten_when_no_pod_runs_with_it() {
    let mount = MountKind::ClientCertSecrets;
    let before = status(TenantPhase::Verified, mount);
    let mut seen = seen(&json!({}));
    seen.pods = vec![pod(0, true)];
    assert_eq!(summary(plan(&seen, SECRET, &before, false)), "Orphaned PodsStillUse");
    seen.pods = vec![pod(40, false)];
    assert_eq!(summary(plan(&seen, SECRET, &before, false)), "forget");
    // nobody asked for its removal, so the key service is not deleted before a pass has looked at its pods
    assert!(depends(seen.tenant.as_ref(), &before, SECRET));
}

#[test]
fn a_tenant_that_is_gone_or_another_one_depends_on_nothing() {
    let mount = MountKind::ClientCertSecrets;
    let before = status(TenantPhase::Verified, mount);
    assert_eq!(summary(plan(&Seen::default(), SECRET, &before, false)), "forget");
    let mut other = seen(&wired(mount));
    other.tenant.as_mut().unwrap().metadata.uid = Some("another".into());
    assert_eq!(summary(plan(&other, SECRET, &before, false)), "forget");
    assert!(!depends(other.tenant.as_ref(), &before, SECRET));
    assert!(!depends(None, &before, SECRET));
}

#[test]
fn what_minio_would_not_start_with_is_never_left_behind() {
    let mount = MountKind::AdditionalVolumes;
    let before = status(TenantPhase::Verified, mount);
    let mut spec = wired(mount);
    // somebody changed one of ours, so it is not ours any more
    let env = spec["env"].as_array_mut().unwrap();
    env.iter_mut().find(|entry| entry["name"] == "MINIO_KMS_KES_KEY_NAME").unwrap()["value"] =
        "another".into();
    assert_eq!(summary(plan(&seen(&spec), SECRET, &before, true)), "Orphaned ForeignKms");
    let mut shadowed = seen(&wired(mount));
    shadowed.config_env = Some("export MINIO_KMS_KES_ENDPOINT=\"https://other\"\n".into());
    assert_eq!(summary(plan(&shadowed, SECRET, &before, true)), "Orphaned ForeignKms");
}

#[test]
fn without_consent_nothing_is_taken_out_either() {
    let mount = MountKind::AdditionalVolumes;
    let mut seen = seen(&wired(mount));
    seen.consent =
        crate::operator::tenant::observe::Consent::Missing { from: "keys".into(), namespace: "team".into() };
    let before = status(TenantPhase::Verified, mount);
    assert_eq!(summary(plan(&seen, SECRET, &before, true)), "Orphaned NotAllowed");
    // taken back in the middle: pods go on as they are
    let mut seen = self::seen(&json!({"env": []}));
    seen.pods = vec![pod(20, false)];
    let before = status(TenantPhase::Unwiring, mount);
    assert_eq!(summary(plan(&seen, SECRET, &before, true)), "restart 1");
    seen.consent =
        crate::operator::tenant::observe::Consent::Missing { from: "keys".into(), namespace: "team".into() };
    assert_eq!(summary(plan(&seen, SECRET, &before, true)), "Unwiring NotAllowed");
}
