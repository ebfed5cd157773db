//! What a pass would do to each tenant, for `kes operator diff`. Reads only.

use serde_json::{Map, Value};

use super::{
    leave, look,
    patch::Wish,
    plan::{self, Step, Terms},
    settled,
};
use crate::{
    crd::KesCluster,
    operator::{
        Context,
        cluster::wanted::{Standing, Tenant, Wanted},
        diff, names,
        requests::Requests,
    },
};

/// What a pass would do to each tenant: the object, in a few words, and the fields. Reads only.
pub(crate) async fn foresee(
    context: &Context,
    cluster: &KesCluster,
    wanted: &Wanted,
    requests: &Requests,
) -> Vec<(String, String, Vec<String>)> {
    let known = cluster.status.as_ref().map(|status| status.tenants.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    for tenant in &wanted.tenants {
        let Tenant { namespace, name, .. } = tenant;
        let object = format!("Tenant {namespace}/{name}");
        let before = known.iter().find(|known| known.name == *name && known.namespace == *namespace);
        let secret = names::projected_secret(&wanted.name);
        let seen = match look(context, &wanted.namespace, tenant, &secret, before).await {
            Ok(seen) => seen,
            Err(error) => {
                found.push((object, format!("cannot be read: {error}"), Vec::new()));
                continue;
            }
        };
        let mut lines = Vec::new();
        let mut show = |fields: &Map<String, Value>| {
            let spec = seen.tenant.as_ref().map(|tenant| tenant.data["spec"].clone()).unwrap_or_default();
            for (field, value) in fields {
                diff::fields(&format!("spec.{field}"), &spec[field], value, &mut lines);
            }
        };
        let verdict = match (tenant.standing, before) {
            (Standing::Left { unwire }, Some(before)) => match leave::plan(&seen, &secret, before, unwire) {
                leave::Step::Forget => "is forgotten".into(),
                leave::Step::Hold(_, rule, _) => format!("{}: {rule}", rule.reason()),
                leave::Step::Patch(fields, _) => {
                    show(&fields);
                    format!("loses its wiring, and its {} pods are restarted together", seen.pods.len())
                }
                leave::Step::Restart(pods, _) => format!("has {} pods restarted together", pods.len()),
            },
            (Standing::Left { .. }, None) => "is forgotten".into(),
            (Standing::Wanted, before) => {
                let before = before.map(|before| settled(before, &seen, &secret));
                let before = before.as_ref();
                let wish = Wish {
                    secret,
                    endpoint: wanted.endpoint(),
                    key_name: tenant.key.to_string(),
                    mount: tenant.mount,
                };
                let approved = requests.approve.contains(&(namespace.clone(), name.clone()));
                let serving_since = super::ready_since(cluster);
                let terms = Terms { restart: tenant.restart, mode: tenant.mode, approved, serving_since };
                match plan::plan(&seen, &wish, terms, before, Ok(()), context.now()) {
                    Step::Hold(_, rule, _) => format!("{}: {rule}", rule.reason()),
                    Step::ProveAndTell(rule, fields) => {
                        show(&fields);
                        format!("{}: {rule}", rule.reason())
                    }
                    Step::ProveAndHurry(pods, _) => {
                        format!("{} pods that wait to be started again are deleted", pods.len())
                    }
                    Step::ProveAndPatch(fields, _) => {
                        show(&fields);
                        format!("is patched, and its {} pods are restarted together", seen.pods.len())
                    }
                    Step::ProveAndRestart(pods, _) => format!("has {} pods restarted together", pods.len()),
                    Step::Verify(..) => "is verified".into(),
                }
            }
        };
        found.push((object, verdict, lines));
    }
    found
}
