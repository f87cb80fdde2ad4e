//! What goes wrong with frames on their way, and what is done to them on purpose.

use super::Generator;

/// Octets in which headers are.
const HEADERS: usize = 90;

impl Generator {
    /// Changes the frame in some way; 14 octets at least are left.
    pub(super) fn damage(&mut self, frame: &mut Vec<u8>) {
        match self.random.below(8) {
            0..=3 => self.flip(frame),
            4 => self.cut(frame),
            5 => {
                let more = self.random.below(64);
                let tail = self.octets(more);
                frame.extend(tail);
            }
            6 => self.splice(frame),
            _ => {
                self.flip(frame);
                self.cut(frame);
            }
        }
    }

    fn flip(&mut self, frame: &mut [u8]) {
        for _ in 0..=self.random.below(4) {
            // Headers are where it matters.
            let end = if self.one_in(4) { frame.len() } else { frame.len().min(HEADERS) };
            let at = self.random.below(end as u64) as usize;
            frame[at] = match self.random.below(5) {
                0 => 0,
                1 => 0xff,
                2 => frame[at].wrapping_add(1),
                3 => frame[at] ^ (1 << self.random.below(8)),
                _ => self.random.next() as u8,
            };
        }
    }

    fn cut(&mut self, frame: &mut Vec<u8>) {
        let end = if self.one_in(3) { frame.len() } else { frame.len().min(HEADERS) };
        frame.truncate((14 + self.random.below(end as u64 - 13)) as usize);
    }

    /// The front of one frame and the back of another, or of the same.
    fn splice(&mut self, frame: &mut Vec<u8>) {
        let other = if self.one_in(2) { self.last.clone() } else { frame.clone() };
        let (front, back) = (frame.len().min(HEADERS) as u64, other.len().min(HEADERS) as u64);
        let at = self.random.below(front + 1) as usize;
        let from = if self.one_in(2) { at.min(other.len()) } else { self.random.below(back) as usize };
        frame.truncate(at);
        frame.extend(&other[from..]);
        if frame.len() < 14 {
            frame.resize(14, 0);
        }
    }
}
