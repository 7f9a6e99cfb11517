//! Printing while a person types: above the line that they are typing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};

/// How many texts wait to be printed, at most: a terminal that is stopped must not fill the memory.
const MAX_WAITING: usize = 4_096;
/// How long the end waits for what was printed before it.
const PATIENCE: Duration = Duration::from_secs(1);

static ABOVE: OnceLock<Above> = OnceLock::new();

struct Above {
    waiting: SyncSender<Printing>,
    shed: AtomicU64,
}

enum Printing {
    Text(String),
    /// Answered when everything before it is printed.
    All(SyncSender<()>),
}

/// From now on everything is printed by this, on a thread of its own: it may block until the person types on. Tells whether
/// it printed.
pub(crate) fn print_above(mut print: impl FnMut(String) -> bool + Send + 'static) {
    let (waiting, texts) = sync_channel(MAX_WAITING);
    std::thread::spawn(move || {
        while let Ok(printing) = texts.recv() {
            match printing {
                Printing::Text(text) => {
                    if !print(text) {
                        return;
                    }
                }
                // Nobody may wait for it any more.
                Printing::All(printed) => drop(printed.try_send(())),
            }
        }
    });
    // There is one prompt in a process.
    let _ = ABOVE.set(Above { waiting, shed: AtomicU64::new(0) });
}

/// Whether somebody types.
pub(super) fn is_on() -> bool {
    ABOVE.get().is_some()
}

/// Prints a text above what is being typed; `false` where nobody types.
pub(super) fn print(text: &str) -> bool {
    let Some(above) = ABOVE.get() else { return false };
    let coloured = AutoStream::choice(&std::io::stdout()) != ColorChoice::Never;
    let mut text = if coloured { text.to_owned() } else { strip_str(text).to_string() };
    let shed = above.shed.swap(0, Ordering::Relaxed);
    if shed > 0 {
        text = format!("({shed} lines were not shown: the terminal did not take them)\n{text}");
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if above.waiting.try_send(Printing::Text(text)).is_err() {
        above.shed.fetch_add(shed + 1, Ordering::Relaxed);
    }
    true
}

/// Waits until everything is printed, but not for ever.
pub(crate) fn print_all() {
    let (printed, all) = sync_channel(1);
    if let Some(above) = ABOVE.get()
        && above.waiting.try_send(Printing::All(printed)).is_ok()
    {
        // A terminal that takes nothing is not waited for.
        let _ = all.recv_timeout(PATIENCE);
    }
}
