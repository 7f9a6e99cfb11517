//! The text of a stream that goes with a reply: its beginning and its end, for people.

use std::collections::VecDeque;

/// The longest text, in bytes as JSON: some characters take six there.
const MAX_TEXT: usize = 4_096;
/// How much of the text the beginning has where there is more than fits, in bytes as JSON.
const HEAD: usize = 1_024;
/// How much of it the end has; the note between them takes the rest.
const TAIL: usize = MAX_TEXT - HEAD - 64;

/// The first and the last bytes of a stream: more than a text can be made of.
#[derive(Debug, Default)]
pub(super) struct Excerpt {
    first: Vec<u8>,
    last: VecDeque<u8>,
    bytes: u64,
}

impl Excerpt {
    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let (first, rest) = bytes.split_at(bytes.len().min(MAX_TEXT - self.first.len()));
        self.first.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(MAX_TEXT)..];
        let excess = (self.last.len() + rest.len()).saturating_sub(MAX_TEXT);
        self.last.drain(..excess);
        self.last.extend(rest);
    }

    /// The text, and whether it is exactly what was written.
    pub(super) fn text(&self) -> (String, bool) {
        let held = (self.first.len() + self.last.len()) as u64;
        let all: Vec<u8> = self.first.iter().chain(&self.last).copied().collect();
        if held == self.bytes
            && let Some(text) = fitting(&String::from_utf8_lossy(&all))
        {
            let exact = text.as_bytes() == all;
            return (text, exact);
        }
        // What is not held is between the two; where all of it is, each still finds its own end.
        let last: Vec<u8> = if held == self.bytes { all } else { self.last.iter().copied().collect() };
        let (first, last) = (String::from_utf8_lossy(&self.first), String::from_utf8_lossy(&last));
        let head = cut(first.chars(), HEAD);
        let tail = cut(last.chars().rev(), TAIL);
        let (head, tail) = (&first[..head], &last[last.len() - tail..]);
        let shown = (head.len() + tail.len()) as u64;
        let text = format!("{head}\n[… about {} bytes …]\n{tail}", self.bytes.saturating_sub(shown));
        (text, false)
    }
}

fn fitting(text: &str) -> Option<String> {
    (text.chars().map(weight).sum::<usize>() <= MAX_TEXT).then(|| text.to_owned())
}

/// How many bytes of these characters fit.
fn cut(characters: impl Iterator<Item = char>, mut room: usize) -> usize {
    characters
        .take_while(|character| {
            let fits = weight(*character) <= room;
            room = room.saturating_sub(weight(*character));
            fits
        })
        .map(char::len_utf8)
        .sum()
}

/// How many bytes a character takes in JSON.
fn weight(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use proptest::prelude::*;

    use super::*;

    fn of(bytes: &[u8]) -> (String, bool) {
        let mut excerpt = Excerpt::default();
        bytes.chunks(1_000).for_each(|piece| excerpt.push(piece));
        excerpt.text()
    }

    #[test]
    fn short_text_is_there_exactly() {
        assert_eq!(of(b""), (String::new(), true));
        assert_eq!(of("Grüße\n".as_bytes()), ("Grüße\n".to_owned(), true));
        assert_eq!(of("a".repeat(MAX_TEXT).as_bytes()), ("a".repeat(MAX_TEXT), true));
    }

    #[test]
    fn what_is_no_utf_8_is_shown_and_said_not_to_be_exact() {
        assert_eq!(of(b"caf\xe9 \xff\0x\n"), ("caf\u{fffd} \u{fffd}\0x\n".to_owned(), false));
    }

    #[test]
    fn the_last_line_of_long_output_is_there() {
        let mut long = "a harmless line\n".repeat(100_000).into_bytes();
        long.extend_from_slice(b"Error: disk 7 is gone\n");
        let (text, exact) = of(&long);
        assert!(text.starts_with("a harmless line\n") && text.ends_with("\nError: disk 7 is gone\n"), "{text}");
        assert!(!exact && text.contains("[… about 15"), "{text}");
    }

    #[test]
    fn the_bound_is_on_the_text_as_json() {
        let controls = vec![1; MAX_TEXT];
        let (text, exact) = of(&controls);
        let json = serde_json::to_string(&text).unwrap();
        assert!(!exact && json.len() <= MAX_TEXT + 2 && json.len() > MAX_TEXT / 2, "{}", json.len());
    }

    proptest! {
        #[test]
        fn a_text_is_bounded_and_exact_only_where_it_is(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            times in 1_usize..60,
        ) {
            let bytes = bytes.repeat(times);
            let (text, exact) = of(&bytes);
            prop_assert!(serde_json::to_string(&text).unwrap().len() <= MAX_TEXT + 2);
            prop_assert_eq!(exact, text.as_bytes() == bytes);
        }

        #[test]
        fn characters_are_never_cut_in_two(text in "[aé世🙂]{0,6000}") {
            let (shown, _) = of(text.as_bytes());
            let Some((head, rest)) = shown.split_once("\n[… about ") else { return Ok(()) };
            let (_, tail) = rest.split_once(" bytes …]\n").unwrap();
            prop_assert!(text.starts_with(head) && text.ends_with(tail));
        }
    }
}
