//! The line editor: on a thread of its own, for it waits for the person.

use std::fs;
use std::io::{ErrorKind, Write as _, stdin, stdout};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use countersign_protocol::text::echo;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::config::{CompletionType, Configurer};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{ColorMode, Config, ExternalPrinter};
use tokio::sync::mpsc;

use super::completion::{Completion, Words};
use super::live::LivePrompt;
use crate::cli_error::{CliError, CliResult, Exit};
use crate::commands::client::default_state;
use crate::output;

/// How many lines are remembered.
const MAX_HISTORY: usize = 1_000;

/// Ends the mode that the editor has set in the terminal, and the line that the cursor is on.
const BRACKETED_PASTE_OFF: &[u8] = b"\x1b[?2004l\r\n";

/// What was typed instead of a line, or the line.
#[derive(Debug)]
pub(super) enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the terminal is gone.
    End,
    /// Something that is no text.
    Garbled,
    /// The terminal cannot be read.
    Failed(String),
}

/// Reads lines from a person at the terminal.
pub(super) struct Editor {
    questions: Sender<Question>,
    answers: mpsc::Receiver<Typed>,
    words: Arc<Mutex<Words>>,
    prompt: LivePrompt,
    /// Whether a line was requested and has not been typed yet.
    is_reading: bool,
    /// How the terminal was, and will be again whatever happens to the thread.
    before: Option<Termios>,
}

struct Question {
    prompt: String,
    /// Whether the answer is a line to remember.
    remember: bool,
}

impl Editor {
    /// Takes over the terminal: from now on everything that is printed appears above what is being typed.
    pub(super) fn start(history: Option<PathBuf>) -> CliResult<Self> {
        let before = tcgetattr(stdin()).ok();
        let failed = |error: &dyn std::fmt::Display| {
            let term = std::env::var("TERM").unwrap_or_default();
            CliError::new(Exit::Failed, format!("this terminal cannot be used (TERM is `{}`): {error}", echo(&term)))
                .expected("a terminal that can move its cursor")
                .hint("commands on standard input: countersign server < FILE")
        };
        let config = Config::builder()
            .max_history_size(MAX_HISTORY)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(|error| failed(&error))?
            .completion_type(CompletionType::List)
            // What it calls highlighting is how the prompt changes; nothing of it is a colour.
            .color_mode(ColorMode::Forced)
            .build();
        let words = Arc::new(Mutex::new(Words::default()));
        let prompt = LivePrompt::default();
        let mut editor = rustyline::Editor::<Completion, FileHistory>::with_config(config).map_err(|e| failed(&e))?;
        editor.set_helper(Some(Completion::new(Arc::clone(&words), prompt.clone())));
        editor.set_auto_add_history(false);
        if let Some(history) = &history {
            // There is none before the first time.
            let _ = editor.load_history(history);
        }
        let mut printer = editor.create_external_printer().map_err(|error| failed(&error))?;
        output::print_above(move |text| printer.print(text).is_ok());
        let (questions, requested) = channel();
        let (typed, answers) = mpsc::channel(1);
        std::thread::spawn(move || ask(editor, history.as_deref(), &requested, &typed));
        Ok(Self { questions, answers, words, prompt, is_reading: false, before })
    }

    /// Shows the prompt and reads a line, which [`typed`](Self::typed) then returns.
    pub(super) fn read_line(&mut self, prompt: String, remember: bool) {
        self.is_reading = true;
        self.prompt.begin(&prompt);
        // Where the thread has ended, `typed` returns that.
        let _ = self.questions.send(Question { prompt, remember });
    }

    /// Shows another prompt before the line that is being typed, if it is another one.
    pub(super) fn change_prompt(&self, prompt: &str) {
        if self.prompt.change(prompt) {
            output::repaint();
        }
    }

    /// Waits for the line. Nothing is lost when this is dropped while it waits.
    pub(super) async fn typed(&mut self) -> Typed {
        let typed = self.answers.recv().await.unwrap_or(Typed::End);
        self.is_reading = false;
        typed
    }

    /// What can be completed from now on.
    pub(super) fn update(&self, words: Words) {
        if let Ok(mut known) = self.words.lock() {
            *known = words;
        }
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        // A terminal that is gone needs no care.
        if self.is_reading {
            output::show_all();
            let _ = stdout().write_all(BRACKETED_PASTE_OFF);
            let _ = stdout().flush();
        }
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

fn ask(
    mut editor: rustyline::Editor<Completion, FileHistory>,
    history: Option<&Path>,
    questions: &Receiver<Question>,
    answers: &mpsc::Sender<Typed>,
) {
    while let Ok(Question { prompt, remember }) = questions.recv() {
        let typed = match editor.readline(&prompt) {
            Ok(line) => {
                if remember && !line.trim().is_empty() {
                    // A history that cannot be kept is no reason to lose the line.
                    let _ = editor.add_history_entry(line.as_str());
                    if let Some(history) = history {
                        let _ = editor.append_history(history);
                    }
                }
                Typed::Line(line)
            }
            Err(ReadlineError::Interrupted) => Typed::Interrupted,
            Err(ReadlineError::Eof) => Typed::End,
            Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => Typed::Garbled,
            Err(error) => Typed::Failed(error.to_string()),
        };
        if answers.blocking_send(typed).is_err() {
            return;
        }
    }
}

/// Where the lines are remembered, below the folder that a client's state is in by default too; its folder is made. `None`
/// where there is no such place.
pub(super) fn history_file() -> Option<PathBuf> {
    let folder = default_state().ok()?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    // A dot, for a client's folder beside it has none in its name.
    Some(folder.join("server.history"))
}
