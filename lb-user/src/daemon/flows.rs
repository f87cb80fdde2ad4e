//! Flows as people ask for them: listed, or one explained.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;

use lb_common::SlotState;
use lb_common::flow::FlowEntry;
use lb_common::hash::{FlowHash, flow_hash};
use lb_common::limits::WAYS;
use lb_common::packet::{Family, Tuple};
use lb_common::world::table_index;
use lb_core::config::{Protocol, Service};
use lb_core::history::{Horizon, Since};
use lb_core::plan::ServiceKey;

use super::controller::{Controller, present_tick};
use crate::api::types::{ExceptionSince, Flow, FlowList, FlowLookup, FlowQuery, LookupQuery};
use crate::api::{ApiError, Timestamp};
use crate::trace::entry::{age_seconds, in_words, state_of};

/// What a slot stands for.
struct SlotName<'c> {
    service: &'c Service,
    backend: IpAddr,
    state: SlotState,
}

impl Controller {
    fn slot_names(&self) -> BTreeMap<u16, SlotName<'_>> {
        let keys: BTreeMap<u32, ServiceKey> =
            self.actual.services().map(|(key, index, _)| (index, *key)).collect();
        let services: BTreeMap<ServiceKey, &Service> =
            self.loaded.config.services.iter().map(|service| (ServiceKey::from(service), service)).collect();
        let name = |(slot, row, word): (u16, &lb_common::backend::RowSpec, lb_common::BackendWord)| {
            let service = services.get(keys.get(&u32::from(row.service))?)?;
            Some((slot, SlotName { service, backend: row.address, state: word.state() }))
        };
        self.actual.slots().filter_map(name).collect()
    }

    pub(super) fn flows(&self, query: &FlowQuery) -> Result<FlowList, ApiError> {
        let Some(tuples) = self.tables.tuples() else {
            return Err(ApiError::conflict(
                "addresses of flows are not kept",
                "set `flow_tuples = true` under [limits] and start anew; `fairlead flow lookup` works without",
            ));
        };
        if let Some(name) = &query.service {
            self.configured(name)?;
        }
        let names = self.slot_names();
        let entries = self.tables.flows();
        let mut list = FlowList { flows: Vec::new(), truncated: false };
        for index in 0..entries.words() {
            let entry = FlowEntry(entries.word(index).load(Ordering::Relaxed));
            let Some(name) = names.get(&entry.slot()).filter(|_| !entry.is_empty()) else { continue };
            let wanted = query.service.as_ref().is_none_or(|service| *service == name.service.name)
                && query.backend.is_none_or(|backend| backend == name.backend);
            if !wanted {
                continue;
            }
            // A tuple that does not give this entry is torn, or of the place's former tenant.
            let Some(tuple) = tuple_from(tuples.read(index)).filter(|tuple| {
                let hash = flow_hash(&self.key, tuple);
                hash.fingerprint() == entry.fingerprint() && self.bucket(hash) == index / WAYS
            }) else {
                continue;
            };
            if list.flows.len() >= query.limit as usize {
                list.truncated = true;
                break;
            }
            list.flows.push(flow(&tuple, entry, name));
        }
        Ok(list)
    }

    fn bucket(&self, hash: FlowHash) -> usize {
        hash.bucket(self.tables.layout().buckets - 1) as usize
    }

    pub(super) fn lookup(&self, query: &LookupQuery) -> Result<FlowLookup, ApiError> {
        let LookupQuery { from, to, protocol } = query;
        if from.is_ipv4() != to.is_ipv4() {
            return Err(ApiError::invalid(
                format!("{from} and {to} are not of one family"),
                "name two IPv4 or two IPv6 addresses",
            ));
        }
        let key = ServiceKey { vip: to.ip(), port: to.port(), protocol: *protocol };
        let service =
            self.loaded.config.services.iter().find(|service| ServiceKey::from(*service) == key).ok_or_else(
                || {
                    ApiError::not_found(
                        format!("there is no service {key}"),
                        "`fairlead service list` shows the services",
                    )
                },
            )?;
        let tuple = tuple_of(*from, *to, *protocol);
        let hash = flow_hash(&self.key, &tuple);
        let index = table_index(service.table_size.class(), hash.fingerprint());
        let names = self.slot_names();
        let choice = self
            .actual
            .table(&key)
            .and_then(|table| table.get(index as usize))
            .and_then(|slot| names.get(slot));
        let table_backend = choice.map(|name| name.backend);
        let tracked = self.entry(hash).filter(|_| service.track);
        let found = tracked.and_then(|entry| Some((entry, names.get(&entry.slot())?)));
        let found = found.filter(|(_, name)| name.service.name == service.name);
        let stays =
            found.as_ref().filter(|(_, name)| matches!(name.state, SlotState::Serving | SlotState::Draining));
        // The mark in the entry comes later, with the next passes over the flow table.
        let exception = stays.filter(|(_, name)| Some(name.backend) != table_backend);
        let mut explanation = vec![format!("{from} to {key} belongs to service {}", service.name)];
        explanation.push(match &found {
            None if !service.track => "its flows are not remembered".to_owned(),
            None => "the flow table has no entry for it".to_owned(),
            Some((entry, name)) => describe_entry(*entry, name, exception.is_some()),
        });
        explanation.push(match table_backend {
            Some(backend) => format!("the Maglev table names {backend} at index {index}"),
            None => format!("the Maglev table names no backend at index {index}: nothing serves"),
        });
        let since = exception.map(|(_, name)| self.history.since(&key, hash.fingerprint(), name.backend));
        explanation.extend(since.as_ref().map(|since| describe_since(since.as_ref())));
        let backend = stays.map(|(_, name)| name.backend).or(table_backend);
        explanation.push(match (stays, backend) {
            (Some((_, name)), _) => format!("its packets go to {}, where the entry keeps it", name.backend),
            (None, Some(backend)) => format!("its next packet goes to {backend}, by the table"),
            (None, None) => "its next packet is dropped".to_owned(),
        });
        let is_exception = exception.is_some();
        Ok(FlowLookup {
            service: service.name.clone(),
            backend,
            entry: found.map(|(entry, name)| Flow { exception: is_exception, ..flow(&tuple, entry, name) }),
            table_index: index,
            table_backend,
            exception_since: since.flatten().and_then(|since| exception_since(&since)),
            explanation,
        })
    }

    fn entry(&self, hash: FlowHash) -> Option<FlowEntry> {
        let first = self.bucket(hash) * WAYS;
        (first..first + WAYS)
            .map(|index| FlowEntry(self.tables.flows().word(index).load(Ordering::Relaxed)))
            .find(|entry| !entry.is_empty() && entry.fingerprint() == hash.fingerprint())
    }
}

fn describe_entry(entry: FlowEntry, name: &SlotName<'_>, exception: bool) -> String {
    let backend = match name.state {
        SlotState::Serving => "which serves",
        SlotState::Draining => "which drains: it keeps its flows",
        SlotState::Dead | SlotState::Free => "which is out of service: the next packet is picked anew",
    };
    format!(
        "the flow table has an entry ({}) to {}, {backend}",
        in_words(entry, exception, present_tick()),
        name.backend
    )
}

/// Since when a flow is an exception, as the reply has it; `None` if that is not known.
fn exception_since(since: &Since<'_>) -> Option<ExceptionSince> {
    let Since::Switch(switch) = since else { return None };
    let (cause, generation) = (switch.cause.to_string(), switch.generation);
    Some(ExceptionSince { at: Timestamp(switch.at), cause, generation })
}

/// The same in words, which also say how far back tables are known.
fn describe_since(since: Option<&Since<'_>>) -> String {
    let what = "elsewhere than the table since";
    match since {
        Some(Since::Switch(switch)) => {
            format!("{what} {}: {} (generation {})", Timestamp(switch.at), switch.cause, switch.generation)
        }
        Some(Since::Longer { known_since, horizon }) => {
            let known_since = Timestamp(*known_since);
            match horizon {
                Horizon::EarlierDaemon => format!(
                    "{what} this daemon started ({known_since}), or longer: earlier tables are not known"
                ),
                Horizon::Forgotten => {
                    format!("{what} {known_since}, or longer: earlier tables are forgotten")
                }
                Horizon::Added => format!("{what} {known_since}, when the service was added"),
            }
        }
        None => format!("{what} when is not known"),
    }
}

fn flow(tuple: &Tuple, entry: FlowEntry, name: &SlotName<'_>) -> Flow {
    let (client, vip) = ends_of(tuple);
    Flow {
        client,
        vip,
        service: name.service.name.clone(),
        backend: name.backend,
        protocol: name.service.protocol,
        state: state_of(entry),
        age_s: age_seconds(entry, present_tick()),
        exception: entry.is(FlowEntry::EXCEPTION),
    }
}

fn tuple_of(from: SocketAddr, to: SocketAddr, protocol: Protocol) -> Tuple {
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            Tuple::v4(from.ip().octets(), to.ip().octets(), from.port(), to.port(), protocol.number())
        }
        (from, to) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            Tuple::v6(octets(from.ip()), octets(to.ip()), from.port(), to.port(), protocol.number())
        }
    }
}

/// A tuple from the five words of its map value; `None` if they are none.
fn tuple_from(words: [u64; 5]) -> Option<Tuple> {
    let [a, b, c, d, e] = words.map(u64::to_ne_bytes);
    let four = |first: [u8; 8], second: [u8; 8]| {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&first);
        octets[8..].copy_from_slice(&second);
        octets
    };
    let [p0, p1, p2, p3, protocol, family, ..] = e;
    let (from, to) = (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([p2, p3]));
    match family {
        4 => {
            let ([s0, s1, s2, s3, ..], [d0, d1, d2, d3, ..]) = (a, c);
            Some(Tuple::v4([s0, s1, s2, s3], [d0, d1, d2, d3], from, to, protocol))
        }
        6 => Some(Tuple::v6(four(a, b), four(c, d), from, to, protocol)),
        _ => None,
    }
}

/// Client and VIP of a tuple.
fn ends_of(tuple: &Tuple) -> (SocketAddr, SocketAddr) {
    let address = |words: [u32; 4]| match tuple.family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(words[0].to_ne_bytes())),
        Family::V6 => {
            let mut octets = [0; 16];
            for (place, word) in octets.chunks_exact_mut(4).zip(words) {
                place.copy_from_slice(&word.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    };
    let [a, b, c, d] = tuple.ports.to_ne_bytes();
    (
        SocketAddr::new(address(tuple.source), u16::from_be_bytes([a, b])),
        SocketAddr::new(address(tuple.destination), u16::from_be_bytes([c, d])),
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_table_that_was_longer_another_one_says_how_far_back_tables_are_known() {
        let known_since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (horizon, words) in [
            (
                Horizon::EarlierDaemon,
                "elsewhere than the table since this daemon started (2023-11-14T22:13:20.000Z), or longer: earlier \
                 tables are not known",
            ),
            (
                Horizon::Forgotten,
                "elsewhere than the table since 2023-11-14T22:13:20.000Z, or longer: earlier tables are forgotten",
            ),
            (
                Horizon::Added,
                "elsewhere than the table since 2023-11-14T22:13:20.000Z, when the service was added",
            ),
        ] {
            let since = Since::Longer { known_since, horizon };
            assert_eq!((describe_since(Some(&since)).as_str(), exception_since(&since)), (words, None));
        }
    }

    #[test]
    fn a_tuple_survives_the_map_and_gives_back_its_ends() {
        for (from, to) in [("10.1.2.3:4567", "192.0.2.1:80"), ("[2001:db8::5]:999", "[fd00::1]:53")] {
            let (from, to): (SocketAddr, SocketAddr) =
                (from.parse().expect("address"), to.parse().expect("address"));
            let tuple = tuple_of(from, to, Protocol::Udp);
            // SAFETY: forty octets without padding, read as five words.
            let words: [u64; 5] = unsafe { std::mem::transmute_copy(&tuple) };
            assert_eq!(tuple_from(words), Some(tuple));
            assert_eq!(ends_of(&tuple), (from, to));
        }
        assert_eq!(tuple_from([0; 5]), None);
    }
}
