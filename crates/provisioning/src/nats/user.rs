//! Users of the broker, their roles, and what each may publish and subscribe to (section 10).

use countersign_protocol::credential::Role;
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use serde_json::{Value, json};

use super::authority::{Account, Authority};
use super::jwt::Claims;

/// What a user is; each role has a signing key with a template of permissions, and users signed by it have no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserRole {
    /// Commands in, replies and events out.
    Client,
    /// Commands out, replies and events in.
    Operator,
    /// Looks on.
    Observer,
    /// Makes the streams, and removes retired clients from them.
    Setup,
    /// Publishes trust bundles.
    Trust,
    /// Gives the broker changed accounts.
    Accounts,
    /// Answers members that ask for their next credential.
    Issuer,
    /// Asks to be enrolled, with a token.
    Enrolment,
}

/// A user: what its JWT states.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) role: UserRole,
    /// Its name. It goes into the subjects of its role as it is, and a [`Name`] holds no wildcard.
    pub(crate) name: Name,
    /// A client's groups.
    pub(crate) groups: Vec<Name>,
    /// The public connection key.
    pub(crate) key: String,
    /// When it ends, in seconds.
    pub(crate) exp: i64,
}

/// The user's name in a template, and each of its groups.
const NAME: &str = "{{name()}}";
const GROUP: &str = "{{tag(group)}}";

impl UserRole {
    pub(super) const ALL: [Self; 8] = [
        Self::Client,
        Self::Operator,
        Self::Observer,
        Self::Setup,
        Self::Trust,
        Self::Accounts,
        Self::Issuer,
        Self::Enrolment,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Operator => "operator",
            Self::Observer => "observer",
            Self::Setup => "setup",
            Self::Trust => "trust",
            Self::Accounts => "accounts",
            Self::Issuer => "issuer",
            Self::Enrolment => "enrolment",
        }
    }

    /// What its signing key is called in the file of keys.
    pub(super) fn signing_key(self) -> &'static str {
        match self {
            Self::Client => "signs-client",
            Self::Operator => "signs-operator",
            Self::Observer => "signs-observer",
            Self::Setup => "signs-setup",
            Self::Trust => "signs-trust",
            Self::Accounts => "signs-accounts",
            Self::Issuer => "signs-issuer",
            Self::Enrolment => "signs-enrolment",
        }
    }

    /// The account of its users.
    pub(super) fn account(self) -> Account {
        match self {
            Self::Client | Self::Operator | Self::Observer | Self::Trust | Self::Issuer | Self::Enrolment => {
                Account::Realm
            }
            Self::Setup => Account::Store,
            Self::Accounts => Account::System,
        }
    }

    /// What its users may publish, and what they may subscribe to; nothing else.
    fn permissions(self, realm: &Name) -> (Vec<String>, Vec<String>) {
        let text = |subject: &str| subject.to_owned();
        match self {
            Self::Client => (
                vec![
                    format!("cs.{realm}.reply.*.*.*.{NAME}"),
                    format!("cs.{realm}.event.{NAME}.*"),
                    format!("cs.{realm}.renewal.request.client.{NAME}"),
                    subject::trust_get(realm),
                ],
                vec![
                    format!("cs.{realm}.cmd.client.{NAME}"),
                    format!("cs.{realm}.cmd.group.{GROUP}"),
                    format!("cs.{realm}.cmd.all"),
                    format!("cs.{realm}.renewal.answer.client.{NAME}"),
                    subject::every_trust_bundle(realm),
                    format!("_INBOX.client-{NAME}.>"),
                ],
            ),
            Self::Operator => (
                vec![
                    subject::every_command(realm),
                    subject::roster_page(realm),
                    subject::roster_message(realm),
                    format!("cs.{realm}.renewal.request.operator.{NAME}"),
                    subject::trust_get(realm),
                ],
                vec![
                    format!("cs.{realm}.reply.{NAME}.>"),
                    subject::every_event(realm),
                    format!("cs.{realm}.renewal.answer.operator.{NAME}"),
                    subject::every_trust_bundle(realm),
                    format!("_INBOX.operator-{NAME}.>"),
                ],
            ),
            // It may publish to itself: that is how NATS's own tools check a connection.
            Self::Observer => (
                vec![subject::trust_get(realm), text("_INBOX.observer.>")],
                vec![text("cs.>"), text("_INBOX.observer.>")],
            ),
            Self::Setup => (setup_requests(realm), vec![text("_INBOX.setup.>")]),
            Self::Trust => {
                (vec![subject::every_trust_bundle(realm), subject::trust_get(realm)], vec![text("_INBOX.trust.>")])
            }
            Self::Issuer => (
                vec![
                    format!("cs.{realm}.renewal.answer.*.*"),
                    format!("cs.{realm}.enrolment.answer.*.*"),
                    subject::trust_get(realm),
                ],
                vec![
                    subject::every_renewal_request(realm),
                    subject::every_enrolment_request(realm),
                    subject::every_trust_bundle(realm),
                    text("_INBOX.issuer.>"),
                ],
            ),
            // Its name is the token's id.
            Self::Enrolment => (
                vec![format!("cs.{realm}.enrolment.request.{NAME}")],
                vec![format!("cs.{realm}.enrolment.answer.{NAME}.*")],
            ),
            Self::Accounts => (
                vec![text("$SYS.REQ.CLAIMS.UPDATE"), text("$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP")],
                vec![text("_INBOX.accounts.>")],
            ),
        }
    }

    /// Its signing key in an account's JWT, with the template of permissions.
    pub(super) fn scope(self, realm: &Name, authority: &Authority) -> Value {
        let (publish, subscribe) = self.permissions(realm);
        json!({
            "kind": "user_scope",
            "key": authority.signs_users(self).public_key(),
            "role": self.word(),
            "template": {
                "pub": {"allow": publish}, "sub": {"allow": subscribe}, "subs": -1, "data": -1, "payload": -1,
            },
        })
    }
}

/// What the setup user asks of the broker's store. To read the streams is for NATS's own tool.
fn setup_requests(realm: &Name) -> Vec<String> {
    let mut requests = ["INFO", "STREAM.NAMES", "STREAM.LIST"].map(|it| format!("$JS.API.{it}")).to_vec();
    for stream in [subject::presence_stream(realm), subject::trust_stream(realm)] {
        let verbs = ["CREATE", "UPDATE", "INFO", "PURGE", "MSG.GET"];
        requests.extend(verbs.map(|verb| format!("$JS.API.STREAM.{verb}.{stream}")));
        requests.extend(["DIRECT.GET", "CONSUMER.NAMES", "CONSUMER.LIST"].map(|it| format!("$JS.API.{it}.{stream}")));
        let consumers = ["CREATE", "MSG.NEXT", "INFO", "DELETE"];
        requests.extend(consumers.map(|verb| format!("$JS.API.CONSUMER.{verb}.{stream}.>")));
    }
    requests
}

impl UserRole {
    /// What somebody of this role logs in to the broker for.
    pub(super) fn use_of_login(self) -> &'static str {
        match self {
            Self::Client | Self::Operator => "connects to the broker",
            Self::Observer => "for `watch`, which only reads;",
            Self::Setup => "for `setup` and `clients forget`;",
            Self::Trust => "for `trust publish` and `revoke`;",
            Self::Accounts => "gives the broker changed accounts;",
            Self::Issuer => "for `countersign issuer`;",
            Self::Enrolment => "for `countersign enroll`;",
        }
    }
}

impl From<Role> for UserRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Operator => Self::Operator,
            Role::Client => Self::Client,
        }
    }
}

impl User {
    /// The claims of its JWT. The permissions are its role's: one of its own, or a limit, and the broker refuses it.
    pub(super) fn claims(&self, authority: &Authority) -> Claims {
        let tags: Vec<String> = self.groups.iter().map(|group| format!("group:{group}")).collect();
        let mut nats = json!({
            "issuer_account": authority.id(self.role.account()),
            "type": "user",
            "version": 2,
            "pub": {},
            "sub": {},
        });
        if !tags.is_empty() {
            nats["tags"] = tags.into();
        }
        let mut claims = Claims::new();
        claims.insert("name".to_owned(), self.name.as_str().into());
        claims.insert("sub".to_owned(), self.key.as_str().into());
        claims.insert("exp".to_owned(), self.exp.into());
        claims.insert("nats".to_owned(), nats);
        claims
    }
}
