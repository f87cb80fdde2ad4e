//! A measurement that nothing under test can disturb, so that a stall of the machine is not taken for a failure.

use super::question::{Question, To};
use super::record::{Mac, Record};
use super::watch::{AnswerWatch, EVERY};
use crate::lab::{DEVICE, Host, Lab};
use anyhow::{Result, anyhow};
use std::time::{Duration, Instant};

/// A stall longer than this spoils the measurement it fell into.
pub const SPOILED_BY: Duration = Duration::from_millis(10);

/// One idle namespace asks another on the same bridge where it is, each millisecond; its kernel answers. The lab must
/// have been built with [`crate::lab::Builder::control`].
#[derive(Debug)]
pub struct ControlPing {
    watch: AnswerWatch,
}

/// What the control measurement saw.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// The longest time between two requests that were answered, or from the last one to the end.
    pub longest: Duration,
}

impl Stall {
    /// Whether the machine itself stood still for so long that what else was measured says nothing.
    #[must_use]
    pub fn spoils(&self) -> bool {
        self.longest > SPOILED_BY
    }
}

impl ControlPing {
    /// Begins.
    ///
    /// # Errors
    /// The lab has no namespaces for it, or no packet socket can be opened.
    pub fn start(lab: &Lab) -> Result<Self> {
        let [from, to] = lab.control.as_slice() else {
            anyhow::bail!("the lab was not built with `control`");
        };
        // Asked alone, it answers alone: no other member of the bridge sees these frames.
        let question = Question::new(to.v4.into(), To::Station(mac_of(to)?));
        Ok(Self { watch: AnswerWatch::with(&from.ns, DEVICE, question, EVERY)? })
    }

    /// How many answers there were so far.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.watch.answers()
    }

    /// Ends it: the longest stall between these two moments.
    ///
    /// # Errors
    /// Its socket failed.
    pub fn stop(self, from: Instant, to: Instant) -> Result<Stall> {
        let (from, to) = (self.watch.time_of(from), self.watch.time_of(to));
        let record = self.watch.stop()?;
        Ok(Stall { longest: longest(&record, from, to) })
    }
}

/// The longest time without an answered request that touches the time between `from` and `to`.
fn longest(record: &Record, from: Duration, to: Duration) -> Duration {
    let answered = record.answered();
    let after = answered.iter().copied().chain([to.max(answered.last().copied().unwrap_or_default())]);
    let before = [Duration::ZERO].into_iter().chain(answered.iter().copied());
    let pairs = before.zip(after).filter(|(one, next)| *next > from && *one < to);
    pairs.map(|(one, next)| next.saturating_sub(one)).max().unwrap_or_default()
}

/// The MAC of a host's device.
///
/// # Errors
/// The host has gone.
pub fn mac_of(host: &Host) -> Result<Mac> {
    // What /sys shows is that of the mount, not of the thread: the kernel is asked for the device instead.
    let mac = host.ns.enter(|| {
        let addresses = nix::ifaddrs::getifaddrs().ok()?;
        let device = addresses.filter(|address| address.interface_name == DEVICE);
        device.filter_map(|entry| entry.address?.as_link_addr()?.addr()).next()
    });
    mac.map(Mac).ok_or_else(|| anyhow!("{} has no {DEVICE}", host.role))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::ha::record::Answer;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn answered_at(moments: &[u64]) -> Record {
        let asked: Vec<Duration> = moments.iter().copied().map(ms).collect();
        let answers = asked.iter().enumerate();
        let answers = answers.map(|(request, at)| Answer { request, at: *at, mac: Mac([2; 6]) }).collect();
        Record { asked, answers, ..Record::default() }
    }

    #[test]
    fn longest_stall_is_of_the_time_asked_about_only() {
        let record = answered_at(&[1, 2, 30, 31, 32, 40, 41, 42]);
        for (from, to, expected) in [(0, 50, 28), (31, 42, 8), (31, 60, 18), (10, 20, 28), (30, 32, 1)] {
            assert_eq!(longest(&record, ms(from), ms(to)), ms(expected), "{from} to {to}");
        }
    }

    #[test]
    fn silence_to_the_end_is_a_stall() {
        assert_eq!(longest(&answered_at(&[]), ms(0), ms(50)), ms(50));
        assert_eq!(longest(&answered_at(&[1, 2]), ms(0), ms(50)), ms(48));
    }
}
