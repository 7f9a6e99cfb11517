//! JSON for a terminal: what could move the cursor or reorder the line is written as an escape of JSON's own, so that it is
//! the same document to a program.

use std::borrow::Cow;
use std::io;

use countersign_protocol::text::escape;
use serde::Serialize;
use serde_json::ser::Formatter;

/// A document in one line, without the new line at its end.
pub(super) fn line(document: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Harmless))?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            let mut utf8 = [0; 4];
            let text = &*character.encode_utf8(&mut utf8);
            match escape(text) {
                Cow::Borrowed(_) => writer.write_all(text.as_bytes())?,
                Cow::Owned(_) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test is to fail there")]

    use super::*;

    #[test]
    fn what_could_move_the_cursor_is_escaped_and_nothing_is_lost() {
        let hostile = "\u{1b}[2J\u{9b}31m\u{202e}evil\u{7f}\u{e0001}\n\"ü\\";
        let line = line(&hostile).unwrap();
        assert!(line.chars().all(|character| escape(&character.to_string()) == character.to_string()), "{line}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), hostile);
    }

    #[test]
    fn what_is_harmless_is_left_readable() {
        assert_eq!(line(&"grün – 東京").unwrap(), "\"grün – 東京\"");
    }
}
