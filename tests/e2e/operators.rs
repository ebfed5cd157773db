//! Operators as processes on this machine: one acts at a time, and one with too few rights says which.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    coordination::v1::Lease,
    core::v1::ServiceAccount,
    rbac::v1::{Role, RoleBinding},
};
use kube::{Api, api::PostParams};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::{
    runner::{Case, Ending, Outcome},
    wait::{patience, until},
    world::World,
};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("of_two_operators_one_acts_and_the_other_takes_over", one_acts),
        Case::new("an_operator_with_too_few_rights_says_which", too_few_rights),
    ]
}

/// An operator for the case's namespace, with its lease there.
fn operator(world: &World, name: &str) -> anyhow::Result<Child> {
    Command::new(env!("CARGO_BIN_EXE_kes"))
        .args(["operator", "--health-addr", "127.0.0.1:0", "--lease-namespace", &world.namespace])
        .args(["--watch-namespace", &world.namespace])
        .env("POD_NAME", name)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("failed to start kes operator")
}

async fn held_by(world: &World, name: &str) -> anyhow::Result<()> {
    let leases: Api<Lease> = world.api();
    until(leases, "kes-operator", &format!("the lease held by {name}"), |lease: Option<&Lease>| {
        let holder = lease.and_then(|lease| lease.spec.as_ref()?.holder_identity.clone()).unwrap_or_default();
        if holder.starts_with(&format!("{name}_")) { Ok(()) } else { Err(format!("held by '{holder}'")) }
    })
    .await?;
    Ok(())
}

async fn one_acts(world: World) -> Outcome {
    let mut first = operator(&world, "one")?;
    held_by(&world, "one").await?;
    let mut second = operator(&world, "two")?;
    // killed, it leaves the lease behind; the second one waits until it expires
    first.start_kill()?;
    first.wait().await?;
    held_by(&world, "two").await?;
    let mut third = operator(&world, "three")?;
    // told to stop, it gives the lease back, and ends with 0
    let pid =
        second.id().and_then(|pid| rustix::process::Pid::from_raw(pid.try_into().ok()?)).context("a pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let ended = tokio::time::timeout(patience(), second.wait()).await.context("it does not stop")??;
    assert!(ended.success(), "{ended}");
    held_by(&world, "three").await?;
    // the lease is taken from it: it ends at once, with an error
    let leases: Api<Lease> = world.api();
    loop {
        let mut lease = leases.get("kes-operator").await?;
        lease.spec.get_or_insert_default().holder_identity = Some("somebody else".into());
        match leases.replace("kes-operator", &PostParams::default(), &lease).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            answer => break answer.map(drop)?,
        }
    }
    let ended = tokio::time::timeout(Duration::from_secs(60), third.wait()).await.context("it goes on")??;
    assert_eq!(ended.code(), Some(1));
    Ok(Ending::Held)
}

async fn too_few_rights(world: World) -> Outcome {
    let namespace = &world.namespace;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "weak"}}))?;
    world.api::<ServiceAccount>().create(&PostParams::default(), &account).await?;
    // may see everything of ours, and write nothing
    let role: Role = serde_json::from_value(json!({"metadata": {"name": "weak"},
        "rules": [{"apiGroups": ["kes-operator.io"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]}))?;
    world.api::<Role>().create(&PostParams::default(), &role).await?;
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": {"name": "weak"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "weak"},
        "subjects": [{"kind": "ServiceAccount", "name": "weak", "namespace": namespace}]}))?;
    world.api::<RoleBinding>().create(&PostParams::default(), &binding).await?;
    let kubeconfig = kubeconfig(&world, "weak").await?;
    let run = Command::new(env!("CARGO_BIN_EXE_kes"))
        .args(["operator", "--health-addr", "127.0.0.1:0", "--lease-namespace", namespace])
        .args(["--watch-namespace", namespace])
        .env("KUBECONFIG", &kubeconfig)
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(patience(), run).await.context("it does not end")??;
    std::fs::remove_file(&kubeconfig)?;
    let text = String::from_utf8(run.stderr)?;
    assert_eq!(run.status.code(), Some(1), "{text}");
    for sentence in [
        format!(
            "it may not create, patch secrets in namespace {namespace}, which it needs to keep key material"
        ),
        format!("it may not create, patch, delete statefulsets.apps in namespace {namespace}"),
        format!("it may not get, create, update leases.coordination.k8s.io in namespace {namespace}"),
    ] {
        assert!(text.contains(&sentence), "{sentence:?} is not in:\n{text}");
    }
    assert!(!text.contains("kesclusters.kes-operator.io"), "a right that it has is not missed: {text}");
    assert!(text.contains("Apply config/rbac or the chart's roles"), "{text}");
    Ok(Ending::Held)
}

/// A kubeconfig of a ServiceAccount of the case's namespace.
async fn kubeconfig(world: &World, account: &str) -> anyhow::Result<PathBuf> {
    let request = TokenRequest {
        spec: TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = world.api();
    let token = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    let token = token.status.context("a token")?.token;
    let mut config = kube::config::Kubeconfig::read()?;
    for user in &mut config.auth_infos {
        user.auth_info =
            Some(kube::config::AuthInfo { token: Some(token.clone().into()), ..Default::default() });
    }
    let path = std::env::temp_dir().join(format!("{}.kubeconfig", world.namespace));
    // serialising hides the token, so it is written by hand
    let mut value = serde_json::to_value(&config)?;
    for user in value["users"].as_array_mut().into_iter().flatten() {
        user["user"] = json!({"token": token});
    }
    std::fs::write(&path, serde_json::to_string(&value)?)?;
    Ok(path)
}
