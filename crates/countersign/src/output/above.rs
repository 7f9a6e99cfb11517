//! Printing while a person types: above the line that they are typing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};

use super::stderr;
use crate::text::counted;

/// How many texts wait to be printed, at most: a terminal that is stopped must not fill the memory.
const MAX_WAITING: usize = 4_096;
/// How many texts, and how many bytes, wait before events and logs are dropped. The rest is for verdicts and errors, of which
/// there are no more than a person causes.
const MAX_UNREQUESTED: usize = 1_024;
const MAX_UNREQUESTED_BYTES: usize = 1024 * 1024;
/// How long the end waits for what was printed before it.
const PRINT_TIMEOUT: Duration = Duration::from_secs(1);

/// A text that shows nothing: a line up, and its end.
const NOTHING: &str = "\x1b[A\n";

static ABOVE: OnceLock<Above> = OnceLock::new();

struct Above {
    waiting: SyncSender<Printing>,
    texts: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    shed: AtomicU64,
}

/// What caused a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The person: it is a verdict, an error, a help.
    Person,
    /// A client's event, or the log.
    Others,
}

enum Printing {
    Text(String),
    /// Answered when everything before it is printed.
    All(SyncSender<()>),
}

/// From now on everything is printed by this, on a thread of its own: it may block until the person types on. `print`
/// returns whether it printed.
pub(crate) fn print_above(mut print: impl FnMut(String) -> bool + Send + 'static) {
    let (waiting, printings) = sync_channel(MAX_WAITING);
    let (texts, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (waiting_texts, waiting_bytes) = (Arc::clone(&texts), Arc::clone(&bytes));
    std::thread::spawn(move || {
        while let Ok(printing) = printings.recv() {
            match printing {
                Printing::Text(text) => {
                    waiting_texts.fetch_sub(1, Ordering::Relaxed);
                    waiting_bytes.fetch_sub(text.len(), Ordering::Relaxed);
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
    let _ = ABOVE.set(Above { waiting, texts, bytes, shed: AtomicU64::new(0) });
    // What was printed before, the other way, must not be written over the first prompt.
    stderr::flush(PRINT_TIMEOUT);
}

/// Whether somebody types.
pub(super) fn is_on() -> bool {
    ABOVE.get().is_some()
}

/// Prints a text above what is being typed; `false` where nobody types.
pub(super) fn print(text: &str, source: Source) -> bool {
    let Some(above) = ABOVE.get() else { return false };
    if source == Source::Others && above.is_full() {
        above.shed.fetch_add(1, Ordering::Relaxed);
        return true;
    }
    let coloured = AutoStream::choice(&std::io::stdout()) != ColorChoice::Never;
    let mut text = if coloured { text.to_owned() } else { strip_str(text).to_string() };
    let shed = above.shed.swap(0, Ordering::Relaxed);
    if shed > 0 {
        text = format!("(not shown, for the terminal did not take it: {})\n{text}", counted(shed, "event"));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    above.send(text);
    true
}

/// Shows the prompt, and what is typed after it, once more: it has changed.
pub(crate) fn repaint() {
    if let Some(above) = ABOVE.get().filter(|above| !above.is_full()) {
        above.send(NOTHING.to_owned());
    }
}

/// Waits until everything is on the screen, above the line that is being typed, but not for ever.
pub(crate) fn show_all() {
    if let Some(above) = ABOVE.get() {
        // The line editor takes one text while it shows another: it takes the second of these when it has shown what was before.
        for _ in 0..2 {
            above.send(NOTHING.to_owned());
        }
    }
    print_all();
}

impl Above {
    fn is_full(&self) -> bool {
        self.texts.load(Ordering::Relaxed) >= MAX_UNREQUESTED
            || self.bytes.load(Ordering::Relaxed) >= MAX_UNREQUESTED_BYTES
    }

    fn send(&self, text: String) {
        self.texts.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(text.len(), Ordering::Relaxed);
        // A terminal that takes nothing while a person causes thousands of texts shows what it can.
        let _ = self.waiting.try_send(Printing::Text(text));
    }
}

/// Waits until everything is printed, but not for ever.
pub(crate) fn print_all() {
    let (printed, all) = sync_channel(1);
    if let Some(above) = ABOVE.get()
        && above.waiting.try_send(Printing::All(printed)).is_ok()
    {
        // A terminal that takes nothing is not waited for.
        let _ = all.recv_timeout(PRINT_TIMEOUT);
    }
}
