//! The interfaces that the configuration names: published to the program, and attached.

use std::fs;

use anyhow::{Context, Result, bail};
use lb_common::egress::EgressRow;
use lb_core::config::{AttachMode, Interface};

use super::controller::Controller;
use crate::api::ApiError;
use crate::bpf::link::{Attached, unpin};
use crate::bpf::pinned::Pinned;
use crate::bpf::pins::Pins;
use crate::bpf::program;
use crate::net::Link;

/// Two interfaces that fall together in the egress table.
///
/// # Errors
/// Names them; only renumbering one of them helps.
pub(super) fn check_positions(links: &[&Link]) -> Result<()> {
    for (at, first) in links.iter().enumerate() {
        for second in &links[at + 1..] {
            if EgressRow::position(first.index) == EgressRow::position(second.index)
                && first.index != second.index
            {
                bail!(
                    "the indexes of interfaces {} ({}) and {} ({}) are equal modulo 4096; re-create one of them",
                    first.name,
                    first.index,
                    second.name,
                    second.index
                );
            }
        }
    }
    Ok(())
}

/// Whether the mode in which an interface is attached is one that the configuration allows.
fn fits(interface: &Interface, native: bool) -> Result<()> {
    let (now, demanded) = match (interface.mode, native) {
        (AttachMode::Native, false) => ("generic", "native"),
        (AttachMode::Generic, true) => ("native", "generic"),
        _ => return Ok(()),
    };
    bail!(ApiError::conflict(
        format!(
            "interface {} is attached in {now} mode, and mode = \"{demanded}\" is demanded now",
            interface.name
        ),
        "set mode = \"auto\" to leave it as it is, or end forwarding with `fairlead stop --detach` and start anew",
    ))
}

impl Controller {
    /// Reads the interfaces again, publishes what changed, and attaches to those that came back.
    ///
    /// # Errors
    /// If they can't be read.
    pub(super) async fn look_at_interfaces(&mut self) -> Result<()> {
        self.links = self.network.links().await?;
        self.publish_interfaces();
        self.attach_missing();
        self.join_groups();
        Ok(())
    }

    /// The link of a configured interface.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Writes MAC and MTU of the configured interfaces for the program.
    pub(super) fn publish_interfaces(&self) {
        for link in self.loaded.config.interfaces.iter().filter_map(|interface| self.link(&interface.name)) {
            let [a, b, c, d, e, f] = link.mac;
            let row = EgressRow {
                ifindex: link.index,
                mtu: link.mtu,
                mac_bits: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            };
            self.tables.set_egress(EgressRow::position(link.index), &row);
        }
    }

    /// Attaches to the configured interfaces that are there and not attached, detaches from others. Failures are kept
    /// for `status`.
    pub(super) fn attach_missing(&mut self) {
        let interfaces = self.loaded.config.interfaces.clone();
        let gone: Vec<String> = self
            .attached
            .iter()
            .filter(|(name, attached)| {
                let wanted = interfaces.iter().any(|interface| interface.name == **name);
                // Somebody may have taken the program off by other means.
                !wanted
                    || self.link(name).is_none_or(|link| link.index != attached.ifindex || link.xdp.is_none())
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(attached) = self.attached.remove(&name) {
                tracing::info!(interface = %name, "detaching");
                self.tables.set_egress(EgressRow::position(attached.ifindex), &EgressRow::default());
                if let Err(error) = attached.detach() {
                    tracing::warn!(interface = %name, error = %format!("{error:#}"), "cannot detach");
                }
            }
        }
        for interface in interfaces
            .iter()
            .filter(|interface| !self.attached.contains_key(&interface.name))
            .collect::<Vec<_>>()
        {
            match self.attach(interface) {
                Ok(()) => {
                    self.attach_errors.remove(&interface.name);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    if self.attach_errors.insert(interface.name.clone(), error.clone()).as_ref()
                        != Some(&error)
                    {
                        tracing::error!(interface = %interface.name, %error, "cannot attach");
                    }
                }
            }
        }
        self.publish_interfaces();
    }

    /// Detaches from interfaces that an earlier configuration named and this one does not.
    ///
    /// # Errors
    /// If the pins can't be read or removed.
    pub(super) fn detach_unnamed(&mut self) -> Result<()> {
        let Some(pins) = self.pins.as_ref().map(Pins::links) else { return Ok(()) };
        let named: Vec<String> =
            self.attached.values().map(|attached| attached.ifindex.to_string()).collect();
        for entry in fs::read_dir(&pins).with_context(|| format!("cannot read {}", pins.display()))? {
            let path = entry?.path();
            let index = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !named.contains(&index)
                && index.parse::<u32>().is_ok()
                && matches!(Pinned::at(&path)?, Pinned::XdpLink)
            {
                tracing::info!(index, "detaching from an interface that is no longer configured");
                unpin(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Attaches to all of these or, if one fails, to none that was not attached before. Gives the names of those that are
    /// attached anew.
    ///
    /// # Errors
    /// If one is missing or occupied, attached in another mode than it demands, or the kernel refuses.
    pub(super) fn attach_all(&mut self, interfaces: &[Interface]) -> Result<Vec<String>> {
        let mut anew = Vec::new();
        for interface in interfaces {
            let known = self.is_pinned(&interface.name);
            let done = match self.attached.get(&interface.name) {
                Some(attached) => fits(interface, attached.native),
                None => self.attach(interface),
            };
            match done {
                Ok(()) if known => {}
                Ok(()) => anew.push(interface.name.clone()),
                Err(error) => {
                    self.take_back(&anew);
                    return Err(error);
                }
            }
        }
        Ok(anew)
    }

    /// Whether a program of this instance is on the interface, put there by this daemon or an earlier one.
    fn is_pinned(&self, name: &str) -> bool {
        let pin = |link: &Link| Some(self.pins.as_ref()?.links().join(link.index.to_string()).exists());
        self.attached.contains_key(name) || self.link(name).and_then(pin).unwrap_or(false)
    }

    /// Detaches from these interfaces again.
    pub(super) fn take_back(&mut self, names: &[String]) {
        for name in names {
            if let Some(attached) = self.attached.remove(name)
                && let Err(error) = attached.detach()
            {
                tracing::warn!(interface = %name, error = %format!("{error:#}"), "cannot detach");
            }
        }
    }

    /// Attaches to one interface.
    ///
    /// # Errors
    /// If it is missing or occupied, or the kernel refuses.
    fn attach(&mut self, interface: &Interface) -> Result<()> {
        let Some(link) = self.link(&interface.name).cloned() else {
            bail!("interface {} does not exist", interface.name);
        };
        let Some(pins) = self.pins.as_ref().map(Pins::links) else { bail!("the daemon is detaching") };
        let program = program::xdp(&mut self.ebpf, program::BALANCER)?;
        let attached = Attached::new(program, &link, interface.mode, &pins, self.trial.is_none())?;
        let mode = if attached.native { "native" } else { "generic" };
        tracing::info!(interface = %link.name, index = link.index, mode, "attached");
        self.attached.insert(interface.name.clone(), attached);
        Ok(())
    }
}
