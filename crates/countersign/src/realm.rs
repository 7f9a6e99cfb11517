//! The realm of a folder of keys, and who takes part in it from here.

use countersign_host::clock;
use countersign_keys::{KeyFolder, Member, load_member, load_trust};
use countersign_protocol::credential::Role;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::trust::Trust;
use countersign_provisioning::other_realm;

use crate::args::{KeysArgs, OperatorArgs};
use crate::cli_error::{CliError, CliResult};
use crate::suggest::suggest;

/// A folder of keys, and the trust bundle in it, verified against its pin.
#[derive(Debug)]
pub(crate) struct Realm {
    /// The folder.
    pub(crate) folder: KeyFolder,
    /// The bundle.
    pub(crate) trust: Trust,
}

impl Realm {
    /// The realm that the options name.
    pub(crate) fn open(options: &KeysArgs) -> CliResult<Self> {
        let folder = KeyFolder::new(&options.keys);
        let trust = load_trust(&folder)?;
        match &options.realm {
            Some(wanted) if wanted != trust.realm() => Err(other_realm(&folder, trust.realm(), wanted).into()),
            _ => Ok(Self { folder, trust }),
        }
    }

    /// The identity and the connection key of somebody in the folder; `skew` in milliseconds.
    pub(crate) fn member(&self, role: Role, name: &Name, skew: i64) -> CliResult<Member> {
        self.expect_member(role, name)?;
        Ok(load_member(&self.folder, role, name, &self.trust, clock::wall(), skew)?)
    }

    /// Refuses a name that nobody in the folder has.
    pub(crate) fn expect_member(&self, role: Role, name: &Name) -> CliResult<()> {
        let known = self.folder.names(role);
        if !known.contains(name) {
            let listed = listed(&known);
            let near = suggest(name.as_str(), known.iter().map(Name::as_str));
            let hint = match near {
                Some(near) => format!("name {near}, or make another by `countersign init --{role} {name}`"),
                None => format!("`countersign init --{role} {name}` makes one, and --keys names another folder"),
            };
            let failure = CliError::keys(format!("the folder {} has no {role} {name}", self.folder.path().display()));
            return Err(failure.expected(format!("one that it has: {listed}")).hint(hint));
        }
        Ok(())
    }

    /// The operator who signs: the one that the options name, or the only one.
    pub(crate) fn operator(&self, options: &OperatorArgs) -> CliResult<Member> {
        if let Some(operator) = &options.operator {
            return self.member(Role::Operator, operator, SKEW);
        }
        let known = self.folder.names(Role::Operator);
        match known.as_slice() {
            [only] => self.member(Role::Operator, only, SKEW),
            [] => Err(CliError::keys(format!("the folder {} has no operator", self.folder.path().display()))
                .expected("an operator's key and credential")
                .hint("`countersign init` makes one, and --keys names another folder")),
            [first, ..] => {
                Err(CliError::usage(format!("the folder {} has several operators", self.folder.path().display()))
                    .expected(format!("the name of one: {}", listed(&known)))
                    .hint(format!("--as {first}, or COUNTERSIGN_OPERATOR={first}")))
            }
        }
    }
}

/// Names for a sentence, not too many of them.
pub(crate) fn listed(names: &[Name]) -> String {
    const MOST: usize = 8;
    let mut shown: Vec<&str> = names.iter().take(MOST).map(Name::as_str).collect();
    match names.len() {
        0 => shown.push("none"),
        count if count > MOST => shown.push("…"),
        _ => {}
    }
    shown.join(", ")
}
