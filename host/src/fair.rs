//! Deficit round robin: every lane is served the same number of bytes, whatever waits in the others.

mod permits;

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

pub use self::permits::{FairPermits, Permit};

/// What waits, in one lane for each key. Within a lane, first come, first served.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    lanes: HashMap<K, Lane<T>>,
    /// The lanes in which something waits, the next one to be served first.
    turns: VecDeque<K>,
    quantum: usize,
    waiting: Waiting,
}

#[derive(Debug)]
struct Lane<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    /// What it may still take in this round.
    deficit: usize,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub items: usize,
    pub bytes: usize,
}

/// Empty lanes that are kept, so that their memory need not be taken again.
const IDLE_LANES_MAX: usize = 1024;

impl<K: Copy + Eq + Hash, T> FairQueue<K, T> {
    /// `quantum`: the bytes that a lane is served in one round.
    pub fn new(quantum: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            quantum: quantum.max(1),
            waiting: Waiting::default(),
        }
    }

    pub fn push(&mut self, key: K, bytes: usize, item: T) {
        if self.lanes.len() > IDLE_LANES_MAX && !self.lanes.contains_key(&key) {
            self.lanes.retain(|_, lane| !lane.items.is_empty());
        }
        let empty = || Lane { items: VecDeque::new(), bytes: 0, deficit: 0 };
        let lane = self.lanes.entry(key).or_insert_with(empty);
        if lane.items.is_empty() {
            self.turns.push_back(key);
        }
        lane.items.push_back((bytes, item));
        lane.bytes += bytes;
        self.waiting.items += 1;
        self.waiting.bytes += bytes;
    }

    /// The next item, with its key and its bytes.
    pub fn pop(&mut self) -> Option<(K, usize, T)> {
        loop {
            let key = *self.turns.front()?;
            let lane = self.lanes.get_mut(&key)?;
            let first = lane.items.front()?.0;
            if lane.deficit < first {
                lane.deficit += self.quantum;
                self.turns.rotate_left(1);
                continue;
            }
            let (bytes, item) = lane.items.pop_front()?;
            lane.deficit -= bytes;
            lane.bytes -= bytes;
            if lane.items.is_empty() {
                // What it did not use is not saved up.
                lane.deficit = 0;
                self.turns.pop_front();
            }
            self.waiting.items -= 1;
            self.waiting.bytes -= bytes;
            return Some((key, bytes, item));
        }
    }

    /// What waits in all lanes.
    pub fn waiting(&self) -> Waiting {
        self.waiting
    }

    /// What waits in one lane.
    pub fn waiting_of(&self, key: K) -> Waiting {
        let lane = self.lanes.get(&key);
        lane.map_or_else(Waiting::default, |lane| Waiting { items: lane.items.len(), bytes: lane.bytes })
    }

    /// How many lanes have something waiting.
    pub fn lanes(&self) -> usize {
        self.turns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_served_the_same_bytes_and_each_in_its_order() {
        let mut queue = FairQueue::new(100);
        for number in 0..1000 {
            queue.push("flooded", 100, number);
        }
        for number in 0..10 {
            queue.push("polite", 10, number);
        }
        let mut polite = Vec::new();
        let mut flooded = 0;
        while polite.len() < 10 {
            match queue.pop().unwrap() {
                ("polite", _, number) => polite.push(number),
                _ => flooded += 1,
            }
        }
        assert_eq!(polite, (0..10).collect::<Vec<_>>());
        assert!(flooded <= 3, "{flooded}");
        assert_eq!(queue.waiting(), Waiting { items: 1000 - flooded, bytes: (1000 - flooded) * 100 });
        assert_eq!(queue.waiting_of("polite"), Waiting::default());
    }

    #[test]
    fn an_item_larger_than_a_round_is_served_after_some_rounds() {
        let mut queue = FairQueue::new(10);
        queue.push(1, 95, "large");
        for _ in 0..30 {
            queue.push(2, 10, "small");
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, _, item)| item).collect();
        let at = order.iter().position(|item| *item == "large").unwrap();
        assert!((8..12).contains(&at), "{at}");
        assert!(queue.is_empty() && queue.waiting() == Waiting::default());
    }

    #[test]
    fn empty_lanes_do_not_pile_up() {
        let mut queue = FairQueue::new(1);
        for key in 0..10_000 {
            queue.push(key, 1, ());
            assert_eq!(queue.pop(), Some((key, 1, ())));
        }
        assert!(queue.lanes.len() <= IDLE_LANES_MAX + 1);
    }
}
