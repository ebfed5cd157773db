//! The lease: of all operators that watch the same resources one acts, and it ends the moment it may no longer.
//!
//! The rules are those of client-go: every write is guarded by the version that was read; a lease has expired when
//! *we* have seen nothing change in it for its duration, so that clocks of other machines do not matter; who holds it
//! gives up before the others may take it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::Instant;

use super::names;

/// How long a lease that is not renewed keeps others out.
const DURATION: Duration = Duration::from_secs(15);
/// The holder gives up when it could not renew for this long; the rest is for clocks that run unevenly.
const DEADLINE: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(4);
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// No call hangs longer than this, whatever the client tries.
const CALL_LIMIT: Duration = Duration::from_secs(3);

/// Why the lease is not ours any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("{holder} holds the lease now")]
    Taken { holder: String },
    #[error("it could not be renewed for {DEADLINE:?}: {why}")]
    NotRenewed { why: String },
}

/// What to do about a lease as it was just read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    /// Nobody ever held it.
    Create,
    /// It is free, expired, or ours already.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// What is the same as long as the holder does not renew.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Mark {
    holder: String,
    renewed: Option<MicroTime>,
    transitions: i32,
}

impl Mark {
    fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            renewed: spec.renew_time,
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }
}

/// Decides. `unchanged_for` is how long this process has seen the lease as it is.
fn judge(lease: Option<&Lease>, me: &str, unchanged_for: Duration) -> Turn {
    let Some(lease) = lease else { return Turn::Create };
    let spec = lease.spec.clone().unwrap_or_default();
    let duration = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    match spec.holder_identity.as_deref().unwrap_or_default() {
        "" => Turn::Take,
        holder if holder == me => Turn::Take,
        _ if unchanged_for >= Duration::from_secs(duration) => Turn::Take,
        _ => Turn::Wait,
    }
}

/// The lease after `me` took or renewed it.
fn held_by(before: Option<&Lease>, name: &str, me: &str, now: Timestamp) -> Lease {
    let old = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let was_mine = old.holder_identity.as_deref() == Some(me);
    let transitions = old.lease_transitions.unwrap_or_default();
    Lease {
        metadata: before.map_or_else(
            || ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            |lease| lease.metadata.clone(),
        ),
        spec: Some(LeaseSpec {
            holder_identity: Some(me.into()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if was_mine { old.acquire_time } else { Some(MicroTime(now)) },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if was_mine || before.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }),
    }
}

/// One operator's part in the contest.
pub(crate) struct Contender {
    api: Api<Lease>,
    name: String,
    me: String,
    now: fn() -> Timestamp,
}

/// The lease while it is ours.
pub(crate) struct Held {
    contender: Contender,
    lease: Lease,
    renewed: Instant,
}

impl Contender {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, me: String) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.into(), me, now: Timestamp::now }
    }

    /// Waits until the lease is ours.
    pub(crate) async fn acquire(self) -> Held {
        let mut mark = Mark::default();
        let mut since = Instant::now();
        let mut told = String::new();
        loop {
            match self.attempt(&mut mark, &mut since).await {
                Ok(Some(lease)) => {
                    tracing::info!(me = self.me, "this operator holds the lease and acts");
                    return Held { contender: self, lease, renewed: Instant::now() };
                }
                Ok(None) if mark.holder != told => {
                    told = mark.holder.clone();
                    tracing::info!(holder = told, "another operator holds the lease; waiting for it");
                }
                Ok(None) => {}
                Err(why) => tracing::warn!(why, "failed to look at the lease; trying again"),
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// One look; the lease if it is ours now.
    async fn attempt(&self, mark: &mut Mark, since: &mut Instant) -> Result<Option<Lease>, String> {
        let found = limited(self.api.get_opt(&self.name)).await?;
        if let Some(found) = &found
            && Mark::of(found) != *mark
        {
            *mark = Mark::of(found);
            *since = Instant::now();
        }
        let wanted = || held_by(found.as_ref(), &self.name, &self.me, (self.now)());
        let written = match judge(found.as_ref(), &self.me, since.elapsed()) {
            Turn::Wait => return Ok(None),
            Turn::Create => limited(self.api.create(&params(), &wanted())).await,
            Turn::Take => limited(self.api.replace(&self.name, &params(), &wanted())).await,
        };
        match written {
            Ok(lease) => Ok(Some(lease)),
            // somebody was faster
            Err(Refusal { code: Some(409), .. }) => Ok(None),
            Err(refusal) => Err(refusal.text),
        }
    }
}

impl Held {
    /// Renews until that fails; the answer says why. The process must end then: others may act at any moment.
    pub(crate) async fn keep(&mut self) -> Lost {
        let mut pause = RENEW_EVERY;
        loop {
            tokio::time::sleep(pause).await;
            match self.renew().await {
                Ok(()) => pause = RENEW_EVERY,
                Err(Failed::Taken { holder }) => return Lost::Taken { holder },
                Err(Failed::Call { why }) if self.renewed.elapsed() >= DEADLINE => {
                    return Lost::NotRenewed { why };
                }
                Err(Failed::Call { why }) => {
                    tracing::warn!(why, "failed to renew the lease; trying again");
                    pause = RETRY_EVERY / 2;
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Failed> {
        let Contender { api, name, me, now } = &self.contender;
        let wanted = held_by(Some(&self.lease), name, me, now());
        match limited(api.replace(name, &params(), &wanted)).await {
            Ok(lease) => {
                self.lease = lease;
                self.renewed = Instant::now();
                Ok(())
            }
            // an answer to us was lost, or it was taken: look
            Err(Refusal { code: Some(409 | 404), .. }) => {
                let found = limited(api.get_opt(name)).await.map_err(Failed::from)?;
                let mark = found.as_ref().map(Mark::of).unwrap_or_default();
                if mark.holder == *me
                    && let Some(found) = found
                {
                    self.lease = found;
                    return Err(Failed::Call { why: "the lease was written at the same time".into() });
                }
                Err(Failed::Taken {
                    holder: if mark.holder.is_empty() { "nobody".into() } else { mark.holder },
                })
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Gives it back, so that the next one need not wait for it to expire.
    pub(crate) async fn release(self) {
        let Self { contender: Contender { api, name, .. }, mut lease, renewed: _ } = self;
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        match limited(api.replace(&name, &params(), &lease)).await {
            Ok(_) => tracing::info!("gave the lease back"),
            Err(refusal) => tracing::warn!(why = refusal.text, "failed to give the lease back; it expires"),
        }
    }
}

enum Failed {
    Taken { holder: String },
    Call { why: String },
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Call { why: refusal.text }
    }
}

/// A call that did not succeed in time.
struct Refusal {
    code: Option<u16>,
    text: String,
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> Self {
        refusal.text
    }
}

async fn limited<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Refusal> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => {
            Err(Refusal { code: Some(status.code), text: status.message.clone() })
        }
        Ok(Err(error)) => Err(Refusal { code: None, text: error.to_string() }),
        Err(_) => Err(Refusal { code: None, text: format!("no answer within {CALL_LIMIT:?}") }),
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operator::fake_api::FakeApi;

    const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/ops/leases/kes-operator";

    fn contender(api: &FakeApi, me: &str) -> Contender {
        Contender::new(api.client(), "ops", "kes-operator", me.into())
    }

    fn lease(holder: &str) -> Lease {
        serde_json::from_value(json!({"metadata": {"name": "kes-operator"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2026-11-24T10:00:00.000000Z"}}))
        .unwrap()
    }

    fn holder(api: &FakeApi) -> String {
        api.get(PATH).unwrap()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_lease_is_taken_only_when_it_is_free_ours_or_long_unchanged() {
        let second = Duration::from_secs;
        for (found, unchanged_for, turn) in [
            (None, second(0), Turn::Create),
            (Some(lease("")), second(0), Turn::Take),
            (Some(lease("me")), second(0), Turn::Take),
            (Some(lease("other")), second(14), Turn::Wait),
            (Some(lease("other")), second(15), Turn::Take),
        ] {
            assert_eq!(judge(found.as_ref(), "me", unchanged_for), turn, "{found:?}");
        }
    }

    #[test]
    fn taking_counts_as_a_transition_and_renewing_does_not() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mine = held_by(Some(&lease("other")), "kes-operator", "me", at(10)).spec.unwrap();
        assert_eq!((mine.lease_transitions, mine.acquire_time.clone()), (Some(1), Some(MicroTime(at(10)))));
        let taken = Lease { spec: Some(mine), ..Lease::default() };
        let renewed = held_by(Some(&taken), "kes-operator", "me", at(20)).spec.unwrap();
        assert_eq!(
            (renewed.lease_transitions, renewed.acquire_time, renewed.renew_time),
            (Some(1), Some(MicroTime(at(10))), Some(MicroTime(at(20))))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_operator_acts_only_after_the_first_gave_the_lease_back() {
        let api = FakeApi::default();
        let first = contender(&api, "one").acquire().await;
        let second = tokio::spawn(contender(&api, "two").acquire());
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!second.is_finished());
        first.release().await;
        second.await.unwrap();
        assert_eq!(holder(&api), "two");
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_renews_is_never_overtaken_and_one_that_is_silent_is() {
        let api = FakeApi::default();
        let mut first = contender(&api, "one").acquire().await;
        let second = tokio::spawn(contender(&api, "two").acquire());
        let kept = tokio::time::timeout(Duration::from_secs(120), first.keep()).await;
        assert!(kept.is_err() && !second.is_finished(), "it renews for two minutes");
        let silent_since = Instant::now();
        second.await.unwrap();
        assert!(silent_since.elapsed() >= DURATION - RENEW_EVERY, "{:?}", silent_since.elapsed());
        let Lost::Taken { holder } = first.keep().await else { panic!("the first must notice") };
        assert_eq!(holder, "two");
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_cannot_renew_gives_up_before_others_may_act() {
        let api = FakeApi::default();
        let mut held = contender(&api, "one").acquire().await;
        api.refuse_writes(true);
        let began = Instant::now();
        let lost = held.keep().await;
        assert!(matches!(lost, Lost::NotRenewed { .. }), "{lost}");
        assert!(began.elapsed() < DURATION, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_come_at_once_one_wins() {
        let api = FakeApi::default();
        let (one, two) = (contender(&api, "one"), contender(&api, "two"));
        let (mut mark, mut since) = (Mark::default(), Instant::now());
        let (mut mark_two, mut since_two) = (Mark::default(), Instant::now());
        let (first, second) =
            tokio::join!(one.attempt(&mut mark, &mut since), two.attempt(&mut mark_two, &mut since_two));
        let wins = [first, second].into_iter().filter(|outcome| matches!(outcome, Ok(Some(_)))).count();
        assert_eq!(wins, 1);
    }
}
