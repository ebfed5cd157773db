//! Tables for the steps of a tenant's wiring.

use kube::api::DynamicObject;
use serde_json::json;

use super::*;
use crate::crd::Mount;

const SECRET: &str = "kes-client-vault";
const AUTOMATIC: Terms =
    Terms { restart: RestartPolicy::Automatic, mode: Mode::Patch, approved: false, serving_since: None };
const MANUAL: Terms = Terms { restart: RestartPolicy::Manual, ..AUTOMATIC };

fn wish() -> Wish {
    Wish {
        secret: SECRET.into(),
        endpoint: "https://vault.keys.svc.cluster.local:7373".into(),
        key_name: "minio-default-key".into(),
        mount: Mount::Auto,
    }
}

fn tenant(spec: Value) -> DynamicObject {
    serde_json::from_value(json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant", "spec": spec,
        "metadata": {"name": "myminio", "namespace": "tenant-lite", "uid": "u", "resourceVersion": "7"}}))
    .unwrap()
}

fn volumes(wired: bool) -> Value {
    if wired {
        json!([{"name": "tls", "projected": {"sources": [{"secret": {"name": SECRET}}]}}])
    } else {
        json!([])
    }
}

fn set(wired: bool, replicas: i64) -> StatefulSet {
    serde_json::from_value(json!({"metadata": {"name": "myminio-pool-0", "generation": 2},
        "spec": {"replicas": replicas, "selector": {}, "serviceName": "x",
            "template": {"spec": {"containers": [], "volumes": volumes(wired)}}},
        "status": {"replicas": replicas, "observedGeneration": 2, "updatedReplicas": replicas}}))
    .unwrap()
}

/// A pod created at `second` past the minute.
fn pod(index: usize, wired: bool, second: u32, ready: bool) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": format!("myminio-pool-0-{index}"), "uid": format!("p{index}"),
            "creationTimestamp": format!("2026-11-23T10:00:{second:02}Z")},
        "spec": {"containers": [], "volumes": volumes(wired)},
        "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}}),
    )
    .unwrap()
}

/// A Tenant that was patched at second 30.
fn patched() -> (Seen, TenantStatus) {
    let bare = tenant(json!({"env": [{"name": "A", "value": "1"}]}));
    let Ok(Change::Write(fields, injected)) = patch::change(&bare.data, None, &wish(), None) else {
        panic!()
    };
    let mut spec = bare.data["spec"].clone();
    for (field, value) in fields {
        spec[field] = value;
    }
    let injected = Injected {
        patched_at: Some(serde_json::from_value(json!("2026-11-23T10:00:30Z")).unwrap()),
        ..injected
    };
    let before = TenantStatus {
        namespace: "tenant-lite".into(),
        name: "myminio".into(),
        phase: TenantPhase::Patched,
        reason: String::new(),
        message: String::new(),
        since: serde_json::from_value(json!("2026-11-23T10:00:30Z")).unwrap(),
        uid: Some("u".into()),
        injected: Some(injected),
        snippet: None,
    };
    let seen = Seen { installed: true, tenant: Some(tenant(spec)), ..Seen::default() };
    (seen, before)
}

fn summary(step: &Step) -> String {
    match step {
        Step::Hold(phase, rule, _) => format!("{phase} {}", rule.reason()),
        Step::ProveAndTell(rule, _) => format!("tell {}", rule.reason()),
        Step::ProveAndPatch(fields, _) => {
            format!("patch {}", fields.keys().cloned().collect::<Vec<_>>().join(","))
        }
        Step::ProveAndRestart(pods, _) => {
            format!("restart {}", pods.iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>().join(","))
        }
        Step::ProveAndHurry(pods, _) => {
            format!("hurry {}", pods.iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>().join(","))
        }
        Step::Verify(pods, _) => format!("verify {}", pods.len()),
    }
}

fn now() -> Timestamp {
    "2026-11-23T10:05:00Z".parse().unwrap()
}

fn next(seen: &Seen, before: Option<&TenantStatus>) -> String {
    summary(&plan(seen, &wish(), AUTOMATIC, before, Ok(()), now()))
}

#[test]
fn nothing_is_done_before_the_tenant_is_there() {
    let mut seen = Seen::default();
    assert_eq!(next(&seen, None), "Pending TenantApiMissing");
    seen.installed = true;
    assert_eq!(next(&seen, None), "Pending TenantMissing");
    // nobody there has agreed: then not even this is told
    let elsewhere = Consent::Missing { from: "keys".into(), namespace: "tenant-lite".into() };
    let hidden = Seen { installed: true, consent: elsewhere, ..Seen::default() };
    assert_eq!(next(&hidden, None), "Pending NotAllowed");
    let mut going = tenant(json!({}));
    going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-23T10:00:30Z")).unwrap();
    seen.tenant = Some(going);
    assert_eq!(next(&seen, None), "Pending TenantDeleting");
    assert_eq!(is_possible("other").unwrap_err().reason(), "EnclaveUnsupported");
}

#[test]
fn a_tenant_is_patched_once_and_only_while_the_key_service_serves() {
    let mut seen = Seen { installed: true, tenant: Some(tenant(json!({}))), ..Seen::default() };
    assert_eq!(next(&seen, None), "patch env,externalClientCertSecrets");
    let away = plan(&seen, &wish(), AUTOMATIC, None, Err("away".into()), now());
    assert_eq!(summary(&away), "Pending KeyServiceNotReady");
    seen.pods = vec![pod(0, false, 0, true), pod(1, false, 0, false)];
    assert_eq!(next(&seen, None), "Prepared TenantNotReady");
    seen.pods = vec![pod(0, false, 0, false), pod(1, false, 0, false)];
    assert_eq!(
        next(&seen, None),
        "patch env,externalClientCertSecrets",
        "where all are down nothing is lost"
    );
}

#[test]
fn a_conflict_patches_nothing() {
    let seen = Seen { installed: true, tenant: Some(tenant(json!({"kes": {}}))), ..Seen::default() };
    assert_eq!(next(&seen, None), "Conflict BuiltInKes");
}

#[test]
fn pods_are_restarted_together_once_the_template_is_there() {
    let (mut seen, before) = patched();
    assert_eq!(next(&seen, Some(&before)), "Patched WaitingForTemplate");
    seen.stateful_sets = vec![set(false, 2)];
    seen.pods = vec![pod(0, false, 0, true), pod(1, false, 0, true)];
    assert_eq!(next(&seen, Some(&before)), "Patched WaitingForTemplate");
    seen.stateful_sets = vec![set(true, 2)];
    assert_eq!(next(&seen, Some(&before)), "restart p0,p1");
    let manual = plan(&seen, &wish(), MANUAL, Some(&before), Ok(()), now());
    assert_eq!(summary(&manual), "Patched RestartPending");
    let away = plan(&seen, &wish(), AUTOMATIC, Some(&before), Err("away".into()), now());
    assert_eq!(summary(&away), "Patched KeyServiceNotReady");

    // the rolling update was faster with one of them
    seen.pods = vec![pod(0, false, 0, true), pod(1, true, 40, false)];
    assert_eq!(next(&seen, Some(&before)), "restart p0");
    // mounted before, but older than the environment
    seen.pods = vec![pod(0, true, 30, true), pod(1, true, 31, true)];
    assert_eq!(next(&seen, Some(&before)), "restart p0");
    seen.pods = vec![pod(0, false, 0, true), pod(1, false, 0, false)];
    assert_eq!(next(&seen, Some(&before)), "Blocked TenantNotReady");
}

#[test]
fn a_tenant_is_verified_when_all_pods_are_new_ready_and_updated() {
    let (mut seen, mut before) = patched();
    seen.stateful_sets = vec![set(true, 2)];
    seen.pods = vec![pod(0, true, 40, true)];
    assert_eq!(next(&seen, Some(&before)), "Restarting WaitingForPods");
    seen.pods.push(pod(1, true, 40, false));
    assert_eq!(next(&seen, Some(&before)), "Restarting WaitingForPods");
    seen.pods[1] = pod(1, true, 40, true);
    assert_eq!(next(&seen, Some(&before)), "verify 2");
    before.phase = TenantPhase::Verified;
    let injected = before.injected.as_mut().unwrap();
    (injected.restarted, injected.verified_pods) = (true, Some(2));
    let said = |seen: &Seen, before: &TenantStatus| match plan(
        seen,
        &wish(),
        AUTOMATIC,
        Some(before),
        Ok(()),
        now(),
    ) {
        Step::Hold(TenantPhase::Verified, rule, _) => rule.to_string(),
        step => panic!("{}", summary(&step)),
    };
    assert_eq!(said(&seen, &before), "all 2 pods started with the key service and can encrypt");
    // a later restart of MinIO changes nothing about that, but it is not hidden
    seen.pods.pop();
    let text = said(&seen, &before);
    assert_eq!(text, "all 2 pods started with the key service and could encrypt; 1 of them are ready now");
    // more pods than were asked
    seen.stateful_sets = vec![set(true, 2), set(true, 1)];
    assert_eq!(next(&seen, Some(&before)), "Restarting WaitingForPods");
    seen.pods = vec![pod(0, true, 40, true), pod(1, true, 40, true), pod(2, true, 50, true)];
    assert_eq!(next(&seen, Some(&before)), "verify 3");
}

/// `pod` in the state in which the kubelet waits before it starts it again.
fn crash_loops(mut pod: Pod, ended: &str) -> Pod {
    pod.status.as_mut().unwrap().container_statuses = serde_json::from_value(json!([
        {"name": "minio", "image": "", "imageID": "", "ready": false, "restartCount": 5,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": ended}}}]))
    .unwrap();
    pod
}

#[test]
fn pods_that_gave_up_while_the_key_service_was_away_need_not_wait_when_it_is_back() {
    let (mut seen, mut before) = patched();
    before.phase = TenantPhase::Verified;
    let injected = before.injected.as_mut().unwrap();
    (injected.restarted, injected.verified_pods) = (true, Some(2));
    seen.stateful_sets = vec![set(true, 2)];
    seen.pods = vec![pod(0, true, 40, true), crash_loops(pod(1, true, 40, false), "2026-11-23T10:03:00Z")];
    let step = |seen: &Seen, since: &str, serving| {
        let terms = Terms { serving_since: since.parse().ok(), ..MANUAL };
        summary(&plan(seen, &wish(), terms, Some(&before), serving, now()))
    };
    let (sooner, later) = ("2026-11-23T10:02:00Z", "2026-11-23T10:04:00Z");
    assert_eq!(step(&seen, later, Ok(())), "hurry p1", "also with restartPolicy Manual: it serves nobody");
    assert_eq!(step(&seen, later, Err("away".into())), "Verified Verified");
    assert_eq!(step(&seen, sooner, Ok(())), "Verified Verified", "it ended for another reason");
    assert_eq!(step(&seen, "", Ok(())), "Verified Verified", "perhaps it never was away");
    // each by itself
    seen.pods.push(crash_loops(pod(2, false, 40, false), "2026-11-23T10:03:00Z"));
    assert_eq!(step(&seen, later, Ok(())), "hurry p1");
    seen.pods.pop();
    seen.pods[1] = crash_loops(pod(1, false, 40, false), "2026-11-23T10:03:00Z");
    assert_eq!(step(&seen, later, Ok(())), "Verified Verified", "without the certificate it cannot start");
    seen.pods[1] = pod(1, true, 40, false);
    assert_eq!(step(&seen, later, Ok(())), "Verified Verified");
}

#[test]
fn a_minio_operator_that_does_not_take_up_a_patch_is_told() {
    let (mut seen, before) = patched();
    seen.stateful_sets = vec![set(false, 2)];
    let at = |now: &str| plan(&seen, &wish(), AUTOMATIC, Some(&before), Ok(()), now.parse().unwrap());
    assert_eq!(summary(&at("2026-11-23T10:05:00Z")), "Patched WaitingForTemplate");
    let Step::Hold(TenantPhase::Blocked, rule, Some(_)) = at("2026-11-23T10:07:00Z") else { panic!() };
    assert_eq!(rule, Rule::OperatorSilent { minutes: 6 });
    assert!(rule.to_string().contains("patched 6 minutes ago"), "{rule}");
}

#[test]
fn what_was_removed_goes_back_also_when_pods_are_down() {
    let (mut seen, mut before) = patched();
    before.injected.as_mut().unwrap().restarted = true;
    seen.tenant = Some(tenant(json!({"env": [{"name": "A", "value": "1"}]})));
    // the MinIO Operator began to roll without the certificate
    seen.pods = vec![pod(0, true, 40, true), pod(1, false, 50, false)];
    assert_eq!(next(&seen, Some(&before)), "patch env,externalClientCertSecrets");
    // another wish is a change like any other
    let other = Wish { key_name: "second".into(), ..wish() };
    let step = plan(&seen, &other, AUTOMATIC, Some(&before), Ok(()), now());
    assert_eq!(summary(&step), "Prepared TenantNotReady");
}

#[test]
fn a_new_tenant_of_the_same_name_begins_anew() {
    let (mut seen, mut before) = patched();
    before.phase = TenantPhase::Verified;
    before.injected.as_mut().unwrap().restarted = true;
    seen.tenant.as_mut().unwrap().metadata.uid = Some("another".into());
    assert_eq!(next(&seen, Some(&before)), "Patched WaitingForTemplate");
}

#[test]
fn without_a_record_the_api_servers_own_says_when_it_was_patched() {
    let (mut seen, mut before) = patched();
    before.injected = None;
    seen.stateful_sets = vec![set(true, 1)];
    seen.pods = vec![pod(0, true, 10, true)];
    assert_eq!(next(&seen, Some(&before)), "verify 1", "a user wired it by hand before the pod started");
    seen.tenant.as_mut().unwrap().metadata.managed_fields = serde_json::from_value(json!([
        {"manager": "kubectl", "time": "2026-11-23T10:00:59Z"}, {"manager": "kes-operator", "time": "2026-11-23T10:00:30Z"}]))
    .unwrap();
    assert_eq!(next(&seen, Some(&before)), "restart p0");
}

#[test]
fn who_keeps_removing_the_wiring_is_not_fought_for_ever() {
    let (mut seen, mut before) = patched();
    before.injected.as_mut().unwrap().restarted = true;
    seen.tenant = Some(tenant(json!({"env": [{"name": "A", "value": "1"}]})));
    for repeats in 1..=MOST_REPEATS {
        let Step::ProveAndPatch(_, injected) = plan(&seen, &wish(), AUTOMATIC, Some(&before), Ok(()), now())
        else {
            panic!()
        };
        assert_eq!((injected.repeats, injected.restarted), (repeats, false));
        before.injected.as_mut().unwrap().repeats = repeats;
    }
    assert_eq!(next(&seen, Some(&before)), "Blocked ManagedElsewhere");
    // another wish is no repetition
    let other = Wish { key_name: "second".into(), ..wish() };
    let step = plan(&seen, &other, AUTOMATIC, Some(&before), Ok(()), now());
    assert_eq!(summary(&step), "patch env,externalClientCertSecrets");
    before.injected.as_mut().unwrap().patched_at =
        serde_json::from_value(json!("2026-11-20T10:00:00Z")).unwrap();
    assert_eq!(next(&seen, Some(&before)), "patch env,externalClientCertSecrets");
}

#[test]
fn nothing_is_verified_while_the_key_service_is_away() {
    let (mut seen, before) = patched();
    seen.stateful_sets = vec![set(true, 1)];
    seen.pods = vec![pod(0, true, 40, true)];
    let away = plan(&seen, &wish(), AUTOMATIC, Some(&before), Err("away".into()), now());
    assert_eq!(summary(&away), "Restarting KeyServiceNotReady");
}

#[test]
fn with_a_manual_restart_nothing_is_patched_before_it_is_approved() {
    let seen = Seen { installed: true, tenant: Some(tenant(json!({}))), ..Seen::default() };
    assert_eq!(summary(&plan(&seen, &wish(), MANUAL, None, Ok(()), now())), "tell ApprovalPending");
    let approved = Terms { approved: true, ..MANUAL };
    let Step::ProveAndPatch(_, injected) = plan(&seen, &wish(), approved, None, Ok(()), now()) else {
        panic!()
    };
    assert!(injected.approved, "the approval counts for the restart that follows");

    let (mut seen, mut before) = patched();
    seen.stateful_sets = vec![set(true, 1)];
    seen.pods = vec![pod(0, false, 0, true)];
    before.injected.as_mut().unwrap().approved = true;
    assert_eq!(summary(&plan(&seen, &wish(), MANUAL, Some(&before), Ok(()), now())), "restart p0");
}

#[test]
fn in_mode_render_the_tenant_is_told_about_and_verified_but_never_patched() {
    let render = Terms { mode: Mode::Render, ..AUTOMATIC };
    let bare = Seen { installed: true, tenant: Some(tenant(json!({}))), ..Seen::default() };
    assert_eq!(summary(&plan(&bare, &wish(), render, None, Ok(()), now())), "tell RenderPending");
    // as soon as somebody else put the entries there, it goes on as usual
    let (mut seen, before) = patched();
    seen.stateful_sets = vec![set(true, 1)];
    seen.pods = vec![pod(0, false, 0, true)];
    assert_eq!(summary(&plan(&seen, &wish(), render, Some(&before), Ok(()), now())), "restart p0");
    seen.pods = vec![pod(0, true, 40, true)];
    assert_eq!(summary(&plan(&seen, &wish(), render, Some(&before), Ok(()), now())), "verify 1");
}

#[test]
fn without_consent_nothing_begins_and_what_is_wired_goes_on_unchanged() {
    let missing = || Consent::Missing { from: "keys".into(), namespace: "tenant-lite".into() };
    let bare =
        |spec| Seen { installed: true, tenant: Some(tenant(spec)), consent: missing(), ..Seen::default() };
    let refused = |step: &Step, phase| {
        matches!(step, Step::Hold(found, Rule::NotAllowed { from, namespace }, _)
            if *found == phase && from == "keys" && namespace == "tenant-lite")
    };
    let fresh = bare(json!({}));
    let step = plan(&fresh, &wish(), AUTOMATIC, None, Ok(()), Timestamp::now());
    assert!(refused(&step, TenantPhase::Pending), "{step:?}");
    // not even what else is configured there is told
    let foreign = bare(json!({"env": [{"name": "MINIO_KMS_SECRET_KEY", "value": "x"}]}));
    let step = plan(&foreign, &wish(), AUTOMATIC, None, Ok(()), Timestamp::now());
    assert!(refused(&step, TenantPhase::Pending), "{step:?}");

    let (seen, before) = patched();
    let wired = Seen { consent: missing(), ..seen };
    let same = plan(&wired, &wish(), AUTOMATIC, Some(&before), Ok(()), Timestamp::now());
    assert!(!refused(&same, TenantPhase::Blocked), "{same:?}");
    // without a record, as after a KesCluster was made anew, there is nothing to write either
    let adopted = plan(&wired, &wish(), AUTOMATIC, None, Ok(()), Timestamp::now());
    assert!(!refused(&adopted, TenantPhase::Pending), "{adopted:?}");
    let other = Wish { key_name: "another".into(), ..wish() };
    let step = plan(&wired, &other, AUTOMATIC, Some(&before), Ok(()), Timestamp::now());
    assert!(refused(&step, TenantPhase::Blocked), "{step:?}");
}

#[test]
fn an_operator_that_cannot_give_the_certificate_is_refused_by_its_version_and_nothing_is_patched() {
    let decide = |version: Option<&str>, spec: Value| {
        let version = version.map(|text| Version::parse(text).unwrap());
        let seen = Seen { installed: true, version, tenant: Some(tenant(spec)), ..Seen::default() };
        match plan(&seen, &wish(), AUTOMATIC, None, Ok(()), now()) {
            Step::Hold(TenantPhase::Blocked, rule, None) => rule.reason(),
            Step::ProveAndPatch(..) => "patched",
            other => panic!("{other:?}"),
        }
    };
    let bare = || json!({});
    let full = || json!({"externalClientCertSecrets": [{"name": "theirs"}]});
    for (version, spec, outcome) in [
        (Some("v4.4.28"), bare(), "OperatorTooOld"),
        (Some("v4.4.28"), full(), "OperatorTooOld"),
        (Some("v4.5.0"), bare(), "patched"),
        (Some("v4.5.0"), full(), "OperatorWithoutVolumes"),
        (Some("v5.0.8"), full(), "OperatorWithoutVolumes"),
        (Some("v5.0.9"), full(), "patched"),
        (Some("v7.1.1"), full(), "patched"),
        (None, bare(), "patched"),
    ] {
        assert_eq!(decide(version, spec.clone()), outcome, "{version:?} {spec}");
    }
}

#[test]
fn a_tenant_that_is_wired_goes_on_under_an_operator_that_became_too_old() {
    let (mut seen, before) = patched();
    seen.version = Version::parse("v4.4.28");
    assert!(!matches!(
        plan(&seen, &wish(), AUTOMATIC, Some(&before), Ok(()), now()),
        Step::Hold(TenantPhase::Blocked, ..)
    ));
}

#[test]
fn the_snippet_has_what_a_changed_wish_needs() {
    let (seen, before) = patched();
    let snippet = |wish: &Wish| crate::operator::tenant::missing(&seen, wish, Some(&before));
    assert_eq!(snippet(&wish()), None);
    let other = Wish { key_name: "second".into(), ..wish() };
    assert_eq!(
        snippet(&other).unwrap(),
        "spec:\n  env:\n  - name: MINIO_KMS_KES_KEY_NAME\n    value: second\n"
    );
}
