//! `countersign revoke` and `countersign trust`: the next version of the trust bundle, and its way to everybody.

use std::collections::BTreeSet;

use countersign_host::clock;
use countersign_keys::{KeyFolder, Login};
use countersign_link::{AccountUpdateError, BrokerAccess, LinkError, PublishError, TrustPublisher, update_account};
use countersign_protocol::credential::Role;
use countersign_protocol::name::Name;
use countersign_protocol::trust::{Revoked, StoredTrust, Trust};
use countersign_provisioning::{
    AccountKeeper, Advanced, FileChange, OldIssuers, adopt, list, member_key, replace_lost_root, revoke,
    revoked_logins, rotate_issuer, rotate_root, versions,
};
use countersign_server::Follow;

use crate::args::{BrokerArgs, OperatorArgs, OutputArgs, RealmArgs, RevokeArgs, Rotation, Source, TrustAction};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::{EndedLogins, Output, Published, print_published, print_trust};
use crate::realm::Realm;
use crate::requests;

/// Revokes members, keys and credentials, and publishes it.
pub(crate) async fn revoke_members(args: &RevokeArgs, output: Output) -> CliResult<Exit> {
    advance(&args.realm, args.output, output, |realm| {
        let since = clock::wall();
        let mut revoked: Vec<Revoked> = args.jti.iter().map(|jti| Revoked::Credential { jti: *jti, since }).collect();
        let mut keys: BTreeSet<_> = args.kid.iter().copied().collect();
        for name in &args.names {
            let role = role_of(realm, name, args.role)?;
            keys.insert(member_key(&realm.folder, &realm.trust, role, name)?);
        }
        revoked.extend(keys.into_iter().map(|kid| Revoked::Key { kid, since }));
        Ok(revoke(&realm.folder, &realm.trust, &revoked)?)
    })
    .await
}

/// Does what is asked for with the trust bundle.
pub(crate) async fn run(action: &TrustAction, output: Output) -> CliResult<Exit> {
    match action {
        TrustAction::Show { sender, output: format } => show(sender, *format, output).await,
        TrustAction::Publish { realm, output: format } => {
            advance(realm, *format, output, |realm| Ok(revoke(&realm.folder, &realm.trust, &[])?)).await
        }
        TrustAction::Rotate(Rotation::Issuer { revoke_old, realm, output: format }) => {
            let old = if *revoke_old { OldIssuers::AreRevoked } else { OldIssuers::Stay };
            let exit =
                advance(realm, *format, output, |realm| Ok(rotate_issuer(&realm.folder, &realm.trust, old)?)).await;
            if exit.is_ok() {
                output.note("carry the new credentials to their members, who use them after a restart; `countersign issuer` gives them to those who ask");
            }
            exit
        }
        TrustAction::Rotate(Rotation::Root { lost: false, realm, output: format }) => {
            advance(realm, *format, output, |realm| Ok(rotate_root(&realm.folder, &realm.trust)?)).await
        }
        TrustAction::Rotate(Rotation::Root { lost: true, realm, output: format }) => {
            let exit =
                advance(realm, *format, output, |realm| Ok(replace_lost_root(&realm.folder, &realm.trust)?)).await;
            if exit.is_ok() {
                output.note("give every member trust.json and root.thumbprint by hand, and start it again: nothing proves the new root to them");
            }
            exit
        }
    }
}

/// The role of a member of this name.
fn role_of(realm: &Realm, name: &Name, wanted: Option<Role>) -> CliResult<Role> {
    let has = |role| realm.folder.names(role).map(|names| names.contains(name));
    let (is_client, is_operator) = (has(Role::Client)?, has(Role::Operator)?);
    match wanted {
        Some(role) => realm.expect_member(role, name).map(|()| role),
        None if is_client && is_operator => {
            Err(CliError::usage(format!("the folder has a client and an operator {name}"))
                .expected("which of the two is meant")
                .hint(format!("--role client, or --role operator, beside {name}")))
        }
        None if is_operator => Ok(Role::Operator),
        None => realm.expect_member(Role::Client, name).map(|()| Role::Client),
    }
}

/// Takes what was published elsewhere, makes the next version, publishes what the broker does not have, and has the broker refuse
/// whom it revokes. What cannot be done there is said, after what was made.
async fn advance(
    args: &RealmArgs,
    format: OutputArgs,
    output: Output,
    make: impl FnOnce(&Realm) -> CliResult<Advanced>,
) -> CliResult<Exit> {
    let NewVersion { trust, is_new, files, sent, logins } = make_version(args, make).await?;
    let published = match &sent {
        Ok(published) => Published { versions: published, why_not: None },
        Err(error) => Published { versions: &[], why_not: Some(error.to_string()) },
    };
    print_published(&trust, is_new, &published, logins.as_ref(), &files, format.format(), output)?;
    sent.map_err(|error| not_published(&trust, error, &args.broker))?;
    logins.transpose()?;
    Ok(Exit::Succeeded)
}

/// Revokes the key of a client, everywhere, and prints nothing. It is done only when the broker has taken all of it.
pub(crate) async fn revoke_client(args: &RealmArgs, name: &Name) -> CliResult<()> {
    let done = make_version(args, |realm| {
        let kid = member_key(&realm.folder, &realm.trust, Role::Client, name)?;
        Ok(revoke(&realm.folder, &realm.trust, &[Revoked::Key { kid, since: clock::wall() }])?)
    });
    let NewVersion { trust, sent, logins, .. } = done.await?;
    sent.map_err(|error| not_published(&trust, error, &args.broker))?;
    logins.transpose().map(|_| ())
}

/// A version of the trust bundle, and what came of it at the broker.
struct NewVersion {
    trust: Trust,
    is_new: bool,
    files: Vec<FileChange>,
    sent: Result<Vec<u64>, PublishError>,
    logins: Option<CliResult<EndedLogins>>,
}

async fn make_version(args: &RealmArgs, make: impl FnOnce(&Realm) -> CliResult<Advanced>) -> CliResult<NewVersion> {
    let realm = Realm::open(&args.keys)?;
    let login = Login::read(&realm.folder.trust_creds())?;
    let publisher = TrustPublisher::connect(args.broker.address(), realm.trust.realm(), login).await;
    // Until the broker has it all: of two accounts that are changed at once, one would be lost there.
    let mut realm = Realm::open_to_change(&args.keys)?;
    let mut files = match &publisher {
        Ok(publisher) => catch_up(publisher, &mut realm).await?,
        Err(_) => Vec::new(),
    };
    let Advanced { trust, is_new, files: made } = make(&realm)?;
    files.extend(made);
    let sent = match publisher {
        Ok(publisher) => publish(&publisher, &versions(&realm.folder, &trust)?).await,
        Err(error) => Err(error.into()),
    };
    // Their power has ended with the version; where that is not published, there is nothing to say to the broker yet.
    let logins = match &sent {
        Ok(_) => Some(end_logins(&args.broker, &realm.folder, &trust, &mut files).await),
        Err(_) => None,
    };
    Ok(NewVersion { trust, is_new, files, sent, logins })
}

/// Has the broker refuse what the revoked members of the folder log in with.
async fn end_logins(
    broker: &BrokerArgs,
    folder: &KeyFolder,
    trust: &Trust,
    files: &mut Vec<FileChange>,
) -> CliResult<EndedLogins> {
    let revoked = revoked_logins(folder, trust)?;
    if revoked.is_empty() {
        return Ok(EndedLogins::default());
    }
    let mut keeper = AccountKeeper::open(folder)?;
    let login = Login::read(&folder.accounts_creds())?;
    let access = BrokerAccess { broker: broker.address(), login, inbox_prefix: "_INBOX.accounts" };
    let mut is_new = false;
    let change = |present: &str| {
        let changed = keeper.revoke(present, revoked.iter().filter_map(|it| it.jwt.as_ref()), clock::wall());
        is_new = changed.as_ref().is_ok_and(|changed| changed != present);
        changed
    };
    let account = update_account(access, &keeper.realm_account(), change).await.map_err(|error| {
        let what = format!("what is revoked signs nothing that counts, but can still log in to the broker: {error}");
        match error {
            AccountUpdateError::Change(_) => CliError::keys(what)
                .expected(format!("the account that {} has signed", folder.authority().display()))
                .hint("run it where the authority.nk of this broker's accounts is"),
            _ => CliError::new(Exit::Broker, what)
                .expected("a broker that takes the changed account, and keeps it")
                .hint("`countersign trust publish`, which tries it again"),
        }
    })?;
    files.extend(keeper.save(&account)?);
    let unknown = revoked.iter().find(|it| it.jwt.is_none());
    if let Some(unknown) = unknown {
        let (role, name) = (unknown.role, &unknown.name);
        let path = folder.user_jwt(role, name);
        return Err(CliError::keys(format!(
            "{role} {name} can still log in to the broker: {} is missing",
            path.display()
        ))
        .expected("the JWT that names its connection key")
        .hint("bring the file back, and run `countersign trust publish`; its login ends with its credential"));
    }
    let members = revoked.into_iter().map(|it| format!("{} {}", it.role, it.name)).collect();
    Ok(EndedLogins { members, is_new })
}

/// Takes the versions that were published from another folder.
async fn catch_up(publisher: &TrustPublisher, realm: &mut Realm) -> CliResult<Vec<FileChange>> {
    let mut files = Vec::new();
    while let Some(version) = realm.trust.version().checked_add(1) {
        let StoredTrust::Bundle(_, bytes) = publisher.stored(version).await else { break };
        let Ok(next) = realm.trust.successor(&bytes) else { break };
        files.extend(adopt(&realm.folder, &next)?);
        realm.trust = next;
    }
    Ok(files)
}

/// Publishes what of a chain of versions the broker does not have, over a connection of its own.
pub(crate) async fn publish_all(args: &RealmArgs, realm: &Realm, chain: &[Trust]) -> CliResult<Vec<u64>> {
    let login = Login::read(&realm.folder.trust_creds())?;
    let publisher = TrustPublisher::connect(args.broker.address(), realm.trust.realm(), login).await?;
    let newest = chain.last().unwrap_or(&realm.trust);
    publish(&publisher, chain).await.map_err(|error| not_published(newest, error, &args.broker))
}

/// Publishes versions, the oldest first, and says which the broker did not have.
async fn publish(publisher: &TrustPublisher, chain: &[Trust]) -> Result<Vec<u64>, PublishError> {
    let mut published = Vec::new();
    for (index, bundle) in chain.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| chain.get(before));
        if publisher.publish(before, bundle).await? {
            published.push(bundle.version());
        }
    }
    Ok(published)
}

fn not_published(trust: &Trust, error: PublishError, broker: &BrokerArgs) -> CliError {
    let source = match &error {
        PublishError::Link(LinkError::TlsFile { file, .. }) => broker.source_of(file).unwrap_or(&Source::Default),
        _ => &Source::Default,
    };
    let what = format!("version {} of the trust bundle is in this folder only: {error}", trust.version());
    let error = match error {
        PublishError::Fork { version } => CliError::keys(what)
            .expected("one folder that makes versions of the trust bundle")
            .hint(format!("copy trust.json and trust/{version}.json from the other folder, and revoke again here")),
        PublishError::Link(_) | PublishError::NotStored { .. } => CliError::new(Exit::Broker, what)
            .expected("a broker that stores it: until then it has no effect at anybody else's")
            .hint(
                "`countersign trust publish` when the broker is there; `countersign setup` where it has no such stream",
            ),
    };
    error.of_setting("the file", source)
}

async fn show(sender: &OperatorArgs, format: OutputArgs, output: Output) -> CliResult<Exit> {
    let realm = Realm::open(&sender.realm.keys)?;
    let members = list(&realm.folder, &realm.trust)?;
    let broker = &sender.realm.broker;
    let operator = match realm.operator(sender) {
        Ok(member) => {
            let opened = Realm::open(&sender.realm.keys)?;
            match requests::connect(broker, opened, member, Follow::Presence, output).await {
                Ok(mut operator) => match operator.refresh().await {
                    Ok(()) => Ok(operator),
                    Err(error) => Err(error.to_string()),
                },
                Err(error) => Err(error.what()),
            }
        }
        Err(error) => Err(error.what()),
    };
    // What the operator has fetched meanwhile is what everybody is to have.
    let trust = operator.as_ref().map_or_else(|_| realm.trust.clone(), |operator| Trust::clone(operator.trust()));
    print_trust(&trust, &members, operator.as_ref().map_err(String::as_str), format.format(), output)?;
    Ok(Exit::Succeeded)
}
