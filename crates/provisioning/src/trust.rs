//! The trust bundle: made once, renewed past half its life.

use countersign_host::clock;
use countersign_keys::{KeyFolder, load_trust};
use countersign_protocol::command::Version;
use countersign_protocol::key::{SecretKey, Thumbprint};
use countersign_protocol::name::Name;
use countersign_protocol::trust::{Issuer, Trust, TrustBody};

use super::chain::commit;
use super::changes::{Action, ChangeReport};
use super::{create_key, existing_key, until};
use crate::error::ProvisionError;
use crate::other_realm;

/// How long a trust bundle holds, in milliseconds: a year.
const LIFE: i64 = 365 * super::DAY;

/// The trust bundle of the folder, made or renewed where that is due. Without a bundle there is none to keep a realm of:
/// it is the one that is wanted, or demo.
pub(super) fn ensure(changes: &mut ChangeReport, wanted: Option<&Name>) -> Result<Trust, ProvisionError> {
    let folder = changes.folder().clone();
    let root = existing_key(changes, &folder.root_key())?;
    if !folder.trust().exists() {
        return make(changes, root, wanted);
    }
    if !folder.pin().exists() {
        // The bundle must not vouch for itself: only the root's own key can confirm the pin.
        let Some(root) = &root else {
            return Err(ProvisionError::keys(format!(
                "{} is missing, and root.pem is not here",
                folder.pin().display()
            ))
            .expecting("the pin that trust.json is checked against")
            .hinting("bring either back"));
        };
        pin(changes, root)?;
    } else {
        changes.note(Action::Left, &folder.pin(), "");
    }
    if folder.issuer_key().exists() {
        changes.note(Action::Left, &folder.issuer_key(), "");
    }
    let trust = load_trust(&folder)?;
    if let Some(wanted) = wanted
        && wanted != trust.realm()
    {
        return Err(other_realm(&folder, trust.realm(), wanted));
    }
    if trust.expires_at().since(changes.now()) > LIFE / 2 {
        changes.note(Action::Left, &folder.trust(), until(trust.expires_at()));
        return Ok(trust);
    }
    match root {
        Some(root) => renew(changes, &root, &trust),
        None if trust.is_expired(changes.now()) => {
            let what = format!("{} has expired, and root.pem is not here to renew it", folder.trust().display());
            Err(ProvisionError::keys(what)
                .expecting("root.pem, which signs trust.json")
                .hinting("bring root.pem back for the time of `countersign init`"))
        }
        None => {
            let why = "past half its life; bring root.pem back for the time of `countersign init` to renew it";
            changes.note(Action::Left, &folder.trust(), why);
            Ok(trust)
        }
    }
}

/// The next version of a bundle that is past half of its life, written to its folder; nothing where the root's key is elsewhere.
pub fn renew_trust(folder: &KeyFolder, trust: &Trust) -> Result<Option<Trust>, ProvisionError> {
    let mut changes = ChangeReport::new(folder.clone(), clock::wall());
    if trust.expires_at().since(changes.now()) > LIFE / 2 {
        return Ok(None);
    }
    let Some(root) = existing_key(&mut changes, &folder.root_key())? else { return Ok(None) };
    let renewed = renew(&mut changes, &root, trust)?;
    Ok((renewed.version() > trust.version()).then_some(renewed))
}

fn make(changes: &mut ChangeReport, root: Option<SecretKey>, wanted: Option<&Name>) -> Result<Trust, ProvisionError> {
    let folder = changes.folder().clone();
    let root = match root {
        Some(root) => root,
        None if folder.pin().exists() => {
            return Err(ProvisionError::keys(format!(
                "{} is missing, and root.pem is not here",
                folder.trust().display()
            ))
            .expecting("trust.json, or root.pem to sign another")
            .hinting("bring either back"));
        }
        None if folder.issuer_key().exists() || folder.has_members() => {
            return Err(ProvisionError::keys(format!(
                "{} is missing, and this folder has keys of a realm",
                folder.trust().display()
            ))
            .expecting("the trust bundle of that realm and its pin, or an empty folder for a new realm")
            .hinting("fetch trust.json and root.thumbprint again, or name another folder by --keys"));
        }
        None => create_key(changes, &folder.root_key(), "signs trust.json; move it off this machine")?,
    };
    if !folder.pin().exists() {
        pin(changes, &root)?;
    }
    let issuer = match existing_key(changes, &folder.issuer_key())? {
        Some(issuer) => issuer,
        None => create_key(changes, &folder.issuer_key(), "signs credentials")?,
    };
    let realm = match wanted {
        Some(realm) => realm.clone(),
        None => super::default_name("demo"),
    };
    let body = TrustBody {
        v: Version,
        realm,
        version: 1,
        expires_at: changes.now().plus(LIFE),
        roots: vec![root.public().jwk()],
        threshold: 1,
        issuers: vec![Issuer { name: super::default_name("issuer"), jwk: issuer.public().jwk() }],
        revoked: Vec::new(),
    };
    let bytes = Trust::sign(&body, &[&root]);
    let note = format!("realm {}, version 1, {}", body.realm, until(body.expires_at));
    changes.write(Action::Made, &folder.trust(), &bytes, note)?;
    Ok(load_trust(&folder)?)
}

/// The next version of a bundle, the same in everything but its end.
fn renew(changes: &mut ChangeReport, root: &SecretKey, trust: &Trust) -> Result<Trust, ProvisionError> {
    let body = TrustBody {
        version: trust.version().saturating_add(1),
        expires_at: changes.now().plus(LIFE),
        ..trust.body().clone()
    };
    if let Err(error) = trust.successor(&Trust::sign(&body, &[root])) {
        let note = format!("past half its life, and this root alone cannot renew it: {error}");
        changes.note(Action::Left, &changes.folder().trust(), note);
        return Ok(trust.clone());
    }
    let note =
        format!("version {}, {}; `countersign trust publish` brings it to all", body.version, until(body.expires_at));
    commit(changes, trust, &body, &[root], &note)
}

fn pin(changes: &mut ChangeReport, root: &SecretKey) -> Result<(), ProvisionError> {
    let path = changes.folder().pin();
    changes.write(
        Action::Made,
        &path,
        format!("{}\n", pin_of(root)).as_bytes(),
        "the pin: give it to every client by hand",
    )
}

fn pin_of(root: &SecretKey) -> Thumbprint {
    root.public().thumbprint()
}
