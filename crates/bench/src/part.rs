//! This program in other parts, as processes of their own: who answers, and who floods.

use std::io::Write;
use std::path::Path;

use countersign_keys::KeyFolder;
use tokio::io::AsyncReadExt;

use crate::{BenchResult, fleet, flood, pings};

/// Answers unsigned requests.
pub(crate) const ECHO: &str = "be-echo";
/// Answers for many clients.
pub(crate) const FLEET: &str = "be-fleet";
/// Sends forged commands.
pub(crate) const FLOOD: &str = "be-flood";

/// Plays a part until it has come to its end, or whoever started this process is gone. `None` where the words name none.
pub(crate) async fn play(words: &[String]) -> Option<BenchResult<()>> {
    let [part, url, keys, rest @ ..] = words else { return None };
    if ![ECHO, FLEET, FLOOD].contains(&part.as_str()) {
        return None;
    }
    let keys = KeyFolder::new(Path::new(keys));
    let playing = async {
        match part.as_str() {
            ECHO => pings::echo(url, &keys).await,
            FLEET => fleet::answer(url, &keys, rest).await,
            _ => flood::pour(url, &keys, rest).await,
        }
    };
    tokio::select! {
        played = playing => Some(played),
        () = orphaned() => Some(Ok(())),
    }
}

/// Signals to whoever started this process that it is ready.
pub(crate) fn ready() -> BenchResult<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(b"ready\n")?;
    Ok(stdout.flush()?)
}

async fn orphaned() {
    let mut nothing = [0; 1];
    while tokio::io::stdin().read(&mut nothing).await.is_ok_and(|read| read > 0) {}
}
