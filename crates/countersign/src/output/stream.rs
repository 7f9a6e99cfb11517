//! What jobs write, as it arrives: exact bytes into a file, escaped on a terminal, by lines where there are several.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use countersign_protocol::name::Name;
use countersign_protocol::output::Stream;
use countersign_protocol::text::escape;

use super::{Output, above};

/// Whose stream it is.
type Source = (Name, Stream);

/// Prints the streams of jobs.
#[derive(Debug)]
pub(crate) struct StreamPrinter {
    output: Output,
    /// Whether lines begin with the client that wrote them.
    prefixed: bool,
    /// Whether standard error goes to standard error, and not to standard output.
    separate: bool,
    /// The stream whose line is not complete.
    open: Option<Source>,
    /// Bytes that are no complete character yet; at the prompt, the whole line that is not complete yet.
    held: BTreeMap<Source, Vec<u8>>,
}

impl StreamPrinter {
    pub(crate) fn new(output: Output, prefixed: bool, separate: bool) -> Self {
        Self { output, prefixed, separate, open: None, held: BTreeMap::new() }
    }

    /// Prints what a job wrote. Whoever reads may have read enough: then it is an error of that kind.
    pub(crate) fn print(&mut self, client: &Name, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let source = (client.clone(), stream);
        if !self.prefixed && !above::is_on() && !is_terminal(self.place(stream)) {
            return write(self.place(stream), bytes);
        }
        let held = self.held.entry(source.clone()).or_default();
        held.extend_from_slice(bytes);
        let ready = if above::is_on() { end_of_lines(held) } else { end_of_characters(held) };
        let rest = held.split_off(ready);
        let whole = std::mem::replace(held, rest);
        self.show(source, &String::from_utf8_lossy(&whole))
    }

    /// Prints what is held of a line that is not complete: nothing more is coming for now, or ever.
    pub(crate) fn flush(&mut self, client: &Name, stream: Stream, is_last: bool) -> io::Result<()> {
        let source = (client.clone(), stream);
        // A character that is not complete may be yet.
        let held = match self.held.get_mut(&source) {
            Some(held) if is_last => std::mem::take(held),
            Some(held) => {
                let rest = held.split_off(end_of_characters(held));
                std::mem::replace(held, rest)
            }
            None => return Ok(()),
        };
        self.show(source, &String::from_utf8_lossy(&held))
    }

    /// Ends a line that is open, so that something else can be printed.
    pub(crate) fn end_line(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some((_, stream)) if is_terminal(self.place(stream)) || self.prefixed => write(self.place(stream), b"\n"),
            Some(_) | None => Ok(()),
        }
    }

    fn show(&mut self, source: Source, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let prefix = if self.prefixed { format!("{}: ", source.0) } else { String::new() };
        if above::is_on() {
            let lines: Vec<String> = text.lines().map(|line| format!("{prefix}{}", shown(line))).collect();
            above::print(&lines.join("\n"), above::Source::Person);
            return Ok(());
        }
        self.output.clear();
        if self.open.as_ref().is_some_and(|open| *open != source) {
            self.end_line()?;
        }
        let mut printed = String::new();
        for line in text.split_inclusive('\n') {
            let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
            if self.open.is_none() {
                printed.push_str(&prefix);
            }
            printed.push_str(&shown(line));
            printed.push_str(end);
            self.open = end.is_empty().then(|| source.clone());
        }
        write(self.place(source.1), printed.as_bytes())
    }

    /// Where a stream is printed.
    fn place(&self, stream: Stream) -> Stream {
        if self.separate { stream } else { Stream::Stdout }
    }
}

/// A line without what could move the cursor; a tabulator is harmless.
fn shown(line: &str) -> String {
    line.split('\t').map(escape).collect::<Vec<_>>().join("\t")
}

fn is_terminal(stream: Stream) -> bool {
    match stream {
        Stream::Stdout => io::stdout().is_terminal(),
        Stream::Stderr => io::stderr().is_terminal(),
    }
}

fn write(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stream {
        Stream::Stdout => stdout.write_all(bytes).and_then(|()| stdout.flush()),
        Stream::Stderr => io::stderr().write_all(bytes),
    }
}

fn end_of_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

/// Up to where the bytes are complete characters, or none at all.
fn end_of_characters(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let last = bytes.get(from..).unwrap_or_default();
    let begins = last.iter().rposition(|byte| byte & 0xc0 != 0x80);
    let Some(at) = begins else { return bytes.len() };
    let there = last.len() - at;
    let length = match last.get(at) {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    if there < length { from + at } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_held_until_it_is_complete() {
        for text in ["é", "世", "🙂"] {
            let whole = format!("ab{text}").into_bytes();
            for cut in 3..whole.len() {
                assert_eq!(end_of_characters(&whole[..cut]), 2, "{text} {cut}");
            }
            assert_eq!(end_of_characters(&whole), whole.len());
        }
        assert_eq!(end_of_characters(b"ab\x80"), 3);
        assert_eq!(end_of_characters(b"\xff"), 1);
        assert_eq!(end_of_characters(b""), 0);
    }

    #[test]
    fn what_moves_the_cursor_is_escaped_and_a_tabulator_is_not() {
        assert_eq!(shown("a\tb\u{1b}[2J\r"), "a\tb\\u{1b}[2J\\r");
    }
}
