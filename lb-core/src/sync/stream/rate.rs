//! How fast a peer is sent to.

use std::time::Duration;

/// A token bucket: so many bytes a second, and a tenth of that at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    per_second: u64,
    tokens: u64,
    at: Duration,
}

impl Rate {
    /// A full one. Less than 10,000 bytes a second are taken as that: fewer would not carry one datagram at a time.
    #[must_use]
    pub fn new(per_second: u64, now: Duration) -> Self {
        let per_second = per_second.max(10_000);
        // Two datagrams at least, or a slow one would never have the tokens for any.
        Self { per_second, tokens: burst(per_second), at: now }
    }

    /// Bytes that may be sent now.
    pub fn available(&mut self, now: Duration) -> u64 {
        let passed = now.saturating_sub(self.at).min(Duration::from_secs(1));
        let gained = u128::from(self.per_second) * passed.as_micros() / 1_000_000;
        if let Some(gained) = u64::try_from(gained).ok().filter(|gained| *gained > 0) {
            self.tokens = (self.tokens + gained).min(burst(self.per_second));
            self.at = now;
        }
        self.tokens
    }

    /// So many were sent.
    pub const fn spend(&mut self, bytes: usize) {
        self.tokens = self.tokens.saturating_sub(bytes as u64);
    }
}

fn burst(per_second: u64) -> u64 {
    (per_second / 10).max(2 * crate::sync::wire::MAX_DATAGRAM as u64)
}
