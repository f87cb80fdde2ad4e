//! Random numbers that can be had again.

use std::time::SystemTime;

use lb_common::hash::SplitMix64;

/// A generator of numbers: the same seed, the same numbers.
#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

/// The seed that FAIRLEAD_SEED gives, or else one from the clock, which no run has had before.
///
/// # Panics
/// If FAIRLEAD_SEED is no decimal number.
#[must_use]
pub fn seed() -> u64 {
    if let Ok(seed) = std::env::var("FAIRLEAD_SEED") {
        return seed.parse().expect("FAIRLEAD_SEED is a decimal number");
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    since.as_secs() << 20 | u64::from(since.subsec_nanos() >> 10)
}

impl Random {
    /// The generator of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(SplitMix64(seed))
    }

    /// A new seed in each run, unless FAIRLEAD_SEED gives one; printed so that a failure can be repeated.
    ///
    /// # Panics
    /// If FAIRLEAD_SEED is no decimal number.
    #[must_use]
    pub fn seeded(test: &str) -> Self {
        let seed = seed();
        println!("repeat with FAIRLEAD_SEED={seed} cargo test -p fairlead-tests --test packets {test}");
        Self::new(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below the limit, which is not zero.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True once in so many times.
    pub const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these, of which there is at least one.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
