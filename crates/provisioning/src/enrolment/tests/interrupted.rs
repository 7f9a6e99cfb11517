//! Whoever is killed, and whose disk is full, in the middle.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_keys::{KeyFolder, load_member, load_trust};
use countersign_protocol::credential::Role;
use countersign_protocol::enrolment::{Answered, EnrolmentCode, Token};
use countersign_protocol::limits::SKEW;
use countersign_protocol::trust::Revoked;
use tempfile::TempDir;

use super::super::worker::{Enrolling, Origin, is_enrolled};
use super::super::{Broker, KnownKeys, TokenTerms, answer, make_token};
use super::{World, begin, name, wanted};
use crate::{ProvisionError, ProvisionRequest, Terms, member_key, provision};

/// Puts the files of a later state into an earlier one, one after the other.
fn in_between(before: &KeyFolder, after: &KeyFolder, order: &[PathBuf], count: usize, into: PathBuf) -> KeyFolder {
    let copy = |from: &KeyFolder, file: &PathBuf| {
        let (from, to) = (from.path().join(file), into.join(file));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        match fs::read(&from) {
            Ok(_) => drop(fs::copy(&from, &to).unwrap()),
            Err(_) => drop(fs::remove_file(&to)),
        }
    };
    for file in files(before) {
        copy(before, &file);
    }
    for file in order.iter().take(count) {
        copy(after, file);
    }
    KeyFolder::create(into).unwrap()
}

fn files(folder: &KeyFolder) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.path().to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => found.push(path.strip_prefix(folder.path()).unwrap().to_owned()),
            }
        }
    }
    found
}

#[test]
fn an_issuer_that_is_killed_between_any_two_writes_answers_the_same_keys_and_no_others() {
    let world = World::new();
    let token = world.token("worker-7");
    let before = in_between(&world.issuer, &world.issuer, &[], 0, world.temporary.path().join("before"));
    let (request, others) = (world.request(&world.worker, &token), world.request(&world.another_worker("x"), &token));
    world.says(&request, world.now).unwrap();
    let order: Vec<PathBuf> = ["enrolment/tokens/worker-7.json", "clients/worker-7.jwt", "nats/client-worker-7.jwt"]
        .map(PathBuf::from)
        .to_vec();
    let written: Vec<_> = files(&world.issuer).into_iter().filter(|file| !files(&before).contains(file)).collect();
    assert!(written.iter().all(|file| order.contains(file)), "{written:?}");
    for count in 1..=order.len() {
        let into = world.temporary.path().join(format!("issuer-{count}"));
        let issuer = in_between(&before, &world.issuer, &order, count, into);
        let killed = World { issuer, ..World::new() };
        let trust = killed.trust();
        let said =
            |request: &[u8]| answer(&killed.issuer, &mut KnownKeys::default(), &trust, request, world.now).unwrap();
        assert_eq!(said(&others).refused.unwrap().code, EnrolmentCode::TokenUsed, "{count}");
        let done = said(&request);
        assert_eq!(done.refused, None, "{count}");
        assert_eq!(said(&others).refused.unwrap().code, EnrolmentCode::TokenUsed, "{count}");
        if count == order.len() {
            world.install(&world.worker, &token, &done.answer).unwrap();
        }
    }
}

#[test]
fn a_worker_that_is_killed_between_any_two_writes_completes_it_without_asking_and_the_pair_fits() {
    let world = World::new();
    let token = world.token("worker-7");
    let request = world.request(&world.worker, &token);
    let done = answer(&world.issuer, &mut KnownKeys::default(), &world.trust(), &request, world.now).unwrap();
    let before = in_between(&world.worker, &world.worker, &[], 0, world.temporary.path().join("before"));
    world.install(&world.worker, &token, &done.answer).unwrap();
    let begun = format!("enrolment/token.{}", token.id);
    fs::write(world.worker.path().join(&begun).join("answer.json"), &done.answer).unwrap();
    let order: Vec<PathBuf> = [
        &format!("{begun}/answer.json"),
        "root.thumbprint",
        "trust.json",
        "clients/worker-7.pem",
        "nats/client-worker-7.creds",
        "clients/worker-7.jwt",
        &format!("{begun}/enrolled"),
    ]
    .map(PathBuf::from)
    .to_vec();
    for count in 1..=order.len() {
        let into = world.temporary.path().join(format!("worker-{count}"));
        let worker = in_between(&before, &world.worker, &order, count, into);
        assert_eq!(world.is_member(&worker, "worker-7"), count >= 6, "{count}");
        let enrolled = is_enrolled(&worker, Origin::Token(&token.id), &name("worker-7"), world.now);
        assert_eq!(enrolled, count == order.len(), "{count}");
        let answer = begin(&worker, &token).interrupted().unwrap();
        world.install(&worker, &token, &answer).unwrap();
        assert!(world.is_member(&worker, "worker-7"), "{count}");
    }
}

#[test]
fn a_key_that_was_half_written_is_never_taken_for_one() {
    let world = World::new();
    let token = world.token("worker-7");
    world.request(&world.worker, &token);
    let begun = fs::read_dir(world.worker.enrolment()).unwrap().next().unwrap().unwrap().path();
    for file in ["key.pem", "connection.nk"] {
        fs::write(begun.join(file), "").unwrap();
        assert!(Enrolling::begin(&world.worker, Origin::Token(&token.id), &name("worker-7")).is_err(), "{file}");
        // What a kill leaves is beside it, and in nobody's way.
        fs::rename(begun.join(file), begun.join(format!("{file}.new"))).unwrap();
        begin(&world.worker, &token);
    }
}

#[test]
fn the_answer_to_an_earlier_request_of_a_run_enrols_and_can_be_completed_by_the_next_run() {
    let world = World::new();
    let (token, token_of) = (world.token("worker-7"), |token: &Token| token.client.as_ref().map(|it| it.key()));
    let (mut enrolling, wanted) = (begin(&world.worker, &token), wanted(&token));
    let mut ask =
        |at| enrolling.request(&wanted, Some((&token.id, token_of(&token).as_ref())), world.now.plus(at)).unwrap();
    let first = ask(0);
    ask(2_000);
    let done = answer(&world.issuer, &mut KnownKeys::default(), &world.trust(), &first, world.now).unwrap();
    let opened = enrolling.open(&done.answer, token.root, &wanted, world.now).unwrap();
    let Ok(Answered::Enrolled(enrolment)) = opened else { panic!("{opened:?}") };
    assert!(!enrolling.is_latest(enrolment.request()));
    // It is cut off after the answer is on disk: the folder of the client cannot be written.
    fs::create_dir_all(world.worker.path().join("trust.json.new/x")).unwrap();
    enrolling.install(&done.answer, &enrolment, token.root, None, world.now).unwrap_err();
    fs::remove_dir_all(world.worker.path().join("trust.json.new")).unwrap();
    let kept = begin(&world.worker, &token).interrupted().unwrap();
    world.install(&world.worker, &token, &kept).unwrap();
    assert!(world.is_member(&world.worker, "worker-7"));
    // The answer to what another run has asked is none.
    let other = begin(&world.another_worker("x"), &token);
    world.request(&world.another_worker("x"), &token);
    assert!(other.open(&done.answer, token.root, &wanted, world.now).unwrap().is_err());
}

/// Makes a file impossible to write, as a full disk does: it is written beside its place first.
fn obstruct(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    fs::create_dir_all(beside.join("x")).unwrap();
    beside
}

/// Runs something with each of the files that it writes impossible to write: the error names the file, every other file is as it was
/// or as it would have become, and the next run completes it.
fn without_room_for_each(
    before: &KeyFolder,
    run: impl Fn(&KeyFolder) -> Result<(), String>,
    is_complete: impl Fn(&KeyFolder) -> bool,
) {
    let temporary = TempDir::new().unwrap();
    let done = in_between(before, before, &[], 0, temporary.path().join("done"));
    run(&done).unwrap();
    let read = |folder: &KeyFolder, file: &PathBuf| fs::read(folder.path().join(file)).ok();
    let written: Vec<PathBuf> =
        files(&done).into_iter().filter(|file| read(&done, file) != read(before, file)).collect();
    assert!(!written.is_empty());
    for (number, file) in written.iter().enumerate() {
        let folder = in_between(before, before, &[], 0, temporary.path().join(number.to_string()));
        let beside = obstruct(&folder.path().join(file));
        let error = run(&folder).unwrap_err();
        assert!(error.contains(file.to_str().unwrap()), "{}: {error}", file.display());
        assert_eq!(read(&folder, file), read(before, file), "{}", file.display());
        fs::remove_dir_all(beside).unwrap();
        run(&folder).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(is_complete(&folder), "{}", file.display());
    }
}

#[test]
fn where_a_file_has_no_room_init_issue_and_revoke_name_it_and_the_next_run_completes_them() {
    let world = World::new();
    let is_member = |folder: &KeyFolder, role, member: &str| {
        let trust = load_trust(folder).unwrap();
        load_member(folder, role, &name(member), &trust, world.now, SKEW).is_ok()
    };
    let text = |error: ProvisionError| error.to_string();
    let init = |folder: &KeyFolder| provision(folder.path(), &ProvisionRequest::default()).map(drop).map_err(text);
    let empty = KeyFolder::create(world.temporary.path().join("empty")).unwrap();
    without_room_for_each(&empty, init, |folder| {
        is_member(folder, Role::Client, "worker-1") && is_member(folder, Role::Operator, "alice")
    });
    let terms = Terms::unchanged(Role::Client);
    let issue = |folder: &KeyFolder| {
        crate::issue(folder, &load_trust(folder).unwrap(), &name("worker-2"), &terms).map(drop).map_err(text)
    };
    without_room_for_each(&world.issuer, issue, |folder| is_member(folder, Role::Client, "worker-2"));
    let kid = member_key(&world.issuer, &world.trust(), Role::Client, &name("worker-1")).unwrap();
    let revoked = [Revoked::Key { kid, since: world.now }];
    let revoke =
        |folder: &KeyFolder| crate::revoke(folder, &load_trust(folder).unwrap(), &revoked).map(drop).map_err(text);
    without_room_for_each(&world.issuer, revoke, |folder| {
        let trust = load_trust(folder).unwrap();
        trust.version() == 2 && fs::read(folder.trust()).unwrap() == trust.bytes()
    });
}

#[test]
fn where_a_file_has_no_room_nobody_is_enrolled_half_and_the_same_keys_are_enrolled_later() {
    let world = World::new();
    let make = |folder: &KeyFolder| {
        let terms = TokenTerms { client: Some((name("worker-7"), Vec::new())), valid_ms: 3_600_000, life_ms: None };
        let broker = Broker { url: "nats://broker.example".to_owned(), ca: None };
        make_token(folder, &load_trust(folder).unwrap(), &terms, &broker, world.now).map(drop)
    };
    without_room_for_each(&world.issuer, |folder| make(folder).map_err(|error| error.to_string()), |_| true);

    let token = world.token("worker-7");
    let request = world.request(&world.worker, &token);
    let others = world.request(&world.another_worker("x"), &token);
    let said = |folder: &KeyFolder, request: &[u8]| {
        answer(folder, &mut KnownKeys::default(), &load_trust(folder).unwrap(), request, world.now).unwrap()
    };
    let enrol = |folder: &KeyFolder| said(folder, &request).refused.map_or(Ok(()), |error| Err(error.message));
    without_room_for_each(&world.issuer, enrol, |folder| {
        said(folder, &others).refused.unwrap().code == EnrolmentCode::TokenUsed
    });

    let done = said(&world.issuer, &request);
    let install = |folder: &KeyFolder| world.install(folder, &token, &done.answer);
    let again = |folder: &KeyFolder| if world.is_member(folder, "worker-7") { Ok(()) } else { install(folder) };
    without_room_for_each(&world.worker, again, |folder| world.is_member(folder, "worker-7"));
}
