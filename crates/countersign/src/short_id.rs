//! Parts of command ids that people type: the last digits, which are random, or the first ones, which are the time.

use std::collections::BTreeMap;

use countersign_protocol::id::MessageId;
use countersign_protocol::text::echo;

use crate::cli_error::{CliError, CliResult};
use crate::text::{code, cut};

/// The fewest digits that name a command.
const MIN_DIGITS: usize = 4;
/// How many a whole id has: what has as many and is no id is no part of one.
const DIGITS: usize = 32;
/// How many digits are shown where they tell an id from all others in sight.
const SHOWN: usize = 6;
/// How many commands an error lists.
const MAX_LISTED: usize = 8;

/// The first or the last digits of an id, hyphens left out or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShortId(String);

impl ShortId {
    /// What was typed, if it can be a part of an id.
    pub(crate) fn parse(typed: &str) -> CliResult<Self> {
        let digits = digits(typed).count();
        let is_one = typed.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        if is_one && (MIN_DIGITS..DIGITS).contains(&digits) {
            return Ok(Self(typed.to_owned()));
        }
        Err(CliError::usage(format!("`{}` is not the id of a command", echo(typed)))
            .expected("a UUID of version 7 in lower case with hyphens, or its last 4 digits or more, after the targets")
            .hint(code("jobs TARGET") + " lists the ids"))
    }

    /// As it was typed.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// There is no command of an id, or of a part of one.
    pub(crate) fn unknown(typed: &str) -> CliError {
        CliError::usage(format!("no command with the id `{}` is known; nothing was sent", echo(typed)))
            .expected("the id of a job of these targets, or of a command in the history, or its last digits")
            .hint(code("jobs TARGET") + " and " + code("history") + " list the ids")
    }

    /// The only id that has these digits, of those that are known; with each comes what it is, for people. It is an error where
    /// there is none.
    pub(crate) fn choose(&self, known: &BTreeMap<MessageId, String>) -> CliResult<MessageId> {
        self.find(known)?.ok_or_else(|| Self::unknown(&self.0))
    }

    /// The same, where that none has them is no error.
    pub(crate) fn find(&self, known: &BTreeMap<MessageId, String>) -> CliResult<Option<MessageId>> {
        let part: String = digits(&self.0).collect();
        let fits = |id: &&MessageId| {
            let whole: String = digits(&id.to_string()).collect();
            whole.starts_with(&part) || whole.ends_with(&part)
        };
        let found: Vec<&MessageId> = known.keys().filter(fits).collect();
        match found.as_slice() {
            [only] => Ok(Some(**only)),
            [] => Ok(None),
            several => {
                let mut listed: Vec<String> = several
                    .iter()
                    .take(MAX_LISTED)
                    .map(|id| {
                        let what = cut(known.get(id).map_or("", String::as_str), 40);
                        format!("{} ({what})", shorten(id, known.keys()))
                    })
                    .collect();
                if several.len() > MAX_LISTED {
                    listed.push("…".to_owned());
                }
                let what = format!("the id `{}` means {} commands; nothing was sent", self.0, several.len());
                Err(CliError::usage(what).expected(format!("one of {}", listed.join(", "))).hint("type more of it"))
            }
        }
    }
}

/// The last digits of an id, as every text for people shows it.
pub(crate) fn short(id: &MessageId) -> String {
    shorten(id, [])
}

/// The last digits of an id, as many as tell it from the others; what is typed instead of it.
pub(crate) fn shorten<'a>(id: &MessageId, others: impl IntoIterator<Item = &'a MessageId>) -> String {
    let own: Vec<char> = digits(&id.to_string()).collect();
    let in_common = |other: &MessageId| {
        let other: Vec<char> = digits(&other.to_string()).collect();
        own.iter().rev().zip(other.iter().rev()).take_while(|(own, other)| own == other).count()
    };
    let most = others.into_iter().filter(|other| *other != id).map(in_common).max().unwrap_or(0);
    let shown = SHOWN.max(most + 1).min(own.len());
    own.iter().skip(own.len() - shown).collect()
}

fn digits(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|char| *char != '-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;
    use crate::text::Place;

    const FIRST: &str = "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90";
    const SECOND: &str = "019ab2d4-7c1e-7a55-9d0b-3c1f5e9a2b90";

    fn known() -> BTreeMap<MessageId, String> {
        [FIRST, SECOND].map(|id| (id.parse().unwrap(), "calculate".to_owned())).into()
    }

    #[test]
    fn the_last_or_first_digits_name_a_command_where_only_one_has_them() {
        let choose = |typed: &str| ShortId::parse(typed).and_then(|short| short.choose(&known()));
        for typed in ["8a2b90", "5e8a2b90", "3c1f5e8a2b90", "9d0b3c1f5e8a2b90"] {
            assert_eq!(choose(typed).unwrap(), FIRST.parse().unwrap(), "{typed}");
        }
        assert_eq!(choose(&SECOND[1..]).unwrap(), SECOND.parse().unwrap());
        for typed in ["2b90", "019ab2d4", "019ab2d4-7c1e"] {
            let told: Vec<String> = choose(typed).unwrap_err().lines(Place::Shell).map(|(_, line)| line).collect();
            assert!(told[0].contains("means 2 commands; nothing was sent"), "{told:?}");
            assert!(told[1].contains("8a2b90 (calculate)") && told[1].contains("9a2b90 (calculate)"), "{told:?}");
        }
        assert!(choose("abcd").unwrap_err().lines(Place::Shell).next().unwrap().1.contains("no command"));
    }

    #[test]
    fn what_cannot_be_a_part_of_an_id_is_refused_before_anything_is_asked() {
        for typed in
            ["", "b90", "xyz1", "8A2B90", "../..", &"a".repeat(32), "----", "b2f0c1de-7c1e-4a55-9d0b-3c1f5e8a2b90"]
        {
            assert!(ShortId::parse(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn an_id_is_shown_with_as_many_digits_as_name_it_and_no_fewer_than_six() {
        let known = known();
        assert_eq!(shorten(&FIRST.parse().unwrap(), known.keys()), "8a2b90");
        let close: MessageId = "019ab2d4-7c1e-7a55-9d0b-3c1f518a2b90".parse().unwrap();
        assert_eq!(shorten(&FIRST.parse().unwrap(), [&close]), "e8a2b90");
        for id in known.keys() {
            assert_eq!(ShortId::parse(&shorten(id, known.keys())).unwrap().choose(&known).unwrap(), *id);
        }
    }
}
