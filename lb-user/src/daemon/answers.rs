//! What the API asks to see.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use lb_common::counters::Event;
use lb_common::limits::REGION_UNIT;
use lb_common::reason::{DropReason, Outcome, Verdict as PacketVerdict};
use lb_common::service::ServiceWord;
use lb_core::config::{self, AdminState, Check, CheckKind};
use lb_core::health::Verdict;
use lb_core::plan::ServiceKey;

use super::controller::Controller;
use crate::api::types::{
    AttachedMode, Backend, BackendList, ConfigReply, ConfigStatus, Counter, CounterKind, CounterList,
    FlowTableStatus, Health, InterfaceStatus, LimitsStatus, Service, ServiceList, ServiceTable,
    ServicesSummary, SlotState, Status,
};
use crate::api::{ApiError, Timestamp};
use crate::trace::mac;

impl Controller {
    pub(super) fn status(&self) -> Status {
        let changed_on_disk = self.changed_on_disk();
        let interfaces = self.interfaces();
        let services = self.services().services;
        let flow_table = self.flow_table();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.options.instance.clone(),
            pid: std::process::id(),
            started: Timestamp(self.started),
            uptime_s: Timestamp(self.started).age(SystemTime::now()).as_secs(),
            adopted: self.adopted,
            config: ConfigStatus {
                file: self.options.config.display().to_string(),
                generation: self.loaded.generation,
                loaded: Timestamp(self.loaded.at),
                changed_on_disk,
            },
            warnings: self.warnings(&interfaces, &services, &flow_table, changed_on_disk),
            interfaces,
            services: summary(&services),
            limits: self.limits(),
            flow_table,
            confirm_deadline: self.trial_ends(),
        }
    }

    pub(super) fn interfaces(&self) -> Vec<InterfaceStatus> {
        let status = |interface: &config::Interface| {
            let attached = self.attached.get(&interface.name);
            let link = self.link(&interface.name);
            let faults = link.map(|link| self.tables.faults(link.index)).unwrap_or_default();
            InterfaceStatus {
                name: interface.name.clone(),
                index: link.map_or(0, |link| link.index),
                role: interface.role,
                mode: match attached.filter(|_| link.is_some_and(|link| link.xdp.is_some())) {
                    Some(attached) if attached.native => AttachedMode::Native,
                    Some(_) => AttachedMode::Generic,
                    None => AttachedMode::Detached,
                },
                mac: mac(link.map_or([0; 6], |link| link.mac)),
                configured: interface.mode,
                program_id: attached.and_then(|attached| attached.program_id()).unwrap_or(0),
                note: match attached {
                    Some(attached) => attached.note.clone(),
                    None => self.attach_errors.get(&interface.name).cloned(),
                },
                redirect_refused: faults.refused,
                redirect_lost: faults.lost,
                redirect_refused_error: in_words(faults.refused_error),
                redirect_lost_error: in_words(faults.lost_error),
            }
        };
        self.loaded.config.interfaces.iter().map(status).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    pub(super) fn flow_table(&self) -> FlowTableStatus {
        let capacity = u64::from(self.tables.layout().limits().flows);
        FlowTableStatus {
            capacity,
            used: self.census.used,
            used_percent: rounded(self.census.used as f64 * 100.0 / capacity as f64),
            exceptions: self.census.exceptions,
            unconfirmed: self.census.unconfirmed,
            evicted: self.tables.counter(Event::Evicted.row()),
            unstored: self.tables.counter(Event::Unstored.row()),
            guarded: self.tables.counter(Event::Guarded.row()),
        }
    }

    pub(super) fn limits(&self) -> LimitsStatus {
        let limits = self.tables.layout().limits();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let reserved = self.actual.services().filter(|(_, _, word)| word.has(ServiceWord::SERVE));
        LimitsStatus {
            services: limits.services,
            services_used: count(self.actual.services().count()),
            backends: self.loaded.config.limits.backends,
            backends_used: count(self.actual.slots().count()),
            table_slots: limits.table_slots,
            table_slots_used: reserved.map(|(_, _, word)| word.class().units() * REGION_UNIT).sum(),
            flows: limits.flows,
            flow_tuples: limits.flow_tuples,
            new_flows_per_second: limits.new_flows_per_second,
            memory_bytes: self.tables.layout().memory_bytes(),
        }
    }

    pub(super) fn services(&self) -> ServiceList {
        ServiceList {
            services: self.steered().services.iter().map(|service| self.describe(service)).collect(),
        }
    }

    pub(super) fn service(&self, name: &str) -> Result<Service, ApiError> {
        self.configured(name)?;
        let config = self.steered();
        let service = config.service(name);
        service.map(|service| self.describe(service)).ok_or_else(|| ApiError::internal("no such service", ""))
    }

    pub(super) fn backends(&self, service: Option<&str>) -> Result<BackendList, ApiError> {
        let services = match service {
            Some(name) => vec![self.service(name)?],
            None => self.services().services,
        };
        Ok(BackendList { backends: services.into_iter().flat_map(|service| service.backends).collect() })
    }

    pub(super) fn configured(&self, name: &str) -> Result<&config::Service, ApiError> {
        self.loaded.config.service(name).ok_or_else(|| {
            let known: Vec<&str> =
                self.loaded.config.services.iter().map(|service| service.name.as_str()).collect();
            ApiError::not_found(
                format!("there is no service \"{name}\""),
                format!("the services are: {}", known.join(", ")),
            )
        })
    }

    fn describe(&self, service: &config::Service) -> Service {
        let key = ServiceKey::from(service);
        let slots = self.actual.slots_by_backend(&key);
        let slot = |address| slots.get(&address).and_then(|slots| slots.first()).copied();
        let backends: Vec<Backend> = service
            .backends
            .iter()
            .map(|backend| self.describe_backend(service, backend, slot(backend.address)))
            .collect();
        let counts = |backend: &&Backend| backend.state == AdminState::Enabled && backend.weight > 0;
        let mut counted = backends.iter().filter(counts).peekable();
        let all_down = service.check.is_some()
            && counted.peek().is_some()
            && counted.all(|backend| backend.health.verdict == Verdict::Down);
        let word = self.actual.service(&key).map(|(_, word)| word).unwrap_or_default();
        Service {
            name: service.name.clone(),
            vip: service.vip,
            port: service.port,
            protocol: service.protocol,
            mode: service.mode,
            table_size: service.table_size.entries(),
            table_generation: word.generation(),
            track: service.track,
            check: service.check.as_ref().map(|check| describe_check(check, service.port)),
            when_all_down: service.when_all_down,
            all_down,
            serving: word.has(ServiceWord::SERVE),
            flows: backends.iter().map(|backend| backend.flows).sum(),
            packets: backends.iter().map(|backend| backend.packets).sum(),
            bytes: backends.iter().map(|backend| backend.bytes).sum(),
            backends,
        }
    }

    fn describe_backend(
        &self,
        service: &config::Service,
        backend: &config::Backend,
        slot: Option<u16>,
    ) -> Backend {
        let state = slot.and_then(|slot| self.actual.slot(slot)).map(|(_, word)| word.state());
        let traffic = slot.map(|slot| self.tables.slot_counter(slot)).unwrap_or_default();
        let share = slot.map_or(0, |slot| self.shares.of(slot));
        let flows = slot.and_then(|slot| self.census.by_slot.get(usize::from(slot))).copied().unwrap_or(0);
        Backend {
            service: service.name.clone(),
            address: backend.address,
            weight: backend.weight,
            state: backend.state,
            overridden: self
                .loaded
                .config
                .service(&service.name)
                .is_some_and(|own| !own.backends.contains(backend)),
            health: self.health(service, backend.address),
            slot_state: match state {
                Some(lb_common::SlotState::Serving) => SlotState::Serving,
                Some(lb_common::SlotState::Draining) => SlotState::Draining,
                Some(lb_common::SlotState::Dead | lb_common::SlotState::Free) | None => SlotState::Dead,
            },
            slot,
            share_percent: rounded(f64::from(share) * 100.0 / f64::from(service.table_size.entries())),
            flows: u64::from(flows),
            packets: traffic.packets,
            bytes: traffic.bytes,
        }
    }

    fn health(&self, service: &config::Service, address: IpAddr) -> Health {
        let own = self.own_health(service, address);
        let key = ServiceKey::from(service);
        let said = self.sync.beliefs.of(&key, address).filter(|_| service.check.is_some());
        match said.filter(|said| self.sync.follows(&key) && said.verdict != Verdict::Unchecked) {
            Some(said) => Health {
                verdict: said.verdict,
                reason: Some(format!("the active node says so; the checks of this one: {}", own.verdict)),
                ..own
            },
            None => own,
        }
    }

    fn own_health(&self, service: &config::Service, address: IpAddr) -> Health {
        match self.prober.describe(&service.name, address) {
            Some(known) => Health {
                verdict: known.verdict,
                reason: known.last_error,
                last_check: known.last_check.map(Timestamp),
            },
            None => Health {
                verdict: if service.check.is_some() { Verdict::Unknown } else { Verdict::Unchecked },
                reason: None,
                last_check: None,
            },
        }
    }

    pub(super) fn table(&self, name: &str) -> Result<ServiceTable, ApiError> {
        let service = self.configured(name)?;
        let table = self.actual.table(&ServiceKey::from(service)).unwrap_or_default();
        let addresses: BTreeMap<u16, IpAddr> =
            self.actual.slots().map(|(slot, row, _)| (slot, row.address)).collect();
        let mut backends: Vec<IpAddr> =
            table.iter().filter_map(|slot| addresses.get(slot)).copied().collect();
        backends.sort_unstable();
        backends.dedup();
        let position = |slot: &u16| {
            let at = backends.binary_search(addresses.get(slot)?).ok()?;
            u16::try_from(at).ok()
        };
        let size = service.table_size.entries();
        let table =
            if table.is_empty() { vec![None; size as usize] } else { table.iter().map(position).collect() };
        Ok(ServiceTable { size, table, backends })
    }

    pub(super) fn counters(&self) -> CounterList {
        let counter = |name: &str, kind, description: &str, row| Counter {
            name: name.to_owned(),
            kind,
            description: description.trim().to_owned(),
            packets: self.tables.counter(row),
        };
        let verdicts = PacketVerdict::ALL.iter().map(|verdict| {
            counter(
                verdict.name(),
                CounterKind::Verdict,
                verdict.description(),
                Outcome::Verdict(*verdict).row(),
            )
        });
        let drops = DropReason::ALL.iter().map(|reason| {
            counter(reason.name(), CounterKind::Drop, reason.description(), Outcome::Drop(*reason).row())
        });
        let events = Event::ALL
            .iter()
            .map(|event| counter(event.name(), CounterKind::Event, event.description(), event.row()));
        CounterList { counters: verdicts.chain(drops).chain(events).collect() }
    }

    pub(super) fn config_reply(&self) -> ConfigReply {
        ConfigReply {
            file: self.options.config.display().to_string(),
            generation: self.loaded.generation,
            loaded: Timestamp(self.loaded.at),
            changed_on_disk: self.changed_on_disk(),
            text: self.loaded.text.clone(),
            config: serde_json::to_value(&self.loaded.config).unwrap_or_default(),
        }
    }
}

fn summary(services: &[Service]) -> ServicesSummary {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let mut summary = ServicesSummary { services: count(services.len()), ..ServicesSummary::default() };
    for backend in services.iter().flat_map(|service| &service.backends) {
        summary.backends += 1;
        let field = match (backend.state, backend.health.verdict) {
            (AdminState::Disabled, _) => &mut summary.disabled,
            (AdminState::Drain, _) => &mut summary.draining,
            (AdminState::Enabled, Verdict::Up) => &mut summary.up,
            (AdminState::Enabled, Verdict::Down) => &mut summary.down,
            (AdminState::Enabled, Verdict::Unknown) => &mut summary.unknown,
            (AdminState::Enabled, Verdict::Unchecked) => &mut summary.unchecked,
        };
        *field += 1;
    }
    summary
}

fn describe_check(check: &Check, service_port: u16) -> String {
    let port = check.port.unwrap_or(service_port);
    let interval = humantime::format_duration(check.interval);
    match check.kind {
        CheckKind::Tcp => format!("tcp :{port} every {interval}"),
        CheckKind::Http => format!("http :{port}{} every {interval}", check.path),
    }
}

/// An error of the kernel; `None` if there was none.
fn in_words(errno: u64) -> Option<String> {
    let errno = i32::try_from(errno).ok().filter(|errno| *errno != 0)?;
    Some(nix::errno::Errno::from_raw(errno).desc().to_owned())
}

/// Three decimals are enough for people, and shorter.
fn rounded(percent: f64) -> f64 {
    (percent * 1000.0).round() / 1000.0
}
