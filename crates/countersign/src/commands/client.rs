//! `countersign client`: a worker.

use std::path::PathBuf;

use countersign_client::{Client, ClientConfig, ClientError, Commands, Stopped, Stopper, shutdown};
use countersign_protocol::credential::Role;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::args::{ClientArgs, Options};
use crate::failure::{Exit, Failure, Fallible};
use crate::logs;
use crate::realm::Realm;

/// Runs until it is told to end.
pub(crate) async fn run(options: &Options, args: &ClientArgs) -> Fallible<Exit> {
    logs::begin(options, LevelFilter::INFO);
    let state = match &args.state {
        Some(state) => state.clone(),
        None => default_state()?,
    };
    let realm = Realm::open(options)?;
    let member = realm.member(Role::Client, &args.name, args.skew.millis())?;
    let mut config = ClientConfig::new(member, realm.trust, &options.nats_url, state);
    config.limits.skew = args.skew.millis();
    config.limits.jobs = args.jobs.into();
    config.limits.reset_clock = args.reset_clock;
    env!("CARGO_PKG_VERSION").clone_into(&mut config.limits.version);

    let commands = Commands::standard().map_err(ClientError::from)?;
    let (stopper, shutdown) = shutdown();
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    tokio::spawn(pass_on(signals, stopper));
    match Client::new(config, commands).run(shutdown).await? {
        Stopped::Cleanly => Ok(Exit::Succeeded),
        Stopped::AtOnce => {
            tracing::warn!("ended at once; the next start answers for what was left");
            Ok(Exit::Interrupted)
        }
    }
}

/// Each signal asks once: the first for an orderly end, the second to end at once.
async fn pass_on(signals: [std::io::Result<Signal>; 2], stopper: Stopper) {
    let [terminate, interrupt] = signals;
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        tracing::warn!("signals cannot be listened to: SIGTERM and SIGINT end this client at once");
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopper.stop();
    }
}

fn default_state() -> Fallible<PathBuf> {
    let absolute = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("countersign"))
        .ok_or_else(|| {
            Failure::usage("there is no folder for what the client must remember")
                .expected("--state, COUNTERSIGN_STATE, or an absolute XDG_STATE_HOME or HOME")
                .remedy("--state /var/lib/countersign")
        })
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error {
            ClientError::Link(error) => return error.into(),
            ClientError::Start(_) => Exit::Keys,
            ClientError::Registration(_) | ClientError::Record(_) | ClientError::Random(_) => Exit::Failed,
        };
        Self::new(exit, &error).expected(error.expected()).remedy(error.remedy())
    }
}
