#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use countersign_keys::{KeyFolder, MAX_USER_JWT, UserJwt};
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::account::account_claims;
use super::authority::{Account, Authority};
use super::jwt::{Claims, issued_at, sign, verify};
use super::{AccountError, AccountKeeper, Accounts, UserRole};
use crate::changes::ChangeReport;
use crate::nats::user::User;

const NOW: i64 = 1_800_000_000;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A folder with the accounts of the realm `demo`, as of a second.
fn folder(now: i64) -> (TempDir, KeyFolder, Accounts) {
    let temporary = TempDir::new().unwrap();
    let folder = KeyFolder::create(temporary.path().join("keys")).unwrap();
    let accounts = ensure(&folder, now);
    (temporary, folder, accounts)
}

fn ensure(folder: &KeyFolder, now: i64) -> Accounts {
    let mut changes = ChangeReport::new(folder.clone(), Millis::from_seconds(now));
    Accounts::ensure(&mut changes, &name("demo"), "init").unwrap()
}

fn worker(groups: usize) -> User {
    let groups = (0..groups).map(|number| name(&format!("g{number}"))).collect();
    User {
        role: UserRole::Client,
        name: name("worker-1"),
        groups,
        key: KeyPair::new_user().public_key(),
        exp: NOW + 60,
    }
}

/// A JWT about a new connection key, issued in a second.
fn login(accounts: &Accounts, issued_at: i64) -> UserJwt {
    UserJwt::parse(&accounts.jwt(&worker(0), None, Millis::from_seconds(issued_at)).unwrap()).unwrap()
}

fn realm_claims(jwt: &str, folder: &KeyFolder) -> Claims {
    let authority = Authority::read(&folder.authority()).unwrap().unwrap();
    verify(jwt, &authority.signs_accounts().public_key()).unwrap()
}

fn present(folder: &KeyFolder, keeper: &AccountKeeper) -> String {
    let file = super::accounts::read_file(folder).unwrap().unwrap();
    file.accounts[&keeper.realm_account()].clone()
}

#[test]
fn a_jwt_is_one_of_nats_and_does_not_hold_once_a_bit_of_it_has_changed() {
    let key = KeyPair::new_account();
    let mut claims = Claims::new();
    claims.insert("sub".to_owned(), "x".into());
    let jwt = sign(claims, NOW, &key).unwrap();
    let header = jwt.split('.').next().unwrap();
    assert_eq!(header, data_encoding::BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#));
    let verified = verify(&jwt, &key.public_key()).unwrap();
    assert_eq!((issued_at(&verified), &verified["iss"]), (NOW, &json!(key.public_key())));
    assert_eq!(verified["jti"].as_str().unwrap().len(), 52, "base32 of 32 bytes");
    assert!(verify(&jwt, &KeyPair::new_account().public_key()).is_none());
    for at in (0..jwt.len()).step_by(7) {
        let mut bytes = jwt.clone().into_bytes();
        bytes[at] ^= 1;
        assert!(verify(&String::from_utf8(bytes).unwrap(), &key.public_key()).is_none(), "{at}");
    }
}

#[test]
fn the_accounts_are_made_once_and_do_not_grow_or_change_by_themselves() {
    let (_temporary, folder, accounts) = folder(NOW);
    let before = fs::read(folder.accounts()).unwrap();
    for _ in 0..100 {
        accounts.jwt(&worker(3), None, Millis::from_seconds(NOW)).unwrap();
    }
    ensure(&folder, NOW + 1_000_000);
    assert_eq!(fs::read(folder.accounts()).unwrap(), before);
    assert!(before.len() < 10_000, "{}", before.len());
}

#[test]
fn a_jwt_that_states_the_same_is_kept_and_another_role_or_end_or_group_is_a_new_one() {
    let (_temporary, _folder, accounts) = folder(NOW);
    let user = worker(1);
    let jwt = |user: &User, present: Option<&str>, now| accounts.jwt(user, present, Millis::from_seconds(now)).unwrap();
    let first = jwt(&user, None, NOW);
    assert_eq!(jwt(&user, Some(&first), NOW + 7), first);
    let key = user.key.clone();
    let changed = [
        User { exp: NOW + 61, key: key.clone(), ..worker(1) },
        User { key: key.clone(), ..worker(2) },
        User { role: UserRole::Operator, key: key.clone(), ..worker(1) },
        User { name: name("worker-2"), key, ..worker(1) },
        worker(1),
    ];
    for other in changed {
        assert_ne!(jwt(&other, Some(&first), NOW), first, "{other:?}");
    }
}

#[test]
fn a_user_has_no_permission_of_its_own_and_no_name_is_a_pattern() {
    let (_temporary, folder, accounts) = folder(NOW);
    let jwt = accounts.jwt(&worker(1), None, Millis::from_seconds(NOW)).unwrap();
    let nats = countersign_keys::claims_in(&jwt).unwrap()["nats"].clone();
    let authority = Authority::read(&folder.authority()).unwrap().unwrap();
    assert_eq!(
        nats,
        json!({
            "issuer_account": authority.id(Account::Realm), "type": "user", "version": 2, "pub": {}, "sub": {},
            "tags": ["group:g0"],
        })
    );
    // What stands in a template is a `Name`, and these are none.
    for pattern in ["*", ">", "a.b", "", "a b", "Worker-7", "wörker", "{{name()}}", &"a".repeat(65)] {
        assert!(pattern.parse::<Name>().is_err(), "{pattern}");
    }
}

#[test]
fn a_jwt_that_would_make_connect_too_long_is_refused_with_the_rule() {
    let (_temporary, _folder, accounts) = folder(NOW);
    let jwt = |groups| accounts.jwt(&worker(groups), None, Millis::from_seconds(NOW));
    assert!(jwt(120).unwrap().len() <= MAX_USER_JWT);
    let error = jwt(400).unwrap_err();
    assert!(error.to_string().starts_with("the JWT of the client worker-1 would be "), "{error}");
    assert!(error.expected().unwrap().contains("4,096 bytes of a CONNECT"));
    assert_eq!(error.hint(), Some("name fewer groups"));
}

#[test]
fn revocations_are_kept_and_the_account_never_goes_back() {
    let (_temporary, folder, accounts) = folder(NOW);
    let [first, second, third] = [NOW - 9, NOW - 600, NOW].map(|issued_at| login(&accounts, issued_at));
    let mut keeper = AccountKeeper::open(&folder).unwrap();
    let old = present(&folder, &keeper);
    let at = |seconds| Millis::from_seconds(seconds);
    let one = keeper.revoke(&old, [&first], at(NOW)).unwrap();
    let claims = realm_claims(&one, &folder);
    assert_eq!(claims["nats"]["revocations"], json!({ first.key(): NOW }));
    assert!(issued_at(&claims) > NOW, "a broker takes the newer one, and one of the same second is none");

    // A clock that went back, and a folder that does not know of the first: both are in it, and it is newer.
    let two = keeper.revoke(&one, [&second], at(NOW - 500)).unwrap();
    let claims = realm_claims(&two, &folder);
    assert_eq!(claims["nats"]["revocations"], json!({ first.key(): NOW, second.key(): NOW - 500 }));
    assert!(issued_at(&claims) > issued_at(&realm_claims(&one, &folder)));
    assert_eq!(keeper.revoke(&two, [&first, &second], at(NOW + 9)).unwrap(), two, "they are refused already");

    // The broker has the old one again, as from a copy of its store, and the folder the newer.
    assert_eq!(keeper.save(&two).unwrap().len(), 1);
    assert_eq!(keeper.save(&two).unwrap().len(), 0);
    let again = AccountKeeper::open(&folder).unwrap();
    let three = again.revoke(&old, [&third], at(NOW)).unwrap();
    let revoked = realm_claims(&three, &folder)["nats"]["revocations"].clone();
    assert_eq!(revoked.as_object().unwrap().len(), 3, "{revoked}");
    assert_ne!(again.revoke(&old, [], at(NOW)).unwrap(), old, "the broker is given what the folder knows");

    // A clock behind that of who issued the login: what is there is refused all the same.
    let ahead = login(&accounts, NOW + 77);
    let four = again.revoke(&three, [&ahead], at(NOW)).unwrap();
    assert_eq!(realm_claims(&four, &folder)["nats"]["revocations"][ahead.key()], NOW + 77);
    assert_eq!(again.revoke(&four, [&ahead], at(NOW)).unwrap(), four);

    // `init` with other permissions, as a newer version has them, keeps them too.
    let mut file = super::accounts::read_file(&folder).unwrap().unwrap();
    let authority = Authority::read(&folder.authority()).unwrap().unwrap();
    let mut claims = realm_claims(&two, &folder);
    claims["nats"]["limits"]["conn"] = 7.into();
    file.accounts.insert(keeper.realm_account(), sign(claims, NOW, authority.signs_accounts()).unwrap());
    fs::write(folder.accounts(), file.text()).unwrap();
    ensure(&folder, NOW - 1_000);
    let claims = realm_claims(&present(&folder, &keeper), &folder);
    assert_eq!((&claims["nats"]["limits"]["conn"], issued_at(&claims)), (&json!(-1), NOW + 1));
    assert_eq!(claims["nats"]["revocations"].as_object().unwrap().len(), 2);
}

#[test]
fn an_account_that_another_authority_signed_or_that_is_another_one_is_not_changed() {
    let (_temporary, folder, accounts) = folder(NOW);
    let (_other, other_folder, _) = self::folder(NOW);
    let [keeper, other] = [&folder, &other_folder].map(|folder| AccountKeeper::open(folder).unwrap());
    let login = login(&accounts, NOW);
    let authority = Authority::read(&folder.authority()).unwrap().unwrap();
    let store = account_claims(Account::Store, &name("demo"), &authority);
    let store = sign(store, NOW, authority.signs_accounts()).unwrap();
    for account in [&present(&other_folder, &other), "", &store] {
        assert_eq!(keeper.revoke(account, [&login], Millis::from_seconds(NOW)), Err(AccountError::Foreign));
    }
}

#[test]
fn without_the_private_keys_nobody_is_let_in_and_no_other_ones_are_made() {
    let (_temporary, folder, _) = folder(NOW);
    let before = fs::read(folder.accounts()).unwrap();
    fs::remove_file(folder.authority()).unwrap();
    let accounts = ensure(&folder, NOW + 5);
    assert!(!folder.authority().exists() && fs::read(folder.accounts()).unwrap() == before);
    let error = accounts.jwt(&worker(0), None, Millis::from_seconds(NOW)).unwrap_err();
    assert!(error.to_string().contains("authority.nk is missing"), "{error}");
    fs::remove_file(folder.accounts()).unwrap();
    assert!(Accounts::open(&folder, "issue").is_err());
}

#[test]
fn no_list_of_permissions_is_empty_because_nats_would_take_it_for_everything() {
    let (_temporary, folder, _) = folder(NOW);
    let authority = Authority::read(&folder.authority()).unwrap().unwrap();
    let scopes: Vec<Value> = Account::ALL
        .iter()
        .flat_map(|account| {
            account_claims(*account, &name("demo"), &authority)["nats"]["signing_keys"].as_array().unwrap().clone()
        })
        .collect();
    assert_eq!(scopes.len(), UserRole::ALL.len());
    for scope in scopes {
        for list in ["pub", "sub"] {
            assert!(!scope["template"][list]["allow"].as_array().unwrap().is_empty(), "{scope}");
        }
    }
}
