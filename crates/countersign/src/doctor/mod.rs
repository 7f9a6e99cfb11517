//! `countersign doctor`: what is wrong with a folder of keys, the broker, and the clients, and what to do about it.
//!
//! Every check calls what the other commands call; nothing is judged here a second time. Each module looks at one thing and adds
//! what it finds to the [`Findings`]: the files, what they state, the broker, the clients, and what a worker has beside its
//! keys.

mod broker;
mod clients;
mod credentials;
mod files;
mod finding;
mod worker;

use countersign_keys::KeyFolder;
use countersign_protocol::credential::Role;
use countersign_protocol::name::Name;

pub(crate) use finding::{Check, Finding, Findings, Level};

use crate::args::DoctorArgs;
use crate::cli_error::{CliResult, Exit};
use crate::output::{Output, print_findings};
use crate::realm::Realm;

/// What a machine is, by the private keys in its folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    /// Whether it issues credentials.
    pub(crate) is_issuers: bool,
    /// The operators and clients whose private keys are here.
    pub(crate) members: Vec<(Role, Name)>,
}

impl Machine {
    fn of(folder: &KeyFolder, found: &mut Findings) -> Self {
        let mut members = Vec::new();
        for role in [Role::Operator, Role::Client] {
            let is_here = |name: &Name| folder.key(role, name).exists() || folder.creds(role, name).exists();
            match folder.names(role) {
                Ok(names) => members.extend(names.into_iter().filter(is_here).map(|name| (role, name))),
                Err(error) => found.file(Check::Keys, &error),
            }
        }
        Self { is_issuers: folder.issuer_key().exists(), members }
    }

    /// Those of one role.
    fn of_role(&self, role: Role) -> impl Iterator<Item = &Name> {
        self.members.iter().filter(move |(of, _)| *of == role).map(|(_, name)| name)
    }

    /// The word for people: an issuer's machine may be an operator's too.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let has = |role| self.of_role(role).next().is_some();
        [(self.is_issuers, "issuer"), (has(Role::Operator), "operator"), (has(Role::Client), "worker")]
            .into_iter()
            .filter_map(|(is_so, word)| is_so.then_some(word))
            .collect()
    }
}

/// Looks at everything, prints what was found, and ends with the worst of it.
pub(crate) async fn run(args: &DoctorArgs, output: Output) -> CliResult<Exit> {
    let keys = &args.sender.realm.keys;
    let (folder, mut found) = (KeyFolder::new(keys.keys.as_path()), Findings::default());
    let machine = Machine::of(&folder, &mut found);
    let state = worker::state(args)?;
    files::examine_tls(&args.sender.realm.broker.address(), &mut found);
    files::examine(&folder, &mut found);
    match Realm::open(keys) {
        Ok(realm) => {
            credentials::examine(&realm, &machine, &mut found);
            let states = worker::examine(&realm, &machine, &state, &mut found);
            files::examine_places(&folder, &machine, &states, &mut found);
            broker::examine(&args.sender, &realm, &machine, output, &mut found).await;
        }
        // A realm that was asked for and is another is no finding.
        Err(error) if error.exit() == Exit::Usage => return Err(error),
        Err(error) => {
            found.error(Check::Trust, Level::Broken, &error);
            found.skipped(Check::Broker, "without a trust bundle nobody's credential or login can be judged");
        }
    }
    worker::examine_commands(args.commands.as_deref(), &mut found);
    let exit = found.exit();
    print_findings(&folder, &machine, &found, args.output.format(), output)?;
    Ok(exit)
}
