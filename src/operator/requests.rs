//! What a person asks for by annotations of the `KesCluster`: things that are done once and are no state to declare.

use std::collections::{BTreeMap, BTreeSet};

use crate::crd::{TenantPhase, TenantStatus};

/// Annotation: tenants whose pods may be restarted now, as `namespace/name, …`, for `restartPolicy: Manual`.
pub(crate) const APPROVE_RESTART: &str = "kes-operator.io/approve-restart";
/// Annotation: tenants that left the spec and shall lose their wiring, as `namespace/name, …`.
pub(crate) const UNWIRE: &str = "kes-operator.io/unwire";
/// Annotation: deletion although tenants depend on it. Its value is the name of the KesCluster, so that nobody copies it
/// from one to another by mistake. It counts while the deletion waits: what was said before it was asked for is taken back,
/// so that no later deletion finds it.
pub(crate) const ACKNOWLEDGE_DELETION: &str = "kes-operator.io/acknowledge-deletion";

/// A tenant by namespace and name.
pub(crate) type TenantRef = (String, String);

/// The requests of one `KesCluster`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Requests {
    pub(crate) approve: BTreeSet<TenantRef>,
    pub(crate) unwire: BTreeSet<TenantRef>,
    pub(crate) delete: bool,
}

impl Requests {
    pub(crate) fn of(cluster: &str, annotations: &BTreeMap<String, String>) -> Self {
        let list = |name: &str| annotations.get(name).map(|text| tenants(text)).unwrap_or_default();
        Self {
            approve: list(APPROVE_RESTART),
            unwire: list(UNWIRE),
            delete: annotations.get(ACKNOWLEDGE_DELETION).is_some_and(|name| name == cluster),
        }
    }

    /// Takes back an acknowledgement of a deletion that nobody asks for.
    pub(crate) fn void(
        annotations: &BTreeMap<String, String>,
        is_deleting: bool,
    ) -> BTreeMap<&'static str, Option<String>> {
        let stands = !is_deleting && annotations.contains_key(ACKNOWLEDGE_DELETION);
        stands.then_some((ACKNOWLEDGE_DELETION, None)).into_iter().collect()
    }

    /// The annotations that are left when what was done is taken out; `None` removes one. An approval is spent when the
    /// tenant runs with what was approved, so that it does not count for the next change.
    pub(crate) fn rest(
        &self,
        annotations: &BTreeMap<String, String>,
        tenants: &[TenantStatus],
        is_wanted: impl Fn(&TenantRef) -> bool,
    ) -> BTreeMap<&'static str, Option<String>> {
        let find = |(namespace, name): &TenantRef| {
            tenants.iter().find(|tenant| tenant.namespace == *namespace && tenant.name == *name)
        };
        let open_approval = |tenant: &&TenantRef| {
            // one that was not seen yet may have been approved together with the spec that names it
            find(tenant).map_or_else(
                || is_wanted(tenant),
                |known| {
                    known.phase != TenantPhase::Verified
                        && known
                            .injected
                            .as_ref()
                            .is_none_or(|injected| !injected.approved || injected.intended)
                },
            )
        };
        let open_unwiring = |tenant: &&TenantRef| find(tenant).is_some();
        let mut rest = BTreeMap::new();
        let approve: BTreeSet<_> = self.approve.iter().filter(open_approval).collect();
        let unwire: BTreeSet<_> = self.unwire.iter().filter(open_unwiring).collect();
        for (name, before, after) in
            [(APPROVE_RESTART, self.approve.len(), approve), (UNWIRE, self.unwire.len(), unwire)]
        {
            if annotations.contains_key(name) && (after.len() != before || before == 0) {
                let words: Vec<_> =
                    after.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
                rest.insert(name, Some(words.join(", ")).filter(|text| !text.is_empty()));
            }
        }
        rest
    }
}

/// Items that are no `namespace/name` are left out: they name nobody.
fn tenants(text: &str) -> BTreeSet<TenantRef> {
    let pairs = text.split(',').filter_map(|item| item.trim().split_once('/'));
    pairs
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'))
        .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn annotations(name: &str, text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), text.to_owned())])
    }

    fn tenant(name: &str, phase: &str, approved: bool) -> TenantStatus {
        serde_json::from_value(json!({"namespace": "n", "name": name, "phase": phase, "reason": "", "message": "",
            "since": "2026-11-25T10:00:00Z",
            "injected": {"endpoint": "e", "keyName": "k", "mount": "ClientCertSecrets", "path": "p", "approved": approved}}))
        .unwrap()
    }

    #[test]
    fn tenants_are_read_with_or_without_blanks_and_nonsense_names_nobody() {
        let requests = Requests::of("vault", &annotations(UNWIRE, "a/b,c/d , x, /y, z/, n/m/o"));
        let pair = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        assert_eq!(requests.unwire, [pair("a", "b"), pair("c", "d")].into());
    }

    #[test]
    fn deletion_is_acknowledged_by_the_very_name_only() {
        let acknowledged = |text| Requests::of("vault", &annotations(ACKNOWLEDGE_DELETION, text)).delete;
        assert!(acknowledged("vault"));
        assert!(!acknowledged("true") && !acknowledged("other") && !acknowledged(""));
    }

    #[test]
    fn an_acknowledgement_counts_only_while_a_deletion_waits() {
        let text = annotations(ACKNOWLEDGE_DELETION, "vault");
        assert_eq!(Requests::void(&text, false), BTreeMap::from([(ACKNOWLEDGE_DELETION, None)]));
        assert!(Requests::void(&text, true).is_empty());
        assert!(Requests::void(&BTreeMap::new(), false).is_empty());
    }

    #[test]
    fn what_was_done_is_taken_out_of_the_annotation() {
        let text = annotations(APPROVE_RESTART, "n/open, n/running, n/done, n/unknown");
        let requests = Requests::of("vault", &text);
        let tenants = [
            tenant("open", "Prepared", false),
            tenant("running", "Restarting", true),
            tenant("done", "Verified", false),
        ];
        assert_eq!(
            requests.rest(&text, &tenants, |_| false),
            BTreeMap::from([(APPROVE_RESTART, Some("n/open".into()))])
        );
        // what was only meant to be sent may have to be sent again
        let text = annotations(APPROVE_RESTART, "n/meant");
        let mut meant = tenant("meant", "Prepared", true);
        meant.injected.as_mut().unwrap().intended = true;
        assert!(Requests::of("vault", &text).rest(&text, &[meant], |_| false).is_empty());
        // approved together with the spec that names it, before the first pass
        let early = annotations(APPROVE_RESTART, "n/new");
        let is_new = |tenant: &TenantRef| tenant.1 == "new";
        assert!(Requests::of("vault", &early).rest(&early, &tenants, is_new).is_empty());
        let text = annotations(UNWIRE, "n/gone");
        let requests = Requests::of("vault", &text);
        assert_eq!(requests.rest(&text, &tenants, |_| false), BTreeMap::from([(UNWIRE, None)]));
        let text = annotations(UNWIRE, "n/open");
        assert!(Requests::of("vault", &text).rest(&text, &tenants, |_| false).is_empty());
    }
}
