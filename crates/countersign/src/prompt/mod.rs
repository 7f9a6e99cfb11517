//! `countersign server`: commands line by line, from a person or from a script.

mod completion;
mod editor;
mod help;
mod interactive;
mod line;
mod live;
mod script;
mod session;

use std::io::{IsTerminal, stdin, stdout};

use countersign_server::Follow;

use crate::args::ServerArgs;
use crate::cli_error::{CliResult, Exit};
use crate::history::History;
use crate::output::Output;
use crate::realm::Realm;
use crate::requests;
use crate::signals::Signals;
use crate::vocabulary::VocabularyFile;
use session::Session;

/// Reads lines until there are no more.
pub(crate) async fn run(args: &ServerArgs, output: Output, mut signals: Signals) -> CliResult<Exit> {
    let realm = Realm::open(&args.sender.realm.keys)?;
    let member = realm.operator(&args.sender)?;
    let history = History::of(&realm, member.identity.name(), output);
    let words = VocabularyFile::of(&realm, member.identity.name());
    // A --ttl that the grant does not allow is refused now, and not at the first command.
    requests::options(&args.send, &member.identity)?;
    let connected = async {
        let mut operator =
            requests::connect(&args.sender.realm.broker, realm, member, Follow::Everything, output).await?;
        // Without a roster, clients can be named all the same.
        if let Err(error) = operator.refresh().await {
            output.note(format!("{error}; nobody is known but by name"));
        }
        CliResult::Ok(operator)
    };
    let operator = tokio::select! {
        operator = connected => operator?,
        exit = signals.first() => return Err(requests::interrupted(exit)),
    };
    let is_person = stdin().is_terminal() && stdout().is_terminal();
    let session = Session::new(args, operator, history, words, output, is_person);
    if is_person {
        signals.spare_interrupts();
        interactive::run(session).await
    } else {
        script::run(session, signals).await
    }
}
