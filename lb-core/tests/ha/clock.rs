//! Clocks of nodes: they differ in origin and speed.

use std::time::Duration;

#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) origin: u64,
    pub(crate) ppm: i64,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    /// What it shows at a time of the world.
    pub(crate) fn read(self, at: u64) -> Duration {
        let drift = i128::from(at) * i128::from(self.ppm) / MILLION;
        Duration::from_nanos(
            u64::try_from(i128::from(self.origin) + i128::from(at) + drift).expect("not before 0"),
        )
    }

    /// The first time of the world at which it shows this or more.
    pub(crate) fn when(self, shown: Duration) -> u64 {
        let since = i128::try_from(shown.as_nanos()).expect("small") - i128::from(self.origin);
        let mut at =
            u64::try_from((since * MILLION / (MILLION + i128::from(self.ppm))).max(0)).expect("small");
        while self.read(at) < shown {
            at += 1;
        }
        at
    }
}
