//! plan: decides which step is allowed now, or names the rule that forbids it. Pure.
//!
//! 1. Nothing at all happens while the cluster is paused, or while key material that others rely on is lost, changed
//!    or unreadable: whatever were written then could replace it.
//! 2. Missing key material is made only if it was never recorded. A volume that exists counts as a record.
//! 3. The bootstrap is recorded before it is asked for, asked for until the member confirms it, and never asked for
//!    again once it is recorded as completed, or by the Secret of who bootstrapped it.
//! 4. Contents are written only to a member that holds the recorded cluster.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, Pod, Secret};
use kube::ResourceExt;

use super::{
    certificate,
    expansion::{self, Volumes},
    keyring::{self, Keyring},
    observe::{Member, Seen, pod_name},
    purpose::Purpose,
    wanted::{Tls, Wanted},
};
use crate::{
    crd::{BootstrapPhase, KesClusterStatus},
    operator::{names, rule::Rule},
};

/// What happens in this pass.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing is written, except the report.
    Halt(Rule),
    /// Objects are brought up to date, then the member.
    Go(Box<Go>),
}

/// What is allowed.
pub(crate) struct Go {
    /// Secrets to make, the authority first.
    pub(crate) make: Vec<Purpose>,
    /// Secrets that are there.
    pub(crate) ring: Keyring,
    /// Secrets of applications that are lost; they stop nobody else.
    pub(crate) lost: Vec<(Purpose, Rule)>,
    /// What happens to the server's certificate, right after the authority.
    pub(crate) certificate: certificate::Verdict,
    /// What the volumes are, and whether they grow.
    pub(crate) volumes: Volumes,
    /// What to do with the member.
    pub(crate) member: MemberStep,
}

/// What to do with the member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum MemberStep {
    /// Nothing, and why.
    Hold(Rule),
    /// Record a new cluster id, then tell the member.
    Start,
    /// Tell the member the recorded id.
    Tell(String),
    /// The member holds this id: record that the bootstrap is completed.
    Complete(String),
    /// Bring enclaves, policies, identities and keys up to date.
    Converge,
}

impl std::fmt::Debug for Go {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { make, ring: _, lost, certificate: _, volumes, member } = self;
        f.debug_struct("Go")
            .field("make", make)
            .field("lost", lost)
            .field("volumes", volumes)
            .field("member", member)
            .finish_non_exhaustive()
    }
}

/// Decides.
pub(crate) fn plan(
    wanted: &Wanted,
    paused: bool,
    status: &KesClusterStatus,
    seen: &Seen,
    now: Timestamp,
) -> Plan {
    if paused {
        return Plan::Halt(Rule::Paused);
    }
    match decide(wanted, status, seen, now) {
        Ok(go) => Plan::Go(Box::new(go)),
        Err(rule) => Plan::Halt(rule),
    }
}

fn decide(wanted: &Wanted, status: &KesClusterStatus, seen: &Seen, now: Timestamp) -> Result<Go, Rule> {
    seal_is_usable(wanted, seen)?;
    if let Tls::Issuer { issuer, .. } = &wanted.tls
        && !seen.apis.cert_manager
    {
        return Err(Rule::CertManagerMissing { issuer: issuer.name.clone() });
    }
    let recorded: BTreeMap<&str, &str> =
        status.secrets.iter().map(|secret| (secret.name.as_str(), secret.fingerprint.as_str())).collect();
    let mut make = Vec::new();
    let mut ring = Keyring::default();
    let mut lost = Vec::new();
    for purpose in wanted.purposes() {
        if purpose.is_replaceable() {
            // decided below
            continue;
        }
        match judge(&purpose, wanted, &recorded, status.bootstrap.is_none(), seen) {
            Ok(Verdict::Use(secret)) => ring.insert(purpose, *secret),
            Ok(Verdict::Make) => make.push(purpose),
            // one application's loss must not stop the others
            Err(rule) if matches!(purpose, Purpose::Identity { .. } | Purpose::Tenant { .. }) => {
                lost.push((purpose, rule));
            }
            Err(rule) => return Err(rule),
        }
    }
    let wired: Vec<_> = status
        .tenants
        .iter()
        .filter(|tenant| tenant.injected.is_some())
        .map(|tenant| format!("{}/{}", tenant.namespace, tenant.name))
        .collect();
    let live = seen.secrets.get(&Purpose::ServerCertificate.secret(&wanted.name));
    let found = certificate::Found {
        authority: ring.get(&Purpose::Authority),
        live,
        source: seen.server_source.as_ref(),
        wired: &wired,
    };
    let certificate = certificate::decide(wanted, &found, now)?;
    if let Some(live) = live {
        ring.insert(Purpose::ServerCertificate, live.clone());
    }
    let volumes = expansion::decide(wanted, seen);
    let member = member_step(wanted, status, seen);
    Ok(Go { make, ring, lost, certificate, volumes, member })
}

enum Verdict {
    Use(Box<Secret>),
    Make,
}

fn judge(
    purpose: &Purpose,
    wanted: &Wanted,
    recorded: &BTreeMap<&str, &str>,
    unknown: bool,
    seen: &Seen,
) -> Result<Verdict, Rule> {
    let name = purpose.secret(&wanted.name);
    let Some(secret) = seen.secrets.get(&name) else {
        // a volume that exists was sealed, and is owned, by key material that existed
        let relied_on = recorded.contains_key(name.as_str())
            || (!seen.volumes.is_empty()
                && matches!(purpose, Purpose::Authority | Purpose::Seal | Purpose::SystemAdmin))
            // a KesCluster made anew over its volumes: an enclave cannot get another admin
            || (!seen.volumes.is_empty()
                && unknown
                && recorded.is_empty()
                && matches!(purpose, Purpose::EnclaveAdmin(_)));
        return if relied_on {
            Err(Rule::SecretLost { purpose: purpose.clone(), secret: name })
        } else {
            Ok(Verdict::Make)
        };
    };
    let fingerprint = keyring::fingerprint(purpose, secret)
        .map_err(|error| Rule::SecretUnreadable { secret: name.clone(), problem: error.to_string() })?;
    match recorded.get(name.as_str()) {
        Some(known) if *known != fingerprint => {
            Err(Rule::SecretChanged { purpose: purpose.clone(), secret: name })
        }
        _ => Ok(Verdict::Use(Box::new(secret.clone()))),
    }
}

fn seal_is_usable(wanted: &Wanted, seen: &Seen) -> Result<(), Rule> {
    if wanted.seal.generated {
        return Ok(());
    }
    let unusable = |problem: String| Rule::SealSecretUnusable { secret: wanted.seal.secret.clone(), problem };
    let secret = seen.seal.as_ref().ok_or_else(|| unusable("it does not exist".into()))?;
    keyring::unseal_key(secret, &wanted.seal.key).map_err(|error| unusable(error.to_string()))?;
    Ok(())
}

fn member_step(wanted: &Wanted, status: &KesClusterStatus, seen: &Seen) -> MemberStep {
    let pod = pod_name(&wanted.name);
    let recorded = status.bootstrap.as_ref().map(|record| (record.phase, &record.cluster_id));
    // the status may be lost, e.g. in a restore, and what was bootstrapped is not forgotten with it
    let admin = seen.secrets.get(&Purpose::SystemAdmin.secret(&wanted.name));
    let noted = admin.and_then(|admin| admin.annotations().get(names::BOOTSTRAPPED_ANNOTATION));
    let step = match (&seen.member, recorded) {
        (Member::Absent, _) => Err(Rule::WaitingForPod { detail: why_absent(seen), pod }),
        (Member::Silent(why), _) => Err(Rule::WaitingForServer { detail: why.clone(), pod }),
        (Member::Initialised { sealed: true, .. }, _) => Err(Rule::Sealed { pod }),
        (Member::Empty, None) => match noted {
            None => Ok(MemberStep::Start),
            Some(id) => Err(Rule::DataLost { pod, cluster_id: id.clone() }),
        },
        (Member::Empty, Some((BootstrapPhase::Started, id))) => Ok(MemberStep::Tell(id.clone())),
        (Member::Empty, Some((BootstrapPhase::Completed, id))) => {
            Err(Rule::DataLost { pod, cluster_id: id.clone() })
        }
        (Member::Initialised { cluster_id, .. }, None) if noted.is_some_and(|id| id != cluster_id) => {
            Err(Rule::OtherCluster {
                pod,
                expected: noted.cloned().unwrap_or_default(),
                found: cluster_id.clone(),
            })
        }
        // a volume that outlived a former KesCluster of this name: it knows our system admin, so it is ours
        (Member::Initialised { cluster_id, .. }, None) => Ok(MemberStep::Complete(cluster_id.clone())),
        (Member::Initialised { cluster_id, .. }, Some((_, id))) if cluster_id != id => {
            Err(Rule::OtherCluster { pod, expected: id.clone(), found: cluster_id.clone() })
        }
        (Member::Initialised { .. }, Some((BootstrapPhase::Started, id))) => {
            Ok(MemberStep::Complete(id.clone()))
        }
        (Member::Initialised { .. }, Some((BootstrapPhase::Completed, _))) => Ok(MemberStep::Converge),
    };
    step.unwrap_or_else(MemberStep::Hold)
}

/// Why the pod cannot be asked, in the words of Kubernetes or of the server's last lines.
fn why_absent(seen: &Seen) -> String {
    let Some(pod) = &seen.pod else { return "it does not exist yet".into() };
    if pod.metadata.deletion_timestamp.is_some() {
        return "it is being replaced".into();
    }
    let Some(status) = &pod.status else { return "it is new".into() };
    let states = status.container_statuses.iter().flatten().filter_map(|container| {
        let last = container.last_state.as_ref().and_then(terminated);
        match container.state.as_ref()? {
            ContainerState { waiting: Some(waiting), .. } => {
                let reason = waiting.reason.clone().unwrap_or_default();
                Some(last.map_or(reason.clone(), |last| format!("{reason}; {last}")))
            }
            state => terminated(state),
        }
    });
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .filter_map(|condition| condition.message.clone());
    let words: Vec<String> = states.chain(unscheduled).filter(|text| !text.is_empty()).collect();
    match words.as_slice() {
        [] => format!("it is {}", status.phase.as_deref().unwrap_or("new")),
        words => words.join("; "),
    }
}

fn terminated(state: &ContainerState) -> Option<String> {
    let ended = state.terminated.as_ref()?;
    let words = ended.message.as_deref().map(str::trim).filter(|words| !words.is_empty());
    Some(format!(
        "exit code {}: {}",
        ended.exit_code,
        words.or(ended.reason.as_deref()).unwrap_or("no message")
    ))
}

/// Whether Kubernetes sends clients to the pod.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
