//! A buffer per thread for reads, so that an idle session owns none.

use std::cell::Cell;

/// The most that is read at once, and so the most that a partial write can leave over.
pub const READ_MAX: usize = 16 << 10;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends the thread's buffer of [`READ_MAX`] bytes to `f`; its content is whatever the last user left.
///
/// The buffer is taken out while it is lent: a second user inside `f`, or one after a panic in `f`, gets a new one.
pub fn with<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = SCRATCH.take().unwrap_or_else(|| vec![0; READ_MAX].into_boxed_slice());
    let result = f(&mut buffer);
    SCRATCH.set(Some(buffer));
    result
}

#[cfg(test)]
mod tests {
    #[test]
    fn lent_twice_at_once_they_are_two() {
        super::with(|outer| {
            outer[0] = 1;
            super::with(|inner| inner[0] = 2);
            assert_eq!(outer[0], 1);
        });
    }
}
