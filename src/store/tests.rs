//! Records through their whole life: changes, tables, copies, damage, and death at any moment.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::{Change, EnclaveId, Kind, Limits, Outcome, RecordKey, Records, StoreError};

fn id(number: u8) -> EnclaveId {
    EnclaveId::from_random([0, 0, 0, 0, 0, 0, 0, number])
}

fn enclave(name: &str, number: u8) -> Change {
    Change::CreateEnclave { name: name.into(), id: id(number), value: vec![9] }
}

fn create(enclave: u8, name: &str, value: u8) -> Change {
    Change::Create { key: RecordKey::of_enclave(Kind::Key, id(enclave), name), value: vec![value] }
}

fn names(records: &Records, enclave: u8, prefix: &str, after: Option<&str>) -> Vec<String> {
    let mut names = Vec::new();
    records
        .visit_after(Kind::Key, id(enclave), prefix, after, |key, _| {
            names.push(key.name);
            true
        })
        .unwrap();
    names
}

#[test]
fn create_never_overwrites_not_even_within_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    let outcomes = records.apply(&[enclave("e", 1), create(1, "k", 1), create(1, "k", 2)], b"1").unwrap();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done, Outcome::Exists]);
    assert_eq!(records.apply(&[create(1, "k", 3)], b"2").unwrap(), [Outcome::Exists]);
    let key = RecordKey::of_enclave(Kind::Key, id(1), "k");
    assert_eq!(records.get(&key).unwrap(), Some(vec![1]));
}

#[test]
fn records_and_log_position_are_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    assert_eq!(records.applied(), None);
    records.apply(&[enclave("e", 1), create(1, "b", 1), create(1, "a", 2)], b"7").unwrap();
    records.persist().unwrap();
    drop(records);
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    assert_eq!(records.applied().as_deref(), Some(&b"7"[..]));
    assert_eq!(names(&records, 1, "", None), ["a", "b"]);
    assert_eq!(names(&records, 1, "b", None), ["b"]);
}

/// Bytes that this thread asked the kernel for so far.
fn read_by_this_thread() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn opening_does_not_scan() {
    let read = [5_000, 50_000].map(|count| {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        records.apply(&[enclave("e", 1)], b"0").unwrap();
        let names: Vec<_> = (0..count).map(|n| format!("key-{n:09}")).collect();
        for names in names.chunks(1_000) {
            let make = |name: &String| Change::Create {
                key: RecordKey::of_enclave(Kind::Key, id(1), name),
                value: vec![7; 150],
            };
            records.apply(&names.iter().map(make).collect::<Vec<_>>(), b"1").unwrap();
        }
        records.persist().unwrap();
        drop(records);
        let before = read_by_this_thread();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        let read = read_by_this_thread() - before;
        // and all of it is there
        let last = RecordKey::of_enclave(Kind::Key, id(1), names.last().unwrap());
        assert_eq!(records.get(&last).unwrap(), Some(vec![7; 150]));
        println!("{count} records: {read} bytes read to open them");
        read
    });
    // filters and indexes are read, some bytes for each record, and no record
    let values = 45_000 * 150;
    assert!(read[1] < read[0] + values / 20, "{read:?}");
}

#[test]
fn a_visit_goes_on_after_any_name_also_one_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    let changes: Vec<_> = [enclave("e", 1), enclave("e-", 2), create(2, "b", 0)]
        .into_iter()
        .chain(["a", "a-b", "aa", "ab", "b", "b-"].map(|name| create(1, name, 0)))
        .collect();
    records.apply(&changes, b"1").unwrap();
    for (prefix, from, want) in [
        ("", None, &["a", "a-b", "aa", "ab", "b", "b-"][..]),
        ("", Some("a"), &["a-b", "aa", "ab", "b", "b-"]),
        ("", Some("a-"), &["a-b", "aa", "ab", "b", "b-"]),
        ("", Some("ab"), &["b", "b-"]),
        ("", Some("b"), &["b-"]),
        ("", Some("b-"), &[]),
        ("a", Some("aa"), &["ab"]),
        ("a", Some("ab"), &[]),
        ("b", Some("a"), &["b", "b-"]),
        ("a", Some("zzz"), &[]),
    ] {
        assert_eq!(names(&records, 1, prefix, from), want, "{prefix:?} after {from:?}");
    }
}

#[test]
fn deleting_an_enclave_removes_its_records_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    let first = [enclave("e", 1), enclave("e2", 2), create(1, "a", 1), create(2, "b", 2)];
    records.apply(&first, b"1").unwrap();
    let delete = || Change::DeleteEnclave { name: "e".into(), id: id(1) };
    let outcomes = records.apply(&[create(1, "late", 3), delete(), create(1, "after", 4)], b"2").unwrap();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done, Outcome::NoEnclave]);
    sweep(&records);
    assert!(names(&records, 1, "", None).is_empty());
    assert_eq!(names(&records, 2, "", None), ["b"]);
}

/// Does what the upkeep is doing anyway, until there is nothing left to do.
fn sweep(records: &Records) {
    while records.sweep(2).unwrap() {}
}

#[test]
fn records_of_a_deleted_enclave_are_removed_also_by_a_later_life() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    let keys: Vec<_> = (0..50).map(|n| create(1, &format!("k{n}"), 1)).collect();
    records.apply(&[enclave("e", 1), enclave("e2", 2), create(2, "b", 2)], b"1").unwrap();
    records.apply(&keys, b"2").unwrap();
    // as the process leaves it that dies right after the change: without a sweep
    let [name, here, remains] =
        [RecordKey::of_cluster(Kind::Enclave, "e"), RecordKey::of_id(id(1)), RecordKey::remains_of(id(1))];
    let delete = |key| Change::Delete { key };
    let changes = [Change::Create { key: remains, value: vec![] }, delete(name), delete(here)];
    records.apply(&changes, b"3").unwrap();
    records.persist().unwrap();
    drop(records);
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    sweep(&records);
    assert!(names(&records, 1, "", None).is_empty());
    assert_eq!(names(&records, 2, "", None), ["b"]);
    assert_eq!(records.applied().as_deref(), Some(&b"3"[..]));
}

#[test]
fn what_was_not_written_out_is_gone_with_the_process_and_so_is_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    records.apply(&[enclave("e", 1), create(1, "a", 1)], b"1").unwrap();
    records.persist().unwrap();
    records.apply(&[create(1, "b", 1)], b"2").unwrap();
    assert_eq!(names(&records, 1, "", None), ["a", "b"]);
    drop(records);
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    assert_eq!(records.applied().as_deref(), Some(&b"1"[..]));
    assert_eq!(names(&records, 1, "", None), ["a"]);
}

#[test]
fn a_copy_stays_what_it_was_while_tables_are_written_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    records.apply(&[enclave("e", 1), create(1, "a", 1)], b"1").unwrap();
    let copy = records.copy();
    for n in 0..20 {
        let delete = Change::Delete { key: RecordKey::of_enclave(Kind::Key, id(1), "a") };
        records.apply(&[delete, create(1, "a", 2), create(1, &format!("b{n}"), 2)], b"2").unwrap();
        records.persist().unwrap();
    }
    let replaced = Records::open(other.path(), Limits::default()).unwrap();
    replaced.apply(&[enclave("old", 3), create(3, "old", 9)], b"0").unwrap();
    replaced.replace(&copy, b"1").unwrap();
    drop(replaced);
    let replaced = Records::open(other.path(), Limits::default()).unwrap();
    assert_eq!(names(&replaced, 1, "", None), ["a"]);
    assert!(names(&replaced, 3, "", None).is_empty());
    let key = RecordKey::of_enclave(Kind::Key, id(1), "a");
    assert_eq!(replaced.get(&key).unwrap(), Some(vec![1]));
    assert_eq!(records.get(&key).unwrap(), Some(vec![2]));
    assert_eq!(replaced.applied().as_deref(), Some(&b"1"[..]));
}

/// Flips a byte in the middle of the largest table.
fn damage(path: &Path) {
    let tables = std::fs::read_dir(path.join("tables")).unwrap().map(|entry| entry.unwrap().path());
    let table = tables.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(table, bytes).unwrap();
}

#[test]
fn a_damaged_block_is_never_read_and_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    let name = |n: u32| format!("k{n:04}");
    let value = |n: u32| vec![n as u8; 200];
    let key = |n| RecordKey::of_enclave(Kind::Key, id(1), &name(n));
    records.apply(&[enclave("e", 1)], b"1").unwrap();
    let keys: Vec<_> = (0..1000).map(|n| Change::Create { key: key(n), value: value(n) }).collect();
    records.apply(&keys, b"2").unwrap();
    records.persist().unwrap();
    drop(records);
    damage(dir.path());
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    let mut unreadable = Vec::new();
    for n in 0..1000 {
        match records.get(&key(n)) {
            Ok(found) => assert_eq!(found, Some(value(n)), "{n}"),
            Err(StoreError::Unreadable { record, .. }) => {
                assert!(record.contains(&name(n)), "{record}");
                unreadable.push(n);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..50).contains(&unreadable.len()), "{unreadable:?}");
    // whoever decides alone refuses what it cannot decide and goes on; whoever must decide like others stops
    let again = |n| Change::Create { key: key(n), value: vec![0] };
    let batch = [again(unreadable[0]), create(1, "new", 1), again(0)];
    assert!(records.apply(&batch, b"3").is_err());
    let outcomes = records.apply_alone(&batch, b"3").unwrap();
    assert_eq!(outcomes, [Outcome::Unreadable, Outcome::Done, Outcome::Exists]);
    // and merging, which cannot work, ends nothing
    for n in 0..20 {
        records.apply_alone(&[create(1, &format!("later{n}"), 1)], b"4").unwrap();
        records.persist().unwrap();
    }
    assert_eq!(records.get(&key(0)).unwrap(), Some(value(0)));
}

/// Records with an enclave and a thousand keys, and one damaged block among them.
fn damaged(path: &Path, limits: Limits) -> Records {
    let records = Records::open(path, Limits::default()).unwrap();
    let keys = (0..1000).map(|n| Change::Create {
        key: RecordKey::of_enclave(Kind::Key, id(1), &format!("k{n:04}")),
        value: vec![7; 200],
    });
    records.apply(&[enclave("e", 1)].into_iter().chain(keys).collect::<Vec<_>>(), b"0").unwrap();
    records.persist().unwrap();
    drop(records);
    damage(path);
    Records::open(path, limits).unwrap()
}

#[test]
fn tables_that_cannot_be_merged_never_become_more_than_their_list_can_name() {
    let dir = tempfile::tempdir().unwrap();
    let small = Limits { table: 1, batches: 1 };
    let records = damaged(dir.path(), small);
    let mut written = None;
    for n in 0..260 {
        records.apply(&[create(1, &format!("later{n:03}"), 1)], format!("{n}").as_bytes()).unwrap();
        match records.persist() {
            Ok(()) => written = Some(n),
            Err(error) => assert!(matches!(error, StoreError::TooManyTables { .. }), "{error}"),
        }
    }
    let written = written.unwrap();
    assert!((100..256).contains(&written), "{written}");
    // whoever accepts changes is told, and what the log has already is applied all the same
    assert!(records.trouble().unwrap().contains("cannot be merged"));
    assert!(!records.is_behind());
    assert_eq!(names(&records, 1, "later", None).len(), 260);
    drop(records);
    let records = Records::open(dir.path(), small).unwrap();
    assert_eq!(records.applied(), Some(format!("{written}").into_bytes()));
    assert_eq!(names(&records, 1, "later", None).len(), written + 1);
    assert!(records.trouble().is_some(), "not known before the first change");
}

#[test]
fn a_list_of_tables_that_may_count_already_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    records.apply(&[enclave("e", 1), create(1, "a", 1)], b"1").unwrap();
    records.persist().unwrap();
    records.end_upkeep();
    // as a switch leaves it that failed after the rename: the disk is at the next list, this process is not
    let current = std::fs::read(dir.path().join("current")).unwrap();
    let version = u64::from_le_bytes(current[..8].try_into().unwrap());
    let list = |version| dir.path().join(format!("v{version}"));
    std::fs::copy(list(version), list(version + 1)).unwrap();
    let next = [&(version + 1).to_le_bytes()[..], &current[8..]].concat();
    std::fs::write(dir.path().join("current"), next).unwrap();
    let before = std::fs::read(list(version + 1)).unwrap();
    records.apply(&[create(1, "b", 1)], b"2").unwrap();
    for _ in 0..2 {
        let error = records.persist().unwrap_err();
        assert!(matches!(error, StoreError::HalfSwitched { .. }), "{error}");
    }
    assert!(records.trouble().is_some());
    assert_eq!(std::fs::read(list(version + 1)).unwrap(), before);
    assert_eq!(names(&records, 1, "", None), ["a", "b"]);
    drop(records);
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    assert_eq!(names(&records, 1, "", None), ["a"]);
    records.apply(&[create(1, "b", 1)], b"2").unwrap();
    records.persist().unwrap();
}

#[test]
fn memory_is_counted_while_nothing_can_be_written_and_written_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits { table: 16 << 10, batches: 1000 }).unwrap();
    records.apply(&[enclave("e", 1)], b"0").unwrap();
    records.persist().unwrap();
    records.end_upkeep();
    // what the changes depend on stays readable
    records.apply(&[create(1, "first", 1)], b"1").unwrap();
    let [tables, away] = ["tables", "away"].map(|name| dir.path().join(name));
    std::fs::rename(&tables, &away).unwrap();
    let mut made = 0;
    while !records.is_behind() {
        assert!(made < 2000, "nobody notices");
        let key = RecordKey::of_enclave(Kind::Key, id(1), &format!("k{made:04}"));
        records.apply(&[Change::Create { key, value: vec![7; 200] }], b"1").unwrap();
        made += 1;
        if made % 60 == 0 {
            records.persist().unwrap_err();
        }
    }
    // also what waits to be written is counted: 64 KiB hold no more of these
    assert!((180..380).contains(&made), "{made}");
    assert!(records.trouble().is_some());
    std::fs::rename(&away, &tables).unwrap();
    records.persist().unwrap();
    assert!(!records.is_behind() && records.trouble().is_none());
    drop(records);
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    assert_eq!(names(&records, 1, "k", None).len(), made);
}

#[test]
fn what_cannot_be_read_now_and_is_not_damaged_is_never_decided_as_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let records = fill(dir.path(), 1, 1000);
    records.persist().unwrap();
    // the position is in another table: the first is not opened before it is needed
    records.apply(&[], b"1").unwrap();
    records.persist().unwrap();
    drop(records);
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    records.end_upkeep();
    let [tables, away] = ["tables", "away"].map(|name| dir.path().join(name));
    std::fs::rename(&tables, &away).unwrap();
    let change = create(1, "k00500", 2);
    let error = records.apply_alone(std::slice::from_ref(&change), b"2").unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert!(records.can_decide(&change).unwrap_err().is_passing());
    std::fs::rename(&away, &tables).unwrap();
    assert_eq!(records.apply_alone(&[change], b"2").unwrap(), [Outcome::Exists]);
}

#[test]
fn a_deleted_enclave_whose_records_cannot_be_read_keeps_no_other_from_being_removed() {
    let dir = tempfile::tempdir().unwrap();
    let records = damaged(dir.path(), Limits::default());
    records.apply(&[enclave("f", 2), create(2, "a", 1), create(2, "b", 1)], b"1").unwrap();
    let delete = |name: &str, n| Change::DeleteEnclave { name: name.into(), id: id(n) };
    records.apply(&[delete("e", 1), delete("f", 2)], b"2").unwrap();
    let error = loop {
        match records.sweep(100) {
            Ok(is_more) => assert!(is_more, "it was read"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("list"), "{error}");
    assert!(names(&records, 2, "", None).is_empty());
}

#[test]
fn what_was_sealed_for_a_deleted_enclave_never_gets_into_a_later_one_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path(), Limits::default()).unwrap();
    let delete = || Change::DeleteEnclave { name: "e".into(), id: id(1) };
    // all at once, and again with the enclave made anew in an earlier batch
    let changes =
        [enclave("e", 1), delete(), enclave("e", 2), create(1, "k", 1), delete(), create(2, "k", 2)];
    let outcomes = records.apply(&changes, b"1").unwrap();
    use Outcome::{Done, Missing, NoEnclave};
    assert_eq!(outcomes, [Done, Done, Done, NoEnclave, Missing, Done]);
    let outcomes = records.apply(&[create(1, "late", 1), delete()], b"2").unwrap();
    assert_eq!(outcomes, [NoEnclave, Missing]);
    assert_eq!(names(&records, 2, "", None), ["k"]);
    assert!(names(&records, 1, "", None).is_empty());
}

/// Set in the process that replaces records until it is killed: the folder that it works in.
const REPLACING: &str = "KES_TEST_REPLACING";

/// Records in `path` that are all of one making: an enclave and `count` keys with this value.
fn fill(path: &Path, making: u8, count: u32) -> Records {
    let records = Records::open(path, Limits::default()).unwrap();
    let keys = (0..count).map(|n| create(making, &format!("k{n:05}"), making));
    let changes: Vec<_> = [enclave("e", making)].into_iter().chain(keys).collect();
    records.apply(&changes, &[making]).unwrap();
    records
}

fn replace_for_ever(dir: &Path) {
    let (one, two) = (fill(&dir.join("one"), 1, 3000), fill(&dir.join("two"), 2, 2000));
    let target = Records::open(&dir.join("target"), Limits::default()).unwrap();
    target.replace(&one.copy(), &[1]).unwrap();
    println!("\nready");
    loop {
        target.replace(&two.copy(), &[2]).unwrap();
        target.replace(&one.copy(), &[1]).unwrap();
    }
}

#[test]
fn records_are_replaced_whole_or_not_at_all_also_when_the_process_is_killed_meanwhile() {
    if let Some(dir) = std::env::var_os(REPLACING) {
        return replace_for_ever(Path::new(&dir));
    }
    let (mut ones, mut twos) = (0, 0);
    for round in 0..24_u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::records_are_replaced_whole_or_not_at_all_also_when_the_process_is_killed_meanwhile"])
            .arg("--nocapture")
            .env(REPLACING, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"));
        // any moment is a good one
        std::thread::sleep(Duration::from_micros(round * 7919 % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let target = Records::open(&dir.path().join("target"), Limits::default()).unwrap();
        let found = [1, 2].map(|making| names(&target, making, "", None).len());
        match (target.applied().as_deref(), found) {
            (Some([1]), [3000, 0]) => ones += 1,
            (Some([2]), [0, 2000]) => twos += 1,
            other => panic!("round {round}: neither the one nor the other: {other:?}"),
        }
        let making = if target.applied().unwrap() == [1] { 1 } else { 2 };
        let key = RecordKey::of_enclave(Kind::Key, id(making), "k00007");
        assert_eq!(target.get(&key).unwrap(), Some(vec![making]));
    }
    assert!(ones > 0 && twos > 0, "killed always at the same side: {ones} and {twos}");
}
