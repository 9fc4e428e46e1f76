//! Which backend takes the next session. Stub: owner replaces bodies, keeps the signatures.

use std::sync::Arc;

use rand::Rng;

use crate::policy::Balance;
use crate::seats::{Seat, Seats};
use crate::time::Moment;

/// Something with seats: what the gateway keeps of a backend, or a test's double.
pub trait Seated {
    /// Its seats.
    fn seats(&self) -> &Arc<Seats>;
}

/// Why no backend took the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// No backend takes sessions at all.
    NoBackend,
    /// Every one that does is full.
    Full,
    /// The first that will have a seat within its pace has it at this moment.
    NotBefore(Moment),
}

/// Reserves a seat: on `preferred` (an index) if it has one, else on the best by `balance`. `usable` leaves out backends that a dial
/// just failed at. Returns the index and the seat.
///
/// # Errors
/// [`NoPlace`].
pub fn place<B: Seated>(
    _balance: Balance,
    _fill: f64,
    _backends: &[B],
    _preferred: Option<usize>,
    _usable: impl Fn(usize) -> bool,
    _now: Moment,
    _rng: &mut impl Rng,
) -> Result<(usize, Seat), NoPlace> {
    unimplemented!()
}
