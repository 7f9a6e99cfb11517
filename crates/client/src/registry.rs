//! The commands that a client knows.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use countersign_machine::client::{self as machine, Catalogue, ExecutionResult};
use countersign_protocol::json::{self, JsonError};
use countersign_protocol::name::{InvalidName, Name};
use countersign_protocol::schema::Schema;
use serde::Serialize;
use serde_json::Value;

use crate::command::{Context, DataCommand, Failure, Immediate, JobContext, LongRunning};
use crate::commands::{Calculate, Ping};
use crate::programs::{Helper, Program, Programs};

/// The depth of a result in the deepest reply that carries it, the answer to `result` (section 3).
pub(crate) const DEPTH_OF_RESULT: usize = 3;
/// The depth of an error's details there.
const DEPTH_OF_DETAILS: usize = 4;

/// Why a command cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// Its name is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Its name is taken, by the protocol or by another command.
    #[error(transparent)]
    Taken(#[from] machine::RegistrationError),
}

/// Data commands, to be run by a client.
#[derive(Default)]
pub struct Commands {
    known: Vec<machine::DataCommand>,
    runs: HashMap<Name, Run>,
}

/// How a command is run, its types forgotten.
pub(crate) enum Run {
    Immediate(RunAtOnce),
    LongRunning(Begin),
    Program(Arc<Program>),
}

type RunAtOnce = Box<dyn Fn(&Value, &Context) -> ExecutionResult + Send + Sync>;
type Begin = Box<dyn Fn(Value, JobContext) -> Job + Send + Sync>;
/// A job that has not started.
type Job = Pin<Box<dyn Future<Output = ExecutionResult> + Send>>;

impl Commands {
    /// No commands at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// The protocol's own data commands, `ping` and `calculate`.
    pub fn standard() -> Result<Self, RegistrationError> {
        Self::new().immediate(Ping)?.long_running(Calculate)
    }

    /// Registers a command that is answered at once.
    ///
    /// # Panics
    /// When the types of its arguments or its result describe themselves by something that is no JSON Schema.
    pub fn immediate<C: Immediate>(self, command: C) -> Result<Self, RegistrationError> {
        self.register::<C>(false, |result| {
            Run::Immediate(Box::new(move |args, context| match json::read(args) {
                Ok(args) => finished(command.run(args, context), &result),
                Err(error) => ExecutionResult::Broken(format!("its arguments cannot be read: {error}")),
            }))
        })
    }

    /// Registers a command that runs as a job.
    ///
    /// # Panics
    /// As [`Commands::immediate`].
    pub fn long_running<C: LongRunning>(self, command: C) -> Result<Self, RegistrationError> {
        let command = Arc::new(command);
        self.register::<C>(true, |result| {
            Run::LongRunning(Box::new(move |args, context| {
                let (command, result) = (Arc::clone(&command), Arc::clone(&result));
                Box::pin(async move {
                    match json::read(&args) {
                        Ok(args) => finished(command.run(args, context).await, &result),
                        Err(error) => ExecutionResult::Broken(format!("its arguments cannot be read: {error}")),
                    }
                })
            }))
        })
    }

    /// Registers programs, which run as jobs (section 13). Their helper shows that this program can be one.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn programs(mut self, programs: Programs, _: Helper) -> Result<Self, RegistrationError> {
        for program in programs.into_programs() {
            let name = program.name().clone();
            self.known.push(machine::DataCommand {
                name: name.clone(),
                arguments: Arc::clone(&program.args),
                result: Arc::clone(&program.result),
                long_running: true,
                description: program.description().to_owned(),
                definition: Some(program.digest),
                concurrency: program.concurrency,
                grace: i64::try_from(program.grace.as_millis()).unwrap_or(i64::MAX),
            });
            Catalogue::new(self.known.iter().cloned())?;
            self.runs.insert(name, Run::Program(Arc::new(program)));
        }
        Ok(self)
    }

    /// What the machine is to know of them, and what runs them.
    pub(crate) fn into_parts(self) -> Result<(Catalogue, HashMap<Name, Run>), RegistrationError> {
        Ok((Catalogue::new(self.known)?, self.runs))
    }

    fn register<C: DataCommand>(
        mut self,
        long_running: bool,
        run: impl FnOnce(Arc<Schema>) -> Run,
    ) -> Result<Self, RegistrationError> {
        let name: Name = C::NAME.parse()?;
        let result = Arc::new(Schema::of::<C::Output>(&format!("{name}.result")));
        self.known.push(machine::DataCommand {
            name: name.clone(),
            arguments: Arc::new(Schema::typed::<C::Args>(&format!("{name}.args"))),
            result: Arc::clone(&result),
            long_running,
            description: C::DESCRIPTION.to_owned(),
            definition: None,
            concurrency: None,
            grace: 0,
        });
        // The machine knows what is taken; it is checked here so that whoever registers gets the error.
        Catalogue::new(self.known.iter().cloned())?;
        self.runs.insert(name, run(result));
        Ok(self)
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Commands").field(&self.known).finish()
    }
}

/// What a command's outcome means to the machine, which relies on a result that satisfies its schema.
fn finished<T: Serialize>(outcome: Result<T, Failure>, schema: &Schema) -> ExecutionResult {
    let result = match outcome {
        Ok(output) => serde_json::to_value(output),
        Err(Failure { message, details }) => {
            let mut members = details.iter().flat_map(|details| details.values());
            return match members.find_map(|member| unfit(member, DEPTH_OF_DETAILS + 1)) {
                None => ExecutionResult::Failed { message, details },
                Some(error) => ExecutionResult::Broken(format!("the details of its failure cannot be sent: {error}")),
            };
        }
    };
    match result {
        Ok(result) if !schema.accepts(&result) => {
            ExecutionResult::Broken("its result does not satisfy its own schema".to_owned())
        }
        Ok(result) => match unfit(&result, DEPTH_OF_RESULT) {
            None => ExecutionResult::Done(result),
            Some(error) => ExecutionResult::Broken(format!("its result cannot be sent: {error}")),
        },
        Err(error) => ExecutionResult::Broken(format!("its result cannot be written as JSON: {error}")),
    }
}

/// Why a value cannot stand at a depth. Too many values are the machine's to judge, like too many bytes: `result_too_large`.
fn unfit(value: &Value, depth: usize) -> Option<JsonError> {
    json::check(value, depth).err().filter(|error| *error != JsonError::TooManyValues)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use countersign_protocol::command::{Builtin, NoArgs};
    use countersign_protocol::schema;
    use serde_json::Map;

    use super::*;

    macro_rules! command {
        ($type:ident, $name:literal) => {
            struct $type;

            impl DataCommand for $type {
                const NAME: &'static str = $name;
                type Args = NoArgs;
                type Output = Value;
            }

            impl Immediate for $type {
                fn run(&self, _: NoArgs, _: &Context) -> Result<Value, Failure> {
                    Ok(Value::Null)
                }
            }
        };
    }

    command!(Status, "status");
    command!(Ping2, "ping");
    command!(Shouting, "SHOUT");
    command!(Uptime, "uptime");

    fn refused(commands: Result<Commands, RegistrationError>) -> String {
        commands.unwrap_err().to_string()
    }

    #[test]
    fn a_name_of_the_protocol_is_refused() {
        let text = refused(Commands::new().immediate(Status));
        assert!(text.contains("`status`") && text.contains("protocol"), "{text}");
    }

    #[test]
    fn a_name_that_is_taken_is_refused() {
        let text = refused(Commands::standard().unwrap().immediate(Ping2));
        assert!(text.contains("`ping`") && text.contains("twice"), "{text}");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let text = refused(Commands::new().immediate(Shouting));
        assert!(text.contains("`SHOUT`"), "{text}");
    }

    #[test]
    fn the_standard_commands_have_the_schemas_of_the_protocol() {
        let commands = Commands::standard().unwrap().immediate(Uptime).unwrap();
        let digest = |name: &str| {
            let known = commands.known.iter().find(|known| known.name.as_str() == name).unwrap();
            (known.arguments.digest(), known.result.digest())
        };
        for builtin in [Builtin::Ping, Builtin::Calculate] {
            let expected = (schema::arguments(builtin).digest(), schema::result(builtin).digest());
            assert_eq!(digest(builtin.name()), expected, "{builtin}");
        }
        assert!(commands.known.iter().all(|known| known.long_running == (known.name.as_str() == "calculate")));
    }

    #[test]
    fn a_result_is_checked_before_it_is_sent() {
        let integer = Schema::of::<u8>("test.result");
        assert_eq!(finished(Ok(7), &integer), ExecutionResult::Done(Value::from(7)));
        assert_eq!(
            finished(Ok("seven"), &integer),
            ExecutionResult::Broken("its result does not satisfy its own schema".to_owned())
        );
        let anything = Schema::of::<Value>("test.result");
        let too_large = finished(Ok(u64::MAX), &anything);
        assert!(matches!(&too_large, ExecutionResult::Broken(why) if why.contains("2^53")), "{too_large:?}");
        let deep = (0..30).fold(Value::Null, |inner, _| Value::from(vec![inner]));
        assert_eq!(finished(Ok(&deep), &anything), ExecutionResult::Done(deep.clone()));
        let too_deep = finished(Ok(vec![deep]), &anything);
        assert!(matches!(&too_deep, ExecutionResult::Broken(why) if why.contains("levels")), "{too_deep:?}");
    }

    #[test]
    fn a_failure_keeps_its_details() {
        let details = Map::from_iter([("free".to_owned(), Value::from(3))]);
        let failure = Failure::new("no room").with_details(details.clone());
        let schema = Schema::of::<u8>("test.result");
        let expected = ExecutionResult::Failed { message: "no room".to_owned(), details: Some(details) };
        assert_eq!(finished::<u8>(Err(failure), &schema), expected);
    }

    #[test]
    fn the_details_of_a_failure_are_checked_before_they_are_sent() {
        let failed = |member: Value| {
            let failure = Failure::new("no room").with_details(Map::from_iter([("free".to_owned(), member)]));
            finished::<u8>(Err(failure), &Schema::of::<u8>("test.result"))
        };
        let deep = (0..28).fold(Value::Null, |inner, _| Value::from(vec![inner]));
        assert!(matches!(failed(deep.clone()), ExecutionResult::Failed { .. }));
        for (unfit, why) in [(Value::from(vec![deep]), "levels"), (Value::from(u64::MAX), "2^53")] {
            let failed = failed(unfit);
            assert!(matches!(&failed, ExecutionResult::Broken(text) if text.contains(why)), "{failed:?}");
        }
    }

    #[test]
    fn a_result_of_too_many_values_is_left_to_the_machine_which_says_that_it_is_too_large() {
        let anything = Schema::of::<Value>("test.result");
        let many = Value::from(vec![0; 20_000]);
        assert_eq!(finished(Ok(&many), &anything), ExecutionResult::Done(many.clone()));
    }
}
