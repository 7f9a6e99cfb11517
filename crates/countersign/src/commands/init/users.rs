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
#[derive(Debug)]
pub(super) enum Who {
    /// An operator: commands out, replies and events in.
    Operator(Name),
    /// A client and its groups: commands in, replies and events out.
    Client(Name, Vec<Name>),
    /// Looks on.
    Observer,
    /// Makes the streams, and strikes retired clients from them.
    Setup,
    /// Publishes trust bundles.
    Trust,
}

/// The users file: what `nats.conf` includes into its `authorization`.
pub(super) fn users_file(realm: &Name, users: &[User]) -> String {
    let mut file = String::from(HEAD);
    for User { who, nkey } in users {
        let (publish, subscribe) = who.permissions(realm);
        // Writing to a string does not fail.
        let _ = write!(
            file,
            "  {{ # {}\n    nkey: {nkey}\n    permissions: {{\n      publish: {}\n      subscribe: {}\n    }}\n  }}\n",
            who.title(),
            rule(&publish),
            rule(&subscribe),
        );
    }
    file.push_str("]\n");
    file
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

const HEAD: &str = "\
# Who may connect to the broker, and what each may publish and subscribe to.
# Made by `countersign init`, which writes it anew whenever something changes.
users: [
";

impl Who {
    fn title(&self) -> String {
        match self {
            Self::Operator(name) => format!("{} {name}", Role::Operator),
            Self::Client(name, _) => format!("{} {name}", Role::Client),
            Self::Observer => "observer".to_owned(),
            Self::Setup => "setup".to_owned(),
            Self::Trust => "trust".to_owned(),
        }
    }

    /// What it may publish, and what it may subscribe to; nothing else.
    fn permissions(&self, realm: &Name) -> (Vec<String>, Vec<String>) {
        let stream = format!("cs-{realm}-presence");
        let inbox = |owner: &str| format!("_INBOX.{owner}.>");
        match self {
            Self::Operator(name) => (
                vec![
                    format!("cs.{realm}.cmd.>"),
                    format!("$JS.API.DIRECT.GET.{stream}"),
                    format!("$JS.API.DIRECT.GET.{stream}.>"),
                ],
                vec![
                    format!("cs.{realm}.reply.{name}.>"),
                    format!("cs.{realm}.event.>"),
                    subject::trust(realm),
                    inbox(&format!("operator-{name}")),
                ],
            ),
            Self::Client(name, groups) => {
                let mut commands = subject::subscriptions(realm, name, groups);
                commands.push(subject::trust(realm));
                (vec![format!("cs.{realm}.reply.*.*.*.{name}"), format!("cs.{realm}.event.{name}.*")], commands)
            }
            Self::Observer => (Vec::new(), vec!["cs.>".to_owned()]),
            Self::Setup => {
                let api = |verb: &str| format!("$JS.API.STREAM.{verb}.{stream}");
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
