//! The memory that request bodies may take while they are in flight: per source address, per endpoint, and in all.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;

use super::limited_as;
use crate::config::Config;

/// Bytes of bodies that the host holds. A body is charged for the memory that it takes, as its bytes arrive.
#[derive(Debug)]
pub struct BodyBudget {
    total_max: usize,
    source_max: usize,
    endpoint_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    sources: HashMap<IpAddr, usize>,
    endpoints: HashMap<Uuid, usize>,
}

/// The limit that a body ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetExceeded {
    /// The setting's name.
    pub setting: &'static str,
    pub bytes_max: usize,
}

/// What one body holds of the budget, until it is dropped.
#[derive(Debug)]
pub struct BodyLease {
    budget: Arc<BodyBudget>,
    source: IpAddr,
    endpoint: Uuid,
    bytes: usize,
}

impl BodyBudget {
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            total_max: config.bodies_bytes_max,
            source_max: config.source_bodies_bytes_max,
            endpoint_max: config.endpoint_bodies_bytes_max,
            held: Mutex::default(),
        })
    }

    /// A lease of nothing yet.
    pub fn lease(self: &Arc<Self>, source: IpAddr, endpoint: Uuid) -> BodyLease {
        BodyLease { budget: self.clone(), source: limited_as(source), endpoint, bytes: 0 }
    }

    /// Bytes that all bodies hold now.
    pub fn held(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl BodyLease {
    /// Takes memory for a body that has grown to `bytes` in all.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let Self { budget, source, endpoint, bytes: own } = self;
        let mut held = budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = held.sources.get(source).copied().unwrap_or_default();
        let of_endpoint = held.endpoints.get(endpoint).copied().unwrap_or_default();
        for (setting, bytes_max, used) in [
            ("source_bodies_bytes_max", budget.source_max, of_source),
            ("endpoint_bodies_bytes_max", budget.endpoint_max, of_endpoint),
            ("bodies_bytes_max", budget.total_max, held.total),
        ] {
            // A body that is larger than the limit itself is taken while no other is held.
            if used + more > bytes_max && used > *own {
                return Err(BudgetExceeded { setting, bytes_max });
            }
        }
        held.total += more;
        *held.sources.entry(*source).or_default() += more;
        *held.endpoints.entry(*endpoint).or_default() += more;
        *own += more;
        Ok(())
    }
}

impl Drop for BodyLease {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total -= self.bytes;
        release(&mut held.sources, self.source, self.bytes);
        release(&mut held.endpoints, self.endpoint, self.bytes);
    }
}

fn release<K: Eq + Hash>(held: &mut HashMap<K, usize>, key: K, bytes: usize) {
    if let Entry::Occupied(mut entry) = held.entry(key) {
        *entry.get_mut() -= bytes;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn budget(total: usize, source: usize, endpoint: usize) -> Arc<BodyBudget> {
        BodyBudget::new(&Config {
            bodies_bytes_max: total,
            source_bodies_bytes_max: source,
            endpoint_bodies_bytes_max: endpoint,
            ..Config::default()
        })
    }

    #[test]
    fn each_limit_is_named_and_what_is_dropped_is_free_again() {
        let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
        let budget = budget(100, 50, 70);
        let mut first = budget.lease(ONE, a);
        first.grow_to(40).unwrap();
        first.grow_to(30).unwrap();
        assert_eq!(budget.held(), 40, "a lease never shrinks");
        let exceeded = |source, endpoint, bytes| {
            budget.lease(source, endpoint).grow_to(bytes).map_err(|exceeded| exceeded.setting)
        };
        assert_eq!(exceeded(ONE, b, 11), Err("source_bodies_bytes_max"));
        assert_eq!(exceeded(OTHER, a, 31), Err("endpoint_bodies_bytes_max"));
        let mut second = budget.lease(OTHER, b);
        second.grow_to(50).unwrap();
        assert_eq!(exceeded(IpAddr::from([203, 0, 113, 1]), c, 11), Err("bodies_bytes_max"));
        drop((first, second));
        assert_eq!(budget.held(), 0);
        let held = budget.held.lock().unwrap();
        assert!(held.sources.is_empty() && held.endpoints.is_empty());
    }

    #[test]
    fn a_body_larger_than_a_limit_is_taken_alone() {
        let budget = budget(100, 10, 20);
        let mut large = budget.lease(ONE, Uuid::nil());
        large.grow_to(15).unwrap();
        large.grow_to(90).unwrap();
        assert!(budget.lease(ONE, Uuid::max()).grow_to(1).is_err());
        budget.lease(OTHER, Uuid::max()).grow_to(10).unwrap();
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_limit() {
        let budget = budget(100, 10, 100);
        let mut first = budget.lease("2001:db8::1".parse().unwrap(), Uuid::nil());
        first.grow_to(8).unwrap();
        assert!(budget.lease("2001:db8::ffff:2".parse().unwrap(), Uuid::max()).grow_to(8).is_err());
        budget.lease("2001:db8:0:1::2".parse().unwrap(), Uuid::max()).grow_to(8).unwrap();
    }
}
