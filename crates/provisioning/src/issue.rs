//! Single credentials in a folder that `init` made: a new member, and another credential for a member.

use countersign_host::clock;
use countersign_keys::KeyFolder;
use countersign_protocol::name::Name;
use countersign_protocol::trust::Trust;

use crate::changes::{Action, ChangeReport, FileChange};
use crate::error::ProvisionError;
use crate::members::{Members, Renewal, issuer_of};
use crate::nats::Accounts;
use crate::standing::{Standing, listed};
use crate::terms::Terms;

const ISSUE: &str = "countersign credential issue";
const RENEW: &str = "countersign credential renew";

/// Makes a member: its keys, where the folder has none of this name, its credential, and what it logs in to the broker with. Run again
/// after an interruption, it completes what is there.
pub fn issue(folder: &KeyFolder, trust: &Trust, name: &Name, terms: &Terms) -> Result<Vec<FileChange>, ProvisionError> {
    let mut changes = begin(folder, trust, ISSUE)?;
    let accounts = Accounts::open(folder, ISSUE)?;
    let role = terms.role();
    let path = folder.credential(role, name);
    // The JWT comes last. Where the keys are here and it is missing, an earlier run was interrupted.
    let is_interrupted = folder.key(role, name).exists() && !folder.user_jwt(role, name).exists();
    if path.exists() && !is_interrupted {
        let folder = folder.path().display();
        return Err(ProvisionError::request(format!("the {role} {name} is in the folder {folder} already"))
            .expecting("a name that no member of this role has")
            .hinting(format!(
                "`{RENEW} {role} {name}` gives it a new credential, and other rights if options say so"
            )));
    }
    let mut members = Members::new(&mut changes, trust, &accounts, ISSUE)?;
    // Before a key is made.
    accounts.expect_authority()?;
    members.member(name, terms, Renewal::Always)?;
    Ok(changes.into_done())
}

/// Gives members new credentials, with what these terms change. Nothing is written unless all of them can be renewed.
pub fn renew(
    folder: &KeyFolder,
    trust: &Trust,
    names: &[Name],
    terms: &Terms,
) -> Result<Vec<FileChange>, ProvisionError> {
    let mut changes = begin(folder, trust, RENEW)?;
    for name in names {
        refuse_unusable(folder, trust, name, terms, &changes)?;
    }
    let accounts = Accounts::open(folder, RENEW)?;
    let mut members = Members::new(&mut changes, trust, &accounts, RENEW)?;
    accounts.expect_authority()?;
    for name in names {
        members.member(name, terms, Renewal::Always)?;
    }
    Ok(changes.into_done())
}

/// Gives every member of a role a new credential. Those that were revoked are left, and noted.
pub fn renew_all(folder: &KeyFolder, trust: &Trust, terms: &Terms) -> Result<Vec<FileChange>, ProvisionError> {
    let now = clock::wall();
    let role = terms.role();
    let (revoked, names): (Vec<Name>, Vec<Name>) = folder
        .names(role)?
        .into_iter()
        .partition(|name| listed(folder, trust, role, name.clone(), now).standing == Standing::Revoked);
    let mut noted = ChangeReport::new(folder.clone(), now);
    for name in revoked {
        noted.note(Action::Left, &folder.credential(role, &name), "not renewed: it is revoked");
    }
    let mut done = renew(folder, trust, &names, terms)?;
    done.extend(noted.into_done());
    Ok(done)
}

/// What everything that is issued needs first.
fn begin(folder: &KeyFolder, trust: &Trust, program: &'static str) -> Result<ChangeReport, ProvisionError> {
    let now = clock::wall();
    if trust.is_expired(now) {
        return Err(ProvisionError::keys(format!("{} has expired", folder.trust().display()))
            .expecting("a trust bundle under which the clients obey")
            .hinting("bring root.pem back and run `countersign init`, which renews it"));
    }
    issuer_of(folder, trust, program)?;
    Ok(ChangeReport::new(folder.clone(), now))
}

/// What does not verify says nothing that could be kept, and what was revoked is not brought back.
fn refuse_unusable(
    folder: &KeyFolder,
    trust: &Trust,
    name: &Name,
    terms: &Terms,
    changes: &ChangeReport,
) -> Result<(), ProvisionError> {
    let role = terms.role();
    let file = folder.credential(role, name);
    if !file.exists() {
        return Err(ProvisionError::keys(format!("the folder {} has no {role} {name}", folder.path().display()))
            .expecting("a member whose credential is here")
            .hinting(format!("`{ISSUE} {role} {name}` makes one")));
    }
    let why = match listed(folder, trust, role, name.clone(), changes.now()).standing {
        Standing::InForce | Standing::EndsSoon | Standing::NotYetValid | Standing::Expired => return Ok(()),
        Standing::Revoked => "it is revoked".to_owned(),
        Standing::Unusable(why) => why,
    };
    Err(ProvisionError::keys(format!("{} is not renewed: {why}", file.display()))
        .expecting("a credential of this name that trust.json vouches for, expired or not")
        .hinting(format!("move it and the keys of {role} {name} away, then run `{ISSUE} {role} {name}`")))
}
