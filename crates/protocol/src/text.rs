//! Text of others, made fit for a terminal, a log or a message for people (section 5).

use std::borrow::Cow;

use crate::limits::MAX_ECHO;

/// The text with every character escaped that could move a cursor, reorder or hide its neighbours, or pass unseen:
/// `\n`, `\u{1b}`. Borrowed when there is nothing to escape. A backslash stays one, so this is for eyes, not for undoing.
pub fn escape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_hazardous) else {
        return Cow::Borrowed(text);
    };
    let (harmless, rest) = text.split_at(first);
    let mut escaped = harmless.to_owned();
    rest.chars().for_each(|character| push(&mut escaped, character));
    Cow::Owned(escaped)
}

/// The text escaped as by [`escape`] and cut to 64 characters, the `…` at the cut among them; an escape is never cut in
/// two. For messages and JSON pointers (section 5).
pub fn echo(text: &str) -> String {
    let mut echo = String::new();
    let mut length = 0;
    let mut end_before_ellipsis = 0;
    for character in text.chars() {
        let start = echo.len();
        push(&mut echo, character);
        length += echo.get(start..).map_or(0, |piece| piece.chars().count());
        if length > MAX_ECHO {
            echo.truncate(end_before_ellipsis);
            echo.push('…');
            return echo;
        }
        if length < MAX_ECHO {
            end_before_ellipsis = echo.len();
        }
    }
    echo
}

fn push(escaped: &mut String, character: char) {
    if is_hazardous(character) {
        escaped.extend(character.escape_default());
    } else {
        escaped.push(character);
    }
}

fn is_hazardous(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let code = u32::from(character);
    matches!(code,
        0x80..=0x9f                           // C1 controls
        | 0xad | 0x34f | 0x115f | 0x1160      // soft hyphen, grapheme joiner, Hangul fillers
        | 0x17b4 | 0x17b5 | 0x180b..=0x180f   // Khmer and Mongolian characters without a shape
        | 0x61c | 0x200b..=0x200f             // zero width, marks of direction
        | 0x2028..=0x202e | 0x2060..=0x206f   // separators of lines, embeddings, overrides, isolates, invisible operators
        | 0x3164 | 0xffa0 | 0xfeff            // fillers, the byte-order mark
        | 0xe000..=0xf8ff                     // private use: shown as whatever the font likes
        | 0xfdd0..=0xfdef | 0xfff0..=0xfffb   // no characters, annotations
        | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a
        | 0xe0000..)                          // tags, supplementary variation selectors and private use
        || code & 0xfffe == 0xfffe
}

/// A closed set of words: an enum that is written as one of them, everywhere in the same way.
macro_rules! words {
    ($(#[$doc:meta])* pub enum $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $type {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $type {
            /// Every one, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($word,)+] })
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn harmless_text_is_borrowed_as_it_is() {
        for text in ["", "all done", r"C:\new", "Grüße, 世界 🙂", "a\u{a0}b"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    #[test]
    fn controls_and_escape_sequences_are_escaped() {
        assert_eq!(escape("a\r\n\tb"), r"a\r\n\tb");
        assert_eq!(escape("\u{1b}[2J\u{7}\0\u{7f}"), r"\u{1b}[2J\u{7}\u{0}\u{7f}");
        assert_eq!(escape("\u{9b}31m\u{85}"), r"\u{9b}31m\u{85}");
    }

    #[test]
    fn what_reorders_hides_or_breaks_lines_is_escaped() {
        let hazards = "\u{202e}\u{202a}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}\u{2028}\u{2029}\u{200b}\u{200d}\u{2060}\
            \u{feff}\u{ad}\u{180e}\u{3164}\u{e000}\u{fdd0}\u{fffe}\u{fff9}\u{1ffff}\u{e0041}\u{f0000}\u{10ffff}";
        let escaped = escape(hazards);
        assert!(escaped.is_ascii(), "{escaped}");
        assert_eq!(escaped.matches(r"\u{").count(), hazards.chars().count());
    }

    #[test]
    fn an_echo_has_64_characters_at_most() {
        assert_eq!(echo(&"ü".repeat(64)), "ü".repeat(64));
        assert_eq!(echo(&"ü".repeat(65)), format!("{}…", "ü".repeat(63)));
    }

    #[test]
    fn an_echo_never_cuts_an_escape_in_two() {
        assert_eq!(echo(&format!("{}\u{1b}", "a".repeat(58))), format!("{}\\u{{1b}}", "a".repeat(58)));
        assert_eq!(echo(&format!("{}\u{1b}", "a".repeat(59))), format!("{}…", "a".repeat(59)));
        assert_eq!(echo(&format!("{}\u{1b}b", "a".repeat(58))), format!("{}…", "a".repeat(58)));
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_harmless_and_stays_so(text in ".*") {
            let escaped = escape(&text);
            prop_assert!(!escaped.chars().any(is_hazardous));
            prop_assert_eq!(escape(&escaped), escaped.as_ref());
            let echo = echo(&text);
            prop_assert!(echo.chars().count() <= MAX_ECHO);
            prop_assert!(escaped.starts_with(echo.trim_end_matches('…')));
        }
    }
}
