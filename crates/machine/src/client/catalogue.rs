//! The commands that a client knows: the protocol's own, and the data commands that its program registered (section 4).

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use countersign_protocol::command::{Builtin, CommandInfo, CommandKind, Description};
use countersign_protocol::digest::Digest;
use countersign_protocol::limits::MAX_DESCRIPTION;
use countersign_protocol::name::Name;
use countersign_protocol::schema::{self, Schema};
use serde_json::Value;

/// A data command as the machine sees it.
#[derive(Clone)]
pub struct DataCommand {
    /// Its name; none of the protocol's control and query commands.
    pub name: Name,
    /// What its arguments must satisfy; made by `Schema::typed`, so that it checks their type as well.
    pub arguments: Arc<Schema>,
    /// What its result must satisfy.
    pub result: Arc<Schema>,
    /// Whether it runs as a job, beside everything else.
    pub long_running: bool,
    /// What it does, for people; what is past 1,024 characters is cut off. Empty: nothing is said.
    pub description: String,
    /// The digest of its definition, where it has one; it is announced, and decides nothing.
    pub definition: Option<Digest>,
    /// How many jobs of it run at a time, within [`super::Limits::jobs`]; without it, as many as that. The next one is refused
    /// with `busy`.
    pub concurrency: Option<usize>,
    /// How long a job of it may take to end once it is cancelled, in milliseconds: `terminate` waits so much longer.
    pub grace: i64,
}

impl fmt::Debug for DataCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataCommand").field("name", &self.name).field("long_running", &self.long_running).finish()
    }
}

/// Why a data command cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// The name belongs to the protocol.
    #[error("`{0}` is a command of the protocol itself; choose another name")]
    Reserved(Name),
    /// The name is taken.
    #[error("`{0}` is registered twice; choose another name for one of them")]
    Twice(Name),
}

/// All commands of a client, by name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    data: BTreeMap<Name, DataCommand>,
    listed: Vec<CommandInfo>,
}

/// A command that the client knows, by its name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'a> {
    Own(Builtin),
    Data(&'a DataCommand),
}

impl Catalogue {
    /// A catalogue of the protocol's own commands and these.
    pub fn new(commands: impl IntoIterator<Item = DataCommand>) -> Result<Self, RegistrationError> {
        let mut data = BTreeMap::new();
        for command in commands {
            let name = command.name.clone();
            if Builtin::from_name(name.as_str()).is_some_and(|builtin| builtin.kind() != CommandKind::Data) {
                return Err(RegistrationError::Reserved(name));
            }
            if data.insert(name.clone(), command).is_some() {
                return Err(RegistrationError::Twice(name));
            }
        }
        let own = Builtin::ALL.iter().filter(|builtin| builtin.kind() != CommandKind::Data).filter_map(|builtin| {
            let (args, result) = (schema::arguments(*builtin).digest(), schema::result(*builtin).digest());
            Some(CommandInfo {
                name: builtin.name().parse().ok()?,
                kind: builtin.kind(),
                args,
                result,
                definition: None,
            })
        });
        let registered = data.values().map(|command: &DataCommand| CommandInfo {
            name: command.name.clone(),
            kind: CommandKind::Data,
            args: command.arguments.digest(),
            result: command.result.digest(),
            definition: command.definition,
        });
        let listed = own.chain(registered).collect();
        Ok(Self { data, listed })
    }

    /// What the client info lists.
    pub(super) fn listed(&self) -> &[CommandInfo] {
        &self.listed
    }

    /// The longest time that a job may take to end once it is cancelled, in milliseconds.
    pub(super) fn grace(&self) -> i64 {
        self.data.values().map(|command| command.grace).max().unwrap_or(0)
    }

    pub(super) fn find(&self, name: &Name) -> Option<Known<'_>> {
        match Builtin::from_name(name.as_str()) {
            Some(builtin) if builtin.kind() != CommandKind::Data => Some(Known::Own(builtin)),
            _ => self.data.get(name).map(Known::Data),
        }
    }
}

impl Catalogue {
    /// The answer to `describe`.
    pub(super) fn describe(&self, name: &Name) -> Option<Description> {
        let known = self.find(name)?;
        let (args, result, description) = match known {
            Known::Own(builtin) => (schema::arguments(builtin), schema::result(builtin), ""),
            Known::Data(command) => (&*command.arguments, &*command.result, command.description.as_str()),
        };
        Some(Description {
            command: name.clone(),
            kind: known.kind(),
            long_running: known.is_long_running(),
            description: (!description.is_empty()).then(|| description.chars().take(MAX_DESCRIPTION).collect()),
            args: args.text().to_owned(),
            result: result.text().to_owned(),
        })
    }
}

impl PartialEq for Catalogue {
    fn eq(&self, other: &Self) -> bool {
        self.listed == other.listed
    }
}

impl Eq for Catalogue {}

impl Hash for Catalogue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for command in &self.listed {
            (&command.name, command.args, command.result, command.definition).hash(state);
        }
    }
}

impl Known<'_> {
    pub(super) fn kind(&self) -> CommandKind {
        match self {
            Self::Own(builtin) => builtin.kind(),
            Self::Data(_) => CommandKind::Data,
        }
    }

    pub(super) fn is_long_running(&self) -> bool {
        matches!(self, Self::Data(command) if command.long_running)
    }

    pub(super) fn concurrency(&self) -> Option<usize> {
        match self {
            Self::Own(_) => None,
            Self::Data(command) => command.concurrency,
        }
    }

    /// What is wrong with some arguments: nothing, or pairs of a JSON pointer and a message.
    pub(super) fn errors(&self, args: &Value, max: usize) -> Vec<(String, String)> {
        let schema = match self {
            Self::Own(builtin) => schema::arguments(*builtin),
            Self::Data(command) => &command.arguments,
        };
        schema.errors(args, max).into_iter().map(|error| (error.path, error.message)).collect()
    }
}
