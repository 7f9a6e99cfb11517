//! The next version of the trust bundle: made where the root's key is, and written so that a kill at any point leaves the
//! version before or the new one (section 7).

use std::path::Path;

use countersign_host::clock;
use countersign_keys::{Fault, KeyFileError, KeyFolder, keep_trust, load_pin, load_trust, read_key, read_public};
use countersign_protocol::credential::{Credential, Role};
use countersign_protocol::key::{PublicKey, SecretKey, Thumbprint};
use countersign_protocol::limits::{MAX_CREDENTIAL, SKEW};
use countersign_protocol::name::Name;
use countersign_protocol::trust::{Issuer, MAX_TRUST, Revoked, Trust, TrustBody};

use super::changes::{Action, ChangeReport, FileChange};
use super::{create_key, existing_key, until};
use crate::error::ProvisionError;
use crate::issue::renew_all;
use crate::terms::Terms;

/// A version of the trust bundle, and what was done for it.
#[derive(Debug)]
pub struct Advanced {
    /// The bundle in force in the folder.
    pub trust: Trust,
    /// Whether it is a new version.
    pub is_new: bool,
    /// The files that were written.
    pub files: Vec<FileChange>,
}

/// What happens to the other issuers that are listed, the replaced one among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldIssuers {
    /// What they issued holds until its end.
    Stay,
    /// They are revoked, and with them all that they issued, by a second version: the members have new credentials by then.
    AreRevoked,
}

/// The thumbprint of the key of a member, as its credential in the folder names it.
pub fn member_key(folder: &KeyFolder, trust: &Trust, role: Role, name: &Name) -> Result<Thumbprint, ProvisionError> {
    let path = folder.credential(role, name);
    let raw = read_public(&path, MAX_CREDENTIAL + 2)?;
    let text = std::str::from_utf8(&raw).unwrap_or_default();
    let examined = Credential::examine(text.trim(), trust, clock::wall(), SKEW).map_err(|error| {
        ProvisionError::keys(format!("{} does not say whose key it is: {error}", path.display()))
            .expecting("a credential that an issuer of the trust bundle signed, expired or not")
            .hinting("name the key by --kid, or the credential by --jti")
    })?;
    Ok(examined.key.thumbprint())
}

/// Revokes credentials and keys by the next version of the trust bundle; nothing is written where all of them are revoked.
pub fn revoke(folder: &KeyFolder, trust: &Trust, revoked: &[Revoked]) -> Result<Advanced, ProvisionError> {
    let mut changes = ChangeReport::new(folder.clone(), clock::wall());
    let is_listed = |wanted: &Revoked| {
        trust.body().revoked.iter().any(|listed| match (listed, wanted) {
            (Revoked::Credential { jti: a, .. }, Revoked::Credential { jti: b, .. }) => a == b,
            (Revoked::Key { kid: a, .. }, Revoked::Key { kid: b, .. }) => a == b,
            _ => false,
        })
    };
    let new: Vec<Revoked> = revoked.iter().filter(|wanted| !is_listed(wanted)).cloned().collect();
    if let Some(Revoked::Key { kid, .. }) =
        new.iter().find(|it| matches!(it, Revoked::Key { kid, .. } if trust.is_root(kid)))
    {
        return Err(ProvisionError::request(format!("{kid} is a root's key"))
            .expecting("the key of an operator, a client or an issuer")
            .hinting("`countersign trust rotate root` replaces a root"));
    }
    if new.is_empty() {
        complete(&mut changes, trust)?;
        return Ok(Advanced { trust: trust.clone(), is_new: false, files: changes.into_done() });
    }
    let root = root(&mut changes, trust)?;
    let mut body = next_body(trust);
    body.revoked.extend(new);
    let note = format!("version {}, {}", body.version, until(body.expires_at));
    let trust = commit(&mut changes, trust, &body, &[&root], &note)?;
    Ok(Advanced { trust, is_new: true, files: written(changes) })
}

/// Replaces the issuer's key, and gives every member of the folder that is not revoked a credential by the new one.
pub fn rotate_issuer(folder: &KeyFolder, trust: &Trust, old: OldIssuers) -> Result<Advanced, ProvisionError> {
    let mut changes = ChangeReport::new(folder.clone(), clock::wall());
    let trust = &complete(&mut changes, trust)?;
    let root = root(&mut changes, trust)?;
    let before = existing_key(&mut changes, &folder.issuer_key())?.map(|key| key.public().thumbprint());
    let fresh = fresh_key(&mut changes, &folder.issuer_key(), "signs credentials")?;
    let mut body = next_body(trust);
    let known = before.and_then(|kid| trust.issuer(&kid)).map(|(name, _)| name.clone());
    let name = known.unwrap_or_else(|| super::default_name("issuer"));
    body.issuers.push(Issuer { name, jwk: fresh.public().jwk() });
    let note = format!("version {}, with the issuer's new key", body.version);
    let trust = commit(&mut changes, trust, &body, &[&root], &note)?;
    replace_key(&mut changes, &folder.issuer_key())?;
    let mut files = written(changes);
    for role in [Role::Operator, Role::Client] {
        files.extend(renew_all(folder, &trust, &Terms::unchanged(role))?);
    }
    if old == OldIssuers::Stay {
        return Ok(Advanced { trust, is_new: true, files });
    }
    let (since, new) = (clock::wall(), fresh.public().jwk());
    let others = trust.body().issuers.iter().filter(|issuer| issuer.jwk != new);
    let others = others.filter_map(|issuer| PublicKey::try_from(&issuer.jwk).ok());
    let others: Vec<Revoked> = others.map(|key| Revoked::Key { kid: key.thumbprint(), since }).collect();
    let revoked = revoke(folder, &trust, &others)?;
    files.extend(revoked.files);
    Ok(Advanced { files, ..revoked })
}

/// Replaces this folder's root by a new one: the next version is signed by both.
pub fn rotate_root(folder: &KeyFolder, trust: &Trust) -> Result<Advanced, ProvisionError> {
    let mut changes = ChangeReport::new(folder.clone(), clock::wall());
    let trust = &complete(&mut changes, trust)?;
    let old = root(&mut changes, trust)?;
    let new = fresh_key(&mut changes, &folder.root_key(), "signs trust.json; move it off this machine")?;
    let mut body = next_body(trust);
    for jwk in &mut body.roots {
        if *jwk == old.public().jwk() {
            *jwk = new.public().jwk();
        }
    }
    let note = format!("version {}, signed by the root before and the new one", body.version);
    let trust = commit(&mut changes, trust, &body, &[&old, &new], &note)?;
    replace_key(&mut changes, &folder.root_key())?;
    let trust = complete(&mut changes, &trust)?;
    Ok(Advanced { trust, is_new: true, files: written(changes) })
}

/// Makes a root in the place of one that is lost. Nothing proves the new one to those who trust the old: every member needs
/// the new pin and bundle from a person.
pub fn replace_lost_root(folder: &KeyFolder, trust: &Trust) -> Result<Advanced, ProvisionError> {
    let mut changes = ChangeReport::new(folder.clone(), clock::wall());
    if existing_key(&mut changes, &folder.root_key())?.is_some_and(|key| trust.is_root(&key.public().thumbprint())) {
        return Err(ProvisionError::request("the root's key is here, and is not lost")
            .expecting("a folder without root.pem")
            .hinting("`countersign trust rotate root` replaces it without giving every member a new pin"));
    }
    let new = fresh_key(&mut changes, &folder.root_key(), "signs trust.json; move it off this machine")?;
    let mut body = next_body(trust);
    (body.roots, body.threshold) = (vec![new.public().jwk()], 1);
    let pin = new.public().thumbprint();
    let next = Trust::verify(&Trust::sign(&body, &[&new]), pin).map_err(|error| not_accepted(&error))?;
    // What was accepted under the new pin comes first; until the pin is the new one, nothing has changed.
    keep_trust(&folder.accepted_trust(&pin), &next)?;
    changes.write(
        Action::Made,
        &folder.trust_version(next.version()),
        next.bytes(),
        "what `trust publish` publishes",
    )?;
    replace_key(&mut changes, &folder.root_key())?;
    changes.write(
        Action::Renewed,
        &folder.pin(),
        format!("{pin}\n").as_bytes(),
        "the pin: give it to every member by hand",
    )?;
    let note = format!("version {}, {}; give it to every member by hand", next.version(), until(next.expires_at()));
    changes.write(Action::Renewed, &folder.trust(), next.bytes(), note)?;
    Ok(Advanced { trust: next, is_new: true, files: written(changes) })
}

/// Takes a version into the folder that was made elsewhere and published.
pub fn adopt(folder: &KeyFolder, trust: &Trust) -> Result<Vec<FileChange>, ProvisionError> {
    let mut changes = ChangeReport::new(folder.clone(), clock::wall());
    let note = format!("version {}, as it was published", trust.version());
    write_version(&mut changes, trust, &note)?;
    complete(&mut changes, trust)?;
    Ok(written(changes))
}

/// The versions that the folder has up to the one in force, without a gap, the oldest first.
pub fn versions(folder: &KeyFolder, trust: &Trust) -> Result<Vec<Trust>, ProvisionError> {
    let mut links = vec![trust.bytes().to_vec()];
    for version in (1..trust.version()).rev() {
        match read_public(&folder.trust_version(version), MAX_TRUST) {
            Ok(link) => links.push(link),
            Err(KeyFileError { fault: Fault::Missing, .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let mut chain: Vec<Trust> = Vec::with_capacity(links.len());
    for link in links.iter().rev() {
        let next = match chain.last() {
            // A lost root was replaced: its chain begins again.
            Some(before) => before.successor(link).or_else(|_| Trust::remembered(link, trust.pin())),
            None => Trust::remembered(link, trust.pin()),
        };
        chain.push(next.map_err(|error| not_accepted(&error))?);
    }
    Ok(chain)
}

/// Signs the next version, and writes it. It is in force in the folder from one write on.
pub(super) fn commit(
    changes: &mut ChangeReport,
    trust: &Trust,
    body: &TrustBody,
    roots: &[&SecretKey],
    note: &str,
) -> Result<Trust, ProvisionError> {
    let next = trust.successor(&Trust::sign(body, roots)).map_err(|error| not_accepted(&error))?;
    let folder = changes.folder().clone();
    let present = folder.trust_version(trust.version());
    if !present.exists() {
        changes.write(Action::Made, &present, trust.bytes(), "what `trust publish` publishes")?;
    }
    write_version(changes, &next, note)?;
    Ok(next)
}

fn write_version(changes: &mut ChangeReport, next: &Trust, note: &str) -> Result<(), ProvisionError> {
    let folder = changes.folder().clone();
    let link = folder.trust_version(next.version());
    changes.write(Action::Made, &link, next.bytes(), "what `trust publish` publishes")?;
    let pin = load_pin(&folder)?;
    keep_trust(&folder.accepted_trust(&pin), next)?;
    changes.write(Action::Renewed, &folder.trust(), next.bytes(), note)
}

/// Does what an interruption left undone of the version in force: `trust.json`, the pin, the new keys.
pub(super) fn complete(changes: &mut ChangeReport, trust: &Trust) -> Result<Trust, ProvisionError> {
    let folder = changes.folder().clone();
    if read_public(&folder.trust(), MAX_TRUST)? != trust.bytes() {
        changes.write(Action::Renewed, &folder.trust(), trust.bytes(), format!("version {}", trust.version()))?;
    }
    for (path, is_known) in [
        (folder.root_key(), &(|kid: &Thumbprint| trust.is_root(kid)) as &dyn Fn(&Thumbprint) -> bool),
        (folder.issuer_key(), &|kid: &Thumbprint| trust.issuer(kid).is_some()),
    ] {
        if let Some(fresh) = if_there(&fresh_path(&path))?
            && is_known(&fresh.public().thumbprint())
        {
            replace_key(changes, &path)?;
        }
    }
    if trust.is_root(&load_pin(&folder)?) {
        return Ok(trust.clone());
    }
    let root = if_there(&folder.root_key())?.map(|root| root.public().thumbprint()).filter(|kid| trust.is_root(kid));
    let first = trust.body().roots.first().and_then(|jwk| PublicKey::try_from(jwk).ok());
    if let Some(pin) = root.or(first.map(|key| key.thumbprint())) {
        let note = "the pin: new members need it; those that are there follow by the chain of versions";
        changes.write(Action::Renewed, &folder.pin(), format!("{pin}\n").as_bytes(), note)?;
    }
    Ok(load_trust(&folder)?)
}

fn next_body(trust: &Trust) -> TrustBody {
    TrustBody { version: trust.version().saturating_add(1), ..trust.body().clone() }
}

/// The root's key, which must be here.
fn root(changes: &mut ChangeReport, trust: &Trust) -> Result<SecretKey, ProvisionError> {
    let path = changes.folder().root_key();
    let Some(root) = if_there(&path)? else {
        return Err(ProvisionError::keys(format!("{} is missing", path.display()))
            .expecting("the root's key, which signs every version of the trust bundle")
            .hinting(
                "bring it back for the time of this command; where it is lost: `countersign trust rotate root --lost`",
            ));
    };
    if !trust.is_root(&root.public().thumbprint()) {
        return Err(ProvisionError::keys(format!("{} is no root of the trust bundle in force", path.display()))
            .expecting("a key that version {} lists as a root".replace("{}", &trust.version().to_string()))
            .hinting("bring the present root's key; `countersign trust show` lists the roots"));
    }
    Ok(root)
}

/// Where a key waits until the version that lists it is in force.
fn fresh_path(path: &Path) -> std::path::PathBuf {
    path.with_extension("new.pem")
}

/// A key for the next version: the one that an interrupted run has made, or a new one.
fn fresh_key(changes: &mut ChangeReport, path: &Path, note: &str) -> Result<SecretKey, ProvisionError> {
    let fresh = fresh_path(path);
    match if_there(&fresh)? {
        Some(key) => Ok(key),
        None => create_key(changes, &fresh, note),
    }
}

/// Puts the new key in the place of the old one.
fn replace_key(changes: &mut ChangeReport, path: &Path) -> Result<(), ProvisionError> {
    countersign_keys::replace_key(&fresh_path(path), path)?;
    changes.note(Action::Renewed, path, "the new key");
    Ok(())
}

fn if_there(path: &Path) -> Result<Option<SecretKey>, ProvisionError> {
    match read_key(path) {
        Ok(key) => Ok(Some(key)),
        Err(KeyFileError { fault: Fault::Missing, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn written(changes: ChangeReport) -> Vec<FileChange> {
    changes.into_done().into_iter().filter(|change| change.did != Action::Left).collect()
}

fn not_accepted(error: &countersign_protocol::trust::TrustError) -> ProvisionError {
    ProvisionError::keys(format!("the new version of the trust bundle would not be accepted: {error}"))
        .expecting("a bundle of 64 KiB at most, signed by as many roots as the versions before and after it say")
        .hinting("sign it where all of these keys are; a list of revocations that is too long ends with `trust rotate issuer`")
}
