//! `countersign setup`: the broker's streams.

use countersign_host::keys::read_seed;
use countersign_server::{SetupError, setup};
use tracing_subscriber::filter::LevelFilter;

use crate::args::Options;
use crate::failure::{Exit, Failure, Fallible};
use crate::logs;
use crate::output::Output;
use crate::realm::Realm;

/// Makes the streams, or brings them up to date.
pub(crate) async fn run(options: &Options, output: Output) -> Fallible<Exit> {
    logs::begin(options, LevelFilter::WARN);
    let realm = Realm::open(options)?;
    let seed = read_seed(&realm.folder.setup_seed())?;
    let stream = setup(&options.nats_url, realm.trust.realm(), seed).await?;
    output.note(&format!("the stream {stream} is as it should be"));
    Ok(Exit::Succeeded)
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Link(error) => error.into(),
            SetupError::Stream { .. } => Self::new(Exit::Broker, error)
                .expected("a NATS server with JetStream, whose list of users is that of this folder of keys")
                .remedy("start it with this repository's nats.conf, or make it read its configuration again: SIGHUP"),
        }
    }
}
