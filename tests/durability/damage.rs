//! Damaged files under the real server: it refuses to start with a sentence, or what is damaged is refused by name while
//! everything else works. Never a wrong answer, never a lost key without a word, never a panic.
//!
//! `KES_DAMAGE_ROUNDS` sets how many damages are tried (60 unless told, or as many as `BUDGET` allows).

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures::future::join_all;
use kes::{
    api::{
        KeyName, PolicyName,
        message::{DataKey, Matching, Policy},
    },
    client::{Client, Error},
};

use crate::{
    oracle::Dice,
    process::{Place, copy},
};

const ROUNDS: u64 = 60;
const BUDGET: Duration = Duration::from_secs(40);
/// Enough for many blocks of a table: damage in the only one would be refused at the start.
const KEYS: usize = 400;

/// What the server was given before its files were damaged.
struct Fixture {
    keys: Vec<(KeyName, DataKey)>,
    policies: Vec<PolicyName>,
}

fn policy() -> Policy {
    Policy { allow: vec!["/v1/key/create/a".into()], deny: vec![], matching: Matching::default() }
}

async fn fill(client: &Client) -> Fixture {
    let (mut keys, mut policies) = (Vec::new(), Vec::new());
    for n in 0..KEYS {
        let name: KeyName = format!("key-{n}").parse().unwrap();
        client.create_key(&name).await.unwrap();
        keys.push((name.clone(), client.generate(&name, b"c").await.unwrap()));
        if n < 3 {
            let name: PolicyName = format!("policy-{n}").parse().unwrap();
            client.write_policy(&name, &policy()).await.unwrap();
            client.assign_policy(&name, &format!("identity-{n}").parse().unwrap()).await.unwrap();
            policies.push(name);
        }
    }
    Fixture { keys, policies }
}

/// The damage is named, with an id that stands in the log too.
fn is_named(error: &Error, log: &str) -> bool {
    let Some(refusal) = error.api() else { return false };
    let id = refusal.message().split_once("(id ").and_then(|(_, rest)| rest.split_once(')'));
    refusal.status() == 500 && id.is_some_and(|(id, _)| log.contains(id))
}

impl Fixture {
    /// Everything is as it was, or refused by name. Returns how much was refused.
    async fn check(&self, place: &Place, what: &str) -> usize {
        let client = place.admin(None);
        let mut refused = 0;
        for some in self.keys.chunks(50) {
            let opened =
                some.iter().map(|(name, proof)| client.decrypt(name, proof.ciphertext.as_ref(), b"c"));
            let opened = join_all(opened).await;
            for ((name, proof), opened) in some.iter().zip(opened) {
                match opened {
                    Ok(opened) => assert!(opened == proof.plaintext, "{what}: {name} opens something else"),
                    Err(error) if is_named(&error, &place.log()) => refused += 1,
                    Err(error) => panic!("{what}: {name}: {error}"),
                }
            }
        }
        for name in &self.policies {
            match client.read_policy(name).await {
                Ok(body) => assert_eq!(body.allow, policy().allow, "{what}: {name}"),
                Err(error) if is_named(&error, &place.log()) => refused += 1,
                Err(error) => panic!("{what}: {name}: {error}"),
            }
        }
        let new: KeyName = "made-after".parse().unwrap();
        match client.create_key(&new).await {
            Ok(()) => drop(client.generate(&new, b"c").await.unwrap()),
            Err(error) => assert!(error.api().is_some_and(|e| e.status() == 500), "{what}: {error}"),
        }
        refused
    }
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() { files.extend(self::files(&entry)) } else { files.push(entry) }
    }
    files.sort();
    files
}

/// Damages one file and says how.
fn damage(dice: &mut Dice, files: &[PathBuf]) -> String {
    let file = &files[dice.below(files.len() as u64) as usize];
    let mut bytes = fs::read(file).unwrap();
    let at = dice.below(bytes.len() as u64) as usize;
    let how = match dice.below(4) {
        0 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        1 => {
            let end = (at + 4096).min(bytes.len());
            bytes[at..end].fill(0);
            format!("zeros from {at}")
        }
        _ => {
            let bit = dice.below(8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
            format!("bit {bit} of byte {at}")
        }
    };
    fs::write(file, bytes).unwrap();
    format!("{}, {how}", file.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_refused_or_named_and_never_answer_wrongly() {
    let asked: Option<u64> = std::env::var("KES_DAMAGE_ROUNDS").ok().map(|n| n.parse().unwrap());
    let (rounds, began) = (asked.unwrap_or(ROUNDS), Instant::now());
    let place = Place::new(tempfile::tempdir().unwrap()).await;
    let backup = tempfile::tempdir().unwrap();
    let mut server = place.start();
    place.wait_until_ready(&mut server).await;
    let fixture = fill(&place.admin(None)).await;
    server.terminate().await;
    copy(&place.data(), backup.path());
    let mut dice = Dice::new(7);
    let (mut round, mut refused_start, mut refused) = (0, 0, 0);
    while round < rounds && (asked.is_some() || refused == 0 || began.elapsed() < BUDGET) {
        round += 1;
        fs::remove_dir_all(place.data()).unwrap();
        copy(backup.path(), &place.data());
        let files: Vec<_> =
            files(&place.data()).into_iter().filter(|file| fs::metadata(file).unwrap().len() > 0).collect();
        let what = damage(&mut dice, &files);
        let said = place.log().len();
        let mut server = place.start();
        if let Err(status) = place.try_until_ready(&mut server).await {
            let text = place.log().split_off(said);
            assert_eq!(status.code(), Some(1), "{what}: {text}");
            assert!(text.contains("Error:") && text.contains("data"), "{what}: no sentence: {text}");
            refused_start += 1;
            continue;
        }
        refused += fixture.check(&place, &what).await;
        server.terminate().await;
    }
    println!("{round} damages: {refused_start} refused at the start, {refused} answers refused by name");
    assert!(refused_start > 0 && refused > 0, "no damage was ever noticed in this way");
}
