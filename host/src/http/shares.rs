//! Something scarce, bytes or connections, bounded in all and for each client, so that one of them cannot use up what
//! is for everybody. Counting takes no lock and no memory.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::http::address;

/// Clients are counted in this many places. Two that meet in one share its bound: stricter for them, not looser for
/// anybody. Which ones meet, nobody can foresee.
const PLACES: usize = 4096;

/// How much there is, and how much of it is taken.
#[derive(Debug)]
pub struct Shares {
    max: usize,
    each_max: usize,
    taken: AtomicUsize,
    places: Box<[AtomicUsize]>,
    hasher: RandomState,
}

/// A part that is taken. Comes back when this is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    place: usize,
    amount: usize,
}

impl Shares {
    /// At most `max` in all and `each_max` for one client.
    pub fn new(max: usize, each_max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            each_max,
            taken: AtomicUsize::new(0),
            places: (0..PLACES).map(|_| AtomicUsize::new(0)).collect(),
            hasher: RandomState::new(),
        })
    }

    /// Takes a part for this client, if there is enough.
    pub fn take(self: &Arc<Self>, client: IpAddr, amount: usize) -> Option<Share> {
        let hash = self.hasher.hash_one(address::network(client));
        let place = usize::try_from(hash % PLACES as u64).unwrap_or_default();
        let mut share = Share {
            shares: Arc::clone(self),
            place,
            amount: 0,
        };
        share.grow_to(amount).then_some(share)
    }
}

impl Share {
    /// Makes it as large as this, if there is enough; else it stays as it is.
    pub fn grow_to(&mut self, amount: usize) -> bool {
        let more = amount.saturating_sub(self.amount);
        if more == 0 {
            return true;
        }
        let (shares, place) = (&*self.shares, &self.shares.places[self.place]);
        let of_all = shares.taken.fetch_add(more, Relaxed);
        let of_client = place.fetch_add(more, Relaxed);
        // Who holds nothing else may take what is there: a single large one must not be impossible.
        let is_fair = of_client <= self.amount || of_client + more <= shares.each_max;
        if of_all + more > shares.max || !is_fair {
            shares.taken.fetch_sub(more, Relaxed);
            place.fetch_sub(more, Relaxed);
            return false;
        }
        self.amount = amount;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.taken.fetch_sub(self.amount, Relaxed);
        self.shares.places[self.place].fetch_sub(self.amount, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Two clients that are not counted in one place.
    fn two(shares: &Arc<Shares>) -> (IpAddr, IpAddr) {
        let place = |last| shares.take(client(last), 0).unwrap().place;
        let other = (2..=255).find(|last| place(*last) != place(1)).unwrap();
        (client(1), client(other))
    }

    #[test]
    fn one_client_cannot_take_what_is_for_all() {
        let shares = Shares::new(100, 40);
        let (a, b) = two(&shares);
        let mut first = shares.take(a, 30).unwrap();
        assert!(shares.take(a, 11).is_none());
        let second = shares.take(a, 10).unwrap();
        assert!(!first.grow_to(31));
        drop(second);
        assert!(first.grow_to(100), "who holds nothing else may");
        assert!(shares.take(b, 1).is_none(), "but all is all");
        drop(first);
        assert!(shares.take(b, 40).is_some());
        assert_eq!(shares.taken.load(Relaxed), 0);
        assert!(shares.places.iter().all(|place| place.load(Relaxed) == 0));
    }

    #[test]
    fn addresses_that_one_client_can_choose_among_are_one_client() {
        let shares = Shares::new(100, 40);
        let _held = shares.take("2001:db8::1".parse().unwrap(), 40).unwrap();
        assert!(
            shares
                .take("2001:db8::ffff:2".parse().unwrap(), 1)
                .is_none()
        );
        let mapped = shares.take("::ffff:192.0.2.1".parse().unwrap(), 0).unwrap();
        assert_eq!(mapped.place, shares.take(client(1), 0).unwrap().place);
    }
}
