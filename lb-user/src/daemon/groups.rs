//! The multicast groups that the daemon listens to on its interfaces, so that neighbours that ask for IPv6 VIPs are heard.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result};
use lb_core::config::Config;

use super::controller::Controller;
use crate::bpf::program;
use crate::net::{Groups, Link};

/// What an earlier daemon listened to: its VIPs, on the interfaces whose links are pinned in `pinned` or that are
/// configured (links of a trial are not pinned).
///
/// # Errors
/// If the directory can't be read.
pub(super) fn of_earlier(
    vips: impl Iterator<Item = IpAddr>,
    pinned: &Path,
    config: &Config,
    links: &[Link],
) -> Result<Groups> {
    let mut indexes: BTreeSet<u32> = links
        .iter()
        .filter(|link| config.interfaces.iter().any(|interface| interface.name == link.name))
        .map(|link| link.index)
        .collect();
    let unreadable = || format!("cannot read {}", pinned.display());
    for entry in fs::read_dir(pinned).with_context(unreadable)? {
        indexes.extend(entry.with_context(unreadable)?.file_name().to_string_lossy().parse::<u32>());
    }
    let mut groups = Groups::default();
    groups.adopt(&on_each(vips, &indexes));
    Ok(groups)
}

impl Controller {
    /// Listens for neighbours that ask for the configured IPv6 VIPs, on all attached interfaces that packets for them
    /// arrive on. Failures are kept for `status` and tried again.
    pub(super) fn join_groups(&mut self) {
        let vips = self.loaded.config.services.iter().map(|service| service.vip);
        let steering = self.attached.values().filter(|attached| attached.program == program::BALANCER);
        let indexes = steering.map(|attached| attached.ifindex).collect();
        let errors = self.groups.set(&on_each(vips, &indexes));
        for error in errors.iter().filter(|error| !self.group_errors.contains(error)) {
            tracing::warn!("{error}");
        }
        self.group_errors = errors;
    }

    /// Listens no longer, for good.
    pub(super) fn leave_groups(&mut self) {
        for error in self.groups.release() {
            tracing::warn!("{error}");
        }
    }
}

/// The IPv6 ones among `vips`, with each of the interfaces.
fn on_each(vips: impl Iterator<Item = IpAddr>, indexes: &BTreeSet<u32>) -> BTreeSet<(u32, Ipv6Addr)> {
    vips.filter_map(|vip| match vip {
        IpAddr::V4(_) => None,
        IpAddr::V6(vip) => Some(vip),
    })
    .flat_map(|vip| indexes.iter().map(move |index| (*index, vip)))
    .collect()
}
