//! A map that is bounded, and forgets what was not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// The map.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    most: usize,
    uses: u64,
    values: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// With room for so many.
    pub(super) fn new(most: usize) -> Self {
        Self { most, uses: 0, values: HashMap::new(), order: BTreeMap::new() }
    }

    /// What is remembered under a key; to look is no use of it.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(_, value)| value)
    }

    /// Uses what is under a key, made first where there is nothing; returns whether there was.
    pub(super) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> (bool, &mut V) {
        self.uses += 1;
        let known = match self.values.get(&key) {
            Some((used, _)) => self.order.remove(used).is_some(),
            None => false,
        };
        if !known && self.values.len() >= self.most {
            self.order.pop_first().and_then(|(_, oldest)| self.values.remove(&oldest));
        }
        self.order.insert(self.uses, key.clone());
        let (used, value) = self.values.entry(key).or_insert_with(|| (0, make()));
        *used = self.uses;
        (known, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let mut recent = Recent::new(2);
        assert_eq!(recent.entry('a', || 1), (false, &mut 1));
        assert_eq!(recent.entry('b', || 2), (false, &mut 2));
        assert_eq!(recent.entry('a', || 9), (true, &mut 1));
        assert_eq!(recent.entry('c', || 3), (false, &mut 3));
        assert_eq!([recent.peek(&'a'), recent.peek(&'b'), recent.peek(&'c')], [Some(&1), None, Some(&3)]);
        for key in 'd'..'z' {
            recent.entry(key, || 0);
        }
        assert_eq!((recent.values.len(), recent.order.len()), (2, 2));
    }
}
