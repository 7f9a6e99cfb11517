//! `countersign history`: what this operator sent from this machine, and what came of it.

use countersign_host::clock;
use countersign_protocol::id::MessageId;

use crate::args::{HistoryArgs, HistoryFilter, OperatorArgs, OutputArgs};
use crate::cli_error::{CliResult, Exit};
use crate::duration::Span;
use crate::history::{History, SentEntry};
use crate::output::{Output, print_history};
use crate::realm::Realm;
use crate::short_id::ShortId;

/// How far back it goes by default: a day, in milliseconds.
const SINCE: i64 = 86_400_000;

/// Prints the history of the operator that the options name.
pub(crate) fn run(args: &HistoryArgs<OperatorArgs>, output: Output) -> CliResult<Exit> {
    let realm = Realm::open(&args.sender.realm.keys)?;
    let history = History::of(&realm, &realm.operator_name(&args.sender)?, output);
    show(&history, &args.filter, args.output, output).map(|()| Exit::Succeeded)
}

/// Prints one command of a history, or those of a time.
pub(crate) fn show(history: &History, filter: &HistoryFilter, format: OutputArgs, output: Output) -> CliResult<()> {
    let (all, now) = (history.read()?, clock::wall());
    let since = now.plus(-filter.since.map_or(SINCE, Span::millis));
    let one = match &filter.command_id {
        None => None,
        Some(typed) => Some(match typed.parse::<MessageId>() {
            Ok(id) => id,
            Err(_) => {
                let known = all.values().map(|entry| (entry.command_id, entry.to_string()));
                ShortId::parse(typed)?.choose(&known.collect())?
            }
        }),
    };
    let is_shown = |entry: &&SentEntry| match one {
        Some(one) => entry.command_id == one,
        None => entry.at >= since,
    };
    let mut shown: Vec<&SentEntry> = all.values().filter(is_shown).collect();
    if let Some(one) = one
        && shown.is_empty()
    {
        return Err(ShortId::unknown(&one.to_string()));
    }
    shown.sort_by_key(|entry| entry.at);
    print_history(&shown, &all, one.is_some(), format.format(), now, output)
}
