//! Backends at one address: its seats are theirs together.
//!
//! A reload can give an address another id, or another fleet, while sessions of the old one are still there. The server behind it is the same, so
//! what the old one has takes seats of the new one. Of two that are there to stay the one that joined first takes sessions.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::time::Moment;

use super::backend::{Backend, Shared};
use super::fleet::FleetState;
use super::moves::sum;

/// A backend's part of one address.
struct Holder {
    /// When it joined, and its place in State: who is there first.
    rank: (Moment, usize, usize),
    used: u32,
    takes: Takes,
}

/// Whether a holder's count may rise.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// It is there to stay.
    Open,
    /// It was closed, and may have taken a seat between the last count and that.
    Closing,
    /// It was counted after it was closed.
    Closed,
}

/// Tells each backend what others have at its address. Returns whether two have one address, or sessions at one that one of them had before.
pub(super) fn share_addresses(fleets: &mut [FleetState]) -> bool {
    let holders = holders(fleets);
    let mut are_shared = fleets.iter().flat_map(|f| &f.backends).any(|b| !b.former.is_empty());
    for (f, fleet) in fleets.iter_mut().enumerate() {
        let mut is_changed = false;
        for (b, backend) in fleet.backends.iter_mut().enumerate() {
            let rank = (backend.since, f, b);
            let at = backend.address.and_then(|a| holders.get(&same(a))).map_or(&[][..], Vec::as_slice);
            let others = || at.iter().filter(|h| h.rank != rank);
            let shared = Shared {
                with_others: others().next().is_some(),
                used: sum(others().map(|h| h.used)),
                is_open: others().any(|h| h.takes == Takes::Closing || (h.takes == Takes::Open && h.rank < rank)),
            };
            are_shared |= shared.with_others;
            is_changed |= shared != backend.shared;
            backend.shared = shared;
        }
        if is_changed {
            fleet.changed();
        }
    }
    are_shared
}

fn holders(fleets: &[FleetState]) -> HashMap<SocketAddr, Vec<Holder>> {
    let mut holders: HashMap<SocketAddr, Vec<Holder>> = HashMap::new();
    for (f, fleet) in fleets.iter().enumerate() {
        for (b, backend) in fleet.backends.iter().enumerate() {
            let rank = (backend.since, f, b);
            let mut add = |address, used, takes| holders.entry(same(address)).or_default().push(Holder { rank, used, takes });
            for former in &backend.former {
                add(former.address, former.used, if backend.is_moved { Takes::Closing } else { Takes::Closed });
            }
            if let Some(address) = backend.address {
                add(address, backend.used_here(), backend.takes());
            }
        }
    }
    holders
}

impl Backend {
    fn takes(&self) -> Takes {
        match &self.drain {
            Some(drain) if drain.empty.is_some() => Takes::Closed,
            Some(_) => Takes::Closing,
            None => Takes::Open,
        }
    }
}

/// The address in the form in which it is dialled: `::ffff:10.0.0.7` is 10.0.0.7.
fn same(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}
