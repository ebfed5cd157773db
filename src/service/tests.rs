//! The rules, against a real directory, log and records.

use std::sync::Arc;

use super::*;
use crate::{
    api::{ApiError, KeyName, PolicyName},
    authz::authorize,
    crypto::seal::File,
    store::{Change, Kind, Outcome, RecordKey},
    world::System,
};

struct World {
    dir: tempfile::TempDir,
}

const SYSTEM: &str = "system-admin";
const ADMIN: &str = "enclave-admin";

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("unseal"), "dzbJd+OH71qeASPi7FUrNu7LKHhLl06Ylpu0V8gfBPg=").unwrap();
        Self { dir }
    }

    fn setup(&self, seal: &str) -> Setup {
        Setup {
            dir: self.dir.path().join("data"),
            seal: Arc::new(File::new(self.dir.path().join(seal))),
            previous_seal: None,
            await_bootstrap: None,
            layout: Layout::Raw,
            cached_keys: CACHED_KEYS,
            clock: Arc::new(System),
            random: Arc::new(System),
        }
    }

    async fn init(&self) {
        let plan = bootstrap::Plan {
            cluster_id: Some("c1".into()),
            system_admin: name(SYSTEM),
            settings: serde_json::Value::Null,
            enclaves: vec![bootstrap::EnclavePlan {
                name: name("default"),
                admin: name(ADMIN),
                policies: vec![(
                    name("app"),
                    message::Policy { allow: vec!["/v1/key/generate/k".into()], ..Default::default() },
                    vec![name("app-1")],
                )],
            }],
        };
        bootstrap::create(&self.setup("unseal"), plan).await.unwrap();
    }

    async fn open(&self) -> Service {
        Service::open(self.setup("unseal")).await.unwrap()
    }
}

/// Calls `f` with the proof that `who` may do `A` on `path`, or says that it may not.
macro_rules! may {
    ($service:expr, $who:expr, $enclave:expr, $action:ty, $path:expr) => {{
        let (who, enclave): (&'static Identity, &'static EnclaveName) =
            (Box::leak(Box::new(name($who))), Box::leak(Box::new(name($enclave))));
        $service
            .with_role(enclave, who, |role| authorize::<$action>(who, enclave, role, $path))
            .map_err(|e| e.to_api())
            .and_then(|r| r.map_err(|_| ApiError::NOT_ALLOWED))
    }};
}

async fn create(service: &Service, enclave: &str, key: &str) -> Result<(), ApiError> {
    let proof = may!(service, ADMIN, enclave, action::CreateKey, "/v1/key/create/x")?;
    service.create_key(&proof, &name(key)).await.map_err(|e| e.to_api())
}

fn describe(service: &Service, key: &str) -> Result<message::KeyInfo, ApiError> {
    let proof = may!(service, ADMIN, "default", action::DescribeKey, "/v1/key/describe/x")?;
    service.describe_key(&proof, &name(key)).map_err(|e| e.to_api())
}

#[tokio::test(flavor = "multi_thread")]
async fn create_never_overwrites_not_even_after_a_restart_with_a_cold_cache() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    create(&service, "default", "k").await.unwrap();
    let id = describe(&service, "k").unwrap().id;
    assert_eq!(create(&service, "default", "k").await, Err(ApiError::KEY_EXISTS));
    service.close().await;
    drop(service);
    let service = world.open().await;
    assert_eq!(create(&service, "default", "k").await, Err(ApiError::KEY_EXISTS));
    assert_eq!(describe(&service, "k").unwrap().id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_creators_of_one_name_exactly_one_wins() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    let results = futures::future::join_all((0..64).map(|_| create(&service, "default", "k"))).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    assert!(results.into_iter().all(|r| r.is_ok() || r == Err(ApiError::KEY_EXISTS)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_binds_an_identity_to_its_enclave_and_its_paths() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    create(&service, "default", "k").await.unwrap();
    let generate = |who, path| may!(service, who, "default", action::GenerateKey, path).map(|_| ());
    assert_eq!(generate("app-1", "/v1/key/generate/k"), Ok(()));
    assert_eq!(generate("app-1", "/v1/key/generate/other"), Err(ApiError::NOT_ALLOWED));
    assert_eq!(generate("nobody", "/v1/key/generate/k"), Err(ApiError::NOT_ALLOWED));
    assert_eq!(generate(SYSTEM, "/v1/key/generate/k"), Err(ApiError::NOT_ALLOWED));
    let elsewhere = may!(service, "app-1", "other", action::GenerateKey, "/v1/key/generate/k").map(|_| ());
    assert_eq!(elsewhere, Err(ApiError::ENCLAVE_NOT_FOUND));
    // a policy that goes takes the rights with it
    let proof = may!(service, ADMIN, "default", action::DeletePolicy, "/v1/policy/delete/app").unwrap();
    service.delete_policy(&proof, &name::<PolicyName>("app")).await.unwrap();
    assert_eq!(generate("app-1", "/v1/key/generate/k"), Err(ApiError::NOT_ALLOWED));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_encrypted_is_read_again_and_only_with_its_key_and_context() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    for key in ["k", "other"] {
        create(&service, "default", key).await.unwrap();
    }
    let proof = may!(service, ADMIN, "default", action::GenerateKey, "/v1/key/generate/k").unwrap();
    let data_key = service.generate(&proof, &name("k"), b"{}").unwrap();
    let proof = may!(service, ADMIN, "default", action::DecryptKey, "/v1/key/decrypt/k").unwrap();
    let decrypt = |key: &str, context: &[u8]| {
        service
            .decrypt(&proof, &name::<KeyName>(key), data_key.ciphertext.as_ref(), context)
            .map(|p| p.to_vec())
            .map_err(|e| e.to_api())
    };
    assert_eq!(decrypt("k", b"{}"), Ok(data_key.plaintext.as_ref().to_vec()));
    assert_eq!(decrypt("k", b""), Err(ApiError::DECRYPT));
    assert_eq!(decrypt("other", b"{}"), Err(ApiError::DECRYPT));
    assert_eq!(decrypt("missing", b"{}"), Err(ApiError::KEY_NOT_FOUND));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_is_gone_at_once_and_its_name_is_free() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    create(&service, "default", "k").await.unwrap();
    let old = describe(&service, "k").unwrap().id;
    let proof = may!(service, ADMIN, "default", action::DeleteKey, "/v1/key/delete/k").unwrap();
    service.delete_key(&proof, &name("k")).await.unwrap();
    assert_eq!(describe(&service, "k").unwrap_err(), ApiError::KEY_NOT_FOUND);
    create(&service, "default", "k").await.unwrap();
    assert_ne!(describe(&service, "k").unwrap().id, old);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enclave_made_anew_under_an_old_name_knows_no_old_key() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    create(&service, "default", "k").await.unwrap();
    describe(&service, "k").unwrap();
    let proof =
        may!(service, SYSTEM, "default", action::DeleteEnclave, "/v1/enclave/delete/default").unwrap();
    service.delete_enclave(&proof, &name("default")).await.unwrap();
    assert_eq!(describe(&service, "k").unwrap_err(), ApiError::ENCLAVE_NOT_FOUND);
    let proof =
        may!(service, SYSTEM, "default", action::CreateEnclave, "/v1/enclave/create/default").unwrap();
    service.create_enclave(&proof, &name("default"), &name(ADMIN)).await.unwrap();
    assert_eq!(describe(&service, "k").unwrap_err(), ApiError::KEY_NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_unseal_key_is_refused_and_the_right_one_still_works() {
    let world = World::new();
    world.init().await;
    std::fs::write(world.dir.path().join("wrong"), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    assert!(matches!(Service::open(world.setup("wrong")).await, Err(Error::Seal(_))));
    assert!(matches!(Service::open(world.setup("missing")).await, Err(Error::Seal(_))));
    let service = world.open().await;
    create(&service, "default", "k").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_directory_waits_for_its_bootstrap_and_is_bootstrapped_once() {
    let world = World::new();
    let setup = || Setup { await_bootstrap: Some(name(SYSTEM)), ..world.setup("unseal") };
    let service = Service::open(setup()).await.unwrap();
    assert_eq!(service.state(), State::Uninitialised);
    let proof = may!(service, SYSTEM, "default", action::Bootstrap, "/v1/sys/bootstrap").unwrap();
    assert!(may!(service, ADMIN, "default", action::Bootstrap, "/v1/sys/bootstrap").is_err());
    service.bootstrap(&proof, "c9").await.unwrap();
    assert_eq!(service.state(), State::Ready);
    service.bootstrap(&proof, "c9").await.unwrap();
    assert!(matches!(service.bootstrap(&proof, "c8").await, Err(Error::OtherCluster)));
    service.close().await;
    drop(service);
    let service = Service::open(setup()).await.unwrap();
    assert_eq!(service.state(), State::Ready);
}

/// An open that fails after the directory was made, e.g. since memory runs out, must not need a person.
#[tokio::test]
async fn a_bootstrap_that_was_broken_off_is_completed_by_asking_again() {
    let world = World::new();
    let setup = || Setup { await_bootstrap: Some(name(SYSTEM)), ..world.setup("unseal") };
    let service = Service::open(setup()).await.unwrap();
    let proof = may!(service, SYSTEM, "default", action::Bootstrap, "/v1/sys/bootstrap").unwrap();
    let plan = bootstrap::Plan {
        cluster_id: Some("c9".into()),
        system_admin: name(SYSTEM),
        settings: serde_json::Value::Null,
        enclaves: Vec::new(),
    };
    bootstrap::create(&setup(), plan).await.unwrap();
    assert!(service.bootstrap(&proof, "c8").await.is_err(), "it is another's");
    service.bootstrap(&proof, "c9").await.unwrap();
    assert_eq!(service.state(), State::Ready);
    service.close().await;
}

/// Its caller's time limit may end before it does.
#[tokio::test]
async fn a_bootstrap_goes_on_when_nobody_waits_for_it() {
    let world = World::new();
    let setup = Setup { await_bootstrap: Some(name(SYSTEM)), ..world.setup("unseal") };
    let service = Service::open(setup).await.unwrap();
    let proof = may!(service, SYSTEM, "default", action::Bootstrap, "/v1/sys/bootstrap").unwrap();
    {
        let mut asked = Box::pin(service.bootstrap(&proof, "c9"));
        assert!(futures::poll!(&mut asked).is_pending());
    }
    while service.state() != State::Ready {
        tokio::task::yield_now().await;
    }
    service.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_of_a_deleted_enclave_gets_into_a_later_one_of_its_name() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    let creators = (0..8).map(|creator| {
        let service = service.clone();
        tokio::spawn(async move {
            let mut refused = 0;
            for n in 0..200 {
                match create(&service, "default", &format!("k-{creator}-{n}")).await {
                    Ok(()) => {}
                    Err(error) if error == ApiError::ENCLAVE_NOT_FOUND => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            refused
        })
    });
    let creators: Vec<_> = creators.collect();
    for _ in 0..20 {
        let proof = may!(service, SYSTEM, "default", action::DeleteEnclave, "/v1/enclave/delete/default");
        service.delete_enclave(&proof.unwrap(), &name("default")).await.unwrap();
        let proof = may!(service, SYSTEM, "default", action::CreateEnclave, "/v1/enclave/create/default");
        service.create_enclave(&proof.unwrap(), &name("default"), &name(ADMIN)).await.unwrap();
    }
    let mut refused = 0;
    for creator in creators {
        refused += creator.await.unwrap();
    }
    // each key that is there was made for this enclave: it opens
    let proof = may!(service, ADMIN, "default", action::ListKeys, "/v1/key/list/").unwrap();
    let pages = service.list_keys(&proof, "*").unwrap();
    let names: Vec<_> = pages.flat_map(Result::unwrap).map(|info| info.name).collect();
    for key in &names {
        describe(&service, key.as_str()).unwrap();
    }
    assert!(refused + names.len() <= 1600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_sealed_for_an_enclave_that_is_gone_is_refused() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    let core = service.core().unwrap();
    let old = core.view.get(&name("default")).unwrap();
    let proof = may!(service, SYSTEM, "default", action::DeleteEnclave, "/v1/enclave/delete/default");
    service.delete_enclave(&proof.unwrap(), &name("default")).await.unwrap();
    let proof = may!(service, SYSTEM, "default", action::CreateEnclave, "/v1/enclave/create/default");
    service.create_enclave(&proof.unwrap(), &name("default"), &name(ADMIN)).await.unwrap();
    for kind in Kind::OF_ENCLAVE {
        let key = RecordKey::of_enclave(kind, old.id, "late");
        let change = Change::Create { key, value: vec![1] };
        assert_eq!(core.consensus.propose(change).await.unwrap(), Outcome::NoEnclave);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_refused_with_an_id_and_hides_nothing_else_also_after_a_restart() {
    let world = World::new();
    world.init().await;
    let mut service = world.open().await;
    let core = service.core().unwrap();
    let id = core.view.get(&name("default")).unwrap().id;
    for key in ["good", "bad"] {
        create(&service, "default", key).await.unwrap();
    }
    let assign = |service: Service, who: &'static str, policy: &'static str| async move {
        let proof = may!(service, ADMIN, "default", action::AssignPolicy, "/v1/policy/assign/x").unwrap();
        service.assign_policy(&proof, &name(policy), &name(who)).await.unwrap();
    };
    for (who, policy) in [("app-2", "app"), ("app-3", "broken")] {
        assign(service.clone(), who, policy).await;
    }
    for (kind, name) in [(Kind::Key, "bad"), (Kind::Policy, "broken"), (Kind::Identity, "app-2")] {
        let key = RecordKey::of_enclave(kind, id, name);
        core.consensus.propose(Change::Put { key, value: vec![1; 60] }).await.unwrap();
    }
    let enclave = RecordKey::of_cluster(Kind::Enclave, "torn");
    core.consensus.propose(Change::Put { key: enclave, value: vec![1; 60] }).await.unwrap();
    drop(core);
    let damaged = |error: &ApiError| error.status() == 500 && error.message().contains("(id ");
    let counted = damaged_records_met();
    for _ in 0..2 {
        describe(&service, "good").unwrap();
        assert!(damaged(&describe(&service, "bad").unwrap_err()));
        let role = |who, enclave| may!(service, who, enclave, action::GenerateKey, "/v1/key/generate/k");
        assert!(role("app-1", "default").is_ok());
        assert!(damaged(&role("app-2", "default").map(|_| ()).unwrap_err()), "identity");
        assert!(damaged(&role("app-3", "default").map(|_| ()).unwrap_err()), "policy");
        assert!(damaged(&role(ADMIN, "torn").map(|_| ()).unwrap_err()), "enclave");
        service.close().await;
        drop(service);
        service = world.open().await;
    }
    assert!(damaged_records_met() >= counted + 8, "each is counted");
    // writing it anew heals it
    assign(service.clone(), "app-2", "app").await;
    assert!(may!(service, "app-2", "default", action::GenerateKey, "/v1/key/generate/k").is_ok());
}

#[tokio::test]
async fn a_volume_that_cannot_be_read_for_a_while_is_no_damage_and_nothing_of_it_is_remembered() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    create(&service, "default", "key").await.unwrap();
    let core = service.core().unwrap();
    let id = core.view.get(&name("default")).unwrap().id;
    core.forget_all(id);
    let counted = damaged_records_met();
    let is_passing = |error: &ApiError| {
        error.status() == 503 && error.message() == "the volume cannot be read now: try again"
    };

    core.consensus.records().be_away(true);
    assert!(is_passing(&describe(&service, "key").unwrap_err()));
    // as after a change of theirs, or at a start
    for key in [
        RecordKey::of_enclave(Kind::Policy, id, "app"),
        RecordKey::of_enclave(Kind::Identity, id, "app-1"),
        RecordKey::of_cluster(Kind::Enclave, "default"),
    ] {
        core.view.refresh(&key).unwrap();
    }
    let role = || may!(service, "app-1", "default", action::GenerateKey, "/v1/key/generate/k").map(|_| ());
    assert!(is_passing(&role().unwrap_err()), "nothing is granted that cannot be read");

    core.consensus.records().be_away(false);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while let Err(error) = role() {
        assert!(is_passing(&error) && std::time::Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
    describe(&service, "key").unwrap();
    assert_eq!(damaged_records_met(), counted, "none was damaged");
}

#[tokio::test]
async fn what_cannot_be_listed_at_a_start_is_listed_again() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    let core = service.core().unwrap();
    let records = core.consensus.records().clone();
    records.be_away(true);
    let root = Arc::clone(&core.root);
    let view = view::View::load("c1", root, records.clone()).unwrap();
    let admin = |view: &view::View| view.with(&name("default"), |enclave| enclave.admin.clone());
    assert_eq!(admin(&view).unwrap_err().to_api().status(), 503);
    records.be_away(false);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while let Err(error) = admin(&view) {
        assert!(std::time::Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
    assert_eq!(admin(&view).unwrap().as_str(), ADMIN);
}

/// Waits until no former version of a key is in use.
async fn through(service: &Service) -> message::Rotation {
    loop {
        let proof = may!(service, SYSTEM, "default", action::DescribeRotation, "/v1/sys/rotation").unwrap();
        let rotation = service.rotation(&proof).unwrap();
        if rotation.root.former.is_empty() && rotation.enclaves.iter().all(|e| e.former.is_empty()) {
            return rotation;
        }
        tokio::task::yield_now().await;
    }
}

async fn rotate_enclave(service: &Service) -> Result<(), ApiError> {
    let proof = may!(service, SYSTEM, "default", action::RotateEnclave, "/v1/enclave/rotate/default")?;
    service.rotate_enclave(&proof, &name("default")).await.map_err(|e| e.to_api())
}

async fn rotate_root(service: &Service) -> Result<(), ApiError> {
    let proof = may!(service, SYSTEM, "default", action::RotateRoot, "/v1/sys/rotate")?;
    service.rotate_root(&proof).await.map_err(|e| e.to_api())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_rotations_everything_opens_also_after_a_restart_and_rights_are_the_same() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    for n in 0..600 {
        create(&service, "default", &format!("k{n}")).await.unwrap();
    }
    for round in 2..4 {
        rotate_enclave(&service).await.unwrap();
        rotate_root(&service).await.unwrap();
        create(&service, "default", &format!("during{round}")).await.unwrap();
        let rotation = through(&service).await;
        assert_eq!(
            (rotation.root.version, rotation.enclaves[0].version, rotation.damaged),
            (round, round, 0)
        );
    }
    service.close().await;
    drop(service);
    let service = world.open().await;
    let rotation = through(&service).await;
    assert_eq!((rotation.root.version, rotation.enclaves[0].version, rotation.resealed), (3, 3, 0));
    for key in ["k0", "k599", "during2", "during3"] {
        assert_eq!(create(&service, "default", key).await, Err(ApiError::KEY_EXISTS), "{key}");
    }
    // the policy was sealed again too: it says the same
    assert!(may!(service, "app-1", "default", action::GenerateKey, "/v1/key/generate/k").is_ok());
    assert!(may!(service, "app-1", "default", action::GenerateKey, "/v1/key/generate/l").is_err());
    service.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_the_root_key_that_nobody_heard_of_goes_on_without_a_restart() {
    let world = World::new();
    world.init().await;
    let service = world.open().await;
    create(&service, "default", "k").await.unwrap();
    let core = service.core().unwrap();
    let value = core.seal.wrap(&SecretKey::generate(&System), core.cluster_id(), &System).unwrap();
    let key = RecordKey { version: 2, ..RecordKey::of_cluster(Kind::Root, "root") };
    assert_eq!(core.consensus.propose(Change::Create { key, value }).await.unwrap(), Outcome::Done);
    core.rotation.wake.notify_one();
    drop(core);
    while through(&service).await.root.version < 2 {
        tokio::task::yield_now().await;
    }
    create(&service, "default", "later").await.unwrap();
    service.close().await;
    drop(service);
    let service = world.open().await;
    for key in ["k", "later"] {
        assert_eq!(create(&service, "default", key).await, Err(ApiError::KEY_EXISTS), "{key}");
    }
    service.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unseal_key_is_changed_at_a_start_that_knows_both_and_the_old_one_opens_nothing_afterwards() {
    let world = World::new();
    world.init().await;
    let new = world.dir.path().join("new");
    std::fs::write(&new, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let refused = Service::open(world.setup("new")).await.err().unwrap();
    assert!(refused.to_string().contains("not authentic"), "{refused}");
    let both = Setup { previous_seal: Some(world.setup("unseal").seal), ..world.setup("new") };
    let service = Service::open(both).await.unwrap();
    create(&service, "default", "k").await.unwrap();
    // a root key made from now on is wrapped under the new one too
    rotate_root(&service).await.unwrap();
    through(&service).await;
    service.close().await;
    drop(service);
    let refused = Service::open(world.setup("unseal")).await.err().unwrap();
    assert!(refused.to_string().contains("not authentic"), "{refused}");
    let service = Service::open(world.setup("new")).await.unwrap();
    assert_eq!(create(&service, "default", "k").await, Err(ApiError::KEY_EXISTS));
    service.close().await;
}

#[tokio::test]
async fn a_full_cache_gives_up_keys_which_are_wiped_and_read_again_when_they_are_asked_for() {
    let world = World::new();
    world.init().await;
    let service = Service::open(Setup { cached_keys: 4, ..world.setup("unseal") }).await.unwrap();
    let core = service.core().unwrap();
    let mut kept = Vec::new();
    for n in 0..64 {
        let name = format!("k{n}");
        create(&service, "default", &name).await.unwrap();
        describe(&service, &name).unwrap();
        let enclave = core.view.get(&EnclaveName::default_enclave()).unwrap().id;
        kept.extend(core.keys.get(enclave, &name.parse().unwrap()).as_ref().map(Arc::downgrade));
    }
    assert_eq!(core.keys.len(), 4);
    let alive = kept.iter().filter(|key| key.strong_count() > 0).count();
    assert_eq!(alive, core.keys.len(), "what made room is dropped, and dropping a key wipes it");
    for n in 0..64 {
        describe(&service, &format!("k{n}")).unwrap();
    }
    drop(core);
    service.close().await;
}
