//! How often one address may call: so many times a second, with as many in reserve.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Addresses that are remembered; beyond that, those whose reserve is full again are forgotten.
const ADDRESSES_MAX: usize = 4096;

pub(super) struct Rates {
    per_second: u32,
    addresses: Mutex<HashMap<IpAddr, Reserve>>,
}

#[derive(Clone, Copy)]
struct Reserve {
    left: f64,
    at: Instant,
}

impl Rates {
    /// 0 allows everything.
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, addresses: Mutex::default() }
    }

    /// A peer without an address is local, and not limited.
    pub(super) fn allow(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(peer) if self.per_second > 0 => self.take(peer, Instant::now()),
            _ => true,
        }
    }

    fn take(&self, peer: IpAddr, now: Instant) -> bool {
        let rate = f64::from(self.per_second);
        let refilled = |reserve: &Reserve| {
            let since = now.saturating_duration_since(reserve.at).as_secs_f64();
            since.mul_add(rate, reserve.left).min(rate)
        };
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner); // whole at every moment
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&peer) {
            addresses.retain(|_, reserve| refilled(reserve) < rate);
            if addresses.len() >= ADDRESSES_MAX {
                return false; // as many addresses as that are one flood
            }
        }
        let reserve = addresses.entry(peer).or_insert(Reserve { left: rate, at: now });
        *reserve = Reserve { left: refilled(reserve), at: now };
        let allowed = reserve.left >= 1.0;
        if allowed {
            reserve.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_reserve_is_used_up_and_fills_again() {
        let rates = Rates::new(10);
        let (now, peer) = (Instant::now(), IpAddr::from([10, 0, 0, 1]));
        assert_eq!((0..30).filter(|_| rates.take(peer, now)).count(), 10);
        assert!(rates.take(IpAddr::from([10, 0, 0, 2]), now), "another's is its own");
        assert_eq!((0..30).filter(|_| rates.take(peer, now + Duration::from_millis(500))).count(), 5);
        assert_eq!((0..30).filter(|_| rates.take(peer, now + Duration::from_secs(60))).count(), 10);
        assert!(Rates::new(0).allow(Some(peer)));
    }

    #[test]
    fn the_memory_of_addresses_is_bounded() {
        let rates = Rates::new(10);
        let now = Instant::now();
        for number in 0..10_000_u32 {
            rates.take(IpAddr::from(number.to_be_bytes()), now + Duration::from_millis(number.into()));
        }
        assert!(rates.addresses.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
