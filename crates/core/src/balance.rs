//! Which backend takes the next session.
//!
//! A comparison and the reservation that follows it are one step: the seat is taken only if the winner's count is still the one
//! that was compared ([`Seats::reserve_seen`]). So a storm on many threads spreads as one thread would spread it, and never herds
//! onto a backend that looked empty to all of them at once.

use std::cmp::Ordering;
use std::sync::Arc;

use rand::Rng;

use crate::affinity::{Key, Rendezvous};
use crate::policy::Balance;
use crate::seats::{NoSeat, Seat, Seats, UNLIMITED};
use crate::time::Moment;

/// Comparisons before the seat is taken whatever the count has become. Each repeat means that another thread got a seat meanwhile, so only
/// a storm on many cores comes near it.
const COMPARISONS_MAX: u32 = 16;

/// Least-sessions looks at all backends of a fleet up to this size, which takes less than a microsecond.
const SCANNED_MAX: usize = 128;

/// In a larger one it looks at so many drawn at random: the winner is of the emptiest 3 % on average (docs/decisions, 15).
const DRAWN: usize = 32;

/// Draws of random-of-two before all backends are looked at: in a fleet that is nearly full most draws find no free seat.
const DRAWS_MAX: u32 = 4;

/// Hashed keys: a backend takes so many times its share of the fleet's sessions, then the next in a key's order is asked (Mirrokni, Thorup
/// and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016). At the default fill of 80 % it is just its whole capacity.
const LOAD_BOUND: f64 = 1.25;

/// Below so many sessions a backend is never over its bound: of a handful, chance alone puts several in one place, and one user's few
/// connections belong together.
const LOAD_FLOOR: f64 = 16.0;

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

/// What affinity asks for.
#[derive(Clone, Copy, Debug)]
pub enum Preferred<'a> {
    /// Nothing.
    Nobody,
    /// The backend at this index.
    One(usize),
    /// The first in the key's order, whose rendezvous has the same backends at the same indexes.
    InOrder(&'a Rendezvous, Key),
}

/// Reserves a seat: where affinity asks for one if that can be had now, else on the best by `balance`. A key's order is followed to its end:
/// those within their share of the load first, then any. `usable` leaves out backends that a dial just failed at. Returns the index and the
/// seat. Does not allocate.
///
/// # Errors
/// [`NoPlace`], of the usable backends.
pub fn place<B: Seated>(
    balance: Balance,
    fill: f64,
    backends: &[B],
    preferred: Preferred<'_>,
    usable: impl Fn(usize) -> bool,
    now: Moment,
    rng: &mut impl Rng,
) -> Result<(usize, Seat), NoPlace> {
    // Affinity is a wish: a preferred backend that is full, draining or above its pace is no reason to wait.
    if let Preferred::One(index) = preferred
        && usable(index)
        && let Some(backend) = backends.get(index)
        && let Ok(seat) = backend.seats().reserve(now)
    {
        return Ok((index, seat));
    }
    let candidates = Candidates { backends, usable, now };
    let choose = |rng: &mut _| match preferred {
        Preferred::InOrder(rendezvous, key) => candidates.by_key(rendezvous, key),
        Preferred::Nobody | Preferred::One(_) => candidates.choose(balance, fill, rng),
    };
    for _ in 0..COMPARISONS_MAX {
        let (index, used) = choose(rng)?;
        // Whatever the refusal, it means that the comparison is out of date.
        if let Ok(seat) = backends[index].seats().reserve_seen(used, now) {
            return Ok((index, seat));
        }
    }
    // Near enough to the best, then any at all: nobody is refused because others were faster.
    let (index, _) = choose(rng)?;
    backends[index].seats().reserve(now).map(|seat| (index, seat)).or_else(|_| candidates.anywhere(rng))
}

/// The backends of one question.
struct Candidates<'a, B, U> {
    backends: &'a [B],
    usable: U,
    now: Moment,
}

/// What was read of a backend that could take a session.
#[derive(Clone, Copy)]
struct Candidate {
    index: usize,
    taken: Taken,
}

/// Seats taken of those that may be: what backends are compared by. Of one that has a free seat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) used: u32,
    pub(crate) limit: u32,
}

/// The rule by which backends are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    balance: Balance,
    fill: f64,
    /// A backend without a limit is among them: a share of no limit says nothing, so sessions are compared instead.
    by_count: bool,
}

impl<B: Seated, U: Fn(usize) -> bool> Candidates<'_, B, U> {
    /// The best by `balance`, and the count it was judged by.
    fn choose(&self, balance: Balance, fill: f64, rng: &mut impl Rng) -> Result<(usize, u32), NoPlace> {
        let drawn = match balance {
            Balance::LeastSessions => self.draw_many(rng),
            Balance::Packed => None,
            Balance::RandomOfTwo => self.draw_two(rng),
        };
        let best = match drawn {
            Some(drawn) => drawn,
            None => self.best(rng, Rule::new(balance, fill, self.backends.iter().map(|b| b.seats().limit())))?,
        };
        Ok((best.index, best.taken.used))
    }

    /// The first in the order of `key` that is within its bound, else the first that has a seat; and the count it was judged by.
    fn by_key(&self, rendezvous: &Rendezvous, key: Key) -> Result<(usize, u32), NoPlace> {
        let bound = self.bound_of_weight(rendezvous);
        let mut best: Option<((bool, f64), Candidate)> = None;
        let mut none = NoPlace::NoBackend;
        for index in 0..self.backends.len() {
            match self.candidate(index) {
                Err(why) => none = none.or(why),
                Ok(found) => {
                    let is_over = f64::from(found.taken.used) + 1.0 > LOAD_FLOOR.max((bound * rendezvous.weight(index)).ceil());
                    let held = match best {
                        Some(((false, _), _)) if is_over => continue,
                        Some(((held_over, rank), _)) if held_over == is_over => Some(rank),
                        _ => None,
                    };
                    if let Some(rank) = rendezvous.rank_before(index, key, held) {
                        best = Some(((is_over, rank), found));
                    }
                }
            }
        }
        best.map(|(_, found)| (found.index, found.taken.used)).ok_or(none)
    }

    /// Sessions that a unit of weight may take once one more is placed: never so few that all are over their bound.
    fn bound_of_weight(&self, rendezvous: &Rendezvous) -> f64 {
        let open = self.backends.iter().enumerate().map(|(i, b)| (i, b.seats())).filter(|(_, seats)| seats.limit() > 0);
        let (sessions, weight) = open.fold((1.0, 0.0), |(sessions, weight), (i, seats)| {
            (sessions + f64::from(seats.used()), weight + rendezvous.weight(i))
        });
        if weight > 0.0 { LOAD_BOUND * sessions / weight } else { f64::INFINITY }
    }

    /// The candidate that `rule` puts first, ties at random; or why there is none.
    fn best(&self, rng: &mut impl Rng, rule: Rule) -> Result<Candidate, NoPlace> {
        let mut best: Option<(Candidate, u32)> = None;
        let mut none = NoPlace::NoBackend;
        for index in 0..self.backends.len() {
            match (self.candidate(index), best) {
                (Err(why), _) => none = none.or(why),
                (Ok(found), None) => best = Some((found, 1)),
                (Ok(found), Some((held, ties))) => match rule.order(found.taken, held.taken) {
                    Ordering::Less => best = Some((found, 1)),
                    Ordering::Greater => {}
                    // Each of n equals is kept with probability 1/n.
                    Ordering::Equal if rng.random_ratio(1, ties + 1) => best = Some((found, ties + 1)),
                    Ordering::Equal => best = Some((held, ties + 1)),
                },
            }
        }
        best.map(|(candidate, _)| candidate).ok_or(none)
    }

    /// The emptiest of [`DRAWN`], if the fleet is that large and one of them has a seat. Ties go to the first drawn, so to any.
    fn draw_many(&self, rng: &mut impl Rng) -> Option<Candidate> {
        let n = self.backends.len();
        if n <= SCANNED_MAX {
            return None;
        }
        let drawn: [_; DRAWN] = std::array::from_fn(|_| self.candidate(rng.random_range(0..n)).ok());
        let by_count = by_count(drawn.iter().flatten().map(|c| c.taken.limit));
        drawn.into_iter().flatten().min_by(|a, b| emptier(by_count, a.taken, b.taken))
    }

    /// The emptier of two drawn at random, or the one of them that has a seat.
    fn draw_two(&self, rng: &mut impl Rng) -> Option<Candidate> {
        let n = self.backends.len();
        if n < 2 {
            return None;
        }
        for _ in 0..DRAWS_MAX {
            let first = rng.random_range(0..n);
            // Of the others, so that the two differ.
            let second = (first + rng.random_range(1..n)) % n;
            match (self.candidate(first), self.candidate(second)) {
                (Ok(a), Ok(b)) => {
                    let by_count = by_count([a.taken.limit, b.taken.limit].into_iter());
                    return Some(if emptier(by_count, a.taken, b.taken).is_le() { a } else { b });
                }
                (Ok(one), Err(_)) | (Err(_), Ok(one)) => return Some(one),
                (Err(_), Err(_)) => {}
            }
        }
        None
    }

    /// Reads one backend, without taking anything.
    fn candidate(&self, index: usize) -> Result<Candidate, NoPlace> {
        let seats = self.backends[index].seats();
        let (limit, used) = (seats.limit(), seats.used());
        if limit == 0 || !(self.usable)(index) {
            return Err(NoPlace::NoBackend);
        }
        if used >= limit {
            return Err(NoPlace::Full);
        }
        match seats.not_before(self.now) {
            Some(at) => Err(NoPlace::NotBefore(at)),
            None => Ok(Candidate { index, taken: Taken { used, limit } }),
        }
    }

    /// Any seat at all, each backend asked once from a random one on.
    fn anywhere(&self, rng: &mut impl Rng) -> Result<(usize, Seat), NoPlace> {
        let n = self.backends.len();
        let start = rng.random_range(0..n.max(1));
        let mut none = NoPlace::NoBackend;
        for index in (start..n).chain(0..start).filter(|&i| (self.usable)(i)) {
            let seats = self.backends[index].seats();
            match seats.reserve(self.now) {
                Ok(seat) => return Ok((index, seat)),
                Err(NoSeat::NotBefore(at)) => none = none.or(NoPlace::NotBefore(at)),
                Err(_) if seats.limit() == 0 => {}
                Err(_) => none = none.or(NoPlace::Full),
            }
        }
        Err(none)
    }
}

impl NoPlace {
    /// What two backends together answer: the earlier moment, else full, else no backend.
    fn or(self, other: NoPlace) -> NoPlace {
        match (self, other) {
            (NoPlace::NotBefore(a), NoPlace::NotBefore(b)) => NoPlace::NotBefore(a.min(b)),
            (at @ NoPlace::NotBefore(_), _) | (_, at @ NoPlace::NotBefore(_)) => at,
            (NoPlace::Full, _) | (_, NoPlace::Full) => NoPlace::Full,
            (NoPlace::NoBackend, NoPlace::NoBackend) => NoPlace::NoBackend,
        }
    }
}

impl Rule {
    /// The rule of a fleet whose backends have these limits.
    pub(crate) fn new(balance: Balance, fill: f64, limits: impl Iterator<Item = u32>) -> Self {
        Rule { balance, fill, by_count: by_count(limits) }
    }

    /// Which of two takes the next session: the lesser.
    pub(crate) fn order(self, a: Taken, b: Taken) -> Ordering {
        match self.balance {
            Balance::LeastSessions | Balance::RandomOfTwo => emptier(self.by_count, a, b),
            // Those below their fill first, the fullest of them first; then the emptiest of the rest.
            Balance::Packed => match (a.below_fill(self.fill) > 0, b.below_fill(self.fill) > 0) {
                (true, true) => emptier(self.by_count, b, a),
                (false, false) => emptier(self.by_count, a, b),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
            },
        }
    }
}

impl Taken {
    /// So many more sessions leave it at its fill or below.
    pub(crate) fn below_fill(self, fill: f64) -> u32 {
        (f64::from(self.limit) * fill + 1e-9 - f64::from(self.used)) as u32
    }
}

fn by_count(mut limits: impl Iterator<Item = u32>) -> bool {
    limits.any(|limit| limit == UNLIMITED)
}

/// By used/limit, or by used.
fn emptier(by_count: bool, a: Taken, b: Taken) -> Ordering {
    if by_count {
        return a.used.cmp(&b.used);
    }
    // a.used / a.limit against b.used / b.limit, exactly.
    (u64::from(a.used) * u64::from(b.limit)).cmp(&(u64::from(b.used) * u64::from(a.limit)))
}
