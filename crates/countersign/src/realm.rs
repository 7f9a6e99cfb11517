//! The realm of a folder of keys, and who takes part in it from here.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_host::clock;
use countersign_keys::{
    Fault, FolderKind, FolderLock, KeyFileError, KeyFolder, LOCK_WAIT, Member, load_member, load_trust,
};
use countersign_protocol::credential::Role;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::trust::Trust;
use countersign_provisioning::other_realm;

use crate::args::{KeysArgs, OperatorArgs, Source};
use crate::cli_error::{CliError, CliResult};
use crate::commands::client::default_state;
use crate::context::{self, Settings};
use crate::suggest::suggest;

/// A folder of keys, and the trust bundle in it, verified against its pin.
#[derive(Debug)]
pub(crate) struct Realm {
    /// The folder.
    pub(crate) folder: KeyFolder,
    /// The bundle.
    pub(crate) trust: Trust,
    /// Where it is from that it is this folder.
    source: Source,
    /// What keeps others from changing it, where this process does.
    _lock: Option<FolderLock>,
}

impl Realm {
    /// The realm that the options name.
    pub(crate) fn open(options: &KeysArgs) -> CliResult<Self> {
        let realm = Self::at(&options.keys, options.keys.source().clone())?;
        match &options.realm {
            Some(wanted) => realm.expect_realm(wanted, wanted.source()),
            None => Ok(realm),
        }
    }

    /// The same, for a command that changes the folder: until this is dropped, no other does. What is read before may have changed.
    pub(crate) fn open_to_change(options: &KeysArgs) -> CliResult<Self> {
        // Whatever is wrong with the folder comes first.
        let realm = Self::open(options)?;
        let _lock = Some(realm.folder.lock(LOCK_WAIT)?);
        Ok(Self { _lock, ..Self::open(options)? })
    }

    /// The realm that a context is to name, with its operator in it.
    pub(crate) fn of_context(name: &Name, keys: &Path, settings: &Settings) -> CliResult<Self> {
        let source = Source::Context(name.clone());
        let mut realm = Self::at(keys, source.clone())?;
        if let Some(wanted) = &settings.realm {
            realm = realm.expect_realm(wanted, &source)?;
        }
        if let Some(operator) = &settings.operator {
            realm.expect_member(Role::Operator, operator)?;
        }
        Ok(realm)
    }

    fn at(keys: &Path, source: Source) -> CliResult<Self> {
        let folder = KeyFolder::new(keys);
        match load_trust(&folder) {
            Ok(trust) => Ok(Self { folder, trust, source, _lock: None }),
            Err(KeyFileError { fault: Fault::Missing, .. }) if folder.kind() == FolderKind::Other => {
                Err(no_keys(&folder, &source))
            }
            Err(error) => Err(CliError::from(error).of_setting("the folder", &source)),
        }
    }

    fn expect_realm(self, wanted: &Name, source: &Source) -> CliResult<Self> {
        if wanted == self.trust.realm() {
            return Ok(self);
        }
        Err(CliError::from(other_realm(&self.folder, self.trust.realm(), wanted)).of_setting("the realm", source))
    }

    /// The identity and the connection key of somebody in the folder; `skew` in milliseconds.
    pub(crate) fn member(&self, role: Role, name: &Name, skew: i64) -> CliResult<Member> {
        self.expect_member(role, name)?;
        Ok(load_member(&self.folder, role, name, &self.trust, clock::wall(), skew)?)
    }

    /// Refuses a name that nobody in the folder has.
    pub(crate) fn expect_member(&self, role: Role, name: &Name) -> CliResult<()> {
        let known = self.folder.names(role)?;
        if !known.contains(name) {
            let near = suggest(name.as_str(), known.iter().map(Name::as_str));
            let hint = match near {
                Some(near) => format!("name {near}, or {}", self.how_to_add(role, name.as_str())),
                None => format!("{}; or name another folder by --keys", self.how_to_add(role, name.as_str())),
            };
            let what = format!("the folder {} has no {role} {name}", self.folder.path().display());
            let failure = CliError::keys(what).of_setting("the folder", &self.source);
            let failure = failure.expected(one_of("one that it has", &known)).hint(hint);
            return Err(match near {
                Some(near) => failure.meant(name, near),
                None => failure,
            });
        }
        Ok(())
    }

    /// How somebody comes into the folder.
    pub(crate) fn how_to_add(&self, role: Role, name: &str) -> String {
        match self.folder.kind() {
            FolderKind::Issuer => format!("make one by `countersign credential issue {role} {name}`"),
            _ => format!(
                "fetch the files that `countersign credential issue {role} {name}` makes on the machine that has issuer.pem"
            ),
        }
    }

    /// A file in which this machine remembers something for an operator of the realm; `None` where there is no place for it.
    pub(crate) fn file_of(&self, operator: &Name, extension: &str) -> Option<PathBuf> {
        // Another realm of the same name has another root.
        let pin = fs::read_to_string(self.folder.pin()).unwrap_or_default();
        let pin: String = pin.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        // A dot, for a client's folder beside it has none in its name.
        let folder = default_state().ok()?.join("history.d").join(format!("{}.{pin}", self.trust.realm()));
        Some(folder.join(format!("{operator}.{extension}")))
    }

    /// The operator who signs: the one that the options name, or the only one.
    pub(crate) fn operator(&self, options: &OperatorArgs) -> CliResult<Member> {
        let name = self.operator_name(options)?;
        self.member(Role::Operator, &name, SKEW)
    }

    /// The name of the operator that the options name, or of the only one.
    pub(crate) fn operator_name(&self, options: &OperatorArgs) -> CliResult<Name> {
        if let Some(operator) = &options.operator {
            self.expect_member(Role::Operator, operator)
                .map_err(|error| error.of_setting("the operator", operator.source()))?;
            return Ok(Name::clone(operator));
        }
        let known = self.folder.names(Role::Operator)?;
        let folder = self.folder.path().display();
        match known.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(CliError::keys(format!("the folder {folder} has no operator"))
                .of_setting("the folder", &self.source)
                .expected("an operator's key and credential")
                .hint(format!("{}; or name another folder by --keys", self.how_to_add(Role::Operator, "NAME")))),
            [first, ..] => Err(CliError::usage(format!("the folder {folder} has several operators"))
                .of_setting("the folder", &self.source)
                .expected(format!("one of {}, by --as or COUNTERSIGN_OPERATOR", listed(&known)))
                .hint(format!("--as {first}"))
                .lacks(&["--as", first.as_str()])),
        }
    }
}

/// A path at which nothing is a folder of keys. Whoever is in a wrong folder must not make a second realm.
fn no_keys(folder: &KeyFolder, source: &Source) -> CliError {
    let path = folder.path().display();
    let what = match source {
        Source::Default => format!("there are no keys in ./{path}, and nothing names another folder of keys"),
        _ => format!("there are no keys in the folder {path}"),
    };
    let names = context::names();
    let by = match names.first() {
        Some(first) => format!("by --keys, COUNTERSIGN_KEYS or a context (`countersign context use {first}`)"),
        None => "by --keys or COUNTERSIGN_KEYS".to_owned(),
    };
    let hint = format!("go to its folder, or name it {by}; `countersign init` is for a new realm only");
    CliError::keys(what)
        .of_setting("the folder", source)
        .expected("a folder of keys: trust.json, root.thumbprint, and the files of an operator or a client")
        .hint(hint)
}

/// What is expected where a name is unknown: one of these, or that there is none.
pub(crate) fn one_of(what: &str, names: &[Name]) -> String {
    if names.is_empty() { format!("{what}; there is none") } else { format!("{what}: {}", listed(names)) }
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
