//! The interfaces that the configuration names: published to the program, and attached.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use lb_common::egress::EgressRow;
use lb_common::limits::MAX_EGRESS;
use lb_core::config::{AttachMode, Interface, Role};

use super::controller::Controller;
use crate::api::ApiError;
use crate::bpf::link::{Attached, unpin};
use crate::bpf::pinned::Pinned;
use crate::bpf::pins::Pins;
use crate::bpf::{program, watch};
use crate::net::Link;

/// What an interface of this role runs. One that frames are redirected to needs a program in most drivers, or they have no
/// queues for such frames.
const fn program_of(role: Role) -> &'static str {
    match role {
        Role::Steer => program::BALANCER,
        Role::Egress => program::PASS,
    }
}

/// Whether what is attached to an interface is what the configuration allows, or can become it.
fn fits(interface: &Interface, attached: &Attached) -> Result<()> {
    let (now, demanded) = match (interface.mode, attached.native) {
        (AttachMode::Native, false) => ("generic", "native"),
        (AttachMode::Generic, true) => ("native", "generic"),
        _ => return attached.can_turn(program_of(interface.role)),
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

    /// Fails if two of these interfaces fall together in the egress table.
    ///
    /// # Errors
    /// Names them; only renumbering one of them helps.
    pub(super) fn check_positions(&self, interfaces: &[Interface]) -> Result<()> {
        let mut taken: BTreeMap<u32, &Link> = BTreeMap::new();
        for link in interfaces.iter().filter_map(|interface| self.link(&interface.name)) {
            if let Some(other) = taken.insert(EgressRow::position(link.index), link) {
                bail!(
                    "the indexes of interfaces {} ({}) and {} ({}) are equal modulo {MAX_EGRESS}; re-create one of them",
                    other.name,
                    other.index,
                    link.name,
                    link.index
                );
            }
        }
        Ok(())
    }

    /// The link of a configured interface.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Writes MAC and MTU of the configured interfaces for the program. Failures are kept for `status` and tried again.
    pub(super) fn publish_interfaces(&mut self) {
        let Self { loaded, links, tables, publish_errors, .. } = self;
        let mut errors = Vec::new();
        let named =
            |link: &&Link| loaded.config.interfaces.iter().any(|interface| interface.name == link.name);
        for link in links.iter().filter(named) {
            let [a, b, c, d, e, f] = link.mac;
            let row = EgressRow {
                ifindex: link.index,
                mtu: link.mtu,
                mac_bits: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            };
            if let Err(error) = tables.publish_interface(&row) {
                errors.push(format!("interface {}: {error:#}", link.name));
            }
        }
        for error in errors.iter().filter(|error| !publish_errors.contains(error)) {
            tracing::warn!("{error}");
        }
        *publish_errors = errors;
    }

    /// Takes interfaces that are not configured any more, or are gone, away from the program.
    pub(super) fn forget_interfaces(&mut self) {
        let configured = self.loaded.config.interfaces.iter();
        let kept =
            configured.filter_map(|interface| self.link(&interface.name)).map(|link| link.index).collect();
        self.tables.keep_interfaces(&kept);
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
        self.take_back(&gone);
        let missing: Vec<&Interface> =
            interfaces.iter().filter(|interface| !self.attached.contains_key(&interface.name)).collect();
        // What is attached by now, or not wanted any more, is no error.
        self.attach_errors.retain(|name, _| missing.iter().any(|interface| interface.name == *name));
        for interface in missing {
            if let Err(error) = self.attach(interface).and_then(|()| self.turn(interface)) {
                let error = format!("{error:#}");
                let before = self.attach_errors.insert(interface.name.clone(), error.clone());
                if before.as_ref() != Some(&error) {
                    tracing::error!(interface = %interface.name, %error, "cannot attach");
                }
            } else {
                self.attach_errors.remove(&interface.name);
            }
        }
        self.forget_interfaces();
    }

    /// Has redirected frames counted that do not leave. Forwarding does not depend on it: a failure is kept for `status` and
    /// tried again, unless the kernel does not have what it needs.
    pub(super) fn watch_redirection(&mut self) {
        let Some(pins) = self.pins.as_ref().map(Pins::watch) else { return };
        // Like the program's, the links of a trial end with the process.
        let pins = self.trial.is_none().then_some(pins);
        let watched = watch::attach(&mut self.ebpf, self.tables.devices_id(), pins.as_deref());
        let error = match watched {
            Ok(links) => {
                self.trial_watch = links;
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(error) = error.as_ref().filter(|error| self.watch_error.as_ref() != Some(error)) {
            tracing::warn!(%error, "redirected frames that are lost are not counted");
        }
        self.watch_error = error;
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
    /// attached anew. What is attached already goes on running what it runs, until [`Self::turn_all`].
    ///
    /// # Errors
    /// If one is missing or occupied, attached in another mode than it demands, or the kernel refuses.
    pub(super) fn attach_all(&mut self, interfaces: &[Interface]) -> Result<Vec<String>> {
        let mut anew = Vec::new();
        for interface in interfaces {
            let known = self.is_pinned(&interface.name);
            let done = match self.attached.get(&interface.name) {
                Some(attached) => fits(interface, attached),
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

    /// Detaches from these interfaces.
    pub(super) fn take_back(&mut self, names: &[String]) {
        for name in names {
            let Some(attached) = self.attached.remove(name) else { continue };
            tracing::info!(interface = %name, "detaching");
            if let Err(error) = attached.detach() {
                tracing::warn!(interface = %name, error = %format!("{error:#}"), "cannot detach");
            }
        }
    }

    /// Has all attached interfaces run the program of their configured role, this daemon's.
    ///
    /// # Errors
    /// The first that the kernel refuses.
    pub(super) fn turn_all(&mut self) -> Result<()> {
        self.loaded.config.interfaces.clone().iter().try_for_each(|interface| self.turn(interface))
    }

    /// Has an attached interface run the program of its role.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn turn(&mut self, interface: &Interface) -> Result<()> {
        let Some(attached) = self.attached.get_mut(&interface.name) else { return Ok(()) };
        let (before, wanted) = (attached.program, program_of(interface.role));
        attached.turn(&mut self.ebpf, wanted)?;
        if before.is_some_and(|before| before != wanted) {
            tracing::info!(interface = %interface.name, role = interface.role.word(), "changed the role");
        }
        Ok(())
    }

    /// Attaches to one interface, or takes it over as it is.
    ///
    /// # Errors
    /// If it is missing or occupied, or the kernel refuses.
    fn attach(&mut self, interface: &Interface) -> Result<()> {
        let Some(link) = self.link(&interface.name).cloned() else {
            bail!("interface {} does not exist", interface.name);
        };
        let Some(pins) = self.pins.as_ref().map(Pins::links) else { bail!("the daemon is detaching") };
        let program = program_of(interface.role);
        let pin = self.trial.is_none();
        let attached = Attached::new(&mut self.ebpf, program, &link, interface.mode, &pins, pin)?;
        let mode = if attached.native { "native" } else { "generic" };
        let role = interface.role.word();
        tracing::info!(interface = %link.name, index = link.index, mode, role, "attached");
        self.attached.insert(interface.name.clone(), attached);
        Ok(())
    }
}
