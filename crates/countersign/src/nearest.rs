//! What somebody may have meant.

/// The candidate that is most like a word, if one is rather like it.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_what_was_meant() {
        assert_eq!(nearest("wroker-1", ["web-1", "worker-1", "press"]), Some("worker-1"));
    }

    #[test]
    fn what_is_like_nothing_finds_nothing() {
        assert_eq!(nearest("zzz", ["web-1", "worker-1"]), None);
        assert_eq!(nearest("worker-1", []), None);
    }
}
