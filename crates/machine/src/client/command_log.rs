//! The log of commands: a line when a job starts, and one when a command ends. It has the operator, the command's name, its id
//! and the verdict. Arguments, results and messages are not logged: they may be secret, and their authors decide how long
//! they are.

use countersign_protocol::command::CommandKind;
use countersign_protocol::id::MessageId;
use countersign_protocol::name::Name;
use countersign_protocol::reply::Outcome;

use super::Client;
use super::effect::{Effect, Level, Note, Step};
use super::journal::Record;
use super::refusal::Refusal;

impl Client {
    /// A job starts.
    pub(super) fn log_start(&self, record: &Record, step: &mut Step) {
        self.log_command(record.command(), record.operator(), record.key().id, "started", step);
    }

    /// A command that is on record ends so.
    pub(super) fn log_end(&self, record: &Record, outcome: &Outcome, step: &mut Step) {
        let verdict = match outcome {
            Outcome::Accepted | Outcome::Progress(_) | Outcome::Succeeded(_) => outcome.status().to_string(),
            Outcome::Failed(error)
            | Outcome::Refused(error)
            | Outcome::Cancelled(error)
            | Outcome::Interrupted(error) => {
                let (status, code) = (outcome.status().to_string(), error.code.to_string());
                if status == code { status } else { format!("{status}, {code}") }
            }
        };
        self.log_command(record.command(), record.operator(), record.key().id, &verdict, step);
    }

    /// A command is refused for the moment.
    pub(super) fn log_refusal(&self, command: &Name, operator: &Name, id: MessageId, by: &Refusal, step: &mut Step) {
        self.log_command(command, operator, id, &format!("refused, {}", by.code()), step);
    }

    fn log_command(&self, command: &Name, operator: &Name, id: MessageId, what: &str, step: &mut Step) {
        let is_query = self.catalogue.find(command).is_some_and(|known| known.kind() == CommandKind::Query);
        let level = if is_query { Level::Query } else { Level::Command };
        let text = format!("{command} of {operator}: {what} ({id})");
        step.effects.push(Effect::Log(Note { level, text }));
    }
}
