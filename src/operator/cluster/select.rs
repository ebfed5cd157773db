//! select: settles which tenants a pass is about: those that the spec names, those that it selects by their labels, and
//! those that were wired before and that neither asks for any more. Pure.

use super::{
    validate::is_label,
    wanted::{Selection, Standing, Tenant, Wanted},
};
use crate::{
    api::{EnclaveName, KeyName},
    crd::{Mode, Mount, MountKind, RestartPolicy, TenantPhase, TenantStatus},
    operator::{
        names,
        requests::Requests,
        rule::Rule,
        tenant::{Labelled, Selected},
    },
};

/// Tenants that one `KesCluster` takes by their labels. Each has a policy that denies the keys of all others, an entry in the
/// status and a proof in every pass: with many more neither would fit.
pub(crate) const MOST_SELECTED: usize = 500;

/// What a pass is about.
pub(crate) struct Settled {
    pub(crate) wanted: Wanted,
    /// What a person should look at.
    pub(crate) notes: Vec<Rule>,
    /// How many Tenants of other namespaces carry the labels without anybody there having agreed. Nothing is made for them.
    pub(crate) waiting: usize,
}

/// `wanted` with all tenants that the pass is about. What the spec names wins over what it selects.
pub(crate) fn settle(
    mut wanted: Wanted,
    selected: &Selected,
    known: &[TenantStatus],
    requests: &Requests,
) -> Settled {
    let (mut notes, mut waiting) = (Vec::new(), 0);
    if let Some(selection) = wanted.selection.clone() {
        let mut chosen;
        (chosen, waiting) = choose(&wanted, &selection, selected, known);
        if let Some((_, problem)) = selected.unlisted.first() {
            notes.push(Rule::SelectionRefused { problem: problem.clone() });
        }
        let wired = chosen.iter().filter(|tenant| is_wired(known, &tenant.namespace, &tenant.name)).count();
        // what is wired depends on us, however many there are
        let most = MOST_SELECTED.max(wired);
        if chosen.len() > most {
            notes.push(Rule::TooManySelected { found: chosen.len(), most });
            chosen.truncate(most);
        }
        wanted.tenants.extend(chosen);
    }
    for status in known {
        let asked = requests.unwire.contains(&(status.namespace.clone(), status.name.clone()));
        if !wanted.has_tenant(&status.namespace, &status.name)
            && let Some(tenant) = left(status, asked)
        {
            wanted.tenants.push(tenant);
        }
    }
    wanted.guarded = !wanted.tenants.is_empty() || wanted.selection.is_some();
    Settled { wanted, notes, waiting }
}

/// The tenants of a selection, those that are wired first, and how many have not agreed. Who only carries the labels gets
/// nothing: neither key nor identity nor a word in the status.
fn choose(
    wanted: &Wanted,
    selection: &Selection,
    selected: &Selected,
    known: &[TenantStatus],
) -> (Vec<Tenant>, usize) {
    let (mut chosen, mut waiting): (Vec<Tenant>, usize) = (Vec::new(), 0);
    for Labelled { tenant: (namespace, name), agreed } in &selected.tenants {
        // names of Services and variables are made from it, so MinIO runs no Tenant of another kind of name either
        if !is_label(name) || wanted.has_tenant(namespace, name) {
            continue;
        }
        if *agreed || is_wired(known, namespace, name) {
            chosen.push(by_selection(selection, namespace, name));
        } else {
            waiting += 1;
        }
    }
    let is_unlisted = |namespace: &str| {
        let mut places = selected.unlisted.iter();
        places.any(|(place, _)| place.as_ref().is_none_or(|place| place == namespace))
    };
    for status in known {
        let TenantStatus { namespace, name, phase, injected, .. } = status;
        let stays = !matches!(phase, TenantPhase::Orphaned | TenantPhase::Unwiring);
        let is_chosen = |tenant: &Tenant| tenant.namespace == *namespace && tenant.name == *name;
        if stays
            && is_unlisted(namespace)
            && !wanted.has_tenant(namespace, name)
            && !chosen.iter().any(is_chosen)
        {
            // nobody knows whether it has the labels still, so it is looked after as it is
            let mut tenant = by_selection(selection, namespace, name);
            let key = injected.as_ref().and_then(|injected| KeyName::new(&injected.key_name).ok());
            tenant.key = key.unwrap_or(tenant.key);
            chosen.push(tenant);
        }
    }
    chosen.sort_by_key(|tenant| {
        let Tenant { namespace, name, .. } = tenant;
        (!is_wired(known, namespace, name), namespace.clone(), name.clone())
    });
    (chosen, waiting)
}

fn is_wired(known: &[TenantStatus], namespace: &str, name: &str) -> bool {
    let mut known = known.iter().filter(|known| known.injected.is_some());
    known.any(|known| known.namespace == namespace && known.name == name)
}

fn by_selection(selection: &Selection, namespace: &str, name: &str) -> Tenant {
    let Selection { labels: _, namespaces: _, enclave, key, restart, mount, mode, policy } = selection;
    Tenant {
        namespace: namespace.into(),
        name: name.into(),
        enclave: enclave.clone(),
        key: key.clone().unwrap_or_else(|| names::tenant_key(namespace, name)),
        restart: *restart,
        mount: *mount,
        mode: *mode,
        policy: policy.clone(),
        standing: Standing::Wanted,
    }
}

/// A tenant that was wired and left the spec, as it was wired. One that was never wired leaves nothing behind.
fn left(status: &TenantStatus, unwire: bool) -> Option<Tenant> {
    let injected = status.injected.as_ref()?;
    Some(Tenant {
        namespace: status.namespace.clone(),
        name: status.name.clone(),
        enclave: EnclaveName::default_enclave(),
        key: KeyName::new(&injected.key_name).ok()?,
        restart: RestartPolicy::Automatic,
        mount: match injected.mount {
            MountKind::ClientCertSecrets => Mount::ClientCertSecrets,
            MountKind::AdditionalVolumes => Mount::AdditionalVolumes,
        },
        mode: Mode::Patch,
        policy: None,
        standing: Standing::Left { unwire },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::validate::fixture, *};
    use crate::operator::requests::TenantRef;

    fn pair(namespace: &str, name: &str) -> TenantRef {
        (namespace.into(), name.into())
    }

    fn found(agreed: bool, tenants: &[(&str, &str)]) -> Selected {
        let labelled = |(namespace, name): &(&str, &str)| Labelled { tenant: pair(namespace, name), agreed };
        Selected { tenants: tenants.iter().map(labelled).collect(), unlisted: Vec::new() }
    }

    fn nobody() -> Selected {
        Selected::default()
    }

    fn selecting() -> Wanted {
        let mut cluster = fixture::cluster();
        cluster.spec.tenant_selector =
            Some(serde_saphyr::from_str("{matchLabels: {encrypt: 'yes'}, restartPolicy: Manual}").unwrap());
        super::super::validate::validate(&cluster, &fixture::defaults()).unwrap()
    }

    fn wired(name: &str) -> TenantStatus {
        serde_json::from_value(
            json!({"namespace": "team", "name": name, "phase": "Verified", "reason": "", "message": "",
            "since": "2026-11-25T10:00:00Z",
            "injected": {"endpoint": "e", "keyName": "its-key", "mount": "AdditionalVolumes", "path": "p"}}),
        )
        .unwrap()
    }

    #[test]
    fn a_selected_tenant_gets_a_key_of_its_own_and_a_named_one_keeps_its_word() {
        let selected = found(true, &[("tenant-lite", "myminio"), ("team", "minio")]);
        let wanted = settle(selecting(), &selected, &[], &Requests::default()).wanted;
        let keys: Vec<_> = wanted.tenants.iter().map(|tenant| tenant.key.as_str().to_owned()).collect();
        assert_eq!(keys, ["minio-default-key", "team_minio"]);
        let policies: Vec<_> = wanted.tenants.iter().map(|tenant| tenant.restart).collect();
        assert_eq!(policies, [RestartPolicy::Automatic, RestartPolicy::Manual]);
    }

    #[test]
    fn a_wired_tenant_that_left_the_spec_stays_in_the_pass_and_others_are_forgotten() {
        let mut never = wired("never");
        never.injected = None;
        let known = [wired("minio"), never];
        let wanted = settle(selecting(), &nobody(), &known, &Requests::default()).wanted;
        let tenant = &wanted.tenants[1];
        assert_eq!((tenant.name.as_str(), tenant.key.as_str()), ("minio", "its-key"));
        assert_eq!(tenant.standing, Standing::Left { unwire: false });
        assert_eq!(wanted.tenants.len(), 2);

        let requests = Requests { unwire: [pair("team", "minio")].into(), ..Requests::default() };
        let wanted = settle(selecting(), &nobody(), &known, &requests).wanted;
        assert_eq!(wanted.tenants[1].standing, Standing::Left { unwire: true });
        // selected again, it is as if it had never left
        let wanted = settle(selecting(), &found(true, &[("team", "minio")]), &known, &requests).wanted;
        assert_eq!(wanted.tenants[1].standing, Standing::Wanted);
    }

    #[test]
    fn who_has_not_agreed_gets_nothing_and_who_was_wired_before_stays() {
        let selected = found(false, &[("team", "stranger"), ("team", "minio"), ("tenant-lite", "myminio")]);
        let Settled { wanted, notes, waiting } =
            settle(selecting(), &selected, &[wired("minio")], &Requests::default());
        let names: Vec<_> = wanted.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        assert_eq!(names, ["myminio", "minio"], "named by the spec, and wired before");
        assert_eq!(wanted.tenants[1].standing, Standing::Wanted);
        assert_eq!((notes, waiting), (Vec::new(), 1));
        let secrets = wanted.purposes().into_iter().map(|purpose| purpose.secret("vault"));
        assert!(!secrets.into_iter().any(|secret| secret.contains("stranger")));
    }

    #[test]
    fn no_more_than_the_bound_are_taken_and_none_that_is_wired_is_dropped() {
        let names: Vec<_> = (0..MOST_SELECTED + 7).map(|number| format!("t{number:04}")).collect();
        let tenants: Vec<_> = names.iter().map(|name| ("team", name.as_str())).collect();
        let last = names.last().unwrap();
        let Settled { wanted, notes, .. } =
            settle(selecting(), &found(true, &tenants), &[wired(last)], &Requests::default());
        assert_eq!(wanted.tenants.len(), 1 + MOST_SELECTED);
        assert!(wanted.has_tenant("team", last), "it depends on us");
        assert!(!wanted.has_tenant("team", &names[MOST_SELECTED]));
        assert_eq!(notes, [Rule::TooManySelected { found: MOST_SELECTED + 7, most: MOST_SELECTED }]);

        let all: Vec<_> = names.iter().map(|name| wired(name)).collect();
        let Settled { wanted, notes, .. } =
            settle(selecting(), &found(true, &tenants), &all, &Requests::default());
        assert_eq!((wanted.tenants.len(), notes.len()), (1 + names.len(), 0));
    }

    #[test]
    fn tenants_of_a_namespace_that_cannot_be_listed_are_looked_after_as_they_are() {
        let mut selected = found(true, &[("other", "minio")]);
        selected.unlisted = vec![(Some("team".into()), "forbidden".into())];
        let mut orphan = wired("orphan");
        orphan.phase = TenantPhase::Orphaned;
        let mut elsewhere = wired("gone");
        elsewhere.namespace = "other".into();
        let known = [wired("minio"), orphan, elsewhere];
        let Settled { wanted, notes, .. } = settle(selecting(), &selected, &known, &Requests::default());
        let standing = |namespace: &str, name: &str| {
            let mut tenants = wanted.tenants.iter();
            tenants
                .find(|tenant| tenant.namespace == namespace && tenant.name == name)
                .map(|tenant| (tenant.standing, tenant.key.as_str()))
        };
        assert_eq!(standing("team", "minio"), Some((Standing::Wanted, "its-key")));
        assert_eq!(standing("team", "orphan").map(|found| found.0), Some(Standing::Left { unwire: false }));
        assert_eq!(standing("other", "gone").map(|found| found.0), Some(Standing::Left { unwire: false }));
        assert_eq!(standing("other", "minio"), Some((Standing::Wanted, "other_minio")));
        assert_eq!(notes, [Rule::SelectionRefused { problem: "forbidden".into() }]);

        // a list of all namespaces that fails says nothing about any
        selected.unlisted = vec![(None, "forbidden".into())];
        let wanted = settle(selecting(), &selected, &known, &Requests::default()).wanted;
        let standing = wanted.tenants.iter().filter(|tenant| tenant.standing == Standing::Wanted).count();
        assert_eq!(standing, 4);
    }
}
