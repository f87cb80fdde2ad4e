//! A router that knows RFC 9568 (6.4) and nothing else, written without a look at ours: one timer, one address family, no
//! lease. It answers while it is active and alive.

use std::net::IpAddr;
use std::time::Duration;

pub(crate) struct Foreign {
    pub(crate) address: IpAddr,
    pub(crate) priority: u8,
    pub(crate) preempt: bool,
    pub(crate) interval: Duration,
    pub(crate) phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Initialize,
    Backup { down_at: Duration },
    Active { adver_at: Duration },
}

/// An advertisement to send, with its priority.
pub(crate) type Sends = Option<u8>;

impl Foreign {
    fn skew(&self, interval: Duration) -> Duration {
        interval * (256 - u32::from(self.priority)) / 256
    }

    fn down(&self, interval: Duration) -> Duration {
        3 * interval + self.skew(interval)
    }

    pub(crate) fn startup(&mut self, now: Duration) {
        self.phase = Phase::Backup { down_at: now + self.down(self.interval) };
    }

    pub(crate) fn shutdown(&mut self) -> Sends {
        let was_active = matches!(self.phase, Phase::Active { .. });
        self.phase = Phase::Initialize;
        was_active.then_some(0)
    }

    pub(crate) fn timer(&self) -> Option<Duration> {
        match self.phase {
            Phase::Initialize => None,
            Phase::Backup { down_at } => Some(down_at),
            Phase::Active { adver_at } => Some(adver_at),
        }
    }

    pub(crate) fn expire(&mut self, now: Duration) -> Sends {
        if self.timer().is_none_or(|at| now < at) {
            return None;
        }
        self.phase = Phase::Active { adver_at: now + self.interval };
        Some(self.priority)
    }

    pub(crate) fn receive(&mut self, now: Duration, from: IpAddr, priority: u8, interval: Duration) -> Sends {
        match self.phase {
            Phase::Initialize => None,
            Phase::Backup { .. } => {
                if priority == 0 {
                    self.phase = Phase::Backup { down_at: now + self.skew(interval) };
                } else if !self.preempt || priority >= self.priority {
                    self.phase = Phase::Backup { down_at: now + self.down(interval) };
                }
                None
            }
            Phase::Active { .. } => {
                if priority > self.priority || (priority == self.priority && from > self.address) {
                    self.phase = Phase::Backup { down_at: now + self.down(interval) };
                    return None;
                }
                self.phase = Phase::Active { adver_at: now + self.interval };
                Some(self.priority)
            }
        }
    }
}
