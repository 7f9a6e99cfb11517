//! The broker's users: who may connect, and which subjects are theirs.
//!
//! To NATS a list of permissions that is absent or empty means everything, so that nothing is said here by leaving it out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use countersign_protocol::credential::Role;
use countersign_protocol::name::Name;
use countersign_protocol::subject;

/// One who may connect.
#[derive(Debug)]
pub(super) struct User {
    /// Whose connection it is.
    pub(super) who: Who,
    /// The public connection key.
    pub(super) nkey: String,
}

/// Whose connection it is; each has permissions of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// An operator: commands out, replies and events in.
    Operator(Name),
    /// A client and its groups: commands in, replies and events out.
    Client(Name, Vec<Name>),
    /// Looks on.
    Observer,
    /// Makes the streams, and removes retired clients from them.
    Setup,
    /// Publishes trust bundles.
    Trust,
}

/// The users file, which `nats.conf` includes: three accounts. Nobody in the realm's account has a right on the store, which
/// is in another: the realm exports the presences to it, and imports two of its questions (section 10). The broker does not
/// start JetStream without a system account; nobody connects to that one.
pub(super) fn users_file(realm: &Name, users: &[User]) -> String {
    let (store, realm_users): (Vec<&User>, Vec<&User>) = users.iter().partition(|user| user.who == Who::Setup);
    let (stream, presence) = (subject::presence_stream(realm), subject::every_presence(realm));
    let (page, message) = (subject::roster_page(realm), subject::roster_message(realm));
    format!(
        "{HEAD}system_account: cs-{realm}-system
accounts: {{
  cs-{realm}: {{
    users: [
{}    ]
    exports: [
      {{ stream: \"{presence}\", accounts: [cs-{realm}-store] }}
    ]
    imports: [
      {{ service: {{ account: cs-{realm}-store, subject: \"$JS.API.DIRECT.GET.{stream}\" }}, to: \"{page}\" }}
      {{ service: {{ account: cs-{realm}-store, subject: \"$JS.API.STREAM.MSG.GET.{stream}\" }}, to: \"{message}\" }}
    ]
  }}
  cs-{realm}-store: {{
    jetstream: enabled
    users: [
{}    ]
    exports: [
      {{ service: \"$JS.API.DIRECT.GET.{stream}\", response_type: stream, accounts: [cs-{realm}] }}
      {{ service: \"$JS.API.STREAM.MSG.GET.{stream}\", accounts: [cs-{realm}] }}
    ]
    imports: [
      {{ stream: {{ account: cs-{realm}, subject: \"{presence}\" }} }}
    ]
  }}
  cs-{realm}-system: {{}}
}}
",
        list(realm, &realm_users),
        list(realm, &store),
    )
}

fn list(realm: &Name, users: &[&User]) -> String {
    let mut list = String::new();
    for User { who, nkey } in users {
        let (publish, subscribe) = who.permissions(realm);
        // Writing to a string does not fail.
        let _ = write!(
            list,
            "      {{ # {}\n        nkey: {nkey}\n        permissions: {{\n          publish: {}\n          subscribe: {}\n        }}\n      }}\n",
            who.title(),
            rule(&publish),
            rule(&subscribe),
        );
    }
    list
}

/// Whether a users file is of the form without accounts, in which every connection key was in the store's own account.
pub(super) fn has_no_accounts(file: &[u8]) -> bool {
    !file.windows(9).any(|window| window == b"accounts:")
}

/// The connection keys in a users file, by whose they are (`client worker-1`).
pub(super) fn nkeys_in(file: &str) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut lines = file.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let (Some(title), Some(nkey)) =
            (line.strip_prefix("{ # "), lines.clone().next().and_then(|next| next.strip_prefix("nkey: ")))
        {
            keys.insert(title.to_owned(), nkey.to_owned());
        }
    }
    keys
}

/// What a member is called in the users file.
pub(super) fn title(role: Role, name: &Name) -> String {
    format!("{role} {name}")
}

const HEAD: &str = "\
# Who may connect to the broker, and what each may publish and subscribe to.
# Made by `countersign init`, which writes it again whenever something changes.
";

impl Who {
    pub(super) fn title(&self) -> String {
        match self {
            Self::Operator(name) => title(Role::Operator, name),
            Self::Client(name, _) => title(Role::Client, name),
            Self::Observer => "observer".to_owned(),
            Self::Setup => "setup".to_owned(),
            Self::Trust => "trust".to_owned(),
        }
    }

    /// What it may publish, and what it may subscribe to; nothing else.
    fn permissions(&self, realm: &Name) -> (Vec<String>, Vec<String>) {
        let inbox = |owner: &str| format!("_INBOX.{owner}.>");
        match self {
            Self::Operator(name) => (
                vec![subject::every_command(realm), subject::roster_page(realm), subject::roster_message(realm)],
                vec![
                    subject::replies_to(realm, name),
                    subject::every_event(realm),
                    subject::trust(realm),
                    inbox(&format!("operator-{name}")),
                ],
            ),
            Self::Client(name, groups) => {
                let mut commands = subject::subscriptions(realm, name, groups);
                commands.push(subject::trust(realm));
                (vec![subject::replies_of(realm, name), subject::events_of(realm, name)], commands)
            }
            Self::Observer => (Vec::new(), vec!["cs.>".to_owned()]),
            Self::Setup => {
                let api = |verb: &str| format!("$JS.API.STREAM.{verb}.{}", subject::presence_stream(realm));
                (["CREATE", "UPDATE", "INFO", "PURGE"].map(api).to_vec(), vec![inbox("setup")])
            }
            Self::Trust => (vec![subject::trust(realm)], Vec::new()),
        }
    }
}

fn rule(subjects: &[String]) -> String {
    if subjects.is_empty() {
        return "{ deny: [\">\"] }".to_owned();
    }
    let quoted: Vec<String> = subjects.iter().map(|subject| format!("\"{subject}\"")).collect();
    format!("{{ allow: [{}] }}", quoted.join(", "))
}
