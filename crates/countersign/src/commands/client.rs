//! `countersign client`: a worker.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_client::{
    Client, ClientConfig, ClientError, Commands, Helper, LockedStateDir, Programs, Stopped, Stopper, shutdown,
};
use countersign_protocol::credential::Role;
use countersign_protocol::name::Name;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::ClientArgs;
use crate::cli_error::{CliError, CliResult, Exit};
use crate::commands::definitions::wrong;
use crate::realm::{Realm, listed};
use crate::signals::Signals;

/// Runs until a command or a signal ends it.
pub(crate) async fn run(args: &ClientArgs, mut signals: Signals, helper: Helper) -> CliResult<Exit> {
    let state = match &args.state {
        Some(state) => state.clone(),
        None => default_state()?,
    };
    let mut realm = Realm::open(&args.realm.keys)?;
    let (name, folder) = match &args.name {
        Some(name) => {
            realm.expect_member(Role::Client, name)?;
            (name.clone(), LockedStateDir::take(&state, name).map_err(ClientError::from)?)
        }
        None => claim(&realm, &state)?,
    };
    // What it has accepted since vouches for its credential.
    realm.trust = folder.trust(&realm.trust)?;
    let member = realm.member(Role::Client, &name, args.skew.millis())?;
    let mut config = ClientConfig::new(member, realm.trust, args.realm.broker.address(), state);
    config.limits.skew = args.skew.millis();
    config.limits.jobs = args.jobs.into();
    config.limits.retain = args.retain.millis();
    config.start_ready = args.start_ready;
    config.prefix_output = args.prefix_output;
    env!("CARGO_PKG_VERSION").clone_into(&mut config.version);
    config.health.clone_from(&args.health);

    // The key may be a link to where it is.
    let secrets = [realm.folder.path().to_owned(), realm.folder.key(Role::Client, &name), folder.path().to_owned()];
    let read = |folder: &Path| Programs::read(folder, &secrets).map_err(|errors| wrong(folder, &errors));
    let programs = args.commands.as_deref().map(read).transpose()?;
    let commands = registered(programs, helper, &signals)?;
    let updates = updates(args.commands.clone(), secrets.to_vec(), helper, &signals)?;
    let client = Client::new(config, commands).holding(folder).updated_by(updates);
    let (stopper, shutdown) = shutdown();
    tokio::spawn(pass_on(signals.clone(), stopper));
    let ended = client.run(shutdown).await.map_err(|error| match error {
        ClientError::Link(error) => CliError::no_broker(error, &args.realm.broker, &realm.folder),
        error => error.into(),
    })?;
    match ended {
        Stopped::Cleanly => Ok(Exit::Succeeded),
        Stopped::AtOnce => {
            tracing::warn!("ended at once; the next start answers for what was left");
            Ok(signals.first().await)
        }
    }
}

/// The protocol's own data commands, and these programs.
fn registered(programs: Option<Programs>, helper: Helper, signals: &Signals) -> Result<Commands, ClientError> {
    let commands = Commands::standard()?;
    let Some(programs) = programs else { return Ok(commands) };
    for program in programs.iter() {
        if let Some(why) = program.obstacle() {
            tracing::warn!("the command {} cannot be started now: {why}", program.name());
        }
    }
    tracing::info!("programs that are commands: {}", programs.iter().count());
    // One that ran before may still take as long as it was granted.
    signals.allow(programs.grace());
    Ok(commands.programs(programs, helper)?)
}

/// What follows the folder: read again at every SIGHUP, as a whole. A set that is wrong changes nothing.
fn updates(
    folder: Option<PathBuf>,
    secrets: Vec<PathBuf>,
    helper: Helper,
    signals: &Signals,
) -> CliResult<mpsc::Receiver<Commands>> {
    let (sender, receiver) = mpsc::channel(1);
    let signals = signals.clone();
    let mut hang_ups = signal(SignalKind::hangup()).map_err(|error| {
        CliError::new(Exit::Failed, format!("SIGHUP cannot be handled: {error}"))
            .expected("a system that lets a process handle its signals")
            .hint("check the limits of this process (`ulimit -a`)")
    })?;
    tokio::spawn(async move {
        while hang_ups.recv().await.is_some() {
            let Some(folder) = &folder else {
                tracing::info!("SIGHUP: there is no folder of commands to read again");
                continue;
            };
            let programs = match Programs::read(folder, &secrets) {
                Ok(programs) => programs,
                Err(errors) => {
                    for error in errors {
                        tracing::error!("the commands stay as they were: {error}; expected: {}", error.expected);
                    }
                    continue;
                }
            };
            match registered(Some(programs), helper, &signals) {
                Ok(commands) => {
                    if sender.send(commands).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::error!("the commands stay as they were: {error}"),
            }
        }
    });
    Ok(receiver)
}

/// Asks once for an orderly end. The second signal, and the end of the 5 seconds, end the process.
async fn pass_on(mut signals: Signals, stopper: Stopper) {
    signals.first().await;
    stopper.stop();
    // A client whose stopper is dropped never gets the request.
    std::future::pending().await
}

/// The first client whose key is here and that nobody is, and its folder: held from now on, so that nobody else becomes it.
fn claim(realm: &Realm, state: &Path) -> CliResult<(Name, LockedStateDir)> {
    let keys = realm.folder.path().display();
    let mut names = realm.folder.names(Role::Client)?;
    // The key of one that has only its credential here lives elsewhere, and so does that client.
    names.retain(|name| realm.folder.key(Role::Client, name).exists());
    if names.is_empty() {
        return Err(CliError::keys(format!("the folder {keys} has no client"))
            .expected("the key and the credential of one")
            .hint(format!("{}; or name another folder by --keys", realm.how_to_add(Role::Client, "NAME"))));
    }
    // Who comes back after a crash is to be who it was, even where a name before it is free: that of a client that was
    // terminated. A container keeps its host name when it is started again.
    let host = fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
    let mark = |name: &Name| state.join(name.as_str()).join("host");
    names.sort_by_key(|name| fs::read(mark(name)).ok().as_ref() != Some(&host));
    for name in &names {
        match LockedStateDir::take(state, name) {
            Ok(folder) => {
                if let Err(error) = fs::write(mark(name), &host) {
                    tracing::warn!("{}: {error}; the next start may claim another name", mark(name).display());
                }
                tracing::info!("claimed the name {name}");
                return Ok((name.clone(), folder));
            }
            Err(error) if error.is_held() => {}
            Err(error) => return Err(ClientError::from(error).into()),
        }
    }
    names.sort();
    let what = format!("no name is left to claim: all {} of the folder {keys} are held", names.len());
    Err(CliError::new(Exit::Failed, what)
        .expected(format!("one that no other process is: {}", listed(&names)))
        .hint(format!("{}; or start fewer clients", realm.how_to_add(Role::Client, "NAME"))))
}

/// Where the journal is by default.
pub(crate) fn default_state() -> CliResult<PathBuf> {
    let absolute = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("countersign"))
        .ok_or_else(|| {
            CliError::usage("there is no folder for what the client must remember")
                .expected("--state, COUNTERSIGN_STATE, or an absolute XDG_STATE_HOME or HOME")
                .hint("--state /var/lib/countersign")
        })
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let exit = match error {
            ClientError::Link(error) => return error.into(),
            ClientError::Start(_) | ClientError::Trust(_) => Exit::Keys,
            ClientError::Registration(_) | ClientError::Record(_) | ClientError::Random(_) => Exit::Failed,
        };
        Self::new(exit, &error).expected(error.expected()).hint(error.hint())
    }
}
