//! Reading `[cluster]` and `[ha]`.

use std::path::PathBuf;
use std::time::Duration;

use toml_edit::Item;

use super::super::convert::{self as read, duration, hundredths, integer};
use super::super::model::{Cluster, DEFAULT_LONE_LEASE, HaGroup, HaMode, HighAvailability, VrrpChecksum};
use super::super::problem::Notes;
use super::super::tables::{Complaint, Section};

pub(super) const CLUSTER_KEYS: &[&str] = &["name", "node", "key_file"];
pub(super) const HA_KEYS: &[&str] = &["mode", "checksum", "lone_lease", "group"];
pub(super) const GROUP_KEYS: &[&str] = &[
    "name",
    "vrid",
    "vips",
    "interface",
    "priority",
    "advert_interval",
    "preempt",
    "preempt_delay",
    "peers",
    "sync_group",
];

/// The twelve bits of an advert's Max Advertise Interval, RFC 9568 section 5.2.7, from one hundredth of a second.
const MIN_ADVERT: Duration = Duration::from_millis(10);
const MAX_ADVERT: Duration = Duration::from_millis(40_950);
/// Whoever wants to wait longer than this wants `preempt = false`.
const MAX_PREEMPT_DELAY: Duration = Duration::from_secs(60 * 60);
/// Longer, and a node that is not coming back would keep VIPs from others.
const MAX_LONE_LEASE: Duration = Duration::from_secs(600);
/// 255 is the address owner's, which no node is; 0 says that a node leaves. RFC 9568 section 5.2.4.
const MAX_PRIORITY: u32 = 254;

pub(super) fn cluster(section: &Section<'_>, notes: &mut Notes) -> Cluster {
    let name_remedy = "give the cluster a name, the same on every node: name = \"edge\"";
    let node_remedy = "give this node a name of its own in the cluster: node = \"lb1\"";
    let key_remedy =
        "write the path of the file with the common key: key_file = \"/etc/fairlead/cluster.key\"";
    Cluster {
        name: section.required("name", String::new(), name_remedy, notes, read::cluster_name),
        node: section.required("node", String::new(), node_remedy, notes, read::node_name),
        key_file: section.required("key_file", PathBuf::new(), key_remedy, notes, read::absolute_path),
    }
}

pub(super) fn high_availability(section: &Section<'_>, notes: &mut Notes) -> HighAvailability {
    let groups = section.tables("group", GROUP_KEYS, notes);
    HighAvailability {
        mode: section.optional("mode", HaMode::default(), notes, read::ha_mode),
        checksum: section.optional("checksum", VrrpChecksum::default(), notes, read::vrrp_checksum),
        lone_lease: section.optional(
            "lone_lease",
            DEFAULT_LONE_LEASE,
            notes,
            duration(Duration::ZERO..=MAX_LONE_LEASE),
        ),
        groups: groups.iter().map(|section| group(section, notes)).collect(),
    }
}

fn group(section: &Section<'_>, notes: &mut Notes) -> HaGroup {
    let vips_remedy = "list the VIPs that move together: vips = [\"192.0.2.10\"]";
    let interface_remedy = "name the [[interface]] on which the VIPs are reached: interface = \"eth0\"";
    HaGroup {
        name: section.required(
            "name",
            String::new(),
            "give the group a unique name",
            notes,
            read::group_name,
        ),
        vrid: section.optional("vrid", None, notes, |item| byte(item, u32::from(u8::MAX)).map(Some)),
        vips: section.required("vips", Vec::new(), vips_remedy, notes, read::addresses),
        interface: section.required(
            "interface",
            String::new(),
            interface_remedy,
            notes,
            read::interface_name,
        ),
        priority: section.optional("priority", 100, notes, |item| byte(item, MAX_PRIORITY)),
        advert_interval: section.optional(
            "advert_interval",
            Duration::from_secs(1),
            notes,
            hundredths(MIN_ADVERT..=MAX_ADVERT),
        ),
        preempt: section.optional("preempt", true, notes, read::boolean),
        preempt_delay: section.optional(
            "preempt_delay",
            Duration::ZERO,
            notes,
            duration(Duration::ZERO..=MAX_PREEMPT_DELAY),
        ),
        peers: section.optional("peers", Vec::new(), notes, read::addresses),
        sync_group: section.optional("sync_group", None, notes, read::sync_group),
    }
}

/// A whole number from 1 to at most 255.
fn byte(item: &Item, greatest: u32) -> Result<u8, Complaint> {
    let number = integer(1..=greatest)(item)?;
    u8::try_from(number).map_err(|_| Complaint::new(format!("{number} is out of range"), "write 1 to 255"))
}
