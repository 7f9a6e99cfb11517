//! Texts for people. A text may name commands; only where it is printed is it known how they are typed there.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::Add;

use countersign_protocol::reply::{ErrorBody, ErrorCode};
use serde_json::Value;

use crate::program_report::ProgramReport;

/// How much of a message is shown, in characters; in JSON it is whole.
pub(crate) const MAX_MESSAGE: usize = 512;

/// Where somebody types what a text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a shell, after the name of the program.
    Shell,
    /// At the prompt.
    Prompt,
}

/// A text that may name commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    /// The words of a command after the name of the program.
    Command(String),
}

/// A command that both a shell and the prompt have, without the name of the program: `ping worker-1`.
pub(crate) fn command(words: impl Display) -> Text {
    Text(vec![Part::Command(words.to_string())])
}

/// The same between backticks, as it stands in a sentence.
pub(crate) fn code(words: impl Display) -> Text {
    "`" + command(words) + "`"
}

impl Text {
    /// The text as it is shown there; not yet escaped.
    pub(crate) fn render(&self, place: Place) -> String {
        let parts = self.0.iter().map(|part| match (part, place) {
            (Part::Plain(text), _) => text.clone(),
            (Part::Command(words), Place::Shell) => format!("countersign {words}"),
            (Part::Command(words), Place::Prompt) => words.clone(),
        });
        parts.collect()
    }
}

/// A text that names no command.
impl<T: Display> From<T> for Text {
    fn from(text: T) -> Self {
        Self(vec![Part::Plain(text.to_string())])
    }
}

impl<T: Into<Text>> Add<T> for Text {
    type Output = Self;

    fn add(mut self, more: T) -> Self {
        self.0.extend(more.into().0);
        self
    }
}

impl Add<Text> for &str {
    type Output = Text;

    fn add(self, more: Text) -> Text {
        Text::from(self) + more
    }
}

/// A text of so many characters at most: whoever wrote it may have made it as long as they liked.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// `1 job`, `2 jobs`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The error of a reply: its message, its code where that says more than the status or verdict before it, and the first of
/// the details that a person can use.
pub(crate) fn reply_error(status: &str, error: &ErrorBody) -> String {
    let text = error_text(status, error);
    match ProgramReport::of_error(error).and_then(|report| report.last_words()) {
        Some(words) => format!("{text}; {words}"),
        None => text,
    }
}

/// The same without what a program wrote.
pub(crate) fn error_text(status: &str, error: &ErrorBody) -> String {
    let mut text = cut(&error.message, MAX_MESSAGE).into_owned();
    if error.code.to_string() != status {
        text = format!("{text} ({})", error.code);
    }
    let errors = error.details.as_ref().and_then(|details| details.get("errors")).and_then(Value::as_array);
    if error.code == ErrorCode::InvalidArgs {
        for one in errors.into_iter().flatten().take(3) {
            let member = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
            text = format!("{text}; at {}: {}", member("path"), member("message"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_said_with_the_program_in_a_shell_and_without_it_at_the_prompt() {
        let text = "see " + code("jobs TARGET") + ", or run `countersign init`";
        assert_eq!(text.render(Place::Shell), "see `countersign jobs TARGET`, or run `countersign init`");
        assert_eq!(text.render(Place::Prompt), "see `jobs TARGET`, or run `countersign init`");
    }
}
