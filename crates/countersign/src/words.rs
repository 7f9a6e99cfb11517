//! Lines of words as somebody may type or paste them, in a shell or at the prompt: both read quotation marks alike.

use countersign_protocol::json;
use serde_json::Value;

/// What needs no quotation marks anywhere.
const PLAIN: &str = "_-./:@%+=,";

/// What was typed in a shell after the program's name; nothing where some of it is no text.
pub(crate) fn of_shell() -> Vec<String> {
    let words = std::env::args_os().skip(1).map(|word| word.into_string().ok());
    words.collect::<Option<Vec<String>>>().unwrap_or_default()
}

/// These words as a line.
pub(crate) fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word in a line: with quotation marks only where it needs them, and of `key=value` around the value.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain =
        |text: &str| !text.is_empty() && text.chars().all(|it| it.is_ascii_alphanumeric() || PLAIN.contains(it));
    if is_plain(word) {
        return word.to_owned();
    }
    if let Some((key, value)) = word.split_once('=')
        && is_plain(key)
    {
        return format!("{key}={}", if value.is_empty() { String::new() } else { quoted(value) });
    }
    if word.chars().any(|it| "\"\\$`!".contains(it) || it.is_control()) {
        return shlex::try_quote(word).map_or_else(|_| "''".to_owned(), std::borrow::Cow::into_owned);
    }
    format!("\"{word}\"")
}

/// The arguments of a command, from a JSON object, as `call` takes them; text that is no object (it may have been cut) stays.
pub(crate) fn pairs(args: &str) -> String {
    let Ok(members) = json::parse(args.as_bytes()) else { return args.to_owned() };
    let pair = |(key, value): (&String, &Value)| match value {
        Value::String(text) => quoted(&format!("{key}={text}")),
        other => format!("{key}={other}"),
    };
    members.iter().map(pair).collect::<Vec<_>>().join(" ")
}

/// The line with one word, or several that follow each other, in place of others; `None` where it does not have these. A word
/// may also be the name of an option before `=`, or a value after it.
pub(crate) fn replaced(words: &[String], wrong: &[String], right: &str) -> Option<Vec<String>> {
    let (first, many) = (wrong.first()?, wrong.len());
    if let Some(at) = words.windows(many).position(|window| window == wrong) {
        let (before, after) = (words.get(..at)?, words.get(at + many..)?);
        return Some([before, &[right.to_owned()], after].concat());
    }
    let in_word = |word: &String| match word.split_once('=') {
        Some((name, value)) if name == first => Some(format!("{right}={value}")),
        Some((name, value)) if value == first => Some(format!("{name}={right}")),
        _ => None,
    };
    let (at, word) = words.iter().enumerate().find_map(|(at, word)| Some((at, in_word(word)?)))?;
    let mut words = words.to_vec();
    *words.get_mut(at)? = word;
    Some(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn a_word_is_quoted_only_where_it_must_be_and_is_read_again_as_it_was() {
        for (word, shown) in [
            ("name=q3", "name=q3"),
            ("msg=all done", "msg=\"all done\""),
            ("@all", "@all"),
            ("all done", "\"all done\""),
            ("", "\"\""),
            ("x=", "x="),
            ("it's", "\"it's\""),
            ("say \"a\"", "'say \"a\"'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(word), shown);
            assert_eq!(shlex::split(shown).unwrap(), [word]);
        }
    }

    #[test]
    fn arguments_are_shown_as_call_takes_them() {
        assert_eq!(pairs("{\"msg\":\"all done\",\"x\":2.5}"), "msg=\"all done\" x=2.5");
        assert_eq!(pairs("{\"script\":\"print(1)…"), "{\"script\":\"print(1)…");
    }

    #[test]
    fn what_was_meant_stands_in_the_place_of_what_was_typed() {
        let words = |line: &str| shlex::split(line).unwrap();
        for (typed, wrong, right, meant) in [
            ("ping wroker-1 -q", "wroker-1", "worker-1", "ping worker-1 -q"),
            ("ping --tiemout=5s w", "--tiemout", "--timeout", "ping --timeout=5s w"),
            ("ping --output=jsn", "jsn", "json", "ping --output=json"),
            ("calculate 30 much later", "much later", "much later", "calculate 30 \"much later\""),
        ] {
            let meant_words = replaced(&words(typed), &words(wrong), right).unwrap();
            assert_eq!(line(meant_words.iter().map(String::as_str)), meant);
        }
        assert_eq!(replaced(&words("ping"), &words("pong"), "ping"), None);
    }
}
