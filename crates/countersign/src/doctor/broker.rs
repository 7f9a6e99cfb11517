//! The broker: reachable, TLS, whom it lets in and what they may do there, tried for real; the streams, and its clock.

use countersign_host::clock;
use countersign_keys::Login;
use countersign_link::{BrokerAccess, Link, LinkConfig, LinkError, LinkEvents, READABLE, too_little, update_account};
use countersign_protocol::credential::{Credential, Role};
use countersign_protocol::limits::{MAX_CREDENTIAL, MIN_MAX_PAYLOAD, SKEW};
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use countersign_protocol::time::{Millis, span};
use countersign_protocol::trust::StoredTrust;
use countersign_provisioning::{AccountError, AccountKeeper, revoked_logins};
use countersign_server::{SetupError, look_at_streams};

use super::{Check, Findings, Level, Machine, clients};
use crate::args::{BrokerArgs, OperatorArgs};
use crate::cli_error::CliError;
use crate::output::Output;
use crate::realm::Realm;
use crate::text::counted;

/// Of how many members of a folder the login is tried.
const MAX_TRIED: usize = 16;
/// A name that no client has, in a subject that is published on to see whether that is allowed.
const NOBODY: &str = "doctor";

/// A user of the broker, and what it is to be allowed.
struct User {
    /// For people.
    title: String,
    login: Login,
    inbox_prefix: String,
    subscribe: Vec<String>,
    publish: Vec<String>,
}

/// Looks at the broker by everything here that logs in to it, and then at the clients.
pub(super) async fn examine(
    sender: &OperatorArgs,
    realm: &Realm,
    machine: &Machine,
    output: Output,
    found: &mut Findings,
) {
    let broker = &sender.realm.broker;
    let users = users(realm, machine);
    if users.is_empty() {
        return found.skipped(Check::Broker, "nothing in this folder can log in to the broker");
    }
    let (mut link, mut tried) = (None, 0);
    for user in users.iter().take(MAX_TRIED) {
        match connect(user, broker).await {
            Ok((connected, mut events)) => {
                tried += 1;
                rights(user, &connected, &mut events, found).await;
                link.get_or_insert((connected, events));
            }
            // Another login would not find a broker either.
            Err(error @ (LinkError::Refused { .. } | LinkError::System(_))) => {
                let error =
                    CliError::no_broker(error, broker, &realm.folder).at(&format!("the login of {}", user.title));
                found.error(Check::Logins, Level::Broken, &error);
            }
            Err(error) => {
                found.error(Check::Broker, Level::Broken, &CliError::no_broker(error, broker, &realm.folder));
                return found.skipped(Check::Streams, "rights, streams, clocks and clients need a broker");
            }
        }
    }
    let Some((link, _events)) = &link else {
        return found
            .skipped(Check::Streams, "rights, streams, clocks and clients need a login that the broker accepts");
    };
    connection(link, broker, found);
    if link.has_tls() {
        certificate(&users, broker, found).await;
    }
    if found.is_clean(Check::Rights) {
        let more = users.len().saturating_sub(MAX_TRIED);
        let more = if more > 0 { format!("; {more} more were not tried") } else { String::new() };
        found.fine(Check::Rights, format!("{} may do what their roles need{more}", counted(tried, "login")));
    }
    account(broker, realm, found).await;
    let by_setup = streams(broker, realm, found).await;
    published(link, realm, found).await;
    clients::examine(sender, realm, machine, by_setup, output, found).await;
}

/// Everybody in the folder who can log in, and is no member only with a right of its own to be tried otherwise.
fn users(realm: &Realm, machine: &Machine) -> Vec<User> {
    let (folder, name) = (&realm.folder, realm.trust.realm());
    let members = machine.members.iter().filter_map(|(role, member)| {
        let login = Login::read(&folder.creds(*role, member)).ok()?;
        let (subscribe, publish) = match role {
            Role::Operator => of_operator(name, member),
            Role::Client => of_client(realm, member),
        };
        let inbox_prefix = format!("_INBOX.{role}-{member}");
        Some(User { title: format!("{role} {member}"), login, inbox_prefix, subscribe, publish })
    });
    let observer = Login::read(&folder.observer_creds()).ok().map(|login| User {
        title: "the observer".to_owned(),
        login,
        inbox_prefix: "_INBOX.observer".to_owned(),
        subscribe: vec![subject::everything(name)],
        publish: vec![subject::trust_get(name)],
    });
    members.chain(observer).collect()
}

fn of_operator(realm: &Name, operator: &Name) -> (Vec<String>, Vec<String>) {
    (
        vec![subject::replies_to(realm, operator), subject::every_event(realm), subject::every_trust_bundle(realm)],
        vec![
            format!("cs.{realm}.cmd.client.{NOBODY}"),
            subject::roster_page(realm),
            subject::roster_message(realm),
            subject::trust_get(realm),
        ],
    )
}

/// Its own events are tried by the client itself: what is published there would come up at every prompt.
fn of_client(Realm { folder, trust, .. }: &Realm, client: &Name) -> (Vec<String>, Vec<String>) {
    let raw = countersign_keys::read_public(&folder.credential(Role::Client, client), MAX_CREDENTIAL + 2);
    let text = raw.ok().and_then(|raw| String::from_utf8(raw).ok()).unwrap_or_default();
    let examined = Credential::examine(text.trim(), trust, clock::wall(), SKEW).ok();
    let groups = examined.and_then(|it| it.claims.groups).unwrap_or_default();
    let realm = trust.realm();
    let mut subscribe = subject::subscriptions(realm, client, &groups);
    subscribe.push(subject::every_trust_bundle(realm));
    (subscribe, vec![format!("cs.{realm}.reply.{NOBODY}.{NOBODY}.{NOBODY}.{client}"), subject::trust_get(realm)])
}

async fn connect(user: &User, broker: &BrokerArgs) -> Result<(Link, LinkEvents), LinkError> {
    Link::connect(LinkConfig {
        broker: broker.address(),
        name: "doctor".to_owned(),
        login: user.login.clone(),
        inbox_prefix: user.inbox_prefix.clone(),
        subscriptions: user.subscribe.clone(),
        max_waiting: countersign_link::MAX_WAITING,
        wait: false,
    })
    .await
}

async fn rights(user: &User, link: &Link, events: &mut LinkEvents, found: &mut Findings) {
    let expected = "what nats/accounts.conf allows its role: the broker runs with other accounts, or with those of an earlier version";
    let hint =
        "`countersign init` where authority.nk is; then restart the broker with the nats/accounts.conf that is there";
    match link.try_rights(events, &user.publish).await {
        Some(refused) => {
            for why in refused {
                let what = format!("the broker does not allow it to {}: {why}", user.title);
                found.add(Check::Rights, Level::Broken, what, expected, hint);
            }
        }
        None => found.add(
            Check::Rights,
            Level::Broken,
            format!("the broker ended the connection of {} at once", user.title),
            "a connection that lasts",
            "see the broker's log, which says why",
        ),
    }
}

/// What the connection itself shows.
fn connection(link: &Link, broker: &BrokerArgs, found: &mut Findings) {
    let url = countersign_link::without_secrets(&broker.nats_url);
    if link.is_readable_by_others() {
        let hint = "give the broker a certificate (`tls` in nats.conf), and name tls:// and --tls-ca";
        found.add(Check::Broker, Level::Warning, READABLE, "TLS where the way to the broker leaves this machine", hint);
    }
    if let Some(limit) = link.max_payload().filter(|limit| *limit < MIN_MAX_PAYLOAD) {
        let hint = "`max_payload: 320KB` in the broker's configuration, as in nats.conf; then restart it";
        found.add(Check::Broker, Level::Warning, too_little(limit), "room for every message of the protocol", hint);
    }
    if found.is_clean(Check::Broker) {
        found.fine(Check::Broker, format!("{url} lets us in{}", if link.has_tls() { ", with TLS" } else { "" }));
    }
}

/// Whether the broker's certificate ends soon: nobody connects then.
async fn certificate(users: &[User], broker: &BrokerArgs, found: &mut Findings) {
    let Some(user) = users.first() else { return };
    match countersign_link::certificate_end(&broker.address(), &user.login, &user.inbox_prefix).await {
        Ok(None) => {}
        Ok(Some(end)) => found.add(
            Check::Broker,
            Level::Warning,
            format!("the broker's certificate, or one that vouches for it, ends on {}", end.utc()),
            "a certificate for longer than 14 days: after its end nobody connects",
            "renew it where it was made, and send the broker SIGHUP (`nats-server --signal reload`)",
        ),
        Err(error) => found.skipped(Check::Broker, format!("when the broker's certificate ends is not known: {error}")),
    }
}

/// Whether the broker's account is as new as the folder's, and refuses whoever is revoked. Nothing is changed.
async fn account(broker: &BrokerArgs, realm: &Realm, found: &mut Findings) {
    let (folder, now) = (&realm.folder, clock::wall());
    let (Ok(login), Ok(keeper)) = (Login::read(&folder.accounts_creds()), AccountKeeper::open(folder)) else { return };
    let revoked = match revoked_logins(folder, &realm.trust) {
        Ok(revoked) => revoked,
        Err(error) => return found.error(Check::Broker, Level::Broken, &error.into()),
    };
    let access = BrokerAccess { broker: broker.address(), login, inbox_prefix: "_INBOX.accounts" };
    let (mut is_older, mut lets_in) = (false, false);
    let looked = update_account(access, &keeper.realm_account(), |present| {
        is_older = keeper.revoke(present, [], now)? != present;
        lets_in = keeper.revoke(present, revoked.iter().filter_map(|it| it.jwt.as_ref()), now)? != present;
        Ok::<_, AccountError>(present.to_owned())
    })
    .await;
    match looked {
        Ok(_) if is_older => found.add(
            Check::Broker,
            Level::Broken,
            format!("the broker's account is older than the one in {}", folder.accounts().display()),
            "the same account at both: rights and revocations of the newer one do not hold",
            "`countersign trust publish`; if that changes nothing, restart the broker with the present nats/accounts.conf",
        ),
        Ok(_) if lets_in => found.add(
            Check::Broker,
            Level::Broken,
            "the broker lets in members that the trust bundle revokes",
            "a refusal: they sign nothing that counts, but can listen",
            "countersign trust publish",
        ),
        Ok(_) => found.fine(Check::Broker, "its account is the folder's, and refuses whoever is revoked"),
        Err(error) => found.add(
            Check::Broker,
            Level::Broken,
            format!("the broker's account cannot be looked up: {error}"),
            "the account of nats/accounts.conf, which nats/accounts.creds may look up",
            "restart the broker with the present nats.conf and nats/accounts.conf (*Upgrading* in docs/operations.md)",
        ),
    }
}

/// Looks at the streams by the setup key, where it is here; whether it is.
async fn streams(broker: &BrokerArgs, realm: &Realm, found: &mut Findings) -> bool {
    let Ok(login) = Login::read(&realm.folder.setup_creds()) else { return false };
    let looked = match look_at_streams(broker.address(), realm.trust.realm(), login).await {
        Ok(looked) => looked,
        Err(SetupError::Link(error)) => {
            found.error(
                Check::Streams,
                Level::Broken,
                &CliError::no_broker(error, broker, &realm.folder).at("the login of setup"),
            );
            return true;
        }
        Err(error) => {
            found.error(Check::Streams, Level::Broken, &error.into());
            return true;
        }
    };
    let mut kept = Vec::new();
    for (stream, state) in looked {
        let Some(state) = state else {
            found.add(
                Check::Streams,
                Level::Broken,
                format!("the broker has no stream {stream}"),
                "the two streams: without them nobody learns who is there, or what was revoked while they were away",
                "countersign setup",
            );
            continue;
        };
        if !state.differs.is_empty() {
            found.add(
                Check::Streams,
                Level::Broken,
                format!("the stream {stream} is not as it should be: {}", state.differs.join(", ")),
                "a stream as `countersign setup` makes it: readers rely on it",
                "countersign setup",
            );
        }
        if let Some(broker) = state.clock {
            broker_clock(broker, found);
        }
        kept.push(format!("{stream} on {}", counted(state.replicas as u64, "server")));
    }
    if found.is_clean(Check::Streams) {
        found.fine(Check::Streams, kept.join(", "));
    }
    true
}

/// Compares this machine's clock with the broker's, by which logins end.
fn broker_clock(broker: Millis, found: &mut Findings) {
    let ahead = clock::wall().since(broker);
    if ahead.abs() > SKEW {
        let how = if ahead > 0 { "ahead of" } else { "behind" };
        found.add(
            Check::Clock,
            Level::Warning,
            format!("this machine's clock is {} {how} the broker's", span(ahead.abs())),
            format!("at most {} between them: logins begin and end by the broker's clock", span(SKEW)),
            "timedatectl status",
        );
    } else {
        found.fine(Check::Clock, "this machine's and the broker's agree");
    }
}

/// Whether the broker has the trust bundle that is in force here.
async fn published(link: &Link, realm: &Realm, found: &mut Findings) {
    let version = realm.trust.version();
    let lacks = match link.stored_trust(realm.trust.realm(), version).await {
        StoredTrust::Bundle(_, bytes) if bytes == realm.trust.bytes() => return,
        StoredTrust::Bundle(..) => {
            let hint = "find the folder that made the other one, and copy its trust.json and trust/ here";
            let what = format!("the broker stores another version {version} of the trust bundle than this folder has");
            return found.add(
                Check::Trust,
                Level::Broken,
                what,
                "one folder that makes versions of the trust bundle",
                hint,
            );
        }
        // Everybody was given the first one.
        StoredTrust::Absent if version == 1 => return,
        StoredTrust::Absent => {
            format!("the broker does not store version {version} of the trust bundle, which is in force here")
        }
        StoredTrust::Failed(why) if found.is_clean(Check::Streams) => {
            format!("the broker does not tell its trust bundles: {why}")
        }
        StoredTrust::Failed(_) => return,
    };
    let expected = "every version at the broker: until then whoever it revokes is believed by everybody else";
    found.add(Check::Trust, Level::Broken, lacks, expected, "countersign trust publish");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_differs_from_the_brokers_by_more_than_the_skew_is_a_warning() {
        for (behind, worst) in [(0, Level::Fine), (2 * SKEW, Level::Warning), (-2 * SKEW, Level::Warning)] {
            let mut found = Findings::default();
            broker_clock(clock::wall().plus(-behind), &mut found);
            assert_eq!(found.worst(), worst, "{behind}: {:?}", found.all());
        }
    }
}
