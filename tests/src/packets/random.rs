//! Random numbers that can be had again.

/// A generator of splitmix64 numbers (Steele, Lea, Flood 2014): the same seed, the same numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A new seed in each run, unless FAIRLEAD_SEED gives one; printed so that a failure can be repeated.
    ///
    /// # Panics
    /// If FAIRLEAD_SEED is no decimal number.
    #[must_use]
    pub fn seeded(test: &str) -> Self {
        let seed = match std::env::var("FAIRLEAD_SEED") {
            Ok(seed) => seed.parse().expect("FAIRLEAD_SEED is a decimal number"),
            Err(_) => std::process::id().into(),
        };
        println!("repeat with FAIRLEAD_SEED={seed} cargo test -p fairlead-tests --test packets {test}");
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
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
