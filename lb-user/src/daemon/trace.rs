//! `trace`: single frames through the program, and what it says about them in words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::egress::EgressRow;
use lb_core::plan::ServiceKey;

use super::controller::{Controller, present_tick};
use crate::api::ApiError;
use crate::api::types::{FrameTrace, TraceReply, TraceVerdict};
use crate::bpf::dry_run::{DryRun, Fate, MIN_FRAME_BYTES, commit};
use crate::bpf::program;
use crate::trace::{self, SlotFacts, Surroundings};

impl Controller {
    /// Says what becomes of each frame; with `real`, lets it happen.
    ///
    /// # Errors
    /// If the interface is not ours, or the kernel refuses the program or a run.
    pub(super) fn trace(
        &mut self,
        frames: &[Vec<u8>],
        interface: Option<&str>,
        real: bool,
    ) -> Result<TraceReply, ApiError> {
        let (name, ifindex) = self.traced_interface(interface)?;
        self.load_dry_run()?;
        let mut around = self.surroundings(&name);
        let frames = frames.iter().map(|frame| {
            around.now = present_tick();
            self.trace_one(frame, ifindex, real, &around)
        });
        Ok(TraceReply { frames: frames.collect::<Result<_, _>>()? })
    }

    /// Name and index of the interface that is meant.
    fn traced_interface(&self, wanted: Option<&str>) -> Result<(String, u32), ApiError> {
        let configured = self.loaded.config.interfaces.iter().map(|interface| interface.name.as_str());
        let steers = |name: &&str| {
            self.attached.get(*name).is_some_and(|attached| attached.program == Some(program::BALANCER))
        };
        let attached: Vec<&str> = configured.filter(steers).collect();
        let name = match wanted {
            Some(name) => attached.contains(&name).then_some(name),
            None => attached.first().copied(),
        };
        let found = name.and_then(|name| Some((name.to_owned(), self.attached.get(name)?.ifindex)));
        found.ok_or_else(|| {
            let message = match wanted {
                Some(name) => format!("the program is not attached to an interface \"{name}\""),
                None => "the program is attached to no interface".to_owned(),
            };
            let remedy = match attached[..] {
                [] => "`fairlead status` says why it is not attached".to_owned(),
                _ => format!("it is attached to: {}", attached.join(", ")),
            };
            ApiError::not_found(message, remedy)
        })
    }

    /// Loads the program without effect when it is wanted for the first time.
    fn load_dry_run(&mut self) -> Result<(), ApiError> {
        if self.dry_run.is_some() {
            return Ok(());
        }
        let Some(pins) = &self.pins else {
            return Err(ApiError::internal("the daemon is detaching", "start it again with `fairlead run`"));
        };
        // Somebody may have changed the pins since the start.
        let layout = self.tables.layout();
        let loaded =
            pins.check(layout).and_then(|()| DryRun::load(layout, self.tables.meta().seed, &pins.maps()));
        self.dry_run = Some(loaded.map_err(|error| {
            let message = format!("the program for dry runs cannot be loaded: {error:#}");
            ApiError::internal(message, "forwarding is not affected; free memory and try again")
        })?);
        Ok(())
    }

    fn trace_one(
        &mut self,
        frame: &[u8],
        ifindex: u32,
        real: bool,
        around: &Surroundings,
    ) -> Result<FrameTrace, ApiError> {
        if frame.len() < MIN_FRAME_BYTES {
            return Ok(trace::too_short(frame, &around.interface));
        }
        let failed = |error: anyhow::Error| ApiError::internal(format!("{error:#}"), "");
        let Some(dry_run) = &mut self.dry_run else { return Err(ApiError::internal("no dry run", "")) };
        let (mut run, facts) = dry_run.run(ifindex, frame).map_err(failed)?;
        if real {
            run = commit(&mut self.ebpf, ifindex, frame).map_err(failed)?;
        }
        let verdict = match run.fate {
            Fate::Drop => TraceVerdict::Drop,
            Fate::Pass => TraceVerdict::Pass,
            Fate::Transmit => TraceVerdict::Tx,
            Fate::Redirect => TraceVerdict::Redirect,
        };
        let run = trace::Run { input: frame, output: &run.frame, verdict, facts, committed: real };
        Ok(trace::explain(&run, around))
    }

    /// What the numbers in the facts stand for.
    fn surroundings(&self, interface: &str) -> Surroundings {
        let link = self.link(interface);
        let mut services = BTreeMap::new();
        let mut vips: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        for service in &self.loaded.config.services {
            let key = ServiceKey::from(service);
            if let Some((index, _)) = self.actual.service(&key) {
                services.insert(index, (service.name.clone(), key.to_string()));
            }
            let told = format!("{} ({} {})", service.name, service.protocol, service.port);
            vips.entry(service.vip).or_default().push(told);
        }
        let slots = self.actual.slots().map(|(slot, row, word)| {
            let facts = SlotFacts {
                backend: row.address,
                state: word.state(),
                egress: u32::from(word.egress()),
                service: u32::from(row.service),
            };
            (slot, facts)
        });
        let interfaces =
            self.loaded.config.interfaces.iter().filter_map(|interface| self.link(&interface.name));
        Surroundings {
            interface: interface.to_owned(),
            mac: link.map_or([0; 6], |link| link.mac),
            interfaces: interfaces
                .map(|link| (EgressRow::position(link.index), (link.name.clone(), link.mtu)))
                .collect(),
            now: present_tick(),
            buckets: self.tables.layout().buckets,
            services,
            slots: slots.collect(),
            vips,
        }
    }
}
