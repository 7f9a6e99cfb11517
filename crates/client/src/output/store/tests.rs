#![allow(clippy::unwrap_used, reason = "a test may")]

use std::os::unix::fs::PermissionsExt;

use countersign_protocol::digest::Digest;
use countersign_protocol::output::StreamReport;
use countersign_testkit::realm::{Realm, full_grant, message_id};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::output::JobOutput;

fn key(number: u64) -> JobKey {
    let alice = Realm::new("demo").operator("alice", full_grant());
    JobKey { id: message_id(number), operator: alice.credential().kid() }
}

fn store(folder: &TempDir) -> Arc<OutputStore> {
    Arc::new(OutputStore::open(folder.path().join("output")))
}

fn begin(store: &Arc<OutputStore>, number: u64) -> JobOutput {
    store.begin(key(number));
    JobOutput::new(Arc::clone(store), key(number))
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Reads a stream as an operator does, and which ranges are missing.
fn read_all(store: &OutputStore, number: u64, stream: Stream) -> (Vec<u8>, Vec<(u64, u64)>, Piece) {
    let (mut data, mut missing, mut offset) = (Vec::new(), Vec::new(), 0);
    loop {
        let piece = store.read(key(number), stream, offset, 10_000).unwrap().unwrap();
        if piece.offset > offset {
            missing.push((offset, piece.offset));
        }
        if piece.data.is_empty() {
            return (data, missing, piece);
        }
        offset = piece.offset + piece.data.len() as u64;
        data.extend_from_slice(&piece.data);
    }
}

#[test]
fn what_is_written_is_read_while_the_job_runs_and_afterwards() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder);
    let output = begin(&store, 1);
    output.write(Stream::Stdout, b"caf\xe9 ");
    output.write(Stream::Stderr, b"oh\n");
    output.write(Stream::Stdout, b"\xff\0x\n");
    let (data, missing, piece) = read_all(&store, 1, Stream::Stdout);
    assert_eq!((data.as_slice(), missing, piece.digest), (b"caf\xe9 \xff\0x\n".as_slice(), vec![], None));
    let report = output.finish();
    let raw = b"caf\xe9 \xff\0x\n";
    assert_eq!((report.stdout.bytes, report.stdout.sha256, report.stdout.kept), (9, Digest::of(raw), None));
    assert_eq!((report.stdout.text.as_str(), report.stdout.exact), ("caf\u{fffd} \u{fffd}\0x\n", false));
    assert_eq!((report.stderr.text.as_str(), report.stderr.exact), ("oh\n", true));
    output.write(Stream::Stdout, b"too late");
    store.end(key(1));
    let (data, _, piece) = read_all(&store, 1, Stream::Stdout);
    assert_eq!((data.as_slice(), piece.digest), (raw.as_slice(), Some(Digest::of(raw))));
}

#[test]
fn a_bounded_stream_keeps_its_beginning_and_its_end() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder);
    let output = begin(&store, 1);
    output.bound(100_000);
    let all = noise(1_234_567);
    all.chunks(7_001).for_each(|piece| output.write(Stream::Stdout, piece));
    output.bound(1);
    let StreamReport { bytes, sha256, kept, .. } = output.finish().stdout;
    assert_eq!((bytes, sha256), (1_234_567, Digest::of(&all)));
    let expected = [&all[..50_000], &all[1_184_567..]].concat();
    let kept = kept.unwrap();
    assert_eq!((kept.head, kept.tail, kept.sha256, kept.fault), (50_000, 50_000, Digest::of(&expected), None));
    store.end(key(1));
    let (data, missing, _) = read_all(&store, 1, Stream::Stdout);
    assert!(data == expected && missing == [(50_000, 1_184_567)], "{missing:?}");
    let size = fs::metadata(folder.path().join("output").join(file_name(key(1)))).unwrap().len();
    assert!(size <= 4_096 + 200_000, "{size}");
}

#[test]
fn files_and_their_folder_are_of_the_user_alone() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder);
    begin(&store, 1).write(Stream::Stdout, b"secret");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = folder.path().join("output");
    assert_eq!((mode(&path), mode(&path.join(file_name(key(1))))), (0o700, 0o600));
}

#[test]
fn the_next_run_finds_what_was_written_and_the_digest_only_of_what_had_ended() {
    let folder = TempDir::new().unwrap();
    let all = noise(300_000);
    {
        let store = store(&folder);
        for number in 1..=3 {
            let output = begin(&store, number);
            output.bound(if number == 3 { 200_000 } else { MAX_OUTPUT });
            all.chunks(65_536).for_each(|piece| output.write(Stream::Stderr, piece));
        }
        store.end(key(1));
    }
    let store = store(&folder);
    let (data, missing, piece) = read_all(&store, 1, Stream::Stderr);
    assert!(data == all && missing.is_empty() && piece.digest == Some(Digest::of(&all)));
    let (data, missing, piece) = read_all(&store, 2, Stream::Stderr);
    assert!(data == all && missing.is_empty() && piece.digest.is_none());
    // What the crash may have overwritten is not shown: the ring was being written.
    let (data, missing, _) = read_all(&store, 3, Stream::Stderr);
    assert_eq!(missing, [(100_000, 265_536)]);
    assert!(data == [&all[..100_000], &all[265_536..]].concat());
    assert!(store.read(key(4), Stream::Stdout, 0, 1).is_none());
}

#[test]
fn a_stream_that_came_to_its_bound_at_a_crash_does_not_show_what_the_ring_lost() {
    let folder = TempDir::new().unwrap();
    let all = noise(99_000);
    let output = begin(&store(&folder), 1);
    output.bound(100_000);
    output.write(Stream::Stdout, &all);
    let (data, missing, _) = read_all(&store(&folder), 1, Stream::Stdout);
    assert!(data == all[..50_000] && missing == [(50_000, 99_000)], "{missing:?}");
}

#[test]
fn what_is_no_output_is_left_alone_and_what_is_damaged_is_removed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("output");
    fs::create_dir(&path).unwrap();
    let damaged = path.join(file_name(key(1)));
    fs::write(&damaged, b"CSOUT").unwrap();
    fs::write(path.join("notes"), b"mine").unwrap();
    let store = store(&folder);
    assert!(path.join("notes").exists() && !damaged.exists());
    assert!(store.read(key(1), Stream::Stdout, 0, 1).is_none());
}

#[test]
fn the_oldest_outputs_of_ended_jobs_give_way() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(OutputStore::bounded(folder.path().join("output"), 100_000));
    for number in 1..=4 {
        begin(&store, number).write(Stream::Stdout, &noise(20_000));
        if number != 1 {
            store.end(key(number));
        }
    }
    begin(&store, 5).write(Stream::Stdout, &noise(20_000));
    let there = |number| store.read(key(number), Stream::Stdout, 0, 1).is_some();
    assert_eq!([1, 2, 3, 4, 5].map(there), [true, false, true, true, true], "the first one runs");
    assert_eq!(fs::read_dir(folder.path().join("output")).unwrap().count(), 4);
}

#[test]
fn jobs_that_run_keep_no_more_than_the_bound_and_their_reports_say_so() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(OutputStore::bounded(folder.path().join("output"), 100_000));
    let (first, second) = (begin(&store, 1), begin(&store, 2));
    let all = noise(70_000);
    first.write(Stream::Stdout, &all);
    all.chunks(10_000).for_each(|piece| second.write(Stream::Stdout, piece));
    let StreamReport { bytes, sha256, kept, .. } = second.finish().stdout;
    assert_eq!((bytes, sha256), (70_000, Digest::of(&all)));
    let kept = kept.unwrap();
    assert_eq!((kept.head, kept.tail, kept.sha256), (20_000, 0, Digest::of(&all[..20_000])));
    assert!(kept.fault.unwrap().contains("the client's bound"));
}

#[test]
fn where_nothing_can_be_kept_everything_is_still_counted_and_digested() {
    let store = Arc::new(OutputStore::open("/dev/null/output".into()));
    let output = begin(&store, 1);
    output.write(Stream::Stdout, b"all is well\n");
    let StreamReport { bytes, sha256, kept, text, exact } = output.finish().stdout;
    assert_eq!((bytes, sha256), (12, Digest::of(b"all is well\n")));
    assert_eq!((text.as_str(), exact), ("all is well\n", true));
    let kept = kept.unwrap();
    assert!(kept.head == 0 && kept.tail == 0 && kept.fault.is_some_and(|fault| !fault.is_empty()));
    assert_eq!(output.finish().stderr.kept, None, "there is nothing that would not be kept");
}

#[test]
fn the_output_of_forgotten_jobs_is_removed() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder);
    for number in 1..=3 {
        begin(&store, number).write(Stream::Stdout, b"x");
    }
    store.retain(|one| one == key(2));
    let there = |number| store.read(key(number), Stream::Stdout, 0, 1).is_some();
    assert_eq!([1, 2, 3].map(there), [false, true, false]);
    assert_eq!(fs::read_dir(folder.path().join("output")).unwrap().count(), 1);
    assert_eq!(store.lock().stored, 4_097);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_it_is_written_the_report_and_what_is_read_fit(
        lengths in proptest::collection::vec(0_usize..3_000, 0..30),
        limit in 0_u64..20_000,
    ) {
        let folder = TempDir::new().unwrap();
        let store = store(&folder);
        let output = begin(&store, 1);
        output.bound(limit);
        let all = noise(lengths.iter().sum());
        let mut rest = all.as_slice();
        for length in lengths {
            let (piece, others) = rest.split_at(length);
            output.write(Stream::Stderr, piece);
            rest = others;
        }
        let report = output.finish().stderr;
        store.end(key(1));
        let (data, missing, piece) = read_all(&store, 1, Stream::Stderr);
        prop_assert_eq!((report.bytes, report.sha256), (all.len() as u64, Digest::of(&all)));
        prop_assert_eq!(piece.digest, Some(report.sha256));
        match report.kept {
            None => prop_assert!(data == all && missing.is_empty()),
            Some(kept) => {
                prop_assert_eq!(kept.head + kept.tail, limit.min(all.len() as u64));
                prop_assert_eq!(kept.sha256, Digest::of(&data));
                prop_assert_eq!(missing, vec![(kept.head, all.len() as u64 - kept.tail)]);
            }
        }
    }
}
