//! Standard error: everything goes through one queue to a thread of its own, so that nobody who does not read blocks anything.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::Duration;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use anstyle::AnsiColor;
use countersign_host::clock;
use countersign_host::outlet::{Bounds, Outlet, Sink};
use countersign_protocol::text::escape;
use jiff::Timestamp;
use tracing::Level;

use crate::text::counted;

/// How much may wait where nobody reads; what comes then is lost, and counted.
const BOUNDS: Bounds = Bounds { items: 1_024, bytes: 1024 * 1024 };
/// The same for why the process ends.
const LAST: Bounds = Bounds { items: 1_124, bytes: 2 * 1024 * 1024 };

static STDERR: LazyLock<Option<Outlet<String>>> = LazyLock::new(|| Outlet::new(Stderr { failed: 0 }).ok());

struct Stderr {
    /// How many texts could not be written since one could.
    failed: u64,
}

impl Sink<String> for Stderr {
    fn write(&mut self, text: String) {
        let mut stderr = io::stderr().lock();
        if self.failed > 0 && stderr.write_all(lost(self.failed, "they could not be written").as_bytes()).is_ok() {
            self.failed = 0;
        }
        self.failed += u64::from(stderr.write_all(text.as_bytes()).is_err());
    }

    fn lost(&mut self, count: u64) {
        self.write(lost(count, "nobody read them"));
    }
}

fn lost(count: u64, why: &str) -> String {
    painted(&format!("{}\n", log_line(Level::WARN, &format!("{} lost here: {why}", counted(count, "line")))))
}

/// A log line as it is written.
pub(super) fn log_line(level: Level, text: &str) -> String {
    let colour = match level {
        Level::ERROR => AnsiColor::Red,
        Level::WARN => AnsiColor::Yellow,
        Level::INFO => AnsiColor::Green,
        _ => AnsiColor::Blue,
    };
    let style = colour.on_default();
    let now = Timestamp::from_millisecond(clock::wall().get()).unwrap_or_default();
    format!("{now:.3} {style}{level:5}{style:#} {}", escape(text))
}

/// Without colours where standard error is not to have any.
fn painted(text: &str) -> String {
    match AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => strip_str(text).to_string(),
        _ => text.to_owned(),
    }
}

/// Writes a line, and never blocks.
pub(super) fn line(text: &str) {
    push(painted(&format!("{text}\n")), BOUNDS);
}

/// Writes a line with the reason why the process ends: there is room for it where everything else is lost already.
pub(super) fn last_line(text: &str) {
    push(painted(&format!("{text}\n")), LAST);
}

/// Writes what moves the cursor of a terminal.
pub(super) fn raw(text: String) {
    push(text, BOUNDS);
}

/// Waits until everything is written, but no longer than this.
pub(super) fn flush(patience: Duration) {
    if let Some(outlet) = &*STDERR {
        outlet.flush(patience);
    }
}

fn push(text: String, bounds: Bounds) {
    match &*STDERR {
        Some(outlet) => {
            let bytes = text.len();
            outlet.push(text, bytes, bounds);
        }
        // There is no thread to be had: then it may block.
        None => drop(io::stderr().lock().write_all(text.as_bytes())),
    }
}
