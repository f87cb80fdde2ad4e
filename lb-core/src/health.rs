//! Health of one backend of one service: results of probes in, a verdict and the time of the next probe out.
//!
//! The machine does no probing and reads no clock. The caller asks [`Health::next_due`], starts a probe with
//! [`Health::begin`] and reports its outcome (a timeout too) with [`Health::finish`].

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::config::Check;

/// What is known about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The service has no check: the backend serves.
    Unchecked,
    /// No conclusive result yet: the backend does not serve.
    Unknown,
    /// Healthy.
    Up,
    /// Not healthy.
    Down,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unchecked => "unchecked",
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// How often to probe, and how many results in a row convince.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthParams {
    /// Between two probes when results agree with "up".
    pub interval: Duration,
    /// Between two probes while results disagree with the verdict, or there is none; never longer than `interval`.
    pub fast: Duration,
    /// Between two probes when results agree with "down".
    pub down: Duration,
    /// Successes in a row that end "down".
    pub rise: u32,
    /// Failures in a row that end "up" or "unknown".
    pub fall: u32,
}

impl From<&Check> for HealthParams {
    fn from(check: &Check) -> Self {
        Self {
            interval: check.interval,
            fast: check.fast,
            down: check.down,
            rise: check.rise,
            fall: check.fall,
        }
    }
}

/// Names one probe, so that a late result of an earlier one is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(u64);

/// A change of the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Verdict before.
    pub from: Verdict,
    /// Verdict now.
    pub to: Verdict,
    /// What the decision rests on, with the last error if there was one.
    pub reason: String,
}

/// A verdict and the results in a row that disagree with it.
#[derive(Clone, Copy, Debug)]
enum State {
    Unknown { failures: u32 },
    Up { failures: u32 },
    Down { successes: u32 },
}

/// When the next probe starts, or that one is on its way.
#[derive(Clone, Copy, Debug)]
enum Schedule {
    Due { at: Duration },
    Probing { id: ProbeId, since: Duration },
}

/// The machine for one backend of one service.
#[derive(Clone, Debug)]
pub struct Health {
    params: HealthParams,
    state: State,
    schedule: Schedule,
    /// When the last probe started; the next one is counted from there, so that slow answers do not stretch the interval.
    began: Option<Duration>,
    last_id: u64,
    last_error: Option<String>,
    /// Equal results in a row, whatever the verdict.
    streak: Streak,
}

/// Equal results in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Streak {
    /// No result yet.
    None,
    /// So many successes.
    Successes(u32),
    /// So many failures.
    Failures(u32),
}

impl Health {
    /// A backend nothing is known about, whose first probe is due at `start`. The caller spreads the starts.
    #[must_use]
    pub fn new(params: HealthParams, start: Duration) -> Self {
        Self {
            params,
            state: State::Unknown { failures: 0 },
            schedule: Schedule::Due { at: start },
            began: None,
            last_id: 0,
            last_error: None,
            streak: Streak::None,
        }
    }

    /// What is known now. Never [`Verdict::Unchecked`].
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.state {
            State::Unknown { .. } => Verdict::Unknown,
            State::Up { .. } => Verdict::Up,
            State::Down { .. } => Verdict::Down,
        }
    }

    /// When to call [`Self::begin`]; [`Duration::MAX`] while a probe is on its way.
    #[must_use]
    pub fn next_due(&self) -> Duration {
        match self.schedule {
            Schedule::Due { at } => at,
            Schedule::Probing { .. } => Duration::MAX,
        }
    }

    /// Equal results in a row up to now.
    #[must_use]
    pub fn streak(&self) -> Streak {
        self.streak
    }

    /// Why the last failed probe failed; forgotten with the next success.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// A probe starts. One that was still on its way is given up: its result will be ignored.
    pub fn begin(&mut self, now: Duration) -> ProbeId {
        self.last_id += 1;
        let id = ProbeId(self.last_id);
        self.schedule = Schedule::Probing { id, since: now };
        self.began = Some(now);
        id
    }

    /// A probe has ended. Results of probes that were given up are ignored.
    pub fn finish(&mut self, now: Duration, id: ProbeId, result: Result<(), String>) -> Option<Transition> {
        let Schedule::Probing { id: current, since } = self.schedule else { return None };
        if id != current {
            return None;
        }
        let from = self.verdict();
        match result {
            Ok(()) => self.succeeded(),
            Err(error) => self.failed(error),
        }
        self.schedule = Schedule::Due { at: (since + self.gap()).max(now) };
        let to = self.verdict();
        (from != to).then(|| Transition { from, to, reason: self.reason() })
    }

    /// Takes over a verdict that was known before this machine started (before a restart, or from a peer). It holds
    /// until own results in a row say otherwise; `Unknown` and `Unchecked` tell nothing and change nothing. Own failures in
    /// a row count: where they had brought the backend down already, one more does so again, and it is looked for at once.
    pub fn adopt(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Up => {
                let failures = match self.streak {
                    Streak::Failures(count) => count.min(self.params.fall.saturating_sub(1)),
                    Streak::Successes(_) | Streak::None => 0,
                };
                self.state = State::Up { failures };
            }
            Verdict::Down => self.state = State::Down { successes: 0 },
            Verdict::Unknown | Verdict::Unchecked => {}
        }
        self.reschedule();
    }

    /// Other intervals or counts from now on. The verdict stays; a probe on its way counts.
    pub fn reconfigure(&mut self, params: HealthParams) {
        self.params = params;
        self.reschedule();
    }

    /// The next probe is due by the state that it is in now.
    fn reschedule(&mut self) {
        if let (Schedule::Due { .. }, Some(began)) = (self.schedule, self.began) {
            self.schedule = Schedule::Due { at: began + self.gap() };
        }
    }

    fn succeeded(&mut self) {
        self.last_error = None;
        self.streak = Streak::Successes(match self.streak {
            Streak::Successes(count) => count.saturating_add(1),
            Streak::Failures(_) | Streak::None => 1,
        });
        self.state = match self.state {
            State::Down { successes } if successes + 1 < self.params.rise => {
                State::Down { successes: successes + 1 }
            }
            State::Down { .. } | State::Unknown { .. } | State::Up { .. } => State::Up { failures: 0 },
        };
    }

    fn failed(&mut self, error: String) {
        self.last_error = Some(error);
        self.streak = Streak::Failures(match self.streak {
            Streak::Failures(count) => count.saturating_add(1),
            Streak::Successes(_) | Streak::None => 1,
        });
        self.state = match self.state {
            State::Unknown { failures } if failures + 1 < self.params.fall => {
                State::Unknown { failures: failures + 1 }
            }
            State::Up { failures } if failures + 1 < self.params.fall => State::Up { failures: failures + 1 },
            State::Unknown { .. } | State::Up { .. } | State::Down { .. } => State::Down { successes: 0 },
        };
    }

    /// From the start of one probe to the start of the next.
    fn gap(&self) -> Duration {
        match self.state {
            State::Up { failures: 0 } => self.params.interval,
            State::Down { successes: 0 } => self.params.down,
            State::Unknown { .. } | State::Up { .. } | State::Down { .. } => {
                self.params.fast.min(self.params.interval)
            }
        }
    }

    fn reason(&self) -> String {
        let times =
            |count: u32, what: &str| format!("{count} {what}{} in a row", if count == 1 { "" } else { "s" });
        match (self.streak, &self.last_error) {
            (Streak::Failures(count), Some(error)) => format!("{}: {error}", times(count, "failure")),
            (Streak::Failures(count), None) => times(count, "failure"),
            (Streak::Successes(1), _) => "1 success".to_owned(),
            (Streak::Successes(count), _) => format!("{count} successes in a row"),
            (Streak::None, _) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
