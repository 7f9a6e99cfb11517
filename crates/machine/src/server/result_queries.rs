//! Queries for the result of what a client was sent (section 4, `result`): each is about one command and no other.

use std::collections::VecDeque;

use countersign_protocol::command::{Builtin, Call, CommandId, Recorded, Target};
use countersign_protocol::digest::Digest;
use countersign_protocol::id::MessageId;
use countersign_protocol::json;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorCode, Outcome, Progress};
use countersign_protocol::schema;
use serde_json::Value;

use super::notices::{recorded, unknown};
use super::request::{RequestContext, UnsignedCommand};
use super::verdict::{Ignored, Verdict};
use super::{Effect, Now, POLL_EVERY};

/// To how many of the latest queries for a result an answer is still taken.
const MAX_RESULT_QUERIES: usize = 4;

/// The latest queries for a result that one client was sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct ResultQueries(VecDeque<ResultQuery>);

/// One query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ResultQuery {
    id: MessageId,
    digest: Digest,
    /// The digest of the command that it is about; `None` where it is still to be learned, of a command that is awaited.
    pub(super) about: Option<Digest>,
}

/// What an answer shows of the command that the query is about.
pub(super) enum ResultAnswer {
    /// It runs, and is so far.
    Runs(Option<Progress>),
    /// It has ended so.
    Ended(Verdict),
    /// The client has no record of it.
    Nothing(Verdict),
    /// That the client lives, and no more.
    Alive,
}

impl ResultQueries {
    /// Queries a client for the result of a command that it was sent.
    pub(super) fn poll_result(
        &mut self,
        client: &Name,
        named: CommandId,
        about: Option<Digest>,
        context: &mut RequestContext,
        now: Now,
    ) -> Option<Effect> {
        let Ok(Value::Object(args)) = serde_json::to_value(named) else { return None };
        let id = context.id(now);
        let unsigned = UnsignedCommand {
            id,
            to: Target::Client(client.clone()),
            // The client may have started another since, and still has the record.
            epoch: None,
            issued_at: now.wall,
            expires_at: now.wall.plus(context.options.ttl.min(POLL_EVERY)),
            dry_run: false,
            call: &Call { name: Builtin::Result.into(), args },
        };
        let query = context.sign(unsigned).ok()?;
        if self.0.len() == MAX_RESULT_QUERIES
            && let Some(oldest) = self.0.pop_front()
        {
            context.issued.remove(&oldest.id);
        }
        self.0.push_back(ResultQuery { id, digest: Digest::of(&query.body), about });
        Some(Effect::Publish { message: query, reply: context.reply_to(&id) })
    }

    /// The query of an id.
    pub(super) fn find(&self, id: &MessageId) -> Option<ResultQuery> {
        self.0.iter().find(|query| query.id == *id).copied()
    }

    /// The digest of the query of an id.
    pub(super) fn digest(&self, id: &MessageId) -> Option<Digest> {
        self.find(id).map(|query| query.digest)
    }
}

impl ResultQuery {
    /// What a client answers. What is on record of another command is no answer, whatever its id is (section 5).
    pub(super) fn answer(&mut self, outcome: Outcome, context: &RequestContext) -> Result<ResultAnswer, Ignored> {
        let answer = match outcome {
            Outcome::Succeeded(result) if schema::result(Builtin::Result).accepts(&result) => {
                let found: Recorded = json::read(&result).map_err(|_| Ignored::Unfit)?;
                if found.command_digest != *self.about.get_or_insert(found.command_digest) {
                    return Err(Ignored::OtherBytes);
                }
                let progress = found.progress.clone();
                recorded(found).map_or(ResultAnswer::Runs(progress), ResultAnswer::Ended)
            }
            Outcome::Succeeded(_) => return Err(Ignored::Unfit),
            Outcome::Failed(error) | Outcome::Refused(error)
                if matches!(error.code, ErrorCode::NotFound | ErrorCode::WrongEpoch) =>
            {
                ResultAnswer::Nothing(unknown("accepted, but the client has lost its record of it"))
            }
            _ => ResultAnswer::Alive,
        };
        if let ResultAnswer::Ended(Verdict::Succeeded { result: Some(result) }) = &answer
            && context.request.awaited.is_none()
            && !context.request.fits(&Outcome::Succeeded(result.value()))
        {
            return Err(Ignored::Unfit);
        }
        Ok(answer)
    }
}
