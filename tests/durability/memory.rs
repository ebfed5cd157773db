//! The memory of the running server is nobody's business: no core dump, no debugger of the same user, no swap.

use std::{
    fs,
    os::unix::{fs::FileExt as _, process::CommandExt as _},
    process::Command,
};

use kes::api::{KeyName, message::ImportKey};

use crate::process::Place;

/// A field of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field}")).trim().to_owned()
}

/// Whether this process could lock memory, and so its children.
fn may_lock() -> bool {
    let effective = u64::from_str_radix(&status(std::process::id(), "CapEff"), 16).unwrap();
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap();
    effective >> 14 & 1 == 1 || limit.contains("unlimited")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_cannot_be_dumped_and_its_memory_is_locked_where_the_kernel_lets_it() {
    let place = Place::new(tempfile::tempdir().unwrap()).await;
    let mut server = place.start();
    place.wait_until_ready(&mut server).await;
    let pid = server.pid();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    let server_status = place.admin(None).status().await.unwrap();
    assert_eq!(server_status.mem_locked, Some(may_lock()));
    if may_lock() {
        let locked = status(pid, "VmLck");
        assert!(locked.trim_end_matches(" kB").trim().parse::<u64>().unwrap() > 1000, "{locked}");
    }
    server.terminate().await;
}

/// Somebody who is not root: whom nothing stops.
const NOBODY: u32 = 65534;

/// What a process of that user hears when it asks for the memory of another one.
fn peek(user: u32, pid: u32) -> Result<(), String> {
    let seen =
        Command::new("head").args(["-c1", &format!("/proc/{pid}/environ")]).uid(user).output().unwrap();
    if seen.status.success() { Ok(()) } else { Err(String::from_utf8(seen.stderr).unwrap()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_same_user_can_look_into_others_and_not_into_the_server() {
    let place = Place::new(tempfile::tempdir().unwrap()).await;
    let user = if rustix::process::getuid().is_root() { NOBODY } else { rustix::process::getuid().as_raw() };
    let mut server = place.start_as(user);
    place.wait_until_ready(&mut server).await;
    assert!(status(server.pid(), "Uid").starts_with(&user.to_string()));
    let mut other = Command::new("sleep").arg("60").uid(user).spawn().unwrap();
    peek(user, other.id()).unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    let refused = peek(user, server.pid()).unwrap_err();
    assert!(refused.contains("Permission denied"), "{refused}");
    server.terminate().await;
}

/// How often a key is in the memory of a process. The allocator writes over the first 16 bytes of what is freed, so it is
/// the others that are looked for.
fn found(pid: u32, key: [u8; 32]) -> usize {
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut found = 0;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).unwrap().starts_with("rw")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        // what was unmapped meanwhile
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            found += memchr::memmem::find_iter(&bytes, &key[16..]).count();
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_in_memory_while_it_is_used_and_nowhere_after_it_was_deleted_or_the_server_sealed() {
    const KEY: [u8; 32] = *b"\x91a throw-away key, to look for\xf3\x02";
    let place = Place::new(tempfile::tempdir().unwrap()).await;
    let mut server = place.start();
    place.wait_until_ready(&mut server).await;
    let names: [KeyName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
    for name in &names {
        let key = ImportKey { bytes: KEY.to_vec().into(), ..ImportKey::default() };
        place.admin(None).import_key(name, &key).await.unwrap();
    }
    server.terminate().await;
    for is_deleted in [true, false] {
        let mut server = place.start();
        place.wait_until_ready(&mut server).await;
        let name = &names[usize::from(is_deleted)];
        place.admin(None).encrypt(name, b"x", b"").await.unwrap();
        assert!(found(server.pid(), KEY) > 0, "the search finds what is there");
        if is_deleted {
            place.admin(None).delete_key(name).await.unwrap();
        } else {
            place.system().seal().await.unwrap();
        }
        assert_eq!(found(server.pid(), KEY), 0);
        server.terminate().await;
    }
}
