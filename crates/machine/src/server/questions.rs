//! Questions for the result of what a client was sent (section 4, `result`): each is about one command and no other.

use std::collections::VecDeque;

use countersign_protocol::command::{Builtin, Call, Recorded, Target};
use countersign_protocol::digest::Digest;
use countersign_protocol::id::MessageId;
use countersign_protocol::json;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorCode, Outcome};
use countersign_protocol::schema;
use serde_json::Value;

use super::issue::{Draft, Errand};
use super::remarks::{recorded, unknown};
use super::sent::Sent;
use super::verdict::{Ignored, Verdict};
use super::{ASK_EVERY, Effect, Now};

/// To how many of the latest questions for a result an answer is still taken.
const MAX_QUESTIONS: usize = 4;

/// The latest questions that one client was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Questions(VecDeque<Question>);

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Question {
    id: MessageId,
    digest: Digest,
    /// The digest of the command that it is about.
    pub(super) about: Digest,
}

/// What an answer tells of the command that was asked about.
pub(super) enum Told {
    /// It runs.
    Runs,
    /// It has ended so.
    Ended(Verdict),
    /// The client has no record of it.
    Nothing(Verdict),
    /// That the client lives, and no more.
    Alive,
}

impl Questions {
    /// Asks a client what came of a command that it was sent.
    pub(super) fn ask(&mut self, client: &Name, sent: &Sent, errand: &mut Errand, now: Now) -> Option<Effect> {
        let Ok(Value::Object(args)) = serde_json::to_value(sent.named()) else { return None };
        let id = errand.id(now);
        let draft = Draft {
            id,
            to: Target::Client(client.clone()),
            // The client may have begun another since, and still has the record.
            epoch: None,
            issued_at: now.wall,
            expires_at: now.wall.plus(errand.options.ttl.min(ASK_EVERY)),
            dry_run: false,
            call: &Call { name: Builtin::Result.name().parse().ok()?, args },
        };
        let question = errand.sign(draft).ok()?;
        if self.0.len() == MAX_QUESTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            errand.issued.remove(&oldest.id);
        }
        self.0.push_back(Question { id, digest: Digest::of(&question.body), about: sent.digest });
        Some(errand.publish(&id, question))
    }

    /// The question of an id.
    pub(super) fn find(&self, id: &MessageId) -> Option<Question> {
        self.0.iter().find(|question| question.id == *id).copied()
    }

    /// The digest of the question of an id.
    pub(super) fn digest(&self, id: &MessageId) -> Option<Digest> {
        self.find(id).map(|question| question.digest)
    }
}

impl Question {
    /// What a client answers. What is on record of another command is no answer, whatever its id is (section 5).
    pub(super) fn answer(&self, outcome: Outcome, errand: &Errand) -> Result<Told, Ignored> {
        let told = match outcome {
            Outcome::Succeeded(result) if schema::result(Builtin::Result).accepts(&result) => {
                let found: Recorded = json::read(&result).map_err(|_| Ignored::Unfit)?;
                if found.command_digest != self.about {
                    return Err(Ignored::OtherBytes);
                }
                recorded(found).map_or(Told::Runs, Told::Ended)
            }
            Outcome::Succeeded(_) => return Err(Ignored::Unfit),
            Outcome::Failed(error) | Outcome::Refused(error)
                if matches!(error.code, ErrorCode::NotFound | ErrorCode::WrongEpoch) =>
            {
                Told::Nothing(unknown("accepted, but the client has lost its record of it"))
            }
            _ => Told::Alive,
        };
        if let Told::Ended(Verdict::Succeeded { result: Some(result) }) = &told
            && !errand.order.fits(&Outcome::Succeeded(result.value()))
        {
            return Err(Ignored::Unfit);
        }
        Ok(told)
    }
}
