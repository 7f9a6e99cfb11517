//! `countersign credential`: single credentials, made, renewed and shown.

use std::collections::BTreeSet;
use std::path::Path;

use countersign_host::clock;
use countersign_keys::read_own;
use countersign_protocol::command::Target;
use countersign_protocol::credential::{Commands, Examined, Role};
use countersign_protocol::limits::MAX_CREDENTIAL;
use countersign_protocol::name::{EVERYONE, Name};
use countersign_provisioning::{Action, FileChange, Rights, Standing, Terms, examine, issue, list, renew, renew_all};

use crate::args::{
    AllowedCommand, CredentialAction, Format, GrantArgs, IssueMember, IssuingArgs, KeysArgs, RenewMember, WhoArgs,
};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::duration::Span;
use crate::output::{Output, print_changes, print_credential, print_members};
use crate::realm::Realm;

/// Does what is asked for with credentials.
pub(crate) fn run(action: &CredentialAction, output: Output) -> CliResult<Exit> {
    match action {
        CredentialAction::Issue(IssueMember::Client { name, group, issuing }) => {
            let rights = Rights::Client { groups: Some(group.clone()) };
            make(name, rights, issuing, output)
        }
        CredentialAction::Issue(IssueMember::Operator { name, grant, issuing }) => {
            make(name, granted(grant)?, issuing, output)
        }
        CredentialAction::Renew(RenewMember::Client { who, group, no_groups, issuing }) => {
            let groups = (*no_groups || !group.is_empty()).then(|| group.clone());
            again(who, Rights::Client { groups }, issuing, output)
        }
        CredentialAction::Renew(RenewMember::Operator { who, grant, issuing }) => {
            again(who, granted(grant)?, issuing, output)
        }
        CredentialAction::Show { file, keys, output: format } => show(file, keys, format.format(), output),
        CredentialAction::List { keys, output: format } => {
            let realm = Realm::open(keys)?;
            print_members(realm.trust.realm(), &list(&realm.folder, &realm.trust)?, format.format(), output)?;
            Ok(Exit::Succeeded)
        }
    }
}

fn make(name: &Name, rights: Rights, issuing: &IssuingArgs, output: Output) -> CliResult<Exit> {
    let (realm, terms) = (Realm::open_to_change(&issuing.keys)?, terms(rights, issuing));
    let files = issue(&realm.folder, &realm.trust, name, &terms)?;
    report(&realm, files, terms.role(), &[name.clone()].into(), issuing.output.format(), output)?;
    let role = terms.role();
    output.note(format!(
        "move {role}s/{name}.pem and nats/{role}-{name}.creds to the {role}'s machine, with copies of {role}s/{name}.jwt, \
         trust.json and root.thumbprint; the broker needs nothing new"
    ));
    Ok(Exit::Succeeded)
}

fn again(who: &WhoArgs, rights: Rights, issuing: &IssuingArgs, output: Output) -> CliResult<Exit> {
    let (realm, terms) = (Realm::open_to_change(&issuing.keys)?, terms(rights, issuing));
    let role = terms.role();
    // Without the issuer's key, that is what is said, whoever is named.
    let is_issuer = realm.folder.issuer_key().exists();
    let (names, files) = if who.all {
        let names: BTreeSet<Name> = realm.folder.names(role)?.into_iter().collect();
        if names.is_empty() && is_issuer {
            return Err(CliError::keys(format!("the folder {} has no {role}", realm.folder.path().display()))
                .expected("one whose credential is to be renewed")
                .hint(realm.how_to_add(role, "NAME")));
        }
        (names, renew_all(&realm.folder, &realm.trust, &terms)?)
    } else {
        // Each once, however often it is named.
        let names: BTreeSet<Name> = who.names.iter().cloned().collect();
        names.iter().filter(|_| is_issuer).try_for_each(|name| realm.expect_member(role, name))?;
        let listed: Vec<Name> = names.iter().cloned().collect();
        (names, renew(&realm.folder, &realm.trust, &listed, &terms)?)
    };
    report(&realm, files, role, &names, issuing.output.format(), output)?;
    output.note("a running process takes its new credential past half of the life of its own, or after a restart; the one before holds until it ends");
    Ok(Exit::Succeeded)
}

/// Prints what was written, and what was noted about the credentials that were not.
fn report(
    realm: &Realm,
    mut files: Vec<FileChange>,
    role: Role,
    names: &BTreeSet<Name>,
    format: Format,
    output: Output,
) -> CliResult<()> {
    files.retain(|change| change.did != Action::Left || !change.note.is_empty());
    let mut members = list(&realm.folder, &realm.trust)?;
    members.retain(|member| member.role == role && names.contains(&member.name));
    print_changes(realm.trust.realm(), &files, &members, format, output)
}

/// Prints a credential, and fails if it does not hold.
fn show(file: &Path, keys: &KeysArgs, format: Format, output: Output) -> CliResult<Exit> {
    let realm = Realm::open(keys)?;
    let (standing, credential) = examine(&read_own(file, MAX_CREDENTIAL + 2)?, &realm.trust, clock::wall());
    print_credential(file, &standing, credential.as_ref(), format, output)?;
    match refusal(&standing, credential.as_ref()) {
        Some(why) => Err(CliError::keys(format!("{} does not hold: {why}", file.display()))
            .expected(format!("a credential of the realm {}, in force now and not revoked", realm.trust.realm()))
            .hint(match standing {
                Standing::Unusable(_) => {
                    "compare the file with the one on the issuer's machine, and --keys with its realm"
                }
                Standing::NotYetValid => "check the clock of this machine and the issuer's",
                _ => "`countersign credential renew`, on the issuer's machine",
            })),
        None => Ok(Exit::Succeeded),
    }
}

/// Why a credential does not hold.
fn refusal(standing: &Standing, credential: Option<&Examined>) -> Option<String> {
    match standing {
        Standing::Unusable(why) => Some(why.clone()),
        _ => credential?.holds.as_ref().err().map(ToString::to_string),
    }
}

fn terms(rights: Rights, issuing: &IssuingArgs) -> Terms {
    Terms { rights, life_ms: issuing.valid.map(Span::millis) }
}

/// The grant that the options name.
fn granted(GrantArgs { command, target, ttl }: &GrantArgs) -> CliResult<Rights> {
    let any = command.contains(&AllowedCommand::Any);
    if any && command.iter().any(|command| *command != AllowedCommand::Any) {
        return Err(CliError::usage("`--command *` stands beside other commands")
            .expected("* alone, which is any command, or the names of commands")
            .hint("leave one of the two out"));
    }
    let all = |target: &Target| matches!(target, Target::All(_));
    if target.iter().any(all) && !target.iter().all(all) {
        return Err(CliError::usage(format!("`--target @{EVERYONE}` stands beside other targets"))
            .expected(format!("@{EVERYONE} alone, which is every client, or clients and groups"))
            .hint("leave one of the two out"));
    }
    let names = command.iter().filter_map(|command| match command {
        AllowedCommand::Any => None,
        AllowedCommand::One(name) => Some(name.clone()),
    });
    let commands = if any { Commands::Any } else { Commands::Only(names.collect()) };
    Ok(Rights::Operator {
        commands: (!command.is_empty()).then_some(commands),
        targets: (!target.is_empty()).then(|| target.clone()),
        max_ttl_ms: ttl.map(Span::millis),
    })
}
