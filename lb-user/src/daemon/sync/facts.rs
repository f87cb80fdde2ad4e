//! What flow sync is shown of this node, made anew only when something about it has changed.

use std::collections::BTreeSet;

use lb_core::config::Config;
use lb_core::plan::{Actual, ServiceKey, VerdictMap};
use lb_core::sync::{Directory, GroupFacts, ServiceSaid, belief};

/// The node, as far as flow sync is concerned.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) directory: Directory,
    pub(super) groups: Vec<GroupFacts>,
    pub(super) verdicts: Vec<ServiceSaid>,
}

impl Facts {
    /// Of a node with this configuration in force. Roles are left to the caller.
    pub(super) fn of(config: &Config, actual: &Actual, verdicts: &VerdictMap) -> Self {
        let of_group = |vips: &[std::net::IpAddr]| -> BTreeSet<ServiceKey> {
            let services = config.services.iter().filter(|service| vips.contains(&service.vip));
            services.map(ServiceKey::from).collect()
        };
        let groups: Vec<GroupFacts> = config
            .ha
            .groups
            .iter()
            .map(|group| GroupFacts {
                name: group.name.clone(),
                priority: group.priority,
                active: false,
                services: of_group(&group.vips),
            })
            .collect();
        let moving: BTreeSet<ServiceKey> = groups.iter().flat_map(|group| group.services.clone()).collect();
        let said = config.services.iter().filter(|service| moving.contains(&ServiceKey::from(*service)));
        Self {
            directory: directory(actual),
            verdicts: said.map(|service| belief::said(service, verdicts)).collect(),
            groups,
        }
    }
}

/// All slots of services. A backend that was removed and added again has two until the flows of the first are gone: flows
/// that are received go to the one that takes most, which comes last.
fn directory(actual: &Actual) -> Directory {
    let slots = actual.services().flat_map(|(key, _, _)| {
        let of_service = actual.slots_by_backend(key).into_iter();
        of_service
            .flat_map(move |(address, slots)| slots.into_iter().rev().map(move |slot| (slot, *key, address)))
    });
    slots.collect()
}
