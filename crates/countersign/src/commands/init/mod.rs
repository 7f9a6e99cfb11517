//! `countersign init`: a realm's keys, credentials and trust, and the broker's user list.

mod changes;
mod members;
mod trust;
mod users;

use std::path::Path;

use countersign_host::clock;
use countersign_keys::{Fault, KeyFileError, KeyFolder, Seed, read_key, read_public, read_seed};
use countersign_protocol::key::SecretKey;
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use serde::Serialize;

use self::changes::{Action, ChangeReport, FileChange};
use self::members::Members;
use self::users::{User, Who, has_no_accounts, users_file};
use crate::args::{Format, NewClient, Options};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::{Output, table};

/// A day in milliseconds.
const DAY: i64 = 86_400_000;
/// The longest users file that is compared with what is to be written, in bytes.
const MAX_USERS: usize = 64 * 1024 * 1024;

/// What to do where the users file had no accounts: a reload refuses a new system account.
const NEW_ACCOUNTS: &str = "it has accounts now: restart the broker with the present nats.conf (a reload does not do), \
                            then run `countersign setup`";

/// Makes what is missing, renews what is due, and says what it did and left.
pub(crate) fn run(options: &Options, operators: &[Name], clients: &[NewClient], output: Output) -> CliResult<Exit> {
    refuse_contradictions(clients)?;
    let mut changes = ChangeReport::new(KeyFolder::create(&options.keys)?, clock::wall());
    let realm = fill(&mut changes, options.realm.as_ref(), operators, clients)?;
    report(&realm, changes, options, output)?;
    Ok(Exit::Succeeded)
}

fn fill(
    changes: &mut ChangeReport,
    realm: Option<&Name>,
    operators: &[Name],
    clients: &[NewClient],
) -> CliResult<Name> {
    let folder = changes.folder().clone();
    let trust = trust::ensure(changes, realm)?;
    let mut users = Vec::new();
    for (who, path) in
        [(Who::Observer, folder.observer_seed()), (Who::Setup, folder.setup_seed()), (Who::Trust, folder.trust_seed())]
    {
        let seed = match existing_seed(changes, &path)? {
            Some(seed) => seed,
            None => create_seed(changes, &path)?,
        };
        users.extend(seed.public_key().map(|nkey| User { who, nkey }));
    }
    let mut members = Members::new(changes, &trust)?;
    users.extend(members.operators(operators)?);
    users.extend(members.clients(clients)?);

    let path = folder.users();
    let file = users_file(trust.realm(), &users);
    match read_public(&path, MAX_USERS) {
        Ok(old) if old == file.as_bytes() => changes.note(Action::Left, &path, ""),
        Ok(old) if has_no_accounts(&old) => changes.write(Action::Renewed, &path, file.as_bytes(), NEW_ACCOUNTS)?,
        Ok(_) => changes.write(Action::Renewed, &path, file.as_bytes(), "the broker must read it again: SIGHUP")?,
        Err(KeyFileError { fault: Fault::Missing, .. }) => {
            changes.write(Action::Made, &path, file.as_bytes(), "nats.conf includes it")?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(trust.realm().clone())
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Document<'a> {
    realm: &'a Name,
    keys: String,
    files: &'a [FileChange],
}

fn report(realm: &Name, changes: ChangeReport, options: &Options, output: Output) -> CliResult<()> {
    let changed = changes.changed();
    let files = changes.into_done();
    let keys = options.keys.display().to_string();
    match options.output {
        Format::Json => output.json(&Document { realm, keys, files: &files }),
        Format::Ndjson => files.iter().try_for_each(|deed| output.json(deed)),
        Format::Table => {
            let rows = files.iter().map(|deed| vec![deed.did.word().to_owned(), deed.file.clone(), deed.note.clone()]);
            output.text(&table(&["DID", "FILE", "NOTE"], rows.collect()))?;
            output.note(&if changed {
                format!("the realm {realm} is in {keys}; `countersign --help` says what comes next")
            } else {
                format!("the realm {realm} is in {keys}, and nothing was due")
            });
            Ok(())
        }
    }
}

/// One client with two sets of groups cannot be had.
fn refuse_contradictions(clients: &[NewClient]) -> CliResult<()> {
    for (index, client) in clients.iter().enumerate() {
        if clients.iter().skip(index + 1).any(|other| other.name == client.name && other.groups != client.groups) {
            return Err(CliError::usage(format!("the client {} is named twice, with different groups", client.name))
                .expected("each client once, with all its groups")
                .hint(format!("--client {}:GROUP,GROUP", client.name)));
        }
    }
    Ok(())
}

/// The key in a file, which is left as it is; nothing where there is no such file.
fn existing_key(changes: &mut ChangeReport, path: &Path) -> CliResult<Option<SecretKey>> {
    if_there(changes, path, read_key(path))
}

fn existing_seed(changes: &mut ChangeReport, path: &Path) -> CliResult<Option<Seed>> {
    if_there(changes, path, read_seed(path))
}

fn if_there<T>(changes: &mut ChangeReport, path: &Path, read: Result<T, KeyFileError>) -> CliResult<Option<T>> {
    match read {
        Ok(found) => {
            changes.note(Action::Left, path, "");
            Ok(Some(found))
        }
        Err(KeyFileError { fault: Fault::Missing, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn create_key(changes: &mut ChangeReport, path: &Path, note: impl Into<String>) -> CliResult<SecretKey> {
    let key = SecretKey::from_seed(clock::random().map_err(no_randomness)?);
    changes.create(path, key.to_pem().as_bytes(), note)?;
    Ok(key)
}

fn create_seed(changes: &mut ChangeReport, path: &Path) -> CliResult<Seed> {
    let random = clock::random().map_err(no_randomness)?;
    let seed = Seed::from_random(random).ok_or_else(|| no_randomness("no connection key came of it"))?;
    changes.create(path, format!("{}\n", seed.as_str()).as_bytes(), "connects to the broker")?;
    Ok(seed)
}

fn no_randomness(error: impl std::fmt::Display) -> CliError {
    CliError::new(Exit::Failed, error).expected("random bytes for a key").hint("run it again")
}

/// Until when something holds, for people.
fn until(end: Millis) -> String {
    format!("until {}", end.utc())
}

#[expect(clippy::expect_used, reason = "the defaults are names")]
fn default_name(name: &str) -> Name {
    name.parse().expect("a name")
}
