//! A full volume: changes are refused, everything else goes on, and it ends by itself when there is space again.
//!
//! The volume is a small tmpfs in a mount namespace of its own. Where the kernel lets nobody make one, the tests say so
//! and pass: `consensus::tests` holds the same for the log with a disk in memory.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use kes::{
    api::{ApiError, KeyName, message::DataKey},
    client::{Client, Error},
    store::{Change, EnclaveId, Kind, Limits, RecordKey, Records},
};

use crate::process::{Place, copy};

/// A volume of a few MiB, there as long as this is.
struct Volume {
    holder: Child,
}

impl Volume {
    fn new(size: &str) -> Option<Self> {
        let script = format!("mount -t tmpfs -o size={size} tmpfs /mnt && echo mounted && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take()?).read_line(&mut line).ok()?;
        if line == "mounted\n" {
            return Some(Self { holder });
        }
        let _ = holder.wait();
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!is_ci, "no volume of our own can be mounted here, and nothing may be skipped in CI");
        eprintln!("skipped: no volume of our own can be mounted here");
        None
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/root/mnt", self.holder.id()).into()
    }

    /// Writes into a file until nothing fits any more, but for `spare` bytes.
    fn fill(&self, spare: u64) {
        let path = self.path().join("filler");
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        for chunk in [64 << 10, 4096, 1] {
            while file.write_all(&vec![1; chunk]).is_ok() {}
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(spare)).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn name(n: usize) -> KeyName {
    format!("key-{n}").parse().unwrap()
}

/// Creates keys from `first` on until the volume is full; all of them are answered one way or the other.
/// Gives the name whose fate was left open, if one was.
async fn create_until_full(
    client: &Client,
    first: usize,
    made: &mut Vec<(KeyName, DataKey)>,
) -> Option<KeyName> {
    for n in first.. {
        match client.create_key(&name(n)).await {
            Ok(()) => made.push((name(n), client.generate(&name(n), b"c").await.unwrap())),
            Err(Error::Api(refusal)) if refusal == ApiError::STORAGE_FULL => return None,
            Err(Error::Api(refusal)) if refusal == ApiError::STORAGE_FULL_MEANWHILE => return Some(name(n)),
            Err(error) => panic!("{error}"),
        }
        assert!(n < first + 20_000, "the volume never becomes full");
    }
    unreachable!("there is no last number")
}

async fn check(client: &Client, made: &[(KeyName, DataKey)]) {
    for (name, proof) in made {
        let opened = client.decrypt(name, proof.ciphertext.as_ref(), b"c").await.unwrap();
        assert!(opened == proof.plaintext, "{name} opens something else");
    }
}

/// Exactly what was acknowledged is there, and perhaps what was left open.
async fn check_listing(client: &Client, made: &[(KeyName, DataKey)], open: &[KeyName]) {
    let listed = client.list_keys("*").await.unwrap();
    let listed: BTreeSet<_> =
        listed.into_iter().map(|info| info.name).filter(|n| !open.contains(n)).collect();
    assert!(listed == made.iter().map(|(name, _)| name.clone()).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_refuses_changes_and_nothing_else_and_recovers_by_itself() {
    let Some(volume) = Volume::new("12m") else { return };
    let place = Place::new(tempfile::tempdir().unwrap()).await;
    copy(&place.data(), &volume.path().join("data"));
    fs::remove_dir_all(place.data()).unwrap();
    std::os::unix::fs::symlink(volume.path().join("data"), place.data()).unwrap();
    let mut server = place.start();
    place.wait_until_ready(&mut server).await;
    let client = place.admin(None);
    let (mut made, mut open) = (Vec::new(), Vec::new());
    for n in 0..20 {
        client.create_key(&name(n)).await.unwrap();
        made.push((name(n), client.generate(&name(n), b"c").await.unwrap()));
    }
    for round in 1..=2 {
        volume.fill(0);
        open.extend(create_until_full(&client, round * 100_000, &mut made).await);
        open.extend(create_until_full(&client, round * 200_000, &mut made).await);
        check(&client, &made).await;
        check_listing(&client, &made, &open).await;
        volume.empty();
        let deadline = Instant::now() + Duration::from_secs(30);
        let new = name(round);
        let new: KeyName = format!("after-{new}").parse().unwrap();
        loop {
            match client.create_key(&new).await {
                Ok(()) => break,
                Err(error) => {
                    assert!(Instant::now() < deadline, "it does not recover: {error}\n{}", place.log())
                }
            }
        }
        made.push((new.clone(), client.generate(&new, b"c").await.unwrap()));
    }
    // full again, and stopped in the middle of it: whoever was told yes finds it later
    volume.fill(0);
    open.extend(create_until_full(&client, 900_000, &mut made).await);
    server.terminate().await;
    volume.empty();
    let mut server = place.start();
    place.wait_until_ready(&mut server).await;
    check(&client, &made).await;
    check_listing(&client, &made, &open).await;
    server.terminate().await;
}

fn files(path: &Path) -> usize {
    fs::read_dir(path.join("tables")).unwrap().count()
}

#[test]
fn tables_that_do_not_fit_leave_nothing_behind_and_are_written_when_there_is_space() {
    let Some(volume) = Volume::new("12m") else { return };
    let path = volume.path().join("records");
    let id = EnclaveId::from_random([1; 8]);
    let records = Records::open(&path, Limits { table: 64 << 10, batches: 100 }).unwrap();
    records.apply(&[Change::CreateEnclave { name: "e".into(), id, value: vec![1] }], b"0").unwrap();
    records.persist().unwrap();
    let key = |n: u32| RecordKey::of_enclave(Kind::Key, id, &format!("k{n:06}"));
    let create = |n: u32| Change::Create { key: key(n), value: vec![n as u8; 500] };
    let batch: Vec<_> = (0..4000).map(create).collect();
    records.apply(&batch, b"1").unwrap();
    volume.fill(1 << 20);
    let before = files(&path);
    for _ in 0..5 {
        let error = records.persist().unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        assert_eq!(files(&path), before, "what was left of an attempt takes the space of the next");
        assert!(records.is_full());
        assert_eq!(records.get(&key(7)).unwrap(), Some(vec![7; 500]));
    }
    // what a restart finds now is what was written last
    let again = tempfile::tempdir().unwrap();
    copy(&path, again.path());
    let old = Records::open(again.path(), Limits::default()).unwrap();
    assert_eq!((old.applied().as_deref(), old.get(&key(7)).unwrap()), (Some(&b"0"[..]), None));
    volume.empty();
    records.persist().unwrap();
    assert!(!records.is_full());
    drop(records);
    let records = Records::open(&path, Limits::default()).unwrap();
    assert_eq!(records.applied().as_deref(), Some(&b"1"[..]));
    for n in 0..4000 {
        assert_eq!(records.get(&key(n)).unwrap(), Some(vec![n as u8; 500]));
    }
}
