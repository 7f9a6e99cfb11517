//! What the files state: the trust bundle, credentials, logins, and whether keys and statements fit together.

use countersign_host::clock;
use countersign_keys::{Fault, KeyFileError, KeyFolder, Login, UserJwt, load_member, read_key, read_public};
use countersign_protocol::limits::SKEW;
use countersign_protocol::time::{Millis, span};
use countersign_protocol::trust::{MAX_TRUST, Revoked};
use countersign_provisioning::{AccountKeeper, Listed, Standing, list, versions};
use serde_json::Value;

use super::{Check, Findings, Level, Machine};
use crate::realm::Realm;

/// Looks at everything that needs no broker.
pub(super) fn examine(realm: &Realm, machine: &Machine, found: &mut Findings) {
    let now = clock::wall();
    trust(realm, machine, now, found);
    realm_keys(realm, found);
    let members = match list(&realm.folder, &realm.trust) {
        Ok(members) => members,
        Err(error) => {
            found.file(Check::Keys, &error);
            return found.skipped(Check::Credentials, "not all members of the folder can be seen");
        }
    };
    members.iter().for_each(|member| credential(member, machine, now, found));
    if found.is_clean(Check::Credentials) {
        found
            .fine(Check::Credentials, format!("{} in force", crate::text::counted(members.len() as u64, "credential")));
    }
    pairs(realm, machine, &members, now, found);
    logins(&realm.folder, &members, now, found);
}

fn trust(Realm { folder, trust, .. }: &Realm, machine: &Machine, now: Millis, found: &mut Findings) {
    let (version, end) = (trust.version(), trust.expires_at());
    let renew = if machine.is_issuers {
        "bring root.pem back, then `countersign init` and `countersign trust publish`"
    } else {
        "`countersign init` where root.pem is, and `countersign trust publish` there, which brings it to all"
    };
    if trust.is_expired(now) {
        let what = format!("version {version} of the trust bundle has expired on {}", end.utc());
        found.add(
            Check::Trust,
            Level::Broken,
            what,
            "a bundle in force: clients answer only queries and `terminate`",
            renew,
        );
    } else if trust.term().ends_soon(now) {
        let what = format!("version {version} of the trust bundle ends on {}, in {}", end.utc(), span(end.since(now)));
        found.add(Check::Trust, Level::Warning, what, "more than 30 days: after its end clients obey nothing", renew);
    }
    match read_public(&folder.trust(), MAX_TRUST) {
        Ok(bytes) if machine.is_issuers && bytes != trust.bytes() => found.add(
            Check::Trust,
            Level::Warning,
            format!("{} is not version {version}, which is in force in this folder", folder.trust().display()),
            "the newest version in trust.json, which new members are given: a command was interrupted, or an older copy was brought back",
            "countersign trust publish",
        ),
        Ok(_) | Err(KeyFileError { fault: Fault::Missing, .. }) => {}
        Err(error) => found.file(Check::Trust, &error),
    }
    if machine.is_issuers {
        match versions(folder, trust) {
            Ok(chain) => {
                let first = chain.first().map_or(version, |first| first.version());
                if first > 1 {
                    found.add(
                        Check::Trust,
                        Level::Warning,
                        format!("the versions of the trust bundle before {first} are not in {}", folder.path().join("trust").display()),
                        "each version from 1 on: who was away can follow only a chain without a gap",
                        "bring the folder `trust` back from a copy of this one; members that follow already need nothing",
                    );
                }
            }
            Err(error) => found.error(Check::Trust, Level::Broken, &error.into()),
        }
    }
    if found.is_clean(Check::Trust) {
        found.fine(Check::Trust, format!("version {version}, until {}", end.utc()));
    }
}

/// The keys of the realm, where they are here, against the bundle and the broker's accounts.
fn realm_keys(Realm { folder, trust, .. }: &Realm, found: &mut Findings) {
    if let Ok(root) = read_key(&folder.root_key())
        && !trust.is_root(&root.public().thumbprint())
    {
        found.add(
            Check::Keys,
            Level::Broken,
            format!("{} is no root of version {} of the trust bundle", folder.root_key().display(), trust.version()),
            "the key that signs the next version: with this one nothing can be revoked or renewed",
            "bring the present root.pem; `countersign trust show` lists the roots",
        );
    }
    if let Ok(issuer) = read_key(&folder.issuer_key()) {
        let kid = issuer.public().thumbprint();
        let is_revoked =
            trust.body().revoked.iter().any(|it| matches!(it, Revoked::Key { kid: revoked, .. } if *revoked == kid));
        if trust.issuer(&kid).is_none() || is_revoked {
            let why = if is_revoked { "is revoked" } else { "is no issuer" };
            found.add(
                Check::Keys,
                Level::Broken,
                format!("{} {why} by version {} of the trust bundle", folder.issuer_key().display(), trust.version()),
                "the key of an issuer that the bundle lists: what this one signs nobody accepts",
                "bring the issuer.pem that the bundle lists, or `countersign trust rotate issuer` where root.pem is",
            );
        }
        if let Err(error) = AccountKeeper::open(folder) {
            found.error(Check::Keys, Level::Broken, &error.into());
        }
    }
}

fn credential(
    Listed { role, name, file, standing, credential, .. }: &Listed,
    machine: &Machine,
    now: Millis,
    found: &mut Findings,
) {
    let is_used_here = machine.members.iter().any(|member| *member == (*role, name.clone()));
    let level = if is_used_here { Level::Broken } else { Level::Warning };
    let end = credential.as_ref().map(|it| Millis::from_seconds(it.claims.exp)).unwrap_or_default();
    let renew = if machine.is_issuers {
        format!("countersign credential renew {role} {name}")
    } else {
        format!("`countersign credential renew {role} {name}` where issuer.pem is; then bring the new .jwt files here")
    };
    let (level, what, expected, hint) = match standing {
        Standing::InForce => return,
        Standing::EndsSoon => (
            Level::Warning,
            format!("the credential of {role} {name} ends on {}, in {}", end.utc(), span(end.since(now))),
            "more than a third of its life left: after its end nobody believes what its holder signs",
            renew,
        ),
        Standing::Expired => (
            level,
            format!("the credential of {role} {name} has expired on {}", end.utc()),
            "a credential in force: nobody believes what its holder signs, and the broker refuses its login",
            renew,
        ),
        Standing::NotYetValid => (
            level,
            format!("the credential of {role} {name} is not valid yet"),
            "a beginning that has passed: this machine's clock is behind, or that of the issuer was ahead",
            "timedatectl status".to_owned(),
        ),
        Standing::Revoked => (
            level,
            format!("the credential of {role} {name} is revoked"),
            "a holder that the trust bundle vouches for; its files are of no use to anybody",
            match machine.is_issuers {
                true => format!("rm -f keys/{role}s/{name}.* keys/nats/{role}-{name}.*, then `countersign credential issue {role} {name}`")
                    .replace("keys/", &format!("{}/", file.parent().and_then(|it| it.parent()).unwrap_or(file).display())),
                false => "ask whoever keeps the realm; `countersign trust show` lists what is revoked".to_owned(),
            },
        ),
        Standing::Unusable(why) => (
            Level::Broken,
            format!("{}: {why}", file.display()),
            "a credential of this name, by an issuer of the trust bundle",
            "compare it with the issuer's folder; if the issuer was replaced, copy the new .jwt from there".to_owned(),
        ),
    };
    found.add(Check::Credentials, level, what, expected, hint);
}

/// Whether the two keys of each member fit its credential and are two. What keeps a credential from holding is said already.
fn pairs(
    Realm { folder, trust, .. }: &Realm,
    machine: &Machine,
    members: &[Listed],
    now: Millis,
    found: &mut Findings,
) {
    for Listed { role, name, standing, .. } in members {
        let is_here = machine.members.iter().any(|member| *member == (*role, name.clone()));
        if is_here
            && matches!(standing, Standing::InForce | Standing::EndsSoon)
            && let Err(error) = load_member(folder, *role, name, trust, now, SKEW)
        {
            found.file(Check::Keys, &error);
        }
    }
}

/// Until when each user may log in to the broker.
fn logins(folder: &KeyFolder, members: &[Listed], now: Millis, found: &mut Findings) {
    let of_members = members.iter().map(|it| (folder.creds(it.role, &it.name), Some(it)));
    let others = [
        folder.observer_creds(),
        folder.setup_creds(),
        folder.trust_creds(),
        folder.accounts_creds(),
        folder.issuer_creds(),
    ];
    let mut count = 0;
    for (path, member) in of_members.chain(others.into_iter().map(|path| (path, None))) {
        // One that cannot be read is a finding about keys.
        let Some(jwt) = Login::read(&path).ok().and_then(|login| UserJwt::parse(login.jwt())) else { continue };
        count += 1;
        let number = |member: &str| jwt.claims().get(member).and_then(Value::as_i64).map(Millis::from_seconds);
        let Some(end) = number("exp") else { continue };
        let life = end.since(number("iat").unwrap_or(now));
        let path = path.display();
        let hint = match member {
            Some(it) => format!(
                "copy nats/{}-{}.jwt here from the issuer's folder, where `countersign credential renew {} {}` makes it",
                it.role, it.name, it.role, it.name
            ),
            None => "`countersign init` where authority.nk is; then copy the file here".to_owned(),
        };
        // A member's login ends with its credential, of which it is said already.
        let is_said = member.is_some_and(|it| !matches!(it.standing, Standing::InForce));
        if end <= now && !is_said {
            let what = format!("the login in {path} has ended on {}", end.utc());
            found.add(Check::Logins, Level::Broken, what, "a login that the broker accepts", hint);
        } else if end > now && end.since(now) <= life / 3 && !is_said {
            let what = format!("the login in {path} ends on {}, in {}", end.utc(), span(end.since(now)));
            found.add(
                Check::Logins,
                Level::Warning,
                what,
                "more than a third of its life left: after its end the broker lets nobody in with it",
                hint,
            );
        }
    }
    if found.is_clean(Check::Logins) {
        found.fine(Check::Logins, format!("{} in force", crate::text::counted(count, "login")));
    }
}
