//! What a credential is to say: the groups of a client, the grant of an operator, and for how long.

use std::ops::RangeInclusive;

use countersign_protocol::command::Target;
use countersign_protocol::credential::{Commands, Credential, Grant, Role};
use countersign_protocol::limits::MAX_TTL;
use countersign_protocol::name::{EVERYONE, InvalidName, Name};

/// How long a credential may be made to hold, in milliseconds: from a minute to ten years. The protocol sets no bound.
pub const LIVES: RangeInclusive<i64> = 60_000..=3_650 * super::DAY;

/// What a credential is to say. `None` is what it says already, or in a new one the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What its holder is, and may.
    pub rights: Rights,
    /// How long it holds, in milliseconds, within [`LIVES`]; by default 30 days for an operator, 90 for a client.
    pub life_ms: Option<i64>,
}

/// What the holder of a credential is, and may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// A client, and its groups; none by default.
    Client {
        /// The groups.
        groups: Option<Vec<Name>>,
    },
    /// An operator, and its grant; by default everything.
    Operator {
        /// The commands that it may send.
        commands: Option<Commands>,
        /// The targets within its reach.
        targets: Option<Vec<Target>>,
        /// The longest life of its commands, in milliseconds; 1 at least.
        max_ttl_ms: Option<i64>,
    },
}

/// What a credential states besides its holder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Grant(Grant),
    Groups(Vec<Name>),
}

impl Terms {
    /// Those of the credential that is there, or the defaults.
    pub fn unchanged(role: Role) -> Self {
        let rights = match role {
            Role::Client => Rights::Client { groups: None },
            Role::Operator => Rights::Operator { commands: None, targets: None, max_ttl_ms: None },
        };
        Self { rights, life_ms: None }
    }

    /// Whose credential it is.
    pub fn role(&self) -> Role {
        match self.rights {
            Rights::Client { .. } => Role::Client,
            Rights::Operator { .. } => Role::Operator,
        }
    }

    /// What a credential with these terms states in place of an old one.
    pub(super) fn content(&self, old: Option<&Credential>) -> Content {
        match &self.rights {
            Rights::Client { groups: Some(groups) } => Content::Groups(sorted(groups)),
            Rights::Client { groups: None } => {
                Content::Groups(old.map(|old| old.groups().to_vec()).unwrap_or_default())
            }
            Rights::Operator { commands, targets, max_ttl_ms } => {
                let mut grant = old.and_then(Credential::grant).cloned().unwrap_or_else(everything);
                if let Some(commands) = commands {
                    grant.commands = match commands {
                        Commands::Any => Commands::Any,
                        Commands::Only(names) => Commands::Only(sorted(names)),
                    };
                }
                if let Some(targets) = targets {
                    reach(&mut grant, targets);
                }
                grant.max_ttl_ms = max_ttl_ms.unwrap_or(grant.max_ttl_ms);
                Content::Grant(grant)
            }
        }
    }
}

impl Content {
    /// Whether a credential states the same.
    pub(super) fn is_of(&self, credential: &Credential) -> bool {
        match self {
            Self::Grant(grant) => credential.grant() == Some(grant),
            Self::Groups(groups) => credential.groups() == groups,
        }
    }

    /// What differs where that is not so, for people.
    pub(super) fn difference(&self) -> &'static str {
        match self {
            Self::Grant(_) => "with another grant; ",
            Self::Groups(_) => "with other groups; ",
        }
    }
}

/// The name of a group, which is not the word that stands for every client (section 1).
pub fn group(text: &str) -> Result<Name, String> {
    match text.parse() {
        Ok(_) if text == EVERYONE => {
            Err(format!("no group can be called `{EVERYONE}`: @{EVERYONE} stands for every client"))
        }
        parsed => parsed.map_err(|error: InvalidName| error.to_string()),
    }
}

/// Each once and in order.
pub(super) fn sorted(names: &[Name]) -> Vec<Name> {
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    names
}

/// Puts these targets within the reach of a grant, and no others.
fn reach(grant: &mut Grant, targets: &[Target]) {
    let of =
        |choose: fn(&Target) -> Option<&Name>| sorted(&targets.iter().filter_map(choose).cloned().collect::<Vec<_>>());
    grant.clients = of(|target| if let Target::Client(name) = target { Some(name) } else { None });
    grant.groups = of(|target| if let Target::Group(name) = target { Some(name) } else { None });
    grant.all = targets.iter().any(|target| matches!(target, Target::All(_)));
}

/// Every command, every client.
fn everything() -> Grant {
    Grant { commands: Commands::Any, clients: Vec::new(), groups: Vec::new(), all: true, max_ttl_ms: MAX_TTL }
}
