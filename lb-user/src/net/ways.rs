//! The ways to the backends over time, whether or not the kernel answers each time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::network::Resolved;
use super::route::Answer;

/// What was answered last.
#[derive(Debug, Default)]
pub(super) struct Ways {
    last: BTreeMap<IpAddr, Resolved>,
    /// An answer is missing among the last ones.
    pub(super) unsure: bool,
}

impl Ways {
    /// The ways after these answers, by backend and without MACs. One without an answer keeps the way it had: no answer
    /// is no reason to take its flows from it. Backends that were not asked for are forgotten.
    pub(super) fn turn(&mut self, answers: BTreeMap<IpAddr, Answer>) -> BTreeMap<IpAddr, Resolved> {
        let mut last = std::mem::take(&mut self.last);
        let mut unanswered = None;
        for (backend, answer) in answers {
            let way = match answer {
                Answer::Way(route) if !route.local => Some(Resolved::new(backend, route)),
                // Packets to itself would never leave the machine.
                Answer::Way(_) | Answer::Nowhere => None,
                Answer::Unknown(why) => {
                    unanswered = Some((backend, why));
                    last.remove(&backend)
                }
            };
            self.last.extend(way.map(|way| (backend, way)));
        }
        self.unsure = unanswered.is_some();
        if let Some((backend, why)) = unanswered {
            tracing::warn!(%backend, %why, "the kernel does not tell routes; the last known ones stay in force");
        }
        self.last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::route::Route;
    use super::*;

    const BACKEND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    fn by(ifindex: u32) -> Answer {
        Answer::Way(Route { ifindex, gateway: None, source: None, local: false })
    }

    /// The interface that the way leads through.
    fn turn(ways: &mut Ways, answer: Answer) -> (Option<u32>, bool) {
        let turned = ways.turn(BTreeMap::from([(BACKEND, answer)]));
        (turned.get(&BACKEND).map(|way| way.ifindex), ways.unsure)
    }

    #[test]
    fn way_stays_while_the_kernel_does_not_tell_and_ends_when_it_says_so() {
        let unknown = || Answer::Unknown("no buffer".to_owned());
        let own = Answer::Way(Route { ifindex: 1, gateway: None, source: None, local: true });
        let steps = [
            ("never known", unknown(), (None, true)),
            ("found", by(3), (Some(3), false)),
            ("a fault", unknown(), (Some(3), true)),
            ("another fault", unknown(), (Some(3), true)),
            ("moved", by(4), (Some(4), false)),
            ("gone", Answer::Nowhere, (None, false)),
            ("a fault after it went", unknown(), (None, true)),
            ("back", by(3), (Some(3), false)),
            ("own address", own, (None, false)),
            ("a fault with the own address", unknown(), (None, true)),
        ];
        let mut ways = Ways::default();
        for (step, answer, expected) in steps {
            assert_eq!(turn(&mut ways, answer), expected, "{step}");
        }
    }

    #[test]
    fn backend_not_asked_for_is_forgotten() {
        let mut ways = Ways::default();
        turn(&mut ways, by(3));
        assert_eq!(ways.turn(BTreeMap::new()), BTreeMap::new());
        assert_eq!(turn(&mut ways, Answer::Unknown("closed".to_owned())), (None, true));
    }
}
