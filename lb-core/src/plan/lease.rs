//! Which row of the LEASES map a group of VIPs has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::service::LEASE_ROW_FOR_EVER;

use super::{Actual, Desired, VipFlags};
use crate::config::Config;

/// Rows of LEASES by the name of the group that has one.
pub type LeaseRows = BTreeMap<String, u32>;

/// Gives each group a row, from 1 on. A group keeps the row that its VIPs have in the maps, so that neither a restart
/// nor a reload changes what is answered; of groups that were merged the first one keeps it.
#[must_use]
pub fn lease_rows(config: &Config, actual: &Actual) -> LeaseRows {
    let row_of =
        |vip: &IpAddr| actual.vips.get(vip).map(|flags| flags.lease).filter(|row| *row != LEASE_ROW_FOR_EVER);
    let mut rows = LeaseRows::new();
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    for group in &config.ha.groups {
        if let Some(row) = group.vips.iter().filter_map(row_of).find(|row| !taken.contains(row)) {
            taken.insert(row);
            rows.insert(group.name.clone(), row);
        }
    }
    // A VIP that still names a row would be answered for by another group's lease: such rows are the last resort. There are
    // enough in all, since a group has a VIP of its own and each VIP a service.
    let named: BTreeSet<u32> = actual.vips.values().map(|flags| flags.lease).collect();
    let all = LEASE_ROW_FOR_EVER + 1..=actual.limits.services;
    let unnamed = all.clone().filter(|row| !named.contains(row));
    let mut free = unnamed.chain(all.filter(|row| named.contains(row))).filter(|row| !taken.contains(row));
    for group in &config.ha.groups {
        if !rows.contains_key(&group.name) {
            rows.extend(free.next().map(|row| (group.name.clone(), row)));
        }
    }
    rows
}

impl Desired {
    /// Has the VIPs of each group answered for by the group's lease.
    pub fn lease(&mut self, config: &Config, rows: &LeaseRows) {
        for group in &config.ha.groups {
            let Some(row) = rows.get(&group.name) else { continue };
            for vip in &group.vips {
                if let Some(flags) = self.vips.get_mut(vip) {
                    *flags = VipFlags { lease: *row, ..*flags };
                }
            }
        }
    }
}
