//! Entries before effects: what the machine's steps want written, on disk before anything else of them is done.

use countersign_machine::client::{Effect, Entry, Step};

use super::{Shell, now};
use crate::journal::CompactionRequest;

impl Shell {
    /// Writes what the steps want written, and only then does what they want done; what ends at once makes further steps.
    pub(super) fn commit(&mut self, mut steps: Vec<Step>) {
        while !steps.is_empty() {
            let effects = self.record(steps);
            steps = effects.into_iter().filter_map(|effect| self.apply(effect)).collect();
        }
        if let Some(mark) = self.unsynced.take() {
            self.secure(mark);
        }
        if self.journal.wants_compaction()
            && let Err(error) = self.journal.compact(&self.machine.epoch_started())
        {
            grows(&error);
        }
    }

    pub(super) fn compact(&mut self, next_request: CompactionRequest) {
        let machine = &self.machine;
        let done = self.journal.serve(next_request, machine.unfinished(), |after, count| machine.part(after, count));
        if let Err(error) = done {
            grows(&error);
        }
    }

    /// The steps' effects, once their entries are written; or what is left of them where they cannot be. What was taken back
    /// may have shorter entries, which are written then; those that are taken back again have none.
    fn record(&mut self, mut steps: Vec<Step>) -> Vec<Effect> {
        let mut again = false;
        while steps.iter().any(|step| !step.entries.is_empty()) {
            let entries = || steps.iter().flat_map(|step| &step.entries);
            let mark = entries().filter_map(|entry| entry.mark(&self.machine)).last();
            let begins = entries().any(|entry| matches!(entry, Entry::Started(_)));
            match self.journal.append(entries(), self.machine.unfinished()) {
                Ok(()) => {
                    // That one command could finish does not show that another can start.
                    if begins && std::mem::take(&mut self.is_failing) {
                        tracing::info!("the journal can be written again");
                    }
                    self.unsynced = mark.or(self.unsynced);
                    break;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::error!(%error, "the journal cannot be written; nothing begins until it can");
                    }
                    steps = self.take_back(steps, std::mem::replace(&mut again, true));
                }
            }
        }
        steps.into_iter().flat_map(|step| step.effects).collect()
    }

    /// Takes back steps that were not written, the last one first; the second time, what the first time has left.
    fn take_back(&mut self, steps: Vec<Step>, again: bool) -> Vec<Step> {
        let first = steps.iter().position(|step| !step.entries.is_empty()).unwrap_or(steps.len());
        let mut back: Vec<Step> = Vec::with_capacity(steps.len());
        for (index, mut step) in steps.into_iter().enumerate().rev() {
            if !step.entries.is_empty() {
                step = self.machine.roll_back(step, now());
            } else if index > first && !again {
                step = self.machine.retract(step);
            }
            back.push(step);
        }
        back.reverse();
        back
    }
}

fn grows(error: &std::io::Error) {
    tracing::warn!(%error, "the journal could not be compacted; it goes on growing");
}
