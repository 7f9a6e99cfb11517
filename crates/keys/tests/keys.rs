//! Key files: what is made, and what is refused (section 7).

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use countersign_keys::{
    Fault, KeyFileError, KeyFolder, Login, Seed, UserJwt, create_secret, creds_text, load_member, load_trust, read_key,
    read_public, replace_public, replace_secret,
};
use countersign_protocol::command::Version;
use countersign_protocol::credential::Role;
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::trust::{Issuer, Trust, TrustBody};
use countersign_testkit::accounts::signed;
use countersign_testkit::realm::{Realm, START, full_grant, name};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::geteuid;
use serde_json::json;
use tempfile::TempDir;

/// The seed of the key that a realm's first member gets.
const FIRST: [u8; 32] = [1; 32];

fn fault<T>(result: Result<T, KeyFileError>) -> Fault {
    result.err().unwrap().fault
}

fn content<T>(result: Result<T, KeyFileError>) -> String {
    match fault(result) {
        Fault::Content { what, .. } => what,
        other => panic!("{other:?}"),
    }
}

fn key_file(folder: &TempDir) -> std::path::PathBuf {
    let path = folder.path().join("worker-1.pem");
    create_secret(&path, SecretKey::from_seed([7; 32]).to_pem().as_bytes()).unwrap();
    path
}

#[test]
fn a_key_is_made_with_mode_0600_in_a_folder_of_mode_0700_and_read_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys/clients/worker-1.pem");
    let key = SecretKey::from_seed([7; 32]);
    create_secret(&path, key.to_pem().as_bytes()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    for made in ["keys", "keys/clients"] {
        assert_eq!(fs::metadata(folder.path().join(made)).unwrap().mode() & 0o7777, 0o700, "{made}");
    }
    assert_eq!(read_key(&path).unwrap(), key);
}

#[test]
fn a_key_is_never_overwritten() {
    let folder = TempDir::new().unwrap();
    let path = key_file(&folder);
    assert_eq!(fault(create_secret(&path, b"another")), Fault::Exists);
    assert_eq!(read_key(&path).unwrap(), SecretKey::from_seed([7; 32]));
}

#[test]
fn a_key_is_there_as_a_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys/worker-1.pem");
    // Whoever is killed while it is written leaves this, and nothing at the place of the key.
    fs::create_dir(folder.path().join("keys")).unwrap();
    fs::write(folder.path().join("keys/worker-1.pem.new"), "-----BEGIN").unwrap();
    create_secret(&path, b"a key").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"a key");
    fs::create_dir_all(folder.path().join("keys/worker-2.pem.new/x")).unwrap();
    create_secret(&folder.path().join("keys/worker-2.pem"), b"another").unwrap_err();
    assert!(!folder.path().join("keys/worker-2.pem").exists());
    create_secret(&path, b"another").unwrap_err();
    assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 2, "what was written in vain is gone");
}

#[test]
fn a_key_that_group_or_others_can_reach_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = key_file(&folder);
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601, 0o660] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_eq!(fault(read_key(&path)), Fault::TooOpen { mode });
    }
    let error = read_key(&path).err().unwrap().to_string();
    assert_eq!(error.lines().count(), 3, "{error}");
    assert!(error.contains("0660") && error.contains("chmod 600"), "{error}");
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    assert!(read_key(&path).is_ok(), "read-only for its owner is fine");
}

#[test]
fn a_link_to_a_key_is_refused() {
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("link.pem");
    symlink(key_file(&folder), &link).unwrap();
    assert_eq!(fault(read_key(&link)), Fault::Link);
    symlink(folder.path().join("nothing"), folder.path().join("dangling.pem")).unwrap();
    assert_eq!(fault(read_key(&folder.path().join("dangling.pem"))), Fault::Link);
}

#[test]
fn a_fifo_a_socket_a_folder_and_a_device_are_refused_and_nothing_waits() {
    let folder = TempDir::new().unwrap();
    let fifo = folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for path in [&fifo, &socket, folder.path(), Path::new("/dev/null")].map(Path::to_owned) {
        assert_eq!(fault(read_key(&path)), Fault::NotRegular, "{}", path.display());
        assert_eq!(fault(read_public(&path, 10)), Fault::NotRegular, "{}", path.display());
    }
}

#[test]
fn a_key_of_another_user_is_refused() {
    let us = geteuid().as_raw();
    let folder = TempDir::new().unwrap();
    let path = key_file(&folder);
    // Only root can give a file away; anybody else finds one of root's.
    let (path, owner) = if us == 0 {
        chown(&path, Some(65_534), None).unwrap();
        (path, 65_534)
    } else {
        (Path::new("/etc/passwd").to_owned(), 0)
    };
    assert_eq!(fault(read_key(&path)), Fault::Foreign { owner, us });
}

/// What a realm rests on, in a folder of its own below a parent.
fn pinned() -> (TempDir, KeyFolder) {
    let folder = TempDir::new().unwrap();
    let keys = KeyFolder::create(folder.path().join("parent/keys")).unwrap();
    let realm = Realm::new("demo");
    replace_public(&keys.pin(), realm.root.public().thumbprint().to_string().as_bytes()).unwrap();
    replace_public(&keys.trust(), &bundle(&realm)).unwrap();
    load_trust(&keys).unwrap();
    (folder, keys)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_pin_a_trust_bundle_and_a_folder_of_keys_that_others_may_write_to_are_refused() {
    let (_folder, keys) = pinned();
    for (path, good) in [(keys.pin(), 0o644), (keys.trust(), 0o644), (keys.path().to_owned(), 0o755)] {
        for mode in [good | 0o020, good | 0o002, good | 0o1002] {
            set_mode(&path, mode);
            let error = load_trust(&keys).err().unwrap();
            assert_eq!((&error.path, &error.fault), (&path, &Fault::Writable { mode }));
            assert!(error.hint().contains(&format!("chmod go-w {}", path.display())), "{error}");
        }
        set_mode(&path, good);
        load_trust(&keys).unwrap();
    }
}

#[test]
fn a_credential_and_the_folders_of_keys_that_others_may_write_to_are_refused() {
    let fixture = fixture();
    let worker = name("worker-1");
    let credential = fixture.keys.credential(Role::Client, &worker);
    let seed = fixture.keys.creds(Role::Client, &worker);
    let folders = [credential.parent().unwrap(), seed.parent().unwrap()];
    for (path, good) in [(&*credential, 0o644), (folders[0], 0o700), (folders[1], 0o700)] {
        set_mode(path, good | 0o020);
        let error = fixture.load(Role::Client, &worker).err().unwrap();
        assert_eq!((&*error.path, error.fault), (path, Fault::Writable { mode: good | 0o020 }));
        set_mode(path, good);
        fixture.load(Role::Client, &worker).unwrap();
    }
}

#[test]
fn a_folder_above_the_keys_that_everybody_may_write_to_is_refused_unless_it_is_sticky() {
    let (folder, keys) = pinned();
    let parent = folder.path().join("parent");
    set_mode(&parent, 0o757);
    let error = load_trust(&keys).err().unwrap();
    assert_eq!((&error.path, error.fault), (&parent, Fault::Writable { mode: 0o757 }));
    assert_eq!(fault(KeyFolder::create(keys.path())), Fault::Writable { mode: 0o757 }, "`init` refuses it, too");
    // Of these, others cannot move away what is ours; and a group is often one person.
    for mode in [0o1777, 0o775] {
        set_mode(&parent, mode);
        load_trust(&keys).unwrap();
    }
    // A link counts with what it leads to, and with what it lies in.
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(keys.path(), elsewhere.join("link")).unwrap();
    load_trust(&KeyFolder::new(elsewhere.join("link"))).unwrap();
    set_mode(&elsewhere, 0o777);
    assert_eq!(fault(load_trust(&KeyFolder::new(elsewhere.join("link")))), Fault::Writable { mode: 0o777 });
    set_mode(&elsewhere, 0o755);
    set_mode(&parent, 0o777);
    assert_eq!(fault(load_trust(&KeyFolder::new(elsewhere.join("link")))), Fault::Writable { mode: 0o777 });
}

#[test]
fn a_pin_that_is_a_link_is_judged_by_what_it_leads_to() {
    let (folder, keys) = pinned();
    let other = folder.path().join("mounted/pin");
    fs::create_dir(other.parent().unwrap()).unwrap();
    fs::rename(keys.pin(), &other).unwrap();
    symlink(&other, keys.pin()).unwrap();
    load_trust(&keys).unwrap();
    set_mode(&other, 0o666);
    assert_eq!(fault(load_trust(&keys)), Fault::Writable { mode: 0o666 });
    set_mode(&other, 0o644);
    set_mode(other.parent().unwrap(), 0o770);
    assert_eq!(fault(load_trust(&keys)), Fault::Writable { mode: 0o770 });
}

#[test]
fn a_pin_or_a_folder_of_another_user_than_this_one_and_root_is_refused() {
    let us = geteuid().as_raw();
    let (_folder, keys) = pinned();
    let foreign = Fault::Foreign { owner: 65_534, us };
    // Only root can give something away; to anybody else, what is root's is as good as its own.
    if us != 0 {
        assert!(read_public(Path::new("/etc/passwd"), 1 << 20).is_ok());
        return;
    }
    for path in [keys.pin(), keys.trust(), keys.path().to_owned(), keys.path().parent().unwrap().to_owned()] {
        chown(&path, Some(65_534), None).unwrap();
        let error = load_trust(&keys).err().unwrap();
        assert_eq!((&error.path, &error.fault), (&path, &foreign));
        chown(&path, Some(0), None).unwrap();
    }
}

#[test]
fn a_folder_of_keys_that_was_open_is_closed_when_keys_are_made_in_it() {
    let (_folder, keys) = pinned();
    let clients = keys.path().join("clients");
    for path in [keys.path(), &clients] {
        set_mode(path, 0o777);
    }
    KeyFolder::create(keys.path()).unwrap();
    for path in [keys.path(), &clients] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o700);
    }
}

#[test]
fn a_link_in_the_place_of_a_file_that_is_being_written_is_not_followed() {
    let folder = TempDir::new().unwrap();
    let (path, other) = (folder.path().join("trust.json"), folder.path().join("other"));
    fs::write(&other, "precious").unwrap();
    symlink(&other, folder.path().join("trust.json.new")).unwrap();
    replace_public(&path, b"bundle").unwrap();
    assert_eq!((fs::read(&path).unwrap(), fs::read(&other).unwrap()), (b"bundle".to_vec(), b"precious".to_vec()));
}

#[test]
fn what_is_missing_too_long_or_no_key_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("key.pem");
    assert_eq!(fault(read_key(&path)), Fault::Missing);
    create_secret(&path, &[b'a'; 16 * 1024 + 1]).unwrap();
    assert_eq!(fault(read_key(&path)), Fault::TooLong { max: 16 * 1024 });
    let path = folder.path().join("other.pem");
    create_secret(&path, b"-----BEGIN NOTHING-----").unwrap();
    assert!(content(read_key(&path)).contains("PKCS#8"));
    assert!(content(Login::read(&path)).contains("credentials"));
}

#[test]
fn a_public_file_is_bounded_and_replaced_at_once() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys/trust.json");
    replace_public(&path, b"first").unwrap();
    replace_public(&path, b"second").unwrap();
    assert_eq!(read_public(&path, 6).unwrap(), b"second");
    assert_eq!(fault(read_public(&path, 5)), Fault::TooLong { max: 5 });
    assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 1, "nothing is left beside it");
}

/// A keys folder of a realm, with the first member's key, credential and connection key in it.
struct Fixture {
    _folder: TempDir,
    keys: KeyFolder,
    realm: Realm,
    raw: String,
}

fn fixture() -> Fixture {
    let folder = TempDir::new().unwrap();
    let realm = Realm::new("demo");
    let keys = KeyFolder::create(folder.path().join("keys")).unwrap();
    let identity = realm.client("worker-1", &["web"]);
    let raw = identity.credential().raw().to_string();
    let worker = name("worker-1");
    replace_public(&keys.credential(Role::Client, &worker), raw.as_bytes()).unwrap();
    create_secret(&keys.key(Role::Client, &worker), SecretKey::from_seed(FIRST).to_pem().as_bytes()).unwrap();
    create_secret(&keys.creds(Role::Client, &worker), creds([9; 32], 1).as_bytes()).unwrap();
    Fixture { _folder: folder, keys, realm, raw }
}

impl Fixture {
    fn load(&self, role: Role, member: &Name) -> Result<countersign_keys::Member, KeyFileError> {
        load_member(&self.keys, role, member, &self.realm.trust, START, SKEW)
    }
}

/// A file of credentials for the key of these bytes, with a JWT of this second that nobody has verified.
fn creds(random: [u8; 32], iat: i64) -> String {
    let seed = Seed::from_random(random).unwrap();
    creds_text(&jwt(&seed, iat), &seed).to_string()
}

fn jwt(seed: &Seed, iat: i64) -> String {
    signed(json!({ "sub": seed.public_key(), "iat": iat }), &nkeys::KeyPair::new_account())
}

#[test]
fn a_newer_jwt_about_the_same_key_is_taken_and_no_other_key() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("client-worker-1.creds");
    let iat = |jwt: &str| UserJwt::parse(jwt).unwrap().issued_at();
    create_secret(&path, creds([9; 32], 5).as_bytes()).unwrap();
    let login = Login::read(&path).unwrap();
    assert_eq!((iat(login.jwt()), iat(&login.latest_jwt())), (5, 5));
    replace_secret(&path, creds([9; 32], 6).as_bytes()).unwrap();
    assert_eq!((iat(login.jwt()), iat(&login.latest_jwt())), (5, 6), "renewed in its file");
    // Beside it, where the key is on another machine than the issuer's.
    let seed = login.seed();
    for (beside, latest) in [(7, 7), (4, 6)] {
        replace_public(&path.with_extension("jwt"), jwt(seed, beside).as_bytes()).unwrap();
        assert_eq!(iat(&login.latest_jwt()), latest);
    }
    replace_public(&path.with_extension("jwt"), jwt(&Seed::from_random([8; 32]).unwrap(), 8).as_bytes()).unwrap();
    assert_eq!(iat(&login.latest_jwt()), 6, "that of another key");
    replace_secret(&path, creds(FIRST, 9).as_bytes()).unwrap();
    assert_eq!(login.latest_jwt(), login.jwt(), "another key may be the one that signs messages");
}

#[test]
fn credentials_from_other_systems_are_read_as_if_clean() {
    let folder = TempDir::new().unwrap();
    let clean = creds([9; 32], 5);
    for (number, text) in [
        clean.replace('\n', "\r\n"),
        format!("\u{feff}{clean}"),
        clean.lines().map(|line| format!("{line} \n")).collect(),
        format!("\n{}\n\n", clean.replace('\n', "\n\n")),
        clean.trim_end().to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{number}.creds"));
        create_secret(&path, text.as_bytes()).unwrap();
        assert_eq!(UserJwt::parse(Login::read(&path).unwrap().jwt()).unwrap().issued_at(), 5, "{text:?}");
    }
    for (number, text) in ["", "SUAA", &clean[..clean.len() / 2], &clean.replace("eyJ", "e")].iter().enumerate() {
        let path = folder.path().join(format!("bad-{number}.creds"));
        create_secret(&path, text.as_bytes()).unwrap();
        assert!(content(Login::read(&path)).contains("credentials"), "{text:?}");
    }
}

#[test]
fn what_another_system_did_to_the_ends_of_a_file_of_keys_is_passed_over() {
    let fixture = fixture();
    let (keys, worker) = (&fixture.keys, name("worker-1"));
    replace_public(&keys.pin(), format!("{}\n", fixture.realm.root.public().thumbprint()).as_bytes()).unwrap();
    replace_public(&keys.trust(), &bundle(&fixture.realm)).unwrap();
    let [key, credential] = [keys.key(Role::Client, &worker), keys.credential(Role::Client, &worker)];
    for path in [key, credential, keys.creds(Role::Client, &worker), keys.pin(), keys.trust()] {
        let clean = fs::read_to_string(&path).unwrap();
        let end = clean.trim_end();
        for text in [
            format!("{}\r\n", end.replace('\n', "\r\n")),
            format!("\u{feff}{clean}"),
            format!("{end} \n \n"),
            end.to_owned(),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(load_trust(keys).map(|trust| trust.version()), Ok(3), "{text:?}");
            fixture.load(Role::Client, &worker).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        }
        fs::write(&path, clean).unwrap();
    }
}

#[test]
fn a_member_is_loaded() {
    let fixture = fixture();
    let member = fixture.load(Role::Client, &name("worker-1")).unwrap();
    assert_eq!(member.identity.name(), &name("worker-1"));
    assert_eq!(member.inbox_prefix, "_INBOX.client-worker-1");
    assert_eq!(member.login.seed(), &Seed::from_random([9; 32]).unwrap());
    assert!(!format!("{member:?}").contains(member.login.seed().as_str()), "the seed is a secret");
    assert_eq!(fixture.keys.names(Role::Client).unwrap(), [name("worker-1")]);
    assert_eq!(fixture.keys.names(Role::Operator).unwrap(), []);
}

#[test]
fn a_connection_key_that_signs_messages_is_refused() {
    let fixture = fixture();
    let worker = name("worker-1");
    let path = fixture.keys.creds(Role::Client, &worker);
    fs::remove_file(&path).unwrap();
    create_secret(&path, creds(FIRST, 1).as_bytes()).unwrap();
    let error = fixture.load(Role::Client, &worker).err().unwrap();
    assert_eq!(error.path, path);
    assert!(content(Err::<(), _>(error)).contains("the same key as"));
}

#[test]
fn a_key_that_is_not_the_credentials_is_refused() {
    let fixture = fixture();
    let worker = name("worker-1");
    let path = fixture.keys.key(Role::Client, &worker);
    fs::remove_file(&path).unwrap();
    create_secret(&path, SecretKey::from_seed([2; 32]).to_pem().as_bytes()).unwrap();
    assert_eq!(fixture.load(Role::Client, &worker).err().unwrap().path, path);
}

#[test]
fn a_credential_of_another_name_or_role_or_time_or_realm_is_refused() {
    let fixture = fixture();
    let (worker, other) = (name("worker-1"), name("worker-2"));
    let put = |role, member: &Name, raw: &str| {
        replace_public(&fixture.keys.credential(role, member), raw.as_bytes()).unwrap();
    };
    put(Role::Client, &other, &fixture.raw);
    assert_eq!(content(fixture.load(Role::Client, &other)), "the credential of the client worker-1");
    put(Role::Client, &worker, fixture.realm.operator("worker-1", full_grant()).credential().raw());
    assert_eq!(content(fixture.load(Role::Client, &worker)), "the credential of the operator worker-1");
    put(Role::Client, &worker, Realm::new("other").client("worker-1", &[]).credential().raw());
    assert!(content(fixture.load(Role::Client, &worker)).contains("issuer"));
    put(Role::Client, &worker, &fixture.raw);
    let late = START.plus(31 * 86_400_000);
    let late = load_member(&fixture.keys, Role::Client, &worker, &fixture.realm.trust, late, SKEW);
    assert!(content(late).contains("expired"));
}

fn bundle(realm: &Realm) -> Vec<u8> {
    let body = TrustBody {
        v: Version,
        realm: realm.name.clone(),
        version: 3,
        expires_at: START.plus(86_400_000),
        roots: vec![realm.root.public().jwk()],
        threshold: 1,
        issuers: vec![Issuer { name: name("issuer"), jwk: realm.issuer.public().jwk() }],
        revoked: Vec::new(),
    };
    Trust::sign(&body, &[&realm.root])
}

#[test]
fn a_trust_bundle_is_checked_against_the_pin() {
    let fixture = fixture();
    let pin = fixture.realm.root.public().thumbprint();
    assert_eq!(load_trust(&fixture.keys).err().unwrap().path, fixture.keys.pin());
    replace_public(&fixture.keys.pin(), format!("{pin}\n").as_bytes()).unwrap();
    assert_eq!(load_trust(&fixture.keys).err().unwrap().path, fixture.keys.trust());
    replace_public(&fixture.keys.trust(), &bundle(&fixture.realm)).unwrap();
    assert_eq!(load_trust(&fixture.keys).unwrap().version(), 3);
    replace_public(&fixture.keys.trust(), &bundle(&Realm::new("other"))).unwrap();
    assert!(content(load_trust(&fixture.keys)).contains("pin"));
    replace_public(&fixture.keys.pin(), b"not a thumbprint").unwrap();
    assert_eq!(content(load_trust(&fixture.keys)), "not the thumbprint of a key");
}
