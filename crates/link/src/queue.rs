//! A queue that is bounded by count and by weight, and sheds its oldest items to stay so (section 9).

use std::collections::VecDeque;

/// The queue. Items are numbered from 0 in the order in which they came.
#[derive(Debug)]
pub(super) struct Shedding<T> {
    items: VecDeque<(usize, T)>,
    weight: usize,
    max_items: usize,
    max_weight: usize,
    first: u64,
    shed: u64,
}

impl<T> Shedding<T> {
    pub(super) fn new(max_items: usize, max_weight: usize) -> Self {
        Self { items: VecDeque::new(), weight: 0, max_items, max_weight, first: 0, shed: 0 }
    }

    /// Adds an item of some weight, in bytes; the oldest make room. One that is heavier than the bound is itself shed.
    pub(super) fn push(&mut self, item: T, weight: usize) {
        self.items.push_back((weight, item));
        self.weight = self.weight.saturating_add(weight);
        while self.items.len() > self.max_items || self.weight > self.max_weight {
            if self.pop().is_none() {
                break;
            }
            self.shed = self.shed.saturating_add(1);
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let (weight, item) = self.items.pop_front()?;
        self.weight = self.weight.saturating_sub(weight);
        self.first = self.first.saturating_add(1);
        Some(item)
    }

    /// What the next item weighs.
    pub(super) fn next_weight(&self) -> Option<usize> {
        self.items.front().map(|(weight, _)| *weight)
    }

    /// The first items, at most so many, which stay; and the number of the one after them.
    pub(super) fn peek(&self, at_most: usize) -> (Vec<T>, u64)
    where
        T: Clone,
    {
        let items: Vec<T> = self.items.iter().take(at_most).map(|(_, item)| item.clone()).collect();
        let next = self.first.saturating_add(u64::try_from(items.len()).unwrap_or(u64::MAX));
        (items, next)
    }

    /// Drops all items before the one with this number.
    pub(super) fn drop_before(&mut self, number: u64) {
        while self.first < number && self.pop().is_some() {}
    }

    /// The number that the next item will have.
    pub(super) fn next(&self) -> u64 {
        self.first.saturating_add(u64::try_from(self.items.len()).unwrap_or(u64::MAX))
    }

    /// Counts items as shed that never came this far.
    pub(super) fn count_shed(&mut self, count: u64) {
        self.shed = self.shed.saturating_add(count);
    }

    /// How many were shed since this was last asked.
    pub(super) fn take_shed(&mut self) -> u64 {
        std::mem::take(&mut self.shed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<T>(queue: &mut Shedding<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn the_oldest_are_shed_by_count() {
        let mut queue = Shedding::new(3, 100);
        (0..5).for_each(|item| queue.push(item, 1));
        assert_eq!(queue.take_shed(), 2);
        assert_eq!(queue.take_shed(), 0);
        assert_eq!(all(&mut queue), [2, 3, 4]);
    }

    #[test]
    fn the_oldest_are_shed_by_weight() {
        let mut queue = Shedding::new(100, 10);
        for (item, weight) in [('a', 4), ('b', 4), ('c', 2), ('d', 5)] {
            queue.push(item, weight);
        }
        assert_eq!(queue.take_shed(), 2);
        assert_eq!(all(&mut queue), ['c', 'd']);
        queue.push('e', 10);
        assert_eq!((queue.take_shed(), all(&mut queue)), (0, vec!['e']), "the weight of what was taken is given back");
    }

    #[test]
    fn what_is_heavier_than_the_bound_is_shed_itself() {
        let mut queue = Shedding::new(100, 10);
        queue.push('a', 11);
        assert_eq!((queue.take_shed(), queue.pop()), (1, None));
    }

    #[test]
    fn what_was_peeked_at_is_dropped_by_its_number_though_some_was_shed_meanwhile() {
        let mut queue = Shedding::new(3, 100);
        (0..3).for_each(|item| queue.push(item, 1));
        let (items, next) = queue.peek(2);
        assert_eq!((items, next), (vec![0, 1], 2));
        queue.push(3, 1);
        queue.drop_before(next);
        assert_eq!(queue.next(), 4);
        assert_eq!(all(&mut queue), [2, 3]);
    }
}
