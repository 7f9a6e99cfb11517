//! What somebody may have meant.

/// The longest word, in bytes, that somebody may have meant something else by: no name is longer, and to compare takes as long
/// as the word is.
const LONGEST: usize = 64;

/// The candidate that is most like a word, if one is rather like it and no other is so much so.
pub(crate) fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let near = candidates.into_iter().filter(|candidate| is_near(word, candidate));
    let mut near: Vec<(f64, &str)> = near.map(|candidate| (strsim::jaro_winkler(word, candidate), candidate)).collect();
    near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    match near.as_slice() {
        [(best, _), (second, _), ..] if second >= best => None,
        [(_, candidate), ..] => Some(candidate),
        [] => None,
    }
}

/// One slip of the finger, and one more for every four letters; or the beginning of it. Another number is another name, and no
/// slip.
fn is_near(word: &str, candidate: &str) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let slips = 1 + word.len().min(candidate.len()) / 4;
    word.len() > 2
        && (candidate.starts_with(word)
            || digits(word) == digits(candidate) && strsim::osa_distance(word, candidate) <= slips.min(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_what_was_meant() {
        assert_eq!(suggest("wroker-1", ["web-1", "worker-1", "press"]), Some("worker-1"));
        assert_eq!(suggest("wbe", ["db", "web"]), Some("web"));
        assert_eq!(suggest("calc", ["cancel", "calculate"]), Some("calculate"));
    }

    #[test]
    fn of_several_that_are_equally_near_none_is_meant() {
        assert_eq!(suggest("worker-3", ["worker-1", "worker-2"]), None);
        assert_eq!(suggest("worker-3", ["worker-1", "worker-2", "worker-33"]), Some("worker-33"));
    }

    #[test]
    fn a_word_that_is_longer_than_any_name_is_like_nothing() {
        let longest = "a".repeat(64);
        assert_eq!(suggest(&longest, [longest.as_str()]), Some(longest.as_str()));
        assert_eq!(suggest(&"a".repeat(65), [longest.as_str()]), None);
    }

    #[test]
    fn what_is_like_nothing_finds_nothing() {
        assert_eq!(suggest("zzz", ["web-1", "worker-1"]), None);
        assert_eq!(suggest("--batch", ["--detach", "--dry-run"]), None);
        assert_eq!(suggest("completions", ["clients", "calculate"]), None);
        assert_eq!(suggest("worker-9", ["worker-1"]), None, "another number is another name");
        assert_eq!(suggest("worker-1", []), None);
    }
}
