//! What a subject states about the message on it (section 1). Nobody has verified it: the broker chooses where a message
//! arrives.

use countersign_protocol::event::EventKind;

use super::Kind;

/// The parts of a subject, as far as it has the form of one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place<'a> {
    /// What belongs there: it decides what the message is verified as.
    pub(super) kind: Kind,
    /// The realm.
    pub(super) realm: Option<&'a str>,
    /// The one client that it is for or of.
    pub(super) client: Option<&'a str>,
    /// The group that it is for.
    pub(super) group: Option<&'a str>,
    /// Whether it is for every client.
    pub(super) everyone: bool,
    /// The operator who is answered, or is renewed.
    pub(super) operator: Option<&'a str>,
    /// Whether it answers a request for renewal.
    pub(super) is_answer: bool,
}

impl<'a> Place<'a> {
    pub(super) fn of(subject: &'a str) -> Self {
        // One more than the longest of ours has: a subject of a million dots is taken apart no further.
        let tokens: Vec<&str> = subject.splitn(8, '.').collect();
        let ["cs", realm, class, rest @ ..] = tokens.as_slice() else {
            return Self::default();
        };
        let place = Self { realm: Some(realm), ..Self::default() };
        match (*class, rest) {
            ("cmd", ["client", client]) => Self { kind: Kind::Command, client: Some(client), ..place },
            ("cmd", ["group", group]) => Self { kind: Kind::Command, group: Some(group), ..place },
            ("cmd", ["all"]) => Self { kind: Kind::Command, everyone: true, ..place },
            ("cmd", _) => Self { kind: Kind::Command, ..place },
            ("reply", [operator, _, _, client]) => {
                Self { kind: Kind::Reply, client: Some(client), operator: Some(operator), ..place }
            }
            ("reply", _) => Self { kind: Kind::Reply, ..place },
            ("event", [client, kind]) => {
                let known = EventKind::ALL.iter().find(|known| known.as_str() == *kind);
                Self { kind: known.map_or(Kind::Event, |known| (*known).into()), client: Some(client), ..place }
            }
            ("event", _) => Self { kind: Kind::Event, ..place },
            ("trust", ["bundle", _]) => Self { kind: Kind::Trust, ..place },
            ("renewal", [direction @ ("request" | "answer"), role, name]) => {
                let place = Self { kind: Kind::Renewal, is_answer: *direction == "answer", ..place };
                match *role {
                    "client" => Self { client: Some(name), ..place },
                    "operator" => Self { operator: Some(name), ..place },
                    _ => place,
                }
            }
            _ => place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_token_decides_what_belongs_there() {
        for (subject, kind) in [
            ("cs.demo.cmd.client.worker-1", Kind::Command),
            ("cs.demo.cmd.group.web", Kind::Command),
            ("cs.demo.cmd.all", Kind::Command),
            ("cs.demo.cmd.client.worker-1.x", Kind::Command),
            ("cs.demo.reply.alice.k3v9q2m8x7c1b5n0.id.worker-1", Kind::Reply),
            ("cs.demo.reply", Kind::Reply),
            ("cs.demo.event.worker-1.presence", Kind::Presence),
            ("cs.demo.event.worker-1.job", Kind::Job),
            ("cs.demo.event.worker-1.security", Kind::Security),
            ("cs.demo.event.worker-1.other", Kind::Event),
            ("cs.demo.event.worker-1", Kind::Event),
            ("cs.demo.trust.bundle.2", Kind::Trust),
            ("cs.demo.renewal.request.client.worker-1", Kind::Renewal),
            ("cs.demo.renewal.answer.operator.alice", Kind::Renewal),
            ("cs.demo.renewal.other.operator.alice", Kind::Other),
            ("cs.demo.trust.get", Kind::Other),
            ("cs.demo.gap", Kind::Other),
            ("cs.demo", Kind::Other),
            ("$SYS.demo.cmd.all", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(Place::of(subject).kind, kind, "{subject}");
        }
        assert_eq!(Place::of(&".".repeat(1_000_000)).kind, Kind::Other);
    }

    #[test]
    fn the_target_or_the_signer_is_in_the_subject() {
        let place = Place::of("cs.demo.reply.alice.k3v9q2m8x7c1b5n0.id.worker-1");
        assert_eq!((place.operator, place.client), (Some("alice"), Some("worker-1")));
        assert_eq!(Place::of("cs.demo.cmd.client.worker-1").client, Some("worker-1"));
        assert_eq!(Place::of("cs.demo.event.worker-1.job").client, Some("worker-1"));
        assert_eq!(Place::of("cs.demo.cmd.group.web").group, Some("web"));
        assert_eq!(Place::of("cs.demo.renewal.request.client.worker-1").client, Some("worker-1"));
        let place = Place::of("cs.demo.renewal.answer.operator.alice");
        assert_eq!((place.operator, place.client, place.is_answer), (Some("alice"), None, true));
        assert!(Place::of("cs.demo.cmd.all").everyone);
        let place = Place::of("cs.demo.reply.alice.k3v9q2m8x7c1b5n0.id.worker-1.x");
        assert_eq!((place.operator, place.client), (None, None), "nothing but the exact form has parts");
    }
}
