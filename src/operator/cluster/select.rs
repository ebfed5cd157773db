//! select: settles which tenants a pass is about: those that the spec names, those that it selects by their labels, and
//! those that were wired before and that neither asks for any more. Pure.

use super::{
    validate::is_label,
    wanted::{Selection, Standing, Tenant, Wanted},
};
use crate::{
    api::{EnclaveName, KeyName},
    crd::{Mode, Mount, MountKind, RestartPolicy, TenantStatus},
    operator::{
        names,
        requests::{Requests, TenantRef},
    },
};

/// `wanted` with all tenants that the pass is about. What the spec names wins over what it selects.
pub(crate) fn settle(
    mut wanted: Wanted,
    selected: &[TenantRef],
    known: &[TenantStatus],
    requests: &Requests,
) -> Wanted {
    if let Some(selection) = wanted.selection.clone() {
        for (namespace, name) in selected {
            // names of Services and variables are made from it, so MinIO runs no Tenant of another kind of name either
            if is_label(name) && !wanted.has_tenant(namespace, name) {
                wanted.tenants.push(by_selection(&selection, namespace, name));
            }
        }
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
    wanted
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

    fn pair(namespace: &str, name: &str) -> TenantRef {
        (namespace.into(), name.into())
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
        let selected = [pair("tenant-lite", "myminio"), pair("team", "minio")];
        let wanted = settle(selecting(), &selected, &[], &Requests::default());
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
        let wanted = settle(selecting(), &[], &known, &Requests::default());
        let tenant = &wanted.tenants[1];
        assert_eq!((tenant.name.as_str(), tenant.key.as_str()), ("minio", "its-key"));
        assert_eq!(tenant.standing, Standing::Left { unwire: false });
        assert_eq!(wanted.tenants.len(), 2);

        let requests = Requests { unwire: [pair("team", "minio")].into(), ..Requests::default() };
        let wanted = settle(selecting(), &[], &known, &requests);
        assert_eq!(wanted.tenants[1].standing, Standing::Left { unwire: true });
        // selected again, it is as if it had never left
        let wanted = settle(selecting(), &[pair("team", "minio")], &known, &requests);
        assert_eq!(wanted.tenants[1].standing, Standing::Wanted);
    }
}
