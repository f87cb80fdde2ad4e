//! The last table switches of each service with their causes: since when a flow goes elsewhere than new ones.
//!
//! Tables are not kept. The same pool gives the same table ([`lb_common::maglev`]), so that a pool is enough to find
//! out what its table said of a flow. Pools are kept by address: slots are used anew, and a backend may change its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use lb_common::ServiceWord;
use lb_common::maglev::{self, Candidate, Turn};
use lb_common::service::TableClass;
use lb_common::world::table_index;

use crate::edit::Change;
use crate::health::Transition;
use crate::plan::{Actual, ServiceKey};

/// Switches of one service that are remembered: so that one whose backends come and go by the second does not push the
/// others' out, and still more than a person looks back at.
pub const MAX_SWITCHES: usize = 64;

/// Steps that it may take to populate all remembered tables of one service, the present one apart: a lookup does so
/// before it says that it does not know, and the daemon does nothing else meanwhile. 2^28 are half a second at worst:
/// 17 earlier tables of 1,048,573 entries, or all 64 of the smaller ones.
pub const MAX_STEPS: u64 = 1 << 28;

/// Switches of all services together: a reload may change every service, and there may be 65,535. What counts is what
/// can be forgotten, which is all but the last switch of each service: that has the present table.
pub const MAX_SWITCHES_IN_ALL: usize = 8_192;

/// Backends in the pools of all switches that count for [`MAX_SWITCHES_IN_ALL`], 24 bytes each. The present pools are
/// as large as the configuration, which has 65,535 backends at most.
pub const MAX_MEMBERS_IN_ALL: usize = 262_144;

/// Addresses that a cause names; it says how many more there are.
const MAX_NAMED: usize = 3;

/// Why tables changed, in words that whoever did it recognises.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// The daemon started.
    Start {
        /// Whether it took over maps, whose earlier tables it does not know.
        adopted: bool,
    },
    /// A command, or the same by the API.
    Command(Change),
    /// The configuration file was read again.
    Reload,
    /// The health of a backend changed.
    Health {
        /// Its address.
        backend: IpAddr,
        /// From what to what, and why.
        transition: Transition,
    },
    /// Next hops were found or lost; see [`Cause::network`].
    Network(String),
    /// Another node said something, or this one's role changed: in words.
    Cluster(String),
    /// What was changed was changed back, since it could not be completed.
    Undone(Box<Self>),
}

impl Cause {
    /// What the network's change is for the backends that there was a way to before, and is now.
    #[must_use]
    pub fn network(before: &BTreeSet<IpAddr>, now: &BTreeSet<IpAddr>) -> Self {
        let part = |addresses: Vec<&IpAddr>, what: &str| {
            let named: Vec<String> = addresses.iter().take(MAX_NAMED).map(ToString::to_string).collect();
            let more = match addresses.len().saturating_sub(MAX_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            (!named.is_empty()).then(|| format!("next hop {what} for {}{more}", named.join(", ")))
        };
        let lost = part(before.difference(now).collect(), "lost");
        let found = part(now.difference(before).collect(), "found");
        let parts: Vec<String> = lost.into_iter().chain(found).collect();
        // Nothing of the network matters then, and what is changed nevertheless is what failed the last time.
        let nothing = "nothing new, what failed earlier was tried again";
        Self::Network(if parts.is_empty() { nothing.to_owned() } else { parts.join(", ") })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { .. } => f.write_str("start"),
            Self::Command(change) => f.write_str(&change.command()),
            Self::Reload => f.write_str("reload"),
            Self::Health { backend, transition: Transition { from, to, reason } } => {
                write!(f, "health of {backend}: {from} -> {to} ({reason})")
            }
            Self::Network(what) => write!(f, "network: {what}"),
            Self::Cluster(what) => write!(f, "cluster: {what}"),
            Self::Undone(cause) => write!(f, "undone: {cause}"),
        }
    }
}

/// A change of a service's table that moves flows. A table that is only written elsewhere is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Switch {
    /// When, by the wall clock.
    pub at: SystemTime,
    /// Generation of the service's word with the table. That of a service which loses its table stays as it was.
    pub generation: u32,
    /// What brought it about.
    pub cause: Arc<Cause>,
    table: Table,
}

/// What a table is made of; of nobody: there is none, and packets of unknown flows are dropped.
#[derive(Clone, Debug, PartialEq)]
struct Table {
    class: TableClass,
    /// Address and weight, in order of addresses.
    pool: Arc<[(IpAddr, u32)]>,
}

/// What was before the first switch that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizon {
    /// Nothing: the service was added then.
    Added,
    /// Tables of an earlier daemon.
    EarlierDaemon,
    /// Tables that are forgotten.
    Forgotten,
}

/// Since when a flow goes elsewhere than the table.
#[derive(Clone, Debug, PartialEq)]
pub enum Since<'h> {
    /// Before this switch the table named the flow's backend, and since then it never did.
    Switch(&'h Switch),
    /// No table since `known_since` did, from the one on that came then: it is so since then or longer.
    Longer {
        /// When the first table came that is remembered.
        known_since: SystemTime,
        /// What was before.
        horizon: Horizon,
    },
}

/// The tables of one service, the present one last.
#[derive(Clone, Debug)]
struct Past {
    switches: VecDeque<Switch>,
    horizon: Horizon,
}

/// The table switches of all services.
#[derive(Clone, Debug, Default)]
pub struct History {
    services: BTreeMap<ServiceKey, Past>,
}

impl History {
    /// Takes note of the tables as they are after a change. Several switches of a service within it count as one.
    ///
    /// A service that is gone is forgotten: its flows were cleared, and none that comes when it is added again is older
    /// than that.
    pub fn record(&mut self, at: SystemTime, cause: &Cause, actual: &Actual) {
        self.services.retain(|key, _| actual.service(key).is_some());
        let cause = Arc::new(cause.clone());
        for (key, _, word) in actual.services() {
            let Some(table) = self.new_table(key, word, actual) else { continue };
            let horizon = match *cause {
                Cause::Start { adopted: true } => Horizon::EarlierDaemon,
                _ => Horizon::Added,
            };
            let switch = Switch { at, generation: word.generation(), cause: Arc::clone(&cause), table };
            let past = Past { switches: VecDeque::new(), horizon };
            let past = self.services.entry(*key).or_insert(past);
            past.switches.push_back(switch);
            past.keep_to_limits();
        }
        self.keep_to_limits();
    }

    /// The table of a service, unless it is the one that is remembered last.
    fn new_table(&self, key: &ServiceKey, word: ServiceWord, actual: &Actual) -> Option<Table> {
        // Not known only between the adoption of maps and the first change that this daemon makes to them.
        let pool = actual.pool(key)?;
        let members = || pool.iter().map(|candidate| (candidate.address, candidate.weight));
        let last = self.services.get(key).and_then(|past| past.switches.back()).map(|last| &last.table);
        let same =
            last.is_some_and(|last| last.class == word.class() && last.pool.iter().copied().eq(members()));
        (!same).then(|| Table { class: word.class(), pool: members().collect() })
    }

    /// Since when a flow of this fingerprint, which the present table sends elsewhere, would not have been given
    /// `backend`. `None` if nothing is known of the service.
    ///
    /// Older tables are populated from the newest back, each until the flow's place is taken, which mostly is early.
    /// One takes (release build, whole table in brackets) 5 us with 40 backends in 4,093 entries (35 us), 0.25 ms with
    /// 1,000 in 65,521 (1 ms) and 4.5 ms with 10,000 in 1,048,573 (26 ms). A flow that was elsewhere in all of them
    /// takes longest: 1, 60 and 230 ms; [`MAX_STEPS`] keeps very unequal weights, which populate slowly, from taking
    /// longer.
    #[must_use]
    pub fn since(&self, key: &ServiceKey, fingerprint: u32, backend: IpAddr) -> Option<Since<'_>> {
        let past = self.services.get(key)?;
        let mut scratch = Vec::new();
        let newest_first = || past.switches.iter().rev();
        let left = newest_first()
            .zip(newest_first().skip(1))
            .find(|(_, before)| before.table.names(backend, fingerprint, &mut scratch));
        Some(match left {
            Some((switch, _)) => Since::Switch(switch),
            None => Since::Longer { known_since: past.switches.front()?.at, horizon: past.horizon },
        })
    }

    /// Forgets the oldest switches of all services, as long as there are too many. Looks at every switch once: a
    /// backend that thousands of services share changes all their tables at the same time.
    fn keep_to_limits(&mut self) {
        let earlier =
            || self.services.iter().flat_map(|(key, past)| past.earlier().map(move |switch| (key, switch)));
        let members = |switch: &Switch| switch.table.pool.len();
        let mut left = (earlier().count(), earlier().map(|(_, switch)| members(switch)).sum::<usize>());
        let too_many = |(switches, members)| switches > MAX_SWITCHES_IN_ALL || members > MAX_MEMBERS_IN_ALL;
        if !too_many(left) {
            return;
        }
        let mut oldest: Vec<(SystemTime, ServiceKey)> =
            earlier().map(|(key, switch)| (switch.at, *key)).collect();
        oldest.sort_unstable();
        for (_, key) in oldest {
            // A clock that was set back changes the order among services, but each gives its oldest ones first.
            if let Some(gone) = self.services.get_mut(&key).and_then(Past::forget_oldest) {
                left = (left.0 - 1, left.1 - members(&gone));
            }
            if !too_many(left) {
                return;
            }
        }
    }
}

impl Past {
    /// All switches but the last, which has the present table; the oldest first.
    fn earlier(&self) -> impl DoubleEndedIterator<Item = &Switch> {
        self.switches.range(..self.switches.len().saturating_sub(1))
    }

    fn keep_to_limits(&mut self) {
        let steps =
            |past: &Self| past.earlier().map(|switch| switch.table.steps()).fold(0, u64::saturating_add);
        while self.switches.len() > MAX_SWITCHES || steps(self) > MAX_STEPS {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> Option<Switch> {
        self.horizon = Horizon::Forgotten;
        self.switches.pop_front()
    }
}

impl Table {
    /// Steps that populating the whole table takes, about: M ln M to find free places, and a turn of every member for
    /// each place of the heaviest one.
    fn steps(&self) -> u64 {
        /// ln of the entries of the largest table.
        const LN: u64 = 14;
        /// A turn without a place stays in the cache, a place to look at mostly does not.
        const TURNS_PER_STEP: u64 = 4;
        let entries = u64::from(self.class.entries());
        let weights = || self.pool.iter().map(|(_, weight)| u64::from(*weight));
        let (heaviest, sum) = (weights().max().unwrap_or(0), weights().sum::<u64>());
        if sum == 0 {
            return 0;
        }
        let rounds = entries * heaviest / sum + 1;
        entries * LN + rounds * self.pool.len() as u64 / TURNS_PER_STEP
    }

    /// Whether the table sends a flow of this fingerprint to `backend`.
    fn names(&self, backend: IpAddr, fingerprint: u32, scratch: &mut Vec<u16>) -> bool {
        let Ok(position) = self.pool.binary_search_by_key(&backend, |(address, _)| *address) else {
            return false;
        };
        // Any numbers do for slots: the places of a backend depend on addresses and weights alone.
        let turns = (1..=u16::MAX).zip(self.pool.iter()).map(|(slot, (address, weight))| {
            Turn::new(Candidate { address: *address, weight: *weight, slot }, self.class)
        });
        let mut turns: Vec<Turn> = turns.collect();
        scratch.resize(self.class.entries() as usize, 0);
        let index = table_index(self.class, fingerprint);
        usize::from(maglev::choice(self.class, &mut turns, scratch, index)) == position + 1
    }
}

#[cfg(test)]
mod tests;
