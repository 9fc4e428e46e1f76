//! Many times in µs, and their percentiles.

/// Times in µs.
#[derive(Default)]
pub(crate) struct Times(Vec<u32>);

impl Times {
    pub(crate) fn add(&mut self, us: u128) {
        self.0.push(us.try_into().unwrap_or(u32::MAX));
    }

    pub(crate) fn append(&mut self, mut other: Times) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Prints the median and the 99th percentile.
    pub(crate) fn print(mut self) {
        self.0.sort_unstable();
        println!("p50_us {}\np99_us {}", self.at(50), self.at(99));
    }

    /// Of sorted times: the first that `percent` of all do not exceed (nearest rank).
    fn at(&self, percent: usize) -> u32 {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Times;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times = Times((1..=200).collect());
        assert_eq!((times.at(50), times.at(99)), (100, 198));
        assert_eq!((Times(vec![7]).at(99), Times::default().at(50)), (7, 0));
    }
}
