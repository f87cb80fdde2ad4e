//! Which counters of a session were seen.

/// How far behind the highest one a counter may be: what a network overtakes itself by.
const WINDOW: u64 = 64;

/// The highest counter seen, and which of the `WINDOW` up to it (as in RFC 4303, 3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    highest: u64,
    /// Bit n: `highest - n` was seen.
    seen: u64,
}

impl Window {
    /// Whether no later counter was seen.
    #[must_use]
    pub const fn is_newest(&self, counter: u64) -> bool {
        counter > self.highest || self.seen == 0
    }

    /// Takes a counter once. `false`: seen before, or too far behind to tell.
    pub const fn take(&mut self, counter: u64) -> bool {
        if self.is_newest(counter) {
            let ahead = counter - self.highest;
            self.seen = if ahead < WINDOW { (self.seen << ahead) | 1 } else { 1 };
            self.highest = counter;
            return true;
        }
        let behind = self.highest - counter;
        if behind >= WINDOW || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_is_taken_once_while_it_is_at_most_a_window_behind() {
        let mut window = Window::default();
        for (counter, taken) in [
            (0, true),
            (0, false),
            (5, true),
            (3, true),
            (3, false),
            (5, false),
            (66, true),
            (3, false),
            (2, false),
            (4, true),
            (1_000, true),
            (936, false),
            (937, true),
            (937, false),
            (u64::MAX, true),
            (u64::MAX, false),
        ] {
            assert_eq!(window.take(counter), taken, "{counter} at {window:?}");
        }
    }
}
