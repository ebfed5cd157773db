//! foresee: the steps of a pass up to build, for `kes operator diff`. Reads only.

use kube::ResourceExt;

use super::{
    Error, build, certificate, observe,
    plan::{self, Go, Plan},
    purpose::Purpose,
    select::{self, Settled},
    validate,
    wanted::Wanted,
};
use crate::{
    crd::KesCluster,
    operator::{Context, requests::Requests, rule::Rule},
};

/// What a pass over a cluster would come to.
pub(crate) enum Foresight {
    /// A rule that forbids everything.
    Refused(Rule),
    /// What would be applied.
    Objects(Box<Foreseen>),
}

/// What a pass would apply.
pub(crate) struct Foreseen {
    pub(crate) wanted: Wanted,
    pub(crate) objects: build::Objects,
    /// Secrets that would be made or exchanged, and what for.
    pub(crate) secrets: Vec<(String, String)>,
    /// What a person would be told.
    pub(crate) notes: Vec<Rule>,
}

/// The steps of a pass up to build, on a `KesCluster` that need not exist yet. Reads only.
pub(crate) async fn foresee(context: &Context, cluster: &KesCluster) -> Result<Foresight, Error> {
    let status = cluster.status.clone().unwrap_or_default();
    let wanted = match validate::validate(cluster, &context.defaults) {
        Ok(wanted) => wanted,
        Err(rule) => return Ok(Foresight::Refused(rule)),
    };
    let seen = observe::observe(context, cluster, Some(&wanted)).await?;
    let requests = Requests::of(&cluster.name_any(), cluster.annotations());
    let Settled { wanted, notes: selection, waiting: _ } =
        select::settle(wanted, &seen.selected, &status.tenants, &requests);
    let go = match plan::plan(&wanted, cluster.spec.paused, &status, &seen, context.now()) {
        Plan::Halt(rule) => return Ok(Foresight::Refused(rule)),
        Plan::Go(go) => *go,
    };
    let Go { make, ring, lost, certificate, volumes, member: _ } = go;
    let made = |purpose: &Purpose| (purpose.secret(&wanted.name), format!("is made: {purpose}"));
    let mut secrets: Vec<_> = make.iter().map(made).collect();
    let exchanged = match &certificate.step {
        certificate::Step::Keep | certificate::Step::Await(_) => None,
        certificate::Step::Make => Some("is made: server certificate"),
        certificate::Step::Renew => Some("changes: the server's certificate is renewed, with the same key"),
        certificate::Step::Copy(_) => Some("changes: the certificate of spec.tls is taken over"),
    };
    let name = Purpose::ServerCertificate.secret(&wanted.name);
    secrets.extend(exchanged.map(|what| (name, what.to_owned())));
    let admin = ring.identity(&Purpose::SystemAdmin).unwrap_or_else(|_| crate::operator::diff::nobody());
    let basis = build::Basis {
        system_admin: &admin,
        storage: &volumes.template,
        apis: seen.apis,
        operator_namespace: &context.operator_namespace,
    };
    let mut notes: Vec<_> = lost.into_iter().map(|(_, rule)| rule).chain(selection).collect();
    if let certificate::Step::Await(rule) = certificate.step {
        notes.push(rule);
    }
    notes.extend(volumes.refused.clone());
    if volumes.replace.is_some() && volumes.refused.is_none() {
        notes.push(Rule::Expanding { size: wanted.storage.size.clone() });
    }
    let objects = build::build(&wanted, &basis);
    Ok(Foresight::Objects(Box::new(Foreseen { wanted, objects, secrets, notes })))
}
