//! What an active peer believes of its services, and how far this node goes by it.
//!
//! While a peer is active, this node builds the same tables: administrative states, weights and verdicts are the peer's.
//! When this node takes over, states and weights go on until an operator says otherwise here, since an operator said so
//! there; of verdicts only those that keep flows where they are, until the own checks have had their results.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::engine::ServiceSaid;
use super::wire::BackendSaid;
use crate::config::{AdminState, Config, Service};
use crate::health::Verdict;
use crate::plan::{ServiceKey, VerdictMap};

/// What active peers said last of their services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beliefs {
    told: BTreeMap<ServiceKey, BTreeMap<IpAddr, BackendSaid>>,
}

impl Beliefs {
    /// A peer that is active for the service says this. Returns whether it is news.
    pub fn hear(&mut self, said: &ServiceSaid) -> bool {
        let told = said.backends.iter().map(|backend| (backend.backend, *backend)).collect();
        self.told.insert(said.service, told).as_ref() != self.told.get(&said.service)
    }

    /// What was said of a backend.
    #[must_use]
    pub fn of(&self, service: &ServiceKey, backend: IpAddr) -> Option<&BackendSaid> {
        self.told.get(service)?.get(&backend)
    }

    /// The configuration with states and weights as they were said.
    #[must_use]
    pub fn steered(&self, config: &Config) -> Config {
        let mut config = config.clone();
        for service in &mut config.services {
            let key = ServiceKey::from(&*service);
            for backend in &mut service.backends {
                if let Some(said) = self.of(&key, backend.address) {
                    (backend.state, backend.weight) = (said.state, said.weight);
                }
            }
        }
        config
    }

    /// The verdicts to go by: those of the peer for services of which `follows` holds, else the own ones.
    #[must_use]
    pub fn verdicts(
        &self,
        config: &Config,
        mut own: VerdictMap,
        follows: impl Fn(&ServiceKey) -> bool,
    ) -> VerdictMap {
        for service in config.services.iter().filter(|service| service.check.is_some()) {
            let key = ServiceKey::from(service);
            if !follows(&key) {
                continue;
            }
            for backend in &service.backends {
                // A peer without a check has nothing to say.
                if let Some(said) =
                    self.of(&key, backend.address).filter(|said| said.verdict != Verdict::Unchecked)
                {
                    own.insert((service.name.clone(), backend.address), said.verdict);
                }
            }
        }
        own
    }

    /// The verdicts that a node which takes over begins with: what the peer had up and this node's checks have not, stays
    /// up until they say so anew. What the peer had down and these have up is up: whoever takes over since the peer could
    /// not reach its backends must not repeat its mistake.
    #[must_use]
    pub fn inherited(
        &self,
        config: &Config,
        own: &VerdictMap,
        takes_over: impl Fn(&ServiceKey) -> bool,
    ) -> VerdictMap {
        let followed = self.verdicts(config, VerdictMap::new(), takes_over);
        let is_kept = |(key, verdict): &((String, IpAddr), Verdict)| {
            *verdict == Verdict::Up && own.get(key) != Some(&Verdict::Up)
                || *verdict == Verdict::Down && !matches!(own.get(key), Some(Verdict::Up | Verdict::Down))
        };
        followed.into_iter().filter(is_kept).collect()
    }

    /// An operator has said something about a backend here, which is newer.
    pub fn overrule(&mut self, service: &ServiceKey, backend: IpAddr) {
        if let Some(told) = self.told.get_mut(service) {
            told.remove(&backend);
        }
    }

    /// Forgets backends whose own entry in the configuration has changed, of services of which `is_own` holds.
    pub fn overrule_changed(&mut self, before: &Config, now: &Config, is_own: impl Fn(&ServiceKey) -> bool) {
        let entries = |config: &Config| {
            let mut entries: BTreeMap<(ServiceKey, IpAddr), (AdminState, u32)> = BTreeMap::new();
            for service in &config.services {
                let key = ServiceKey::from(service);
                entries
                    .extend(service.backends.iter().map(|one| ((key, one.address), (one.state, one.weight))));
            }
            entries
        };
        let (before, now) = (entries(before), entries(now));
        for ((service, backend), old) in &before {
            if now.get(&(*service, *backend)) != Some(old) && is_own(service) {
                self.overrule(service, *backend);
            }
        }
        self.told.retain(|service, _| now.keys().any(|(key, _)| key == service));
    }

    /// Backends whose state or weight is not what the configuration says, but what a peer said.
    #[must_use]
    pub fn overridden(&self, service: &Service) -> Vec<IpAddr> {
        let key = ServiceKey::from(service);
        let differs = |state, weight, said: &BackendSaid| (state, weight) != (said.state, said.weight);
        let backends = service.backends.iter().filter(|one| {
            self.of(&key, one.address).is_some_and(|said| differs(one.state, one.weight, said))
        });
        backends.map(|backend| backend.address).collect()
    }
}

/// What a node says of a service: `service` as it is in force, with the verdicts that it goes by.
#[must_use]
pub fn said(service: &Service, verdicts: &VerdictMap) -> ServiceSaid {
    let backend = |backend: &crate::config::Backend| BackendSaid {
        backend: backend.address,
        state: backend.state,
        weight: backend.weight,
        verdict: match service.check {
            None => Verdict::Unchecked,
            Some(_) => {
                let known = verdicts.get(&(service.name.clone(), backend.address));
                known.copied().unwrap_or(Verdict::Unknown)
            }
        },
    };
    ServiceSaid {
        service: ServiceKey::from(service),
        backends: service.backends.iter().map(backend).collect(),
        digest: digest(service),
    }
}

/// Of everything that two nodes must have in common to steer alike and that does not travel: states, weights and
/// verdicts do.
#[must_use]
pub fn digest(service: &Service) -> u64 {
    let mut backends: Vec<String> = service.backends.iter().map(|one| one.address.to_string()).collect();
    backends.sort_unstable();
    // Words and numbers hold no blanks, so nothing can be read in two ways.
    let text = format!(
        "{} {} {} {} {} {} {} {}",
        service.vip,
        service.port,
        service.protocol,
        service.mode,
        service.table_size,
        service.when_all_down,
        service.track,
        backends.join(" ")
    );
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(text.as_bytes()).as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn config(backends: &str) -> Config {
        let text = format!(
            "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\nvip = \"192.0.2.1\"\nport = 80\ncheck = {{ kind = \
             \"tcp\" }}\n{backends}"
        );
        parse(&text).unwrap_or_else(|problems| panic!("{problems:?}")).config
    }

    fn backend(number: u8, more: &str) -> String {
        format!("[[service.backend]]\naddress = \"10.0.0.{number}\"\n{more}\n")
    }

    fn address(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    fn verdicts(list: &[(u8, Verdict)]) -> VerdictMap {
        list.iter().map(|(number, verdict)| (("web".to_owned(), address(*number)), *verdict)).collect()
    }

    #[test]
    fn a_standby_goes_by_states_weights_and_verdicts_of_the_active_and_shows_what_differs() {
        let theirs = config(&(backend(1, "state = \"drain\"") + &backend(2, "weight = 7")));
        let ours = config(&(backend(1, "") + &backend(2, "weight = 7") + &backend(3, "weight = 2")));
        let key = ServiceKey::from(&ours.services[0]);
        let mut beliefs = Beliefs::default();
        let of_peer = verdicts(&[(1, Verdict::Up), (2, Verdict::Down)]);
        assert!(beliefs.hear(&said(&theirs.services[0], &of_peer)));
        assert!(!beliefs.hear(&said(&theirs.services[0], &of_peer)), "no news");
        assert_eq!(beliefs.overridden(&ours.services[0]), [address(1)]);
        let steered = beliefs.steered(&ours);
        let found: Vec<_> = steered.services[0].backends.iter().map(|one| (one.state, one.weight)).collect();
        assert_eq!(found, [(AdminState::Drain, 1), (AdminState::Enabled, 7), (AdminState::Enabled, 2)]);
        let own = verdicts(&[(1, Verdict::Down), (2, Verdict::Up), (3, Verdict::Up)]);
        let followed = beliefs.verdicts(&ours, own.clone(), |one| *one == key);
        assert_eq!(followed, verdicts(&[(1, Verdict::Up), (2, Verdict::Down), (3, Verdict::Up)]));
        assert_eq!(beliefs.verdicts(&ours, own.clone(), |_| false), own);
    }

    #[test]
    fn whoever_takes_over_keeps_what_serves_and_does_not_repeat_the_mistakes_of_others() {
        use Verdict::{Down, Unknown, Up};
        for (peer, own, inherited) in [
            (Up, Some(Up), None),
            (Up, Some(Down), Some(Up)),
            (Up, Some(Unknown), Some(Up)),
            (Down, Some(Up), None),
            (Down, Some(Down), None),
            (Down, Some(Unknown), Some(Down)),
            (Down, None, Some(Down)),
            (Unknown, Some(Down), None),
        ] {
            let ours = config(&backend(1, ""));
            let mut beliefs = Beliefs::default();
            beliefs.hear(&said(&ours.services[0], &verdicts(&[(1, peer)])));
            let own_map = own.map(|own| verdicts(&[(1, own)])).unwrap_or_default();
            let expected = inherited.map(|verdict| verdicts(&[(1, verdict)])).unwrap_or_default();
            assert_eq!(beliefs.inherited(&ours, &own_map, |_| true), expected, "{peer} {own:?}");
            assert_eq!(beliefs.inherited(&ours, &own_map, |_| false), VerdictMap::new());
        }
    }

    #[test]
    fn an_operators_newer_word_about_a_backend_counts_where_the_node_is_active() {
        let (before, now) = (
            config(&(backend(1, "") + &backend(2, ""))),
            config(&(backend(1, "weight = 3") + &backend(2, ""))),
        );
        let key = ServiceKey::from(&before.services[0]);
        let theirs = config(&(backend(1, "weight = 9") + &backend(2, "weight = 9")));
        for own in [true, false] {
            let mut beliefs = Beliefs::default();
            beliefs.hear(&said(&theirs.services[0], &VerdictMap::new()));
            beliefs.overrule_changed(&before, &now, |_| own);
            assert_eq!(beliefs.of(&key, address(1)).is_none(), own);
            assert!(beliefs.of(&key, address(2)).is_some());
            let weight = beliefs.steered(&now).services[0].backends[0].weight;
            assert_eq!(weight, if own { 3 } else { 9 });
        }
    }

    #[test]
    fn a_digest_is_of_what_does_not_travel() {
        let of = |backends: String| digest(&config(&backends).services[0]);
        let plain = of(backend(1, "") + &backend(2, ""));
        assert_eq!(plain, of(backend(2, "state = \"drain\"") + &backend(1, "weight = 9")));
        assert_ne!(plain, of(backend(1, "")));
        let mut other = config(&(backend(1, "") + &backend(2, "")));
        other.services[0].track = false;
        assert_ne!(plain, digest(&other.services[0]));
    }
}
