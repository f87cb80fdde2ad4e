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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HaGroup, parse};
    use crate::plan::MapOp;

    /// A configuration with a group of each list of VIPs, named by letters.
    fn config(groups: &[&[&str]]) -> Config {
        let mut text = "[[interface]]\nname = \"eth0\"\n".to_owned();
        for (at, vips) in groups.iter().enumerate() {
            let name = char::from(b'a' + u8::try_from(at).expect("few"));
            let list: Vec<String> = vips.iter().map(|vip| format!("\"{vip}\"")).collect();
            text += &format!(
                "[[ha.group]]\nname = \"{name}\"\nvrid = {}\nvips = [{}]\ninterface = \"eth0\"\n",
                at + 1,
                list.join(", ")
            );
            for vip in *vips {
                text += &format!(
                    "[[service]]\nname = \"s{vip}\"\nvip = \"{vip}\"\nport = 80\n[[service.backend]]\naddress = \"10.9.9.9\"\n"
                );
            }
        }
        parse(&text).unwrap_or_else(|problems| panic!("{problems:?}")).config
    }

    fn actual(vips: &[(&str, u32)]) -> Actual {
        let mut actual = Actual::new(crate::config::Limits::default());
        for (vip, lease) in vips {
            let flags = VipFlags { lease: *lease, ..VipFlags::default() };
            actual.apply(&MapOp::InsertVip { addr: vip.parse().expect("literal"), flags });
        }
        actual
    }

    fn check(groups: &[&[&str]], in_maps: &[(&str, u32)], expected: &[(&str, u32)]) {
        let rows = lease_rows(&config(groups), &actual(in_maps));
        let expected: LeaseRows = expected.iter().map(|(name, row)| ((*name).to_owned(), *row)).collect();
        assert_eq!(rows, expected, "{groups:?} over {in_maps:?}");
    }

    #[test]
    fn a_group_keeps_the_row_of_its_vips_and_a_new_one_gets_one_that_nobody_names() {
        check(&[&["10.0.0.1"], &["10.0.0.2"]], &[], &[("a", 1), ("b", 2)]);
        check(&[&["10.0.0.1"], &["10.0.0.2"]], &[("10.0.0.1", 2), ("10.0.0.2", 1)], &[("a", 2), ("b", 1)]);
        check(&[&["10.0.0.1"], &["10.0.0.2"]], &[("10.0.0.2", 1)], &[("a", 2), ("b", 1)]);
        // Without high availability before.
        check(&[&["10.0.0.1"]], &[("10.0.0.1", 0)], &[("a", 1)]);
        // A VIP of a group that is gone still names row 1.
        check(&[&["10.0.0.1"]], &[("10.0.0.9", 1)], &[("a", 2)]);
        // Two groups become one, and one becomes two.
        check(&[&["10.0.0.1", "10.0.0.2"]], &[("10.0.0.1", 5), ("10.0.0.2", 6)], &[("a", 5)]);
        check(&[&["10.0.0.1"], &["10.0.0.2"]], &[("10.0.0.1", 5), ("10.0.0.2", 5)], &[("a", 5), ("b", 1)]);
    }

    #[test]
    fn only_vips_of_groups_have_a_lease_that_ends() {
        let mut config = config(&[&["10.0.0.1", "10.0.0.2"]]);
        let groups: &mut Vec<HaGroup> = &mut config.ha.groups;
        groups[0].vips.pop();
        let mut desired = crate::plan::plan(&config, &BTreeMap::new(), &BTreeMap::new());
        desired.lease(&config, &lease_rows(&config, &actual(&[])));
        let leases: Vec<u32> = desired.vips.values().map(|flags| flags.lease).collect();
        assert_eq!(leases, [1, LEASE_ROW_FOR_EVER]);
    }
}
