//! Root and enclave keys are rotated under load while the process is killed again and again: no key is lost, and in the end
//! nothing is sealed under a former version.

use std::time::{Duration, Instant};

use futures::future::join_all;
use kes::{
    api::{ApiError, EnclaveName, KeyName, message::DataKey, message::Rotation},
    client::{Client, Error},
    crypto::sealed_under,
    store::{EnclaveId, Kind, Limits, RecordKey, Records},
};

use crate::{oracle::Dice, process::Place};

const KEYS: usize = 1500;
const KILLS: usize = 12;
const CONTEXT: &[u8] = b"c";

fn name(n: usize) -> KeyName {
    format!("key-{n}").parse().unwrap()
}

async fn create(client: &Client, n: usize) -> Result<(KeyName, DataKey), Error> {
    client.create_key(&name(n)).await?;
    Ok((name(n), client.generate(&name(n), CONTEXT).await?))
}

async fn check(client: &Client, made: &[(KeyName, DataKey)]) {
    for (name, proof) in made {
        let opened = client.decrypt(name, proof.ciphertext.as_ref(), CONTEXT).await.unwrap();
        assert!(opened == proof.plaintext, "{name} opens something else");
    }
}

fn is_through(rotation: &Rotation) -> bool {
    rotation.root.former.is_empty() && rotation.enclaves.iter().all(|enclave| enclave.former.is_empty())
}

/// The versions that records of each kind are sealed under, as they are on the volume.
fn sealed_versions(place: &Place, enclave: EnclaveId, kind: Kind) -> Vec<u32> {
    let records = Records::open(&place.data().join("records"), Limits::default()).unwrap();
    let mut versions = Vec::new();
    let visit = |_: RecordKey, value: &[u8]| {
        versions.push(sealed_under(value).unwrap());
        true
    };
    records.visit(kind, enclave, "", visit).unwrap();
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// The id of the only enclave.
fn enclave_id(place: &Place) -> EnclaveId {
    let records = Records::open(&place.data().join("records"), Limits::default()).unwrap();
    let mut found = None;
    records
        .visit_kind(Kind::EnclaveId, |key, _| {
            found = Some(key.enclave);
            true
        })
        .unwrap();
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_survive_kill_9_lose_no_key_and_leave_nothing_under_a_former_version() {
    let place = Place::new(tempfile::tempdir().unwrap()).await;
    let mut server = place.start();
    place.wait_until_ready(&mut server).await;
    let (admin, system) = (place.admin(None), place.system());
    let mut made = Vec::new();
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(100) {
        for result in join_all(chunk.iter().map(|n| create(&admin, *n))).await {
            made.push(result.unwrap());
        }
    }
    let enclave = EnclaveName::default_enclave();
    let mut dice = Dice::new(11);
    let mut next = KEYS;
    for _ in 0..KILLS {
        for asked in [system.rotate_enclave(&enclave).await, system.rotate_root().await] {
            match asked {
                Ok(()) => {}
                Err(Error::Api(refusal)) if refusal == ApiError::ROTATION_UNDER_WAY => {}
                Err(error) => panic!("{error}"),
            }
        }
        // keys are made meanwhile, and none of them may end up under a version that is given up
        let until = Instant::now() + Duration::from_micros(dice.below(150_000));
        while Instant::now() < until {
            match create(&admin, next).await {
                Ok(key) => made.push(key),
                // asked again by every client; here it is only counted as not made
                Err(Error::Api(refusal)) if refusal.status() == 503 => {}
                Err(error) => panic!("{error}"),
            }
            next += 1;
        }
        server.kill();
        server = place.start();
        place.wait_until_ready(&mut server).await;
    }
    check(&admin, &made).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let rotation = loop {
        let rotation = system.rotation().await.unwrap();
        if is_through(&rotation) {
            break rotation;
        }
        assert!(Instant::now() < deadline, "it does not end: {rotation:?}\n{}", place.log());
    };
    assert_eq!(rotation.damaged, 0);
    assert!(rotation.root.version > 1 && rotation.enclaves[0].version > 1, "{rotation:?}");
    check(&admin, &made).await;
    server.terminate().await;
    let id = enclave_id(&place);
    assert_eq!(sealed_versions(&place, id, Kind::Key), [rotation.enclaves[0].version]);
    for kind in [Kind::Enclave, Kind::Cluster] {
        assert_eq!(sealed_versions(&place, EnclaveId::CLUSTER, kind), [rotation.root.version]);
    }
    let mut server = place.start();
    place.wait_until_ready(&mut server).await;
    check(&admin, &made).await;
    server.terminate().await;
}
