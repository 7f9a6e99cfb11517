//! What an issuer and a member leave on their disks when a write fails, which is also what a kill before it leaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot make what it needs is to fail there")]

use std::fs;
use std::path::{Path, PathBuf};

use countersign_host::clock;
use countersign_keys::{KeyFolder, Member, UserJwt, load_member, load_trust, read_key};
use countersign_protocol::credential::{Claims, Credential, Role};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Authentic, Signed, Verifier};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::limits::{RENEWAL_GRACE, SKEW};
use countersign_protocol::name::Name;
use countersign_protocol::renewal::{Answered, Renewal, RenewalCode, RenewalRequest, open_answer};
use tempfile::TempDir;

use super::{Issuer, Renewed};
use crate::{ProvisionRequest, provision};

/// How long a credential lives here, in seconds.
const LIFE: i64 = 1_000;

fn worker() -> Name {
    "worker-1".parse().unwrap()
}

/// A folder of keys with a client that is past half of its life.
fn folder() -> (TempDir, KeyFolder) {
    let temp = TempDir::new().unwrap();
    provision(temp.path(), &ProvisionRequest::default()).unwrap();
    let folder = KeyFolder::new(temp.path());
    let (trust, now) = (load_trust(&folder).unwrap(), clock::wall());
    let path = folder.credential(Role::Client, &worker());
    let raw = fs::read_to_string(&path).unwrap();
    let claims = Credential::examine(raw.trim(), &trust, now, SKEW).unwrap().claims;
    let begin = now.seconds() - LIFE / 4 * 3;
    let claims = Claims { jti: Uuid::from_random([7; 16]), iat: begin, nbf: begin, exp: begin + LIFE, ..claims };
    fs::write(path, Credential::issue(&claims, &read_key(&folder.issuer_key()).unwrap())).unwrap();
    (temp, folder)
}

fn member(folder: &KeyFolder) -> Member {
    load_member(folder, Role::Client, &worker(), &load_trust(folder).unwrap(), clock::wall(), SKEW).unwrap()
}

fn request(folder: &KeyFolder, member: &Member) -> (Signed, Authentic<RenewalRequest>) {
    let now = clock::wall();
    let signed = RenewalRequest::sign(MessageId::new(now, clock::random().unwrap()), &member.identity, now);
    let verifier = Verifier::new(load_trust(folder).unwrap().into(), RENEWAL_GRACE);
    let opened = RenewalRequest::open(&signed.delivery(), &verifier, now).unwrap();
    (signed, opened)
}

fn answered(issuer: &Issuer, folder: &KeyFolder, member: &Member) -> (Renewed, Answered) {
    let (signed, request) = request(folder, member);
    let trust = load_trust(folder).unwrap();
    let renewed = issuer.answer(&request, &trust, clock::wall()).unwrap();
    let asked = Digest::of(&signed.body);
    let answer =
        open_answer(&renewed.answer.delivery(), &asked, &member.identity, &trust, clock::wall(), SKEW).unwrap();
    (renewed, answer)
}

fn renewal(issuer: &Issuer, folder: &KeyFolder, member: &Member) -> (bool, Renewal) {
    match answered(issuer, folder, member) {
        (renewed, Answered::Renewed(renewal)) => (renewed.is_new, renewal),
        (renewed, Answered::Refused(_)) => panic!("{:?}", renewed.outcome),
    }
}

/// Lets no file be put in the place of this one, and names what is in the way.
fn obstruct(path: &Path) -> PathBuf {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    fs::create_dir(&fresh).unwrap();
    fresh
}

#[test]
fn an_issuer_that_cannot_write_one_of_three_files_answers_with_none_and_goes_on_where_it_was() {
    for (at, goes_on_with_a_new_one) in [(0, true), (1, false), (2, false)] {
        let (_temp, folder) = folder();
        let issuer = Issuer::open(&folder, &load_trust(&folder).unwrap(), None).unwrap();
        let member = member(&folder);
        let files = [
            folder.credential(Role::Client, &worker()),
            folder.creds(Role::Client, &worker()),
            folder.user_jwt(Role::Client, &worker()),
        ];
        let in_the_way = obstruct(&files[at]);
        let (renewed, answer) = answered(&issuer, &folder, &member);
        let error = renewed.outcome.unwrap_err();
        let name = files[at].file_name().unwrap().to_str().unwrap();
        assert!(error.code == RenewalCode::Unavailable && error.message.contains(name), "{error:?}");
        let Answered::Refused(said) = answer else { panic!("nothing that is not on the disk is sent") };
        assert!(!said.message.contains(name), "what is where at the issuer is not the member's business");
        let _ = self::member(&folder);

        fs::remove_dir(in_the_way).unwrap();
        let (is_new, renewal) = renewal(&issuer, &folder, &member);
        assert_eq!(is_new, goes_on_with_a_new_one, "{name}");
        let (kept, jwt) = (self::member(&folder), UserJwt::parse(renewal.user_jwt()).unwrap());
        assert_eq!(kept.identity.credential(), renewal.credential());
        assert_eq!(kept.login.jwt(), jwt.as_str());
        assert_eq!(jwt.claims()["exp"], renewal.credential().expires_at().seconds());
    }
}

#[test]
fn a_member_that_cannot_write_one_of_two_files_starts_again_with_what_fits_and_takes_the_same_answer_later() {
    let (_temp, folder) = folder();
    let issuer = Issuer::open(&folder, &load_trust(&folder).unwrap(), None).unwrap();
    // The member's own machine has a copy from before.
    let copies = ["credential", "creds"].map(|at| {
        let temp = TempDir::new().unwrap();
        let copy = KeyFolder::create(temp.path().join("keys")).unwrap();
        for path in [
            folder.trust(),
            folder.pin(),
            folder.key(Role::Client, &worker()),
            folder.credential(Role::Client, &worker()),
            folder.creds(Role::Client, &worker()),
        ] {
            fs::copy(&path, copy.path().join(path.strip_prefix(folder.path()).unwrap())).unwrap();
        }
        (at, temp, copy)
    });
    for (at, _temp, own) in &copies {
        let before = member(own);
        let (_, renewal) = renewal(&issuer, &folder, &before);
        let [credential, creds] = [own.credential(Role::Client, &worker()), own.creds(Role::Client, &worker())];
        let in_the_way = obstruct(if *at == "creds" { &creds } else { &credential });
        let files = before.files.as_ref().unwrap();
        let error = files.keep(&renewal).unwrap_err();
        assert!(error.what().contains(in_the_way.to_str().unwrap().trim_end_matches(".new")), "{}", error.what());
        let between = member(own);
        assert_eq!(between.identity.credential(), before.identity.credential(), "the old one, whole");
        assert_eq!(between.login.jwt() == before.login.jwt(), *at == "creds");

        fs::remove_dir(in_the_way).unwrap();
        files.keep(&renewal).unwrap();
        let after = member(own);
        assert_eq!(after.identity.credential(), renewal.credential());
        assert_eq!(after.login.jwt(), renewal.user_jwt());
        assert_eq!(after.login.seed(), before.login.seed());
    }
}

#[test]
fn what_a_command_has_issued_since_the_answer_stays_and_a_folder_that_is_being_changed_is_left_alone() {
    let (_temp, folder) = folder();
    let issuer = Issuer::open(&folder, &load_trust(&folder).unwrap(), None).unwrap();
    let before = member(&folder);
    let files = before.files.as_ref().unwrap();
    let (_, renewal) = renewal(&issuer, &folder, &before);
    let terms =
        crate::Terms { rights: crate::Rights::Client { groups: Some(vec!["db".parse().unwrap()]) }, life_ms: None };
    crate::renew(&folder, &load_trust(&folder).unwrap(), &[worker()], &terms).unwrap();
    let paths = [folder.credential(Role::Client, &worker()), folder.creds(Role::Client, &worker())];
    let issued = paths.each_ref().map(|path| fs::read(path).unwrap());
    let lock = folder.lock(countersign_keys::LOCK_WAIT).unwrap();
    assert!(files.keep(&renewal).unwrap_err().what().contains("another process has been changing the folder"));
    drop(lock);
    files.keep(&renewal).unwrap();
    assert_eq!(paths.each_ref().map(|path| fs::read(path).unwrap()), issued);
}

#[test]
fn a_jwt_about_another_connection_key_is_not_written() {
    let (_temp, folder) = folder();
    let issuer = Issuer::open(&folder, &load_trust(&folder).unwrap(), None).unwrap();
    let before = member(&folder);
    let files = before.files.as_ref().unwrap();
    // The issuer's record of whose connection key is whose is another's.
    let other = folder.creds(Role::Operator, &"alice".parse().unwrap());
    fs::copy(other, folder.creds(Role::Client, &worker())).unwrap();
    fs::remove_file(folder.user_jwt(Role::Client, &worker())).unwrap();
    let (_, renewal) = renewal(&issuer, &folder, &before);
    let error = files.keep(&renewal).unwrap_err();
    assert!(error.what().contains("a JWT about another connection key"), "{}", error.what());
}

#[test]
fn one_issuer_at_a_time_holds_a_folder() {
    let (_temp, folder) = folder();
    let trust = load_trust(&folder).unwrap();
    let first = Issuer::open(&folder, &trust, None).unwrap();
    let error = Issuer::open(&folder, &trust, None).err().unwrap();
    assert!(error.to_string().contains("an issuer runs in the folder"), "{error}");
    drop(first);
    Issuer::open(&folder, &trust, None).unwrap();
}

#[test]
fn the_issuers_setting_of_a_life_comes_before_that_of_the_credential() {
    let (_temp, folder) = folder();
    let issuer = Issuer::open(&folder, &load_trust(&folder).unwrap(), Some(60_000)).unwrap();
    let (_, renewal) = renewal(&issuer, &folder, &member(&folder));
    let life = renewal.credential().expires_at().since(renewal.credential().issued_at());
    assert_eq!(life, 60_000);
}
