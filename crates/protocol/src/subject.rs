//! Subjects (section 1). Names are NATS tokens, so what is put together here never holds a wildcard.

use crate::command::Target;
use crate::credential::Role;
use crate::event::EventKind;
use crate::id::MessageId;
use crate::key::Thumbprint;
use crate::name::{Name, Session, TokenId};

/// The subject on which a command to a target is published.
pub fn command(realm: &Name, to: &Target) -> String {
    match to {
        Target::Client(client) => format!("cs.{realm}.cmd.client.{client}"),
        Target::Group(group) => format!("cs.{realm}.cmd.group.{group}"),
        Target::All(_) => format!("cs.{realm}.cmd.all"),
    }
}

/// A command's `reply_to`: what the subjects of its replies begin with.
pub fn reply_to(realm: &Name, from: &Name, session: &Session, command_id: &MessageId) -> String {
    format!("cs.{realm}.reply.{from}.{session}.{command_id}")
}

/// The subject of a client's replies to a command with this `reply_to`.
pub fn reply(reply_to: &str, client: &Name) -> String {
    format!("{reply_to}.{client}")
}

/// The subject of a client's events of one kind.
pub fn event(realm: &Name, client: &Name, kind: EventKind) -> String {
    format!("cs.{realm}.event.{client}.{kind}")
}

/// What matches the presence of every client: the subjects of the stream `cs-<realm>-presence`.
pub fn every_presence(realm: &Name) -> String {
    format!("cs.{realm}.event.*.{}", EventKind::Presence)
}

/// The client whose event this would be the subject of. Nobody has verified it.
pub fn event_client(subject: &str) -> Option<Name> {
    let mut tokens = subject.split('.');
    (tokens.next()? == "cs").then_some(())?;
    tokens.next()?;
    (tokens.next()? == "event").then_some(())?;
    tokens.next()?.parse().ok()
}

/// What matches every message of a realm.
pub fn everything(realm: &Name) -> String {
    format!("cs.{realm}.>")
}

/// What matches every command.
pub fn every_command(realm: &Name) -> String {
    format!("cs.{realm}.cmd.>")
}

/// What matches every event.
pub fn every_event(realm: &Name) -> String {
    format!("cs.{realm}.event.>")
}

/// What matches the events of one client.
pub fn events_of(realm: &Name, client: &Name) -> String {
    format!("cs.{realm}.event.{client}.*")
}

/// What matches the replies to an operator, in all of their sessions.
pub fn replies_to(realm: &Name, operator: &Name) -> String {
    format!("cs.{realm}.reply.{operator}.>")
}

/// What matches the replies to one session of an operator.
pub fn replies_in(realm: &Name, operator: &Name, session: &Session) -> String {
    format!("cs.{realm}.reply.{operator}.{session}.>")
}

/// What matches the replies of one client, whoever they are for.
pub fn replies_of(realm: &Name, client: &Name) -> String {
    format!("cs.{realm}.reply.*.*.*.{client}")
}

/// The broker's stream that keeps the last presence of each client (section 10).
pub fn presence_stream(realm: &Name) -> String {
    format!("cs-{realm}-presence")
}

/// Where the presences that the broker keeps are asked for in pages: a Direct Get of the stream (section 10).
pub fn roster_page(realm: &Name) -> String {
    format!("cs.{realm}.roster.get")
}

/// Where a single kept presence is asked for. The answer is JSON with the message's headers encoded, so that whatever they
/// are it can be read (section 10).
pub fn roster_message(realm: &Name) -> String {
    format!("cs.{realm}.roster.message")
}

/// The subject on which one version of the trust bundle is published.
pub fn trust(realm: &Name, version: u64) -> String {
    format!("cs.{realm}.trust.bundle.{version}")
}

/// What matches every version of the trust bundle: the subjects of the stream `cs-<realm>-trust`.
pub fn every_trust_bundle(realm: &Name) -> String {
    format!("cs.{realm}.trust.bundle.*")
}

/// The version of which this would be the subject, in its one form. Nobody has verified it.
pub fn trust_version(realm: &Name, subject: &str) -> Option<u64> {
    let version = subject.strip_prefix("cs.")?.strip_prefix(realm.as_str())?.strip_prefix(".trust.bundle.")?;
    let parsed = version.parse().ok()?;
    (subject == trust(realm, parsed)).then_some(parsed)
}

/// The broker's stream that keeps the versions of the trust bundle (section 10).
pub fn trust_stream(realm: &Name) -> String {
    format!("cs-{realm}-trust")
}

/// Where a kept version of the trust bundle is asked for (section 10).
pub fn trust_get(realm: &Name) -> String {
    format!("cs.{realm}.trust.get")
}

/// Where whoever has a token asks to be enrolled (section 14).
pub fn enrolment_request(realm: &Name, token: &TokenId) -> String {
    format!("cs.{realm}.enrolment.request.{token}")
}

/// What matches every request for enrolment.
pub fn every_enrolment_request(realm: &Name) -> String {
    format!("cs.{realm}.enrolment.request.*")
}

/// Whether this would be the subject of a request for enrolment. Nobody has verified it.
pub fn is_enrolment_request(realm: &Name, subject: &str) -> bool {
    let token = subject.strip_prefix("cs.").and_then(|rest| rest.strip_prefix(realm.as_str()));
    let token = token.and_then(|rest| rest.strip_prefix(".enrolment.request."));
    token.is_some_and(|token| token.parse::<TokenId>().is_ok())
}

/// Where the issuer answers the holder of a token that asked for a key (section 14).
pub fn enrolment_answer(realm: &Name, token: &TokenId, key: &Thumbprint) -> String {
    format!("cs.{realm}.enrolment.answer.{token}.{key}")
}

/// Where a member asks the issuer for its next credential (section 7).
pub fn renewal_request(realm: &Name, role: Role, name: &Name) -> String {
    format!("cs.{realm}.renewal.request.{role}.{name}")
}

/// What matches the requests of every member.
pub fn every_renewal_request(realm: &Name) -> String {
    format!("cs.{realm}.renewal.request.*.*")
}

/// Where the issuer answers a member (section 7).
pub fn renewal_answer(realm: &Name, role: Role, name: &Name) -> String {
    format!("cs.{realm}.renewal.answer.{role}.{name}")
}

/// The subjects by which commands reach a client, each once: its own, those of its groups, and that of all clients.
pub fn subscriptions(realm: &Name, client: &Name, groups: &[Name]) -> Vec<String> {
    let mut subjects = vec![command(realm, &Target::Client(client.clone()))];
    for group in groups {
        let subject = command(realm, &Target::Group(group.clone()));
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    subjects.push(command(realm, &Target::All(crate::command::True)));
    subjects
}

/// The parts of a command's `reply_to`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    /// The realm.
    pub realm: Name,
    /// The operator who waits for the replies.
    pub operator: Name,
    /// The process of that operator.
    pub session: Session,
    /// The command that is answered.
    pub command_id: MessageId,
}

impl ReplyTo {
    /// Takes a `reply_to` apart; nothing but one of exactly that form has parts.
    pub fn parse(reply_to: &str) -> Option<Self> {
        let mut tokens = reply_to.split('.');
        let mut token = || tokens.next();
        (token()? == "cs").then_some(())?;
        let realm = token()?.parse().ok()?;
        (token()? == "reply").then_some(())?;
        let operator = token()?.parse().ok()?;
        let session = token()?.parse().ok()?;
        let command_id = token()?.parse().ok()?;
        token().is_none().then_some(Self { realm, operator, session, command_id })
    }
}

/// Takes the subject of a reply apart: its `reply_to` and the client that answers.
pub fn parse_reply(subject: &str) -> Option<(ReplyTo, Name)> {
    let (reply_to, client) = subject.rsplit_once('.')?;
    Some((ReplyTo::parse(reply_to)?, client.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const REPLY_TO: &str = "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90";

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn subjects_are_those_of_section_1() {
        let realm = name("demo");
        assert_eq!(command(&realm, &Target::Client(name("worker-1"))), "cs.demo.cmd.client.worker-1");
        assert_eq!(command(&realm, &Target::Group(name("web"))), "cs.demo.cmd.group.web");
        assert_eq!(command(&realm, &Target::All(crate::command::True)), "cs.demo.cmd.all");
        assert_eq!(event(&realm, &name("worker-1"), EventKind::Presence), "cs.demo.event.worker-1.presence");
        assert_eq!(trust(&realm, 7), "cs.demo.trust.bundle.7");
        assert_eq!(
            (every_trust_bundle(&realm), trust_get(&realm)),
            ("cs.demo.trust.bundle.*".into(), "cs.demo.trust.get".into())
        );
        assert_eq!(
            [renewal_request(&realm, Role::Client, &name("worker-1")), every_renewal_request(&realm)],
            ["cs.demo.renewal.request.client.worker-1", "cs.demo.renewal.request.*.*"]
        );
        let answer = renewal_answer(&realm, Role::Operator, &name("alice"));
        assert_eq!(answer, "cs.demo.renewal.answer.operator.alice");
        assert_eq!(trust_stream(&realm), "cs-demo-trust");
        assert_eq!(presence_stream(&realm), "cs-demo-presence");
        assert_eq!(
            (roster_page(&realm), roster_message(&realm)),
            ("cs.demo.roster.get".into(), "cs.demo.roster.message".into())
        );
        let (session, id) =
            ("k3v9q2m8x7c1b5n0".parse().unwrap(), "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90".parse().unwrap());
        assert_eq!(reply_to(&realm, &name("alice"), &session, &id), REPLY_TO);
        assert_eq!(reply(REPLY_TO, &name("worker-1")), format!("{REPLY_TO}.worker-1"));
    }

    #[test]
    fn a_client_subscribes_to_each_of_its_subjects_once() {
        let groups = [name("web"), name("db"), name("web")];
        assert_eq!(
            subscriptions(&name("demo"), &name("worker-1"), &groups),
            ["cs.demo.cmd.client.worker-1", "cs.demo.cmd.group.web", "cs.demo.cmd.group.db", "cs.demo.cmd.all"]
        );
    }

    #[test]
    fn a_reply_to_is_taken_apart_and_put_together_again() {
        let parts = ReplyTo::parse(REPLY_TO).unwrap();
        assert_eq!((parts.realm.as_str(), parts.operator.as_str()), ("demo", "alice"));
        assert_eq!(reply_to(&parts.realm, &parts.operator, &parts.session, &parts.command_id), REPLY_TO);
        assert_eq!(parse_reply(&format!("{REPLY_TO}.worker-1")), Some((parts, name("worker-1"))));
    }

    #[test]
    fn nothing_but_the_exact_form_is_a_reply_to() {
        let id = "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90";
        let others = [
            String::new(),
            "cs.x.cmd.>".to_owned(),
            "$SYS.REQ.SERVER.PING".to_owned(),
            "$JS.API.STREAM.PURGE.cs-demo-presence".to_owned(),
            format!("{REPLY_TO}."),
            format!("{REPLY_TO}.worker-1"),
            format!(" {REPLY_TO}"),
            format!("{REPLY_TO}\r\n"),
            REPLY_TO.to_uppercase(),
            REPLY_TO.replace("cs.", "cs.."),
            format!("cs.*.reply.alice.k3v9q2m8x7c1b5n0.{id}"),
            format!("cs.demo.reply.>.k3v9q2m8x7c1b5n0.{id}"),
            format!("cs.demo.event.alice.k3v9q2m8x7c1b5n0.{id}"),
            format!("cx.demo.reply.alice.k3v9q2m8x7c1b5n0.{id}"),
            format!("cs.demo.reply.alice.short.{id}"),
            "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.7".to_owned(),
            "cs.demo.reply.alice.k3v9q2m8x7c1b5n0".to_owned(),
        ];
        for other in others {
            assert_eq!(ReplyTo::parse(&other), None, "{other:?}");
        }
        for other in [REPLY_TO.to_owned(), format!("{REPLY_TO}.*"), format!("{REPLY_TO}.worker-1.x"), String::new()] {
            assert_eq!(parse_reply(&other), None, "{other:?}");
        }
    }

    #[test]
    fn what_matches_many_subjects_matches_those_of_section_1() {
        let (realm, alice, worker) = (name("demo"), name("alice"), name("worker-1"));
        let session: Session = "k3v9q2m8x7c1b5n0".parse().unwrap();
        assert_eq!(everything(&realm), "cs.demo.>");
        assert_eq!(every_command(&realm), "cs.demo.cmd.>");
        assert_eq!(every_event(&realm), "cs.demo.event.>");
        assert_eq!(events_of(&realm, &worker), "cs.demo.event.worker-1.*");
        assert_eq!(replies_to(&realm, &alice), "cs.demo.reply.alice.>");
        assert_eq!(replies_in(&realm, &alice, &session), "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.>");
        assert_eq!(replies_of(&realm, &worker), "cs.demo.reply.*.*.*.worker-1");
    }

    #[test]
    fn a_request_for_enrolment_is_on_its_token_s_subject_and_the_answer_on_its_key_s() {
        let (realm, token) = (name("demo"), "k3v9q2m8x7c1b5n0".parse().unwrap());
        let key = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
        assert_eq!(enrolment_request(&realm, &token), "cs.demo.enrolment.request.k3v9q2m8x7c1b5n0");
        assert_eq!(every_enrolment_request(&realm), "cs.demo.enrolment.request.*");
        let answer = enrolment_answer(&realm, &token, &key.parse().unwrap());
        assert_eq!(answer, format!("cs.demo.enrolment.answer.k3v9q2m8x7c1b5n0.{key}"));
        assert!(is_enrolment_request(&realm, &enrolment_request(&realm, &token)));
        for other in [answer.as_str(), "cs.demo.enrolment.request.*", "cs.demos.enrolment.request.k3v9q2m8x7c1b5n0"] {
            assert!(!is_enrolment_request(&realm, other), "{other}");
        }
    }

    #[test]
    fn a_version_of_the_trust_bundle_has_one_subject() {
        let realm = name("demo");
        assert_eq!(trust_version(&realm, &trust(&realm, u64::MAX)), Some(u64::MAX));
        for other in ["07", "+7", "-1", "", "7.8", "18446744073709551616", "*"] {
            assert_eq!(trust_version(&realm, &format!("cs.demo.trust.bundle.{other}")), None, "{other}");
        }
        assert_eq!(trust_version(&realm, "cs.demos.trust.bundle.7"), None);
        assert_eq!(trust_version(&realm, "cs.demo.trust.get"), None);
    }

    #[test]
    fn an_event_names_its_client_in_its_subject() {
        assert_eq!(event_client("cs.demo.event.worker-1.presence"), Some(name("worker-1")));
        for other in [
            "cs.demo.cmd.client.worker-1",
            "x.demo.event.worker-1.presence",
            "cs.demo.event",
            "cs.demo.event.A.job",
            "",
        ] {
            assert_eq!(event_client(other), None, "{other}");
        }
    }
}
