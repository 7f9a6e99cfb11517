#![allow(clippy::unwrap_used, reason = "a test may")]

use std::os::unix::fs::PermissionsExt;

use countersign_machine::client::{Catalogue, Client, Effect, ExecutionResult, Limits, Now, StartUp};
use countersign_protocol::command::Command;
use countersign_protocol::id::Uuid;
use countersign_protocol::limits::JOB_RETENTION;
use countersign_testkit::realm::{Draft, Realm, START, full_grant, to};
use serde_json::json;
use tempfile::TempDir;

use super::format::{HEAD, MAGIC, MAX_PAYLOAD};
use super::*;
use crate::registry::Commands;

/// A client that has lived a little: its machine, and every entry that it wanted written.
struct Life {
    machine: Client,
    entries: Vec<Entry>,
}

fn now(millis: i64) -> Now {
    Now { wall: START.plus(millis), since_boot: 1_000 + millis }
}

fn catalogue() -> Catalogue {
    Commands::standard().unwrap().into_parts().unwrap().0
}

/// `start`, then `calls` data commands, each ended but the last.
fn life(calls: u64) -> Life {
    let realm = Realm::new("demo");
    let (alice, worker) = (realm.operator("alice", full_grant()), realm.client("worker-1", &[]));
    let start = StartUp {
        limits: Limits::default(),
        version: String::new(),
        identity: worker,
        catalogue: catalogue(),
        trust: realm.trust.clone(),
        restored: Restored::default(),
        boot: Uuid::from_random([1; 16]),
        epoch: Uuid::from_random([2; 16]),
        start_ready: false,
    };
    let (mut machine, first) = Client::start(start, now(0)).unwrap();
    let mut entries = first.entries;
    for call in 0..=calls {
        let draft = match call {
            0 => Draft::new(&alice, to("worker-1"), "start", json!({}), call, START.plus(10)),
            _ => Draft::new(&alice, to("worker-1"), "calculate", json!({"x": 1, "msg": "ü\n"}), call, START.plus(10)),
        };
        let signed = draft.epoch(machine.epoch()).sign(&alice);
        let command = realm.open::<Command>(&signed, START.plus(10)).unwrap();
        let step = machine.receive(command, now(20));
        entries.extend(step.entries);
        let executed = step.effects.into_iter().find_map(|effect| match effect {
            Effect::Execute(execution) => Some(execution.key()),
            _ => None,
        });
        if let Some(key) = executed.filter(|_| call < calls) {
            let result = json!({"x": 1, "msg": "ü\n"});
            entries.extend(machine.finished(key, ExecutionResult::Done(result), now(30)).entries);
        }
    }
    Life { machine, entries }
}

fn sum<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Restored {
    let mut restored = Restored::default();
    entries.into_iter().for_each(|entry| restored.apply(entry.clone()));
    restored
}

fn folder() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn open(folder: &Path) -> Result<(Journal, Restored), JournalError> {
    LockedStateDir::at(folder.to_owned()).and_then(|folder| Journal::open(folder, JOB_RETENTION))
}

/// A folder with a log of these entries in it, and the log's bytes.
fn written(entries: &[Entry]) -> (TempDir, PathBuf, Vec<u8>) {
    let folder = folder();
    let (mut log, restored) = open(folder.path()).unwrap();
    assert_eq!(restored, Restored::default());
    log.append(entries, 0).unwrap();
    drop(log);
    let path = folder.path().join("journal");
    let bytes = fs::read(&path).unwrap();
    (folder, path, bytes)
}

fn fault(folder: &TempDir) -> JournalFault {
    open(folder.path()).unwrap_err().fault
}

fn frame_of(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    format::write(entry, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_written_is_read_again() {
    let life = life(4);
    let (folder, _, bytes) = written(&life.entries);
    assert!(bytes.starts_with(MAGIC));
    let (_log, restored) = open(folder.path()).unwrap();
    assert_eq!(restored, sum(&life.entries));
}

#[test]
fn a_last_frame_that_is_cut_short_anywhere_is_cut_off_and_nothing_before_it() {
    let life = life(2);
    let (folder, path, bytes) = written(&life.entries);
    let (last, before) = life.entries.split_last().unwrap();
    let whole = bytes.len() - frame_of(last).len();
    for length in whole..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let (mut log, restored) = open(folder.path()).unwrap();
        assert_eq!(restored, sum(before), "{length} bytes");
        log.append([last], 0).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes, "{length} bytes");
    }
}

#[test]
fn a_log_that_was_cut_while_it_was_made_is_made_again() {
    for length in 0..MAGIC.len() {
        let folder = folder();
        let path = folder.path().join("journal");
        fs::write(&path, &MAGIC[..length]).unwrap();
        let (_log, restored) = open(folder.path()).unwrap();
        assert_eq!((restored, fs::read(&path).unwrap()), (Restored::default(), MAGIC.to_vec()), "{length} bytes");
    }
}

#[test]
fn zeros_that_a_crash_of_the_machine_left_at_the_end_are_cut_off() {
    let life = life(1);
    let (folder, path, bytes) = written(&life.entries);
    for zeros in [8, 9, 5_000] {
        fs::write(&path, [bytes.clone(), vec![0; zeros]].concat()).unwrap();
        let (_log, restored) = open(folder.path()).unwrap();
        assert_eq!((restored, fs::read(&path).unwrap()), (sum(&life.entries), bytes.clone()), "{zeros} zeros");
    }
}

#[test]
fn zeros_over_the_last_frames_that_a_crash_of_the_machine_left_are_cut_off() {
    let life = life(1);
    let (folder, path, bytes) = written(&life.entries);
    let [before @ .., last_but_one, last] = life.entries.as_slice() else { panic!("a longer life") };
    let (of_one, of_both) = (frame_of(last).len(), frame_of(last_but_one).len() + frame_of(last).len());
    for (zeros, whole) in (1..of_both).map(|zeros| (zeros, zeros <= of_one)) {
        let mut lost = bytes.clone();
        lost[bytes.len() - zeros..].fill(0);
        fs::write(&path, lost).unwrap();
        let (_log, restored) = open(folder.path()).unwrap();
        let retained = if whole { &life.entries[..=before.len()] } else { before };
        assert_eq!(restored, sum(retained), "{zeros} zeros");
    }
}

#[test]
fn zeros_with_something_behind_them_are_damage() {
    let life = life(0);
    let (folder, path, bytes) = written(&life.entries);
    for gap in [HEAD, 5_000] {
        fs::write(&path, [bytes.clone(), vec![0; gap], frame_of(&life.entries[0])].concat()).unwrap();
        assert_eq!(fault(&folder), JournalFault::Damaged(u64::try_from(bytes.len()).unwrap()), "{gap} zeros");
    }
}

#[test]
fn one_damaged_byte_before_the_last_frame_is_never_passed_over() {
    let life = life(0);
    let (folder, path, bytes) = written(&life.entries);
    let mut start = MAGIC.len();
    for entry in life.entries.split_last().unwrap().1 {
        let end = start + frame_of(entry).len();
        for at in start..end {
            let flips: &[u8] = if at < start + HEAD { &[0x01, 0x10, 0x80, 0xff] } else { &[0x01] };
            for flip in flips {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                fs::write(&path, damaged).unwrap();
                let found = u64::try_from(start).unwrap();
                assert_eq!(fault(&folder), JournalFault::Damaged(found), "byte {at}, flipped by {flip:#x}");
            }
        }
        start = end;
    }
}

#[test]
fn a_complete_last_frame_with_a_bad_checksum_is_damage_and_no_torn_tail() {
    let life = life(1);
    let (folder, path, mut bytes) = written(&life.entries);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let start = u64::try_from(bytes.len() - frame_of(life.entries.last().unwrap()).len()).unwrap();
    assert_eq!(fault(&folder), JournalFault::Damaged(start));
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is touched");
}

#[test]
fn something_else_is_no_journal() {
    let folder = folder();
    for text in ["countersign-journal 2\n", "x", "\0\0\0\0"] {
        fs::write(folder.path().join("journal"), text).unwrap();
        assert_eq!(fault(&folder), JournalFault::NotAJournal, "{text:?}");
    }
}

/// Everything that a compaction wants, one wish after another, and what happens before each is fulfilled.
fn compact(log: &mut Journal, machine: &Client, size: usize, mut before: impl FnMut(&mut Journal)) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    log.compact(&machine.epoch_started())?;
    while log.compaction.is_some() {
        let next_request = runtime.block_on(log.next_request());
        before(log);
        log.serve(next_request, machine.unfinished(), |after, _| machine.part(after, size))?;
    }
    Ok(())
}

fn snapshot(machine: &Client) -> Vec<Entry> {
    std::iter::once(machine.epoch_started()).chain(machine.part(None, usize::MAX).entries()).collect()
}

#[test]
fn a_compacted_log_adds_up_to_the_same() {
    let life = life(5);
    let (folder, path, _) = written(&life.entries);
    let (mut log, _) = open(folder.path()).unwrap();
    compact(&mut log, &life.machine, 2, |_| {}).unwrap();
    assert!(!log.wants_compaction(), "a short log is left alone however much it has grown");
    let more = Entry::Mark { at: START.plus(60_000) };
    log.append([&more], 0).unwrap();
    drop(log);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (_log, restored) = open(folder.path()).unwrap();
    assert_eq!(restored, sum(snapshot(&life.machine).iter().chain([&more])));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the journal alone");
}

/// What is appended while a log is compacted, and the moment of a crash: at each there is a record, and it is whole.
#[test]
fn a_crash_at_any_moment_of_a_compaction_loses_nothing_and_what_is_appended_meanwhile_is_there() {
    let life = life(9);
    let (old, new) = life.entries.split_at(7);
    let (folder, path, _) = written(old);
    let (mut log, _) = open(folder.path()).unwrap();
    let crashed = self::folder();
    let is_whole = |appended: usize| {
        fs::copy(&path, crashed.path().join("journal")).unwrap();
        // As it is at this moment; what its thread goes on writing is another moment's.
        fs::copy(path.with_extension("new"), crashed.path().join("journal.new")).unwrap();
        let (_, restored) = open(crashed.path()).unwrap();
        assert_eq!(restored, sum(&life.entries[..old.len() + appended]), "after {appended} more");
        assert!(!crashed.path().join("journal.new").exists());
    };
    let mut appended = 0;
    compact(&mut log, &life.machine, 1, |log| {
        is_whole(appended);
        if let Some(entry) = new.get(appended) {
            log.append([entry], 0).unwrap();
            appended += 1;
            is_whole(appended);
        }
    })
    .unwrap();
    assert!(appended > 3, "{appended} were appended meanwhile");
    log.append(&new[appended..], 0).unwrap();
    fs::copy(&path, crashed.path().join("journal")).unwrap();
    let (_log, mut restored) = open(crashed.path()).unwrap();
    // The new log starts with the time at which it was started.
    restored.apply(life.machine.epoch_started());
    assert_eq!(restored, sum(life.entries.iter().chain([&life.machine.epoch_started()])));
}

#[test]
fn on_a_disk_that_is_full_what_has_started_can_end_and_nothing_starts_before_there_is_ample_room() {
    let life = life(3);
    let (folder, _, _) = written(&[]);
    let (mut log, _) = open(folder.path()).unwrap();
    let started = life.entries.iter().find(|entry| matches!(entry, Entry::Started(_))).unwrap();
    let end = |reply: bool| {
        let finished = life.entries.iter().find_map(|entry| match entry {
            Entry::Finished(finished) => Some(finished.clone()),
            _ => None,
        });
        let mut finished = finished.unwrap();
        finished.reply = finished.reply.filter(|_| reply);
        Entry::Finished(finished)
    };
    let frame = |entry: &Entry| length_of(&frame_of(entry));
    assert!(frame(&end(false)) < space::END, "what is kept for an end is enough");
    log.space.full_at = log.good + 2 * (frame(started) + space::END);
    log.append([started], 1).unwrap();
    log.append([started], 2).unwrap();
    assert!(log.append([started], 3).is_err(), "its end would not fit");
    assert!(log.append([&end(true)], 1).is_err(), "the other end would not fit any more");
    log.append([&end(false)], 1).unwrap();
    log.space.full_at += frame(started) + space::END;
    assert!(log.append([started], 2).is_err(), "it fits again, but not much more does");
    log.append([&end(false)], 0).unwrap();
    log.space.full_at += 2 * (frame(started) + space::END);
    assert!(log.append([started], 1).is_err(), "that an end found room is no room for what begins");
    log.space.full_at += space::CHUNK;
    log.append([started], 1).unwrap();
}

/// An entry whose payload is about so long.
fn long_entry(length: usize) -> Entry {
    let mut started = life(0).entries.into_iter().find_map(|entry| match entry {
        Entry::Started(started) => Some(started),
        _ => None,
    });
    started.as_mut().unwrap().reply_context.reply_to = "r".repeat(length);
    Entry::Started(started.unwrap())
}

#[test]
fn compaction_is_due_past_16_mib_and_then_past_twice_the_size() {
    let (life, folder) = (life(0), folder());
    let (mut log, _) = open(folder.path()).unwrap();
    let mib = long_entry(1 << 20);
    let many = vec![mib.clone(); 15];
    log.append(&many, 0).unwrap();
    assert!(!log.wants_compaction());
    log.append([&mib], 0).unwrap();
    assert!(log.wants_compaction());
    let mut grown = false;
    compact(&mut log, &life.machine, 1, |log| {
        assert!(!log.wants_compaction(), "there is one already");
        if !std::mem::replace(&mut grown, true) {
            log.append(many.iter().chain(&many), 0).unwrap();
        }
    })
    .unwrap();
    assert!(!log.wants_compaction());
    log.append(&many, 0).unwrap();
    log.append(&many[1..], 0).unwrap();
    assert!(!log.wants_compaction(), "past 16 MiB, but not past twice what is alive");
    log.append([&mib, &mib], 0).unwrap();
    assert!(log.wants_compaction());
}

#[test]
fn a_compaction_that_fails_leaves_the_old_log_in_use() {
    let life = life(2);
    let (folder, path, bytes) = written(&life.entries);
    let (mut log, _) = open(folder.path()).unwrap();
    fs::create_dir(folder.path().join("journal.new")).unwrap();
    assert!(compact(&mut log, &life.machine, 9, |_| {}).is_err());
    fs::remove_dir(folder.path().join("journal.new")).unwrap();
    // What it has written is gone when it is to take the old one's place.
    let new = folder.path().join("journal.new");
    assert!(compact(&mut log, &life.machine, 9, |_| fs::remove_file(&new).unwrap_or_default()).is_err());
    assert!(!log.wants_compaction());
    let more = Entry::Mark { at: START };
    log.append([&more], 0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [bytes, frame_of(&more)].concat());
}

#[test]
fn after_a_write_that_failed_half_way_the_log_is_whole() {
    let life = life(2);
    let (folder, path, bytes) = written(&life.entries);
    let (mut log, _) = open(folder.path()).unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let real = std::mem::replace(&mut log.file, full);
    let (first, second) = (Entry::Mark { at: START }, Entry::Mark { at: START.plus(1) });
    assert!(log.append([&first], 0).is_err());
    // Half a frame, as a disk that fills up leaves it, longer than what comes next.
    real.write_all_at(&bytes[..bytes.len() / 2], log.good).unwrap();
    assert!(log.append([&second], 0).is_err());
    log.file = real;
    log.append([&second], 0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [bytes, frame_of(&second)].concat());
}

#[test]
fn an_entry_that_is_too_long_is_not_written() {
    let life = life(0);
    let (folder, path, bytes) = written(&life.entries);
    let (mut log, _) = open(folder.path()).unwrap();
    assert!(log.append([&long_entry(MAX_PAYLOAD)], 0).is_err());
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_second_client_on_the_same_folder_is_refused_whatever_was_removed_from_it() {
    let folder = folder();
    fs::write(folder.path().join("lock"), "").unwrap();
    let (first, _) = open(folder.path()).unwrap();
    assert_eq!(fault(&folder), JournalFault::Locked);
    for file in fs::read_dir(folder.path()).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_eq!(fault(&folder), JournalFault::Locked);
    drop(first);
    assert!(open(folder.path()).is_ok());
}

#[test]
fn a_folder_that_is_removed_or_replaced_is_noticed() {
    let outer = folder();
    let path = outer.path().join("worker-1");
    let (log, _) = open(&path).unwrap();
    assert_eq!(log.check_place(), Ok(()));
    fs::rename(&path, outer.path().join("elsewhere")).unwrap();
    assert_eq!(log.check_place().unwrap_err().fault, JournalFault::Replaced);
    drop(open(&path).unwrap());
    assert_eq!(log.check_place().unwrap_err().fault, JournalFault::Replaced);
}

#[test]
fn the_folder_is_made_private_and_one_that_others_can_enter_is_refused() {
    let folder = folder();
    let below = folder.path().join("state/worker-1");
    drop(open(&below).unwrap());
    for made in ["state", "state/worker-1"] {
        let mode = fs::metadata(folder.path().join(made)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{made}");
    }
    assert_eq!(fs::metadata(below.join("journal")).unwrap().permissions().mode() & 0o7777, 0o600);
    fs::set_permissions(&below, fs::Permissions::from_mode(0o755)).unwrap();
    let error = open(&below).unwrap_err();
    assert_eq!(error.fault, JournalFault::Open(0o755));
    assert!(error.hint().contains("chmod 700"), "{error}");
}

#[test]
fn loading_holds_no_more_than_what_is_retained() {
    let life = life(9);
    let late = Entry::Mark { at: START.plus(95_000 + JOB_RETENTION) };
    let (folder, _, _) = written(&[life.entries.as_slice(), &[late]].concat());
    let (_log, restored) = open(folder.path()).unwrap();
    let started = |entry: &Entry| matches!(entry, Entry::Started(_));
    let left = snapshot(&restart(restored)).iter().filter(|entry| started(entry)).count();
    assert_eq!((life.entries.iter().filter(|entry| started(entry)).count(), left), (10, 1), "only what has not ended");
}

fn restart(restored: Restored) -> Client {
    let realm = Realm::new("demo");
    let _alice = realm.operator("alice", full_grant());
    let start = StartUp {
        limits: Limits::default(),
        version: String::new(),
        identity: realm.client("worker-1", &[]),
        catalogue: catalogue(),
        trust: realm.trust.clone(),
        restored,
        boot: Uuid::from_random([3; 16]),
        epoch: Uuid::from_random([4; 16]),
        start_ready: false,
    };
    Client::start(start, now(100)).unwrap().0
}
