//! Places for changes on their way, which run on when their client goes away: a client's own limits do not bound them.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::route::Route;

/// Changes with a body have places of their own: whoever withholds bodies keeps nobody from deleting an identity.
pub(super) struct Changes {
    /// Of each kind.
    places: u32,
    with_body: Arc<Semaphore>,
    without: Arc<Semaphore>,
}

impl Changes {
    pub(super) fn new(places: u32) -> Self {
        let semaphore = || Arc::new(Semaphore::new(places as usize));
        Self { places, with_body: semaphore(), without: semaphore() }
    }

    /// The places for changes of `route`.
    pub(super) fn of(&self, route: &Route) -> Arc<Semaphore> {
        Arc::clone(if route.max_body > 0 { &self.with_body } else { &self.without })
    }

    /// Waits until no change is on its way, and lets none begin any more.
    pub(super) async fn over(&self) {
        for semaphore in [&self.with_body, &self.without] {
            // an error says that this was done before
            let _ = semaphore.acquire_many(self.places).await;
            semaphore.close();
        }
    }

    /// Whether nothing is on its way.
    #[cfg(test)]
    pub(super) fn is_quiet(&self) -> bool {
        [&self.with_body, &self.without].iter().all(|s| s.available_permits() == self.places as usize)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::{super::route, *};

    fn route(path: &str) -> &'static Route {
        route::find(path).unwrap().route
    }

    #[tokio::test]
    async fn whoever_withholds_bodies_keeps_nobody_from_changes_without_one() {
        let changes = Changes::new(2);
        let import = changes.of(route("/v1/key/import/k"));
        let _held = [import.try_acquire().unwrap(), import.try_acquire().unwrap()];
        assert!(import.try_acquire().is_err());
        drop(changes.of(route("/v1/identity/delete/i")).try_acquire().unwrap());
        drop(changes.of(route("/v1/key/create/k")).try_acquire().unwrap());
    }

    #[tokio::test]
    async fn over_waits_for_what_is_on_its_way_and_lets_nothing_begin() {
        let changes = Changes::new(2);
        let create = changes.of(route("/v1/key/create/k"));
        let held = create.try_acquire().unwrap();
        let mut over = Box::pin(changes.over());
        assert!(over.as_mut().now_or_never().is_none());
        assert!(!changes.is_quiet());
        drop(held);
        over.await;
        assert!(create.try_acquire().is_err());
    }
}
