//! What somebody may have meant.

/// The candidate that is most like a word, if one is rather like it.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (likeness(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// From 0 to 1. One slip of the finger is near, however short the word.
fn likeness(word: &str, candidate: &str) -> f64 {
    let slipped = word.len() > 2 && strsim::osa_distance(word, candidate) == 1;
    strsim::jaro_winkler(word, candidate).max(if slipped { 0.8 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_what_was_meant() {
        assert_eq!(nearest("wroker-1", ["web-1", "worker-1", "press"]), Some("worker-1"));
        assert_eq!(nearest("wbe", ["db", "web"]), Some("web"));
    }

    #[test]
    fn what_is_like_nothing_finds_nothing() {
        assert_eq!(nearest("zzz", ["web-1", "worker-1"]), None);
        assert_eq!(nearest("worker-1", []), None);
    }
}
