//! The prompt that changes while a line is typed after it.

use std::sync::{Arc, Mutex, PoisonError};

/// How every prompt ends.
const END: &str = "> ";

/// What is shown before the line that is being typed. The line editor has placed the line by the width of the prompt that it
/// began with, so that every other one is made as wide.
#[derive(Debug, Clone, Default)]
pub(super) struct LivePrompt(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    /// The width of the prompt that the line began with, in characters.
    width: usize,
    /// What is shown in its place.
    other: Option<String>,
}

impl LivePrompt {
    /// A line begins with this prompt.
    pub(super) fn begin(&self, prompt: &str) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = Shown { width: prompt.chars().count(), other: Some(prompt.to_owned()) };
    }

    /// From now on this one is shown. Returns whether that is another one.
    pub(super) fn change(&self, prompt: &str) -> bool {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let other = Some(fitted(prompt, shown.width));
        let is_other = shown.other != other;
        shown.other = other;
        is_other
    }

    /// What is shown.
    pub(super) fn shown(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).other.clone()
    }
}

/// A prompt of this width. Where it is too long, the state at its end stays whole as long as it fits.
fn fitted(prompt: &str, width: usize) -> String {
    let length = prompt.chars().count();
    if length <= width {
        return format!("{prompt:width$}");
    }
    let text = prompt.strip_suffix(END).unwrap_or(prompt);
    let state = text.rsplit(' ').next().unwrap_or(text);
    let room = width.saturating_sub(END.len() + 1);
    if state.chars().count() <= room {
        let tail: String = text.chars().skip(text.chars().count() - room).collect();
        return format!("…{tail}{END}");
    }
    let head: String = state.chars().take(room).collect();
    format!("{head}…{END}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_prompt_is_as_wide_as_the_one_that_the_line_began_with_and_keeps_the_state() {
        for (first, then, shown) in [
            ("worker-1 unready> ", "worker-1 ready> ", "worker-1 ready>   "),
            ("worker-1 ready> ", "worker-1 unready> ", "…ker-1 unready> "),
            ("worker-1 ready> ", "disconnected> ", "disconnected>   "),
            ("w1 ready> ", "disconnected> ", "disconn…> "),
            ("[plant] w1 ready> ", "[plant] disconnected> ", "…t] disconnected> "),
        ] {
            let prompt = LivePrompt::default();
            prompt.begin(first);
            assert!(prompt.change(then) && !prompt.change(then));
            assert_eq!(prompt.shown().as_deref(), Some(shown));
            assert_eq!(shown.chars().count(), first.chars().count());
            assert!(prompt.change(first), "it comes back");
        }
    }
}
