//! Watches what we make of kinds that not every API server knows, and notices when a kind is installed later. It triggers passes.

use std::{collections::HashMap, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, PartialObjectMeta},
    runtime::watcher::{self, Event, watcher},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    cluster::build::{CERTIFICATE, Kind, PROMETHEUS_RULE, SERVICE_MONITOR},
    controller, names,
};

/// How often it is asked whether a kind exists, and the pause after a broken watch.
const PAUSE: Duration = Duration::from_secs(10);
/// Changes that come together make one round of passes: what changes here is never urgent.
const GATHER: Duration = Duration::from_secs(2);

type Found = PartialObjectMeta<DynamicObject>;

/// One item per change of an object of ours by somebody else, and per kind that was installed. What appears is none: we have
/// just made it.
pub(crate) fn watch(
    context: Context,
    namespace: Option<String>,
    stop: CancellationToken,
) -> impl Stream<Item = ()> + Send + 'static {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let kinds = [&SERVICE_MONITOR, &PROMETHEUS_RULE, &CERTIFICATE];
        let following = kinds.map(|kind| follow(&context, kind, namespace.as_deref(), &sender));
        tokio::select! {
            () = stop.cancelled() => {}
            () = sender.closed() => {}
            _ = futures::future::join_all(following) => {}
        }
    });
    controller::ticks(receiver)
}

async fn follow(context: &Context, kind: &'static Kind, namespace: Option<&str>, sender: &mpsc::Sender<()>) {
    let mut absent = false;
    loop {
        let served = context.serves_now(kind.group_version(), kind.plural).await;
        if served {
            if absent {
                tracing::info!(kind = kind.plural, "a kind that was not there is there now");
                let _ = sender.try_send(());
            }
            if follow_once(context, kind, namespace, sender).await {
                context.metrics.watch_broke();
            }
        }
        absent = !served;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Follows until the watch breaks, as it does when the kind goes. Whether it had begun at all: the right is optional.
async fn follow_once(
    context: &Context,
    kind: &Kind,
    namespace: Option<&str>,
    sender: &mpsc::Sender<()>,
) -> bool {
    let (client, resource) = (context.client.clone(), kind.resource());
    let api: Api<Found> = match namespace {
        None => Api::all_with(client, &resource),
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
    };
    let mut known = Known::default();
    let config = watcher::Config::default().labels(names::MANAGED_SELECTOR);
    let mut stream = std::pin::pin!(watcher(api, config));
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                if known.is_changed_by(event) {
                    tokio::time::sleep(GATHER).await;
                    // one that is not taken yet says the same
                    let _ = sender.try_send(());
                }
            }
            Err(error) => {
                tracing::debug!(%error, kind = kind.plural, "a watch broke");
                return known.begun;
            }
        }
    }
    known.begun
}

/// What decides whether an object is as we left it.
type Shape = (Option<i64>, std::collections::BTreeMap<String, String>);

/// The objects that were seen. Pure.
#[derive(Default)]
struct Known {
    begun: bool,
    objects: HashMap<String, Shape>,
    /// While a list comes in: what it has so far.
    listed: HashMap<String, Shape>,
}

impl Known {
    /// Whether an object that was there has changed or gone. A deletion is also one when it was missed by the watch and is
    /// found out by the next list.
    fn is_changed_by(&mut self, event: Event<Found>) -> bool {
        match event {
            Event::Init => {
                self.listed.clear();
                false
            }
            Event::InitApply(object) => {
                let (uid, shape) = shape(&object);
                self.listed.insert(uid, shape);
                false
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut self.objects, std::mem::take(&mut self.listed));
                self.begun = true;
                before.iter().any(|(uid, shape)| self.objects.get(uid) != Some(shape))
            }
            Event::Apply(object) => {
                let (uid, shape) = shape(&object);
                self.objects.insert(uid, shape.clone()).is_some_and(|before| before != shape)
            }
            Event::Delete(object) => self.objects.remove(&shape(&object).0).is_some(),
        }
    }
}

fn shape(object: &Found) -> (String, Shape) {
    (object.uid().unwrap_or_default(), (object.metadata.generation, object.labels().clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(uid: &str, generation: i64, label: &str) -> Found {
        serde_json::from_value(json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
            "metadata": {"name": uid, "uid": uid, "generation": generation, "labels": {"a": label}}}))
        .unwrap()
    }

    fn known(objects: &[Found]) -> Known {
        let mut known = Known::default();
        assert!(!known.is_changed_by(Event::Init));
        for object in objects {
            assert!(!known.is_changed_by(Event::InitApply(object.clone())));
        }
        assert!(!known.is_changed_by(Event::InitDone), "what is there at the beginning is no change");
        known
    }

    #[test]
    fn what_somebody_edits_or_deletes_is_a_change_and_what_appears_is_none() {
        let mut known = known(&[object("a", 1, "x")]);
        assert!(!known.is_changed_by(Event::Apply(object("a", 1, "x"))), "only its status");
        assert!(known.is_changed_by(Event::Apply(object("a", 2, "x"))), "its spec");
        assert!(known.is_changed_by(Event::Apply(object("a", 2, "y"))), "its labels");
        assert!(!known.is_changed_by(Event::Apply(object("b", 1, "x"))), "we have made it");
        assert!(known.is_changed_by(Event::Delete(object("b", 1, "x"))));
        assert!(!known.is_changed_by(Event::Delete(object("b", 1, "x"))), "told once");
    }

    #[test]
    fn what_was_missed_while_the_watch_was_broken_is_found_by_the_next_list() {
        let relist = |known: &mut Known, objects: &[Found]| {
            known.is_changed_by(Event::Init);
            for object in objects {
                known.is_changed_by(Event::InitApply(object.clone()));
            }
            known.is_changed_by(Event::InitDone)
        };
        let mut known = known(&[object("a", 1, "x"), object("b", 1, "x")]);
        assert!(!relist(&mut known, &[object("b", 1, "x"), object("a", 1, "x"), object("c", 1, "x")]));
        assert!(relist(&mut known, &[object("a", 1, "x"), object("c", 1, "x")]), "b is gone");
        assert!(relist(&mut known, &[object("a", 2, "x"), object("c", 1, "x")]), "a was edited");
    }
}
