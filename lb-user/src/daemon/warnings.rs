//! What an operator should look at, in sentences.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_common::reason::DropReason;
use lb_core::alarm::Growth;
use lb_core::config::Role;

use super::controller::Controller;
use crate::api::types::{AttachedMode, FlowTableStatus, InterfaceStatus, Service};

impl Controller {
    /// All warnings, those about the whole first.
    pub(super) fn warnings(
        &self,
        interfaces: &[InterfaceStatus],
        services: &[Service],
        flow_table: &FlowTableStatus,
        changed_on_disk: bool,
    ) -> Vec<String> {
        let mut warnings: Vec<String> = self.loaded.warnings.iter().map(ToString::to_string).collect();
        warnings.extend(self.apply_error.iter().map(|error| format!("the maps are not up to date: {error}")));
        warnings.extend(self.group_errors.iter().cloned());
        if self.foreign_seed {
            warnings.push(
                "the running maps hash flows otherwise than the cluster's key says: connections break when a VIP moves; \
                 `fairlead stop --detach` and start anew"
                    .to_owned(),
            );
        }
        warnings.extend(self.ha_faults());
        warnings.extend(self.sync_faults());
        warnings.extend(self.publish_errors.iter().cloned());
        warnings.extend(interfaces.iter().filter_map(|interface| self.of_redirection(interface, interfaces)));
        // Without a second interface nothing is redirected.
        warnings.extend(self.watch_error.iter().filter(|_| interfaces.len() > 1).map(|error| {
            format!("frames that are lost on their way to another interface are not counted: {error}")
        }));
        warnings.extend(interfaces.iter().filter_map(of_interface));
        warnings.extend(services.iter().filter_map(of_service));
        let backends: BTreeSet<IpAddr> =
            services.iter().flat_map(|service| &service.backends).map(|backend| backend.address).collect();
        warnings.extend(backends.into_iter().flat_map(|backend| self.of_backend(backend)));
        if self.load.is_raised() {
            let used = flow_table.used_percent;
            warnings.push(format!("the flow table is {used} % full; raise `flows` under [limits]"));
        }
        if let Some(Growth { count: flows, .. }) = self.flood.growth() {
            let limit = self.tables.layout().new_flows_per_second;
            warnings.push(format!(
                "flood: more than {limit} new flows a second on a CPU; {flows} packets so far are of flows that are not \
                 stored and go by the Maglev table"
            ));
        }
        if let Some(Growth { count, .. }) = self.redirect_faults.growth() {
            let where_to = interfaces.iter().filter_map(faults_of_interface).collect::<Vec<_>>().join("; ");
            warnings.push(format!(
                "{count} frames for backends behind another interface did not leave: {where_to}"
            ));
        }
        if changed_on_disk {
            warnings.push(
                "the configuration file differs from what is in force; put it in force with `fairlead config reload`"
                    .to_owned(),
            );
        }
        warnings
    }

    /// An interface that leads to backends, and that frames in native mode may not be redirected to.
    fn of_redirection(&self, interface: &InterfaceStatus, all: &[InterfaceStatus]) -> Option<String> {
        let native = |other: &&InterfaceStatus| {
            other.name != interface.name && other.role == Role::Steer && other.mode == AttachedMode::Native
        };
        let from = all.iter().find(native).filter(|_| interface.mode == AttachedMode::Generic)?;
        let leads = self.resolved.values().any(|hop| hop.ifindex == interface.index);
        leads.then(|| {
            format!(
                "frames from {} to backends behind {} are refused unless its driver can send redirected frames; if \
                 redirect_refused grows, set mode = \"generic\" on {0}",
                from.name, interface.name
            )
        })
    }

    fn of_backend(&self, backend: IpAddr) -> Vec<String> {
        let Some(hop) = self.resolved.get(&backend) else {
            return vec![format!("backend {backend}: no route; it gets no packets")];
        };
        let mut warnings = Vec::new();
        if hop.failed || hop.mac.is_none() {
            let next = hop.gateway.unwrap_or(backend);
            warnings.push(format!(
                "backend {backend}: its next hop {next} does not answer ARP or neighbour discovery"
            ));
        }
        if !self.attached.values().any(|attached| attached.ifindex == hop.ifindex) {
            warnings.push(format!(
                "backend {backend}: its route leaves by an interface that is not attached; packets to it are lost, or dropped \
                 as {}",
                DropReason::NoEgress.name()
            ));
        }
        warnings
    }
}

fn of_interface(interface: &InterfaceStatus) -> Option<String> {
    let InterfaceStatus { name, mode, note, .. } = interface;
    let note = note.as_deref().unwrap_or("no reason known");
    match mode {
        AttachedMode::Native => None,
        AttachedMode::Generic => {
            Some(format!("interface {name} runs in generic mode, which is slow: {note}"))
        }
        AttachedMode::Detached => Some(format!("interface {name} is not attached: {note}")),
    }
}

/// Redirected frames that did not leave by an interface, if there are any.
fn faults_of_interface(interface: &InterfaceStatus) -> Option<String> {
    let faults = [
        (interface.redirect_refused, "refused by the kernel", &interface.redirect_refused_error),
        (interface.redirect_lost, "not taken by the driver", &interface.redirect_lost_error),
    ];
    let told = faults.iter().filter(|(frames, ..)| *frames > 0).map(|(frames, how, why)| {
        let why = why.as_ref().map_or_else(String::new, |why| format!(" (last: {why})"));
        format!("{frames} {how}{why}")
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| format!("{} {}", interface.name, told.join(", ")))
}

fn of_service(service: &Service) -> Option<String> {
    let name = &service.name;
    if service.all_down {
        let rule = service.when_all_down.word();
        return Some(format!("service {name}: every checked backend is down ({rule})"));
    }
    (!service.serving).then(|| format!("service {name}: no backend takes new flows"))
}
