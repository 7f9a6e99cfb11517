//! The answer to `output` (section 4). What a job wrote is on the shell's disk; which of it an operator gets is decided here.

use countersign_protocol::command::CommandId;
use countersign_protocol::limits::MAX_PIECE;
use countersign_protocol::output::{OutputPiece, OutputQuery, Stream};
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome};
use serde_json::json;

use super::effect::{Effect, JobKey, Step};
use super::journal::Record;
use super::refusal::ReplyContext;
use super::{Client, Moment, Now, message};

/// A piece of a job's output that an operator is to get: only the machine makes one, of a query that passed every check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutputRead {
    query: ReplyContext,
    job: JobKey,
    stream: Stream,
    offset: u64,
    max: usize,
    ended: bool,
}

impl OutputRead {
    /// The job.
    pub fn job(&self) -> JobKey {
        self.job
    }

    /// The stream.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// The first byte that is asked for.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes the answer has room for.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Whether the end of the job is on record: then there will be no more output.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

impl Client {
    pub(super) fn read_output(&mut self, wanted: OutputQuery, query: ReplyContext, moment: Moment, step: &mut Step) {
        let OutputQuery { command_id, command_digest, stream, offset } = wanted;
        let named = CommandId { command_id, command_digest };
        match self.find(named, query.key.operator).filter(|record| record.long_running) {
            Some(record) => {
                let (job, ended) = (record.key(), has_ended(record));
                let max = self.outbox.room_for_data().min(MAX_PIECE);
                step.effects.push(Effect::ReadOutput(OutputRead { query, job, stream, offset, max, ended }));
            }
            None => self.finish(&query, Outcome::Failed(message::no_output()), moment, step),
        }
    }

    /// Answers with a piece of a job's output; `None` where none of it is kept, and a text where it cannot be read.
    pub fn output_read(&mut self, read: OutputRead, piece: Result<Option<OutputPiece>, String>, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        let outcome = match piece {
            Ok(Some(piece)) => Outcome::Succeeded(json!(piece)),
            Ok(None) => Outcome::Failed(message::no_output()),
            Err(text) => Outcome::Failed(ErrorBody::new(ErrorCode::Internal, message::shorten(&text))),
        };
        self.finish(&read.query, outcome, moment, &mut step);
        step
    }
}

/// Whether it is on disk that the job has ended.
fn has_ended(record: &Record) -> bool {
    !record.is_running() && !record.unsynced
}
