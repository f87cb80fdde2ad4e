//! Sentences about the machine. Times are milliseconds; unless they say otherwise a node of priority 100 with one IPv4
//! router and adverts every second, whose Active_Down_Interval is 3,609.375 ms.

use std::net::IpAddr;

use super::*;
use crate::vrrp::{Advert, AdvertError, AdvertInterval, Cause, RouterSettings};

mod anything;
mod election;
mod families;
mod handover;
mod lease;
mod reload;
mod tracking;

const R4: RouterId = RouterId(0);
const R6: RouterId = RouterId(1);
/// Active_Down_Interval of the usual node, and a little.
const DOWN: u64 = 3_610;
/// Its skew, and a little.
const SKEW: u64 = 610;
const OWN: &str = "192.0.2.5";
const LOWER: &str = "192.0.2.4";
const HIGHER: &str = "192.0.2.6";

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

fn priority(value: u8) -> Priority {
    Priority::new(value).expect("a priority that may be given")
}

fn interval(centis: u16) -> AdvertInterval {
    AdvertInterval::from_centis(centis).expect("within its bounds")
}

fn router(source: &str, address: &str) -> RouterSettings {
    RouterSettings { vrid: 51, source: ip(source), addresses: vec![ip(address)] }
}

fn settings() -> Settings {
    Settings {
        priority: priority(100),
        interval: AdvertInterval::DEFAULT,
        preempt: true,
        preempt_delay: Duration::ZERO,
        lone_lease: Duration::ZERO,
        routers: [(R4, router(OWN, "203.0.113.1"))].into(),
    }
}

/// Both families.
fn dual_stack() -> Settings {
    let mut settings = settings();
    settings.routers.insert(R6, router("fe80::5", "2001:db8::1"));
    settings
}

fn advert(priority: u8) -> Advert {
    Advert { vrid: 51, priority, interval: AdvertInterval::DEFAULT, addresses: vec![ip("203.0.113.1")] }
}

fn heard(from: &str, priority: u8) -> Input {
    Input::Advert { router: R4, from: ip(from), advert: advert(priority), fairlead: true }
}

fn heard_v6(from: &str, priority: u8) -> Input {
    let advert = Advert { addresses: vec![ip("2001:db8::1")], ..advert(priority) };
    Input::Advert { router: R6, from: ip(from), advert, fairlead: true }
}

const START: Input = Input::Start { lease_in_force: None };

/// Effects as short words, so that tests compare lists.
fn word(effect: &Effect) -> String {
    match effect {
        Effect::SetLease { until } if until.is_zero() => "lease off".to_owned(),
        Effect::SetLease { until } => format!("lease {}", until.as_millis()),
        Effect::SendAdvert { router: RouterId(0), priority, .. } => format!("advert {priority}"),
        Effect::SendAdvert { router: RouterId(id), priority, .. } => format!("advert {priority} on {id}"),
        Effect::Announce => "announce".to_owned(),
        Effect::AskPeerToTake => "ask".to_owned(),
        Effect::Transition(Transition { to, reason, .. }) => format!("{to}: {reason}"),
        Effect::Warning(warning) => format!("warning: {warning}"),
    }
}

/// A machine under test, with the time.
struct Bench {
    machine: Machine,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        Self { machine: Machine::new(settings) }
    }

    /// Started at 0.
    fn started(settings: Settings) -> Self {
        let mut bench = Self::new(settings);
        bench.put(0, START);
        bench
    }

    /// Started at 0, alone, active since [`DOWN`].
    fn active(settings: Settings) -> Self {
        let mut bench = Self::started(settings);
        bench.put(DOWN, Input::Tick);
        assert_eq!(bench.machine.role(), Role::Active);
        bench
    }

    /// An input, and what came of it.
    fn put(&mut self, at: u64, input: Input) -> Vec<String> {
        self.machine.handle(ms(at), input);
        std::iter::from_fn(|| self.machine.poll()).map(|effect| word(&effect)).collect()
    }

    #[track_caller]
    fn check(&mut self, at: u64, input: Input, expected: &[&str]) {
        assert_eq!(self.put(at, input), expected);
    }

    /// Ticks whenever one is due until then; what came, with its time.
    fn run(&mut self, until: u64) -> Vec<(u64, String)> {
        let mut seen = Vec::new();
        while let Some(at) = self.machine.next_deadline().filter(|at| *at <= ms(until)) {
            self.machine.handle(at, Input::Tick);
            let millis = u64::try_from(at.as_millis()).expect("few of them");
            let words = std::iter::from_fn(|| self.machine.poll()).map(|effect| (millis, word(&effect)));
            seen.extend(words);
        }
        seen
    }

    /// When it would take over, or send its next advert.
    fn deadline(&self) -> Option<u64> {
        self.machine.next_deadline().map(|at| u64::try_from(at.as_millis()).expect("few of them"))
    }

    fn view(&self, at: u64) -> MachineView {
        self.machine.view(ms(at))
    }
}
