//! What was seen before: commands by their digests, and of each client the numbers of its messages (section 5).

use std::collections::VecDeque;
use std::ops::Range;

use countersign_protocol::digest::Digest;
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;

use super::Occurrence;
use super::recent::Recent;

/// How many commands are remembered; older ones are forgotten.
const MAX_COMMANDS: usize = 8_192;
/// How many clients are remembered; those that were silent for longest are forgotten.
const MAX_CLIENTS: usize = 4_096;
/// How many processes of one client are remembered. A client whose key is in wrong hands makes up as many as it likes, and
/// no other client is forgotten for them.
const MAX_BOOTS: usize = 4;
/// How many stretches of missing numbers of one process are remembered; what comes out of an older one counts as seen.
const MAX_STRETCHES: usize = 16;

/// The memory; its bounds do not depend on what arrives.
#[derive(Debug)]
pub(super) struct Memory {
    commands: Recent<Digest, Name>,
    clients: Recent<Name, Known>,
    /// How often messages may have passed by unseen because of us.
    absences: u64,
}

/// What is known of a client.
#[derive(Debug, Default)]
struct Known {
    groups: Vec<Name>,
    boots: VecDeque<Boot>,
}

/// One process of a client.
#[derive(Debug)]
struct Boot {
    id: Uuid,
    /// The number after the highest that was seen.
    next: u64,
    /// Whether what is skipped is missing. Until its first event only replies were seen, and those may be from the journal:
    /// what was signed between them may have passed by before this watch began.
    counted: bool,
    /// The numbers that were skipped and have not come since.
    missing: VecDeque<Range<u64>>,
    /// The absences before its latest message.
    absences: u64,
}

/// Messages of a client that were skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skipped {
    /// How many.
    pub(super) missing: u64,
    /// Whether they may have passed by unseen because of us.
    pub(super) away: bool,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { commands: Recent::new(MAX_COMMANDS), clients: Recent::new(MAX_CLIENTS), absences: 0 }
    }

    /// Takes in a verified command.
    pub(super) fn command(&mut self, digest: Digest, name: &Name) -> Occurrence {
        let (known, _) = self.commands.entry(digest, || name.clone());
        if known { Occurrence::Again } else { Occurrence::First }
    }

    /// The name of the command with this digest, if it was seen.
    pub(super) fn name_of(&self, digest: &Digest) -> Option<&Name> {
        self.commands.peek(digest)
    }

    /// Takes in the number of a verified message of a client; `fresh` says that it is not from a record.
    pub(super) fn number(
        &mut self,
        client: &Name,
        groups: &[Name],
        boot: Uuid,
        n: u64,
        fresh: bool,
    ) -> (Occurrence, Option<Skipped>) {
        let absences = self.absences;
        let (_, known) = self.clients.entry(client.clone(), Known::default);
        if known.groups != groups {
            known.groups = groups.to_vec();
        }
        let Some(boot) = known.boots.iter_mut().find(|known| known.id == boot) else {
            if known.boots.len() >= MAX_BOOTS {
                known.boots.pop_front();
            }
            let next = n.saturating_add(1);
            known.boots.push_back(Boot { id: boot, next, counted: fresh, missing: VecDeque::new(), absences });
            return (Occurrence::First, None);
        };
        let found = match n {
            _ if n < boot.next && boot.has_missed(n) => (Occurrence::Late, None),
            _ if n < boot.next => (Occurrence::Again, None),
            _ if n > boot.next && boot.counted => {
                if boot.missing.len() >= MAX_STRETCHES {
                    boot.missing.pop_front();
                }
                boot.missing.push_back(boot.next..n);
                (Occurrence::First, Some(Skipped { missing: n - boot.next, away: boot.absences != absences }))
            }
            _ => (Occurrence::First, None),
        };
        boot.next = boot.next.max(n.saturating_add(1));
        boot.counted |= fresh;
        boot.absences = absences;
        found
    }

    /// Messages may have passed by unseen because of us: what is missing from here on may not have been removed.
    pub(super) fn was_away(&mut self) {
        self.absences += 1;
    }

    /// Whether a client's credential puts it in a group, as far as it was seen.
    pub(super) fn is_member(&self, client: &Name, group: &str) -> bool {
        let known = self.clients.peek(client);
        known.is_some_and(|known| known.groups.iter().any(|name| name.as_str() == group))
    }
}

impl Boot {
    /// Whether a number was missing; it is no longer.
    fn has_missed(&mut self, n: u64) -> bool {
        let Some(at) = self.missing.iter().position(|stretch| stretch.contains(&n)) else {
            return false;
        };
        let Some(stretch) = self.missing.remove(at) else {
            return false;
        };
        for rest in [n.saturating_add(1)..stretch.end, stretch.start..n] {
            if !rest.is_empty() {
                self.missing.insert(at, rest);
            }
        }
        // A stretch that was cut in two may be one too many.
        if self.missing.len() > MAX_STRETCHES {
            self.missing.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot make what it needs is to fail there")]

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn boot(number: u8) -> Uuid {
        Uuid::from_random([number; 16])
    }

    /// Takes in numbers of one process of worker-1, all fresh.
    fn numbers(memory: &mut Memory, numbers: &[u64]) -> Vec<(Occurrence, Option<u64>)> {
        let take = |n: &u64| memory.number(&name("worker-1"), &[], boot(1), *n, true);
        numbers.iter().map(take).map(|(found, skipped)| (found, skipped.map(|it| it.missing))).collect()
    }

    const FIRST: (Occurrence, Option<u64>) = (Occurrence::First, None);
    const AGAIN: (Occurrence, Option<u64>) = (Occurrence::Again, None);
    const LATE: (Occurrence, Option<u64>) = (Occurrence::Late, None);

    #[test]
    fn what_is_skipped_is_missing_once_and_late_when_it_comes_and_again_after_that() {
        let found = numbers(&mut Memory::new(), &[7, 8, 12, 10, 10, 9, 11, 8, 13]);
        let gap = (Occurrence::First, Some(3));
        assert_eq!(found, [FIRST, FIRST, gap, LATE, AGAIN, LATE, LATE, AGAIN, FIRST]);
    }

    #[test]
    fn replies_alone_are_no_measure_of_what_is_missing() {
        let mut memory = Memory::new();
        let mut take = |n, fresh| memory.number(&name("worker-1"), &[], boot(1), n, fresh);
        assert_eq!(take(3, false), (Occurrence::First, None));
        assert_eq!(take(9, false), (Occurrence::First, None), "both may be from the journal");
        assert_eq!(take(3, false), (Occurrence::Again, None));
        assert_eq!(take(50, true), (Occurrence::First, None));
        assert_eq!(take(52, false), (Occurrence::First, Some(Skipped { missing: 1, away: false })));
    }

    #[test]
    fn what_passed_by_while_we_were_away_is_distinguished() {
        let mut memory = Memory::new();
        numbers(&mut memory, &[0]);
        memory.was_away();
        let mut take = |n| memory.number(&name("worker-1"), &[], boot(1), n, true).1.unwrap();
        assert_eq!(take(5), Skipped { missing: 4, away: true });
        assert_eq!(take(7), Skipped { missing: 1, away: false });
    }

    #[test]
    fn processes_and_clients_are_counted_apart() {
        let mut memory = Memory::new();
        numbers(&mut memory, &[5]);
        for (client, of) in [("worker-1", 2), ("worker-2", 1)] {
            assert_eq!(memory.number(&name(client), &[], boot(of), 0, true), (Occurrence::First, None));
        }
        assert_eq!(numbers(&mut memory, &[5, 6]), [AGAIN, FIRST]);
    }

    #[test]
    fn a_client_that_makes_up_processes_and_gaps_is_bounded_and_no_other_is_forgotten_for_it() {
        let mut memory = Memory::new();
        numbers(&mut memory, &[0]);
        for number in 0..=u8::MAX {
            memory.number(&name("worker-2"), &[], boot(number), 0, true);
        }
        for n in 1..1_000 {
            memory.number(&name("worker-2"), &[], boot(u8::MAX), n * 10, true);
            memory.number(&name("worker-2"), &[], boot(u8::MAX), n * 10 - 5, true);
        }
        let known = memory.clients.peek(&name("worker-2")).unwrap();
        assert_eq!(known.boots.len(), MAX_BOOTS);
        assert!(known.boots.iter().all(|boot| boot.missing.len() <= MAX_STRETCHES));
        assert_eq!(numbers(&mut memory, &[0]), [AGAIN]);
    }

    #[test]
    fn the_highest_number_overflows_nothing() {
        assert_eq!(numbers(&mut Memory::new(), &[0, u64::MAX, u64::MAX - 1, 0]).last(), Some(&AGAIN));
    }

    #[test]
    fn a_command_is_known_again_until_it_is_forgotten() {
        let mut memory = Memory::new();
        let mut take = |number: usize| memory.command(Digest::of(&number.to_be_bytes()), &name("ping"));
        assert_eq!([take(0), take(0), take(1)], [Occurrence::First, Occurrence::Again, Occurrence::First]);
        assert!((2..2 + MAX_COMMANDS).all(|number| take(number) == Occurrence::First));
        assert_eq!(take(0), Occurrence::First, "forgotten");
    }
}
