//! Everything that is printed: the outcome on standard output, all else on standard error.

mod above;
mod answer;
mod client_event;
mod commands;
mod credential;
mod describe;
mod findings;
mod history;
mod json;
mod observer;
mod report;
mod roster;
mod status;
mod stderr;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod trust;

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anstream::ColorChoice;
use anstyle::{AnsiColor, Effects};
use countersign_protocol::text::escape;
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use tracing::Level;

use self::above::Source;
use crate::args::VerbosityArgs;
use crate::cli_error::{CliError, CliResult, Exit};
use crate::limit::{self, limit};
use crate::text::{Place, Text, code};

pub(crate) use above::{print_above, print_all, repaint, show_all};
pub(crate) use answer::{answer as answer_text, other_result, reply_answer, verdict as verdict_text};
pub(crate) use client_event::{event_line, late_line};
pub(crate) use commands::print_commands;
pub(crate) use credential::{changes_table, print_changes, print_credential, print_members};
pub(crate) use describe::resolved;
pub(crate) use findings::print_findings;
pub(crate) use history::print_history;
pub(crate) use observer::{POLL_INTERVAL, is_read};
pub(crate) use report::Gathering;
pub(crate) use roster::print_roster;
pub(crate) use stream::StreamPrinter;
pub(crate) use table::table;
pub(crate) use trust::{EndedLogins, Published, print_published, print_trust};

/// How long the end waits for standard error.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an end by force waits for it.
const AT_ONCE: Duration = Duration::from_millis(200);
/// How long standard output waits for standard error: on a terminal the two are to be in order.
const IN_ORDER: Duration = Duration::from_millis(200);

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    quiet: bool,
    progress: bool,
}

impl Output {
    /// As the options have it. Colours are for terminals, and not with `--no-color` or NO_COLOR.
    pub(crate) fn new(options: &VerbosityArgs) -> Self {
        if options.no_color {
            no_color();
        }
        // Log lines would be mixed up with a line that is written over and over.
        let progress = io::stderr().is_terminal() && !options.quiet && options.verbose == 0;
        Self { quiet: options.quiet, progress }
    }

    /// One that prints nothing but alarms.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self { quiet: true, progress: false }
    }

    /// Whether only what was asked for and what went wrong is printed.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Lines of text on standard output.
    pub(crate) fn text(self, text: &str) -> CliResult<()> {
        if above::print(text, Source::Person) {
            return Ok(());
        }
        self.clear();
        stderr::flush(IN_ORDER);
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| match text.ends_with('\n') {
            true => Ok(()),
            false => stdout.write_all(b"\n"),
        });
        match written.and_then(|()| stdout.flush()) {
            // Whoever reads has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(CliError::new(Exit::Failed, format!("standard output cannot be written: {error}"))
                .expected("a place for the outcome")
                .hint(code("result") + " shows again what a command came to")),
            Ok(()) => Ok(()),
        }
    }

    /// A JSON document in one line on standard output.
    pub(crate) fn json(self, document: &impl Serialize) -> CliResult<()> {
        match json::line(document) {
            Ok(line) => self.text(&line),
            Err(error) => Err(CliError::new(Exit::Failed, format!("the outcome cannot be written as JSON: {error}"))),
        }
    }

    /// A remark on standard error.
    pub(crate) fn note(self, text: impl Into<Text>) {
        if !self.quiet {
            self.clear();
            stderr_line("note", AnsiColor::Cyan, &text.into().render(place()));
        }
    }

    /// A remark on standard error that is not held back by `--quiet`: something may be wrong.
    pub(crate) fn alarm(self, text: &str) {
        self.clear();
        stderr_line("warning", AnsiColor::Yellow, text);
    }

    /// A remark that the broker or the network causes, as often as it likes, and which is limited therefore.
    pub(crate) fn notice(self, alarm: bool, text: &str) {
        let (kind, level) = if alarm { ("alarm", Level::WARN) } else { ("note", Level::INFO) };
        if self.quiet && !alarm {
            return;
        }
        for (_, line) in limit(kind, level, text) {
            if alarm { self.alarm(&line) } else { self.note(&line) }
        }
    }

    /// A client's event, on standard error.
    pub(crate) fn event(self, text: &str) {
        self.labelled("event", text);
    }

    /// A client's reply, on standard error: its verdict is printed elsewhere.
    pub(crate) fn reply(self, text: &str) {
        self.labelled("reply", text);
    }

    fn labelled(self, label: &str, text: &str) {
        if !self.quiet {
            self.clear();
            stderr_line(label, AnsiColor::Green, text);
        }
    }

    /// What is going on, in a line on standard error that the next one replaces; only on a terminal.
    pub(crate) fn progress(self, text: &str) {
        if self.progress && !above::is_on() {
            let width = usize::from(columns(io::stderr()).unwrap_or(80)).saturating_sub(1);
            let line: String = escape(text).chars().take(width).collect();
            stderr::raw(format!("\r\x1b[K{line}"));
        }
    }

    fn clear(self) {
        if self.progress && !above::is_on() {
            stderr::raw("\r\x1b[K".to_owned());
        }
    }
}

/// No colours from now on, whatever is printed.
pub(crate) fn no_color() {
    ColorChoice::Never.write_global();
}

/// What went wrong, on standard error, with commands as they are typed there; the status that the command ends with.
pub(crate) fn failure(failure: &CliError, place: Place) -> Exit {
    for (label, line) in failure.lines(place) {
        stderr_line(label, if label == "error" { AnsiColor::Red } else { AnsiColor::Cyan }, &line);
    }
    failure.exit()
}

/// The help or the version that was requested.
pub(crate) fn help(requested: &clap::Error) -> Exit {
    // Whoever reads may have read enough.
    let _ = requested.print();
    if requested.use_stderr() { Exit::Usage } else { Exit::Succeeded }
}

/// The columns of a terminal; `None` where it is none, or does not report them.
fn columns(of: impl AsFd) -> Option<u16> {
    tcgetwinsize(of).ok().map(|window| window.ws_col).filter(|columns| *columns > 0)
}

/// Where whoever reads types: at the prompt once it is there.
fn place() -> Place {
    if above::is_on() { Place::Prompt } else { Place::Shell }
}

fn stderr_line(label: &str, colour: AnsiColor, text: &str) {
    let style = colour.on_default() | Effects::BOLD;
    let is_told = ["event", "reply"].contains(&label);
    let line = format!("{style}{label}:{style:#} {}", escape(text));
    let wanted = if is_told { Source::Others } else { Source::Person };
    // Whoever sends standard error elsewhere wants it there, and not on the terminal.
    if !io::stderr().is_terminal() || !above::print(&line, wanted) {
        if ["error", "expected", "try"].contains(&label) { stderr::last_line(&line) } else { stderr::line(&line) }
    }
}

/// A log line, without blocking; it is printed above what is being typed.
pub(crate) fn log((level, text): &limit::Line) {
    let line = &stderr::log_line(*level, text);
    if !io::stderr().is_terminal() || !above::print(line, Source::Others) {
        stderr::line(line);
    }
}

/// Logs how many lines were left out or repeated, where that is due by then.
pub(crate) fn log_counts(now: i64) {
    limit::due(now).iter().for_each(log);
}

/// Waits until everything is written, but not for ever.
pub(crate) fn flush() {
    log_counts(i64::MAX);
    above::print_all();
    stderr::flush(FLUSH_TIMEOUT);
}

/// Writes what is left before the process is ended by force, where somebody reads.
pub(crate) fn flush_at_once() {
    stderr::flush(AT_ONCE);
}
