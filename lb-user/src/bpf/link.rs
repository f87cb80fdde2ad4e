//! Attaching programs to interfaces: native mode if the driver can, generic mode else, links pinned so that they
//! outlive the daemon.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};
use lb_core::config::AttachMode;

use super::pinned::Pinned;
use super::program;
use crate::api::ApiError;
use crate::net::Link;

/// A program attached to an interface.
#[derive(Debug)]
pub struct Attached {
    /// Index of the interface.
    pub ifindex: u32,
    /// Whether the driver runs it.
    pub native: bool,
    /// Why it is not native, if it is not.
    pub note: Option<String>,
    /// Name of the program; `None`: one that an earlier process attached.
    pub program: Option<&'static str>,
    hold: Hold,
}

#[derive(Debug)]
enum Hold {
    /// Ends with this process.
    Process(FdLink),
    /// Ends when the pin is removed: nothing else holds it.
    Pinned(PathBuf),
}

impl Attached {
    /// Attaches the loaded program `name` to `interface`, or takes over the link pinned below `pins` with the program that it
    /// runs, which [`Attached::turn`] replaces.
    ///
    /// `pin`: whether a new link is pinned at once.
    ///
    /// # Errors
    /// A foreign program on the interface is a conflict. With [`AttachMode::Native`] a driver that can't is an error.
    pub fn new(
        ebpf: &mut Ebpf,
        name: &'static str,
        interface: &Link,
        mode: AttachMode,
        pins: &Path,
        pin: bool,
    ) -> Result<Self> {
        let program = program::xdp(ebpf, name)?;
        let path = pins.join(interface.index.to_string());
        if let Some(native) = adoptable(interface, mode, &path)? {
            let note = (!native).then(|| "taken over in generic mode".to_owned());
            let hold = Hold::Pinned(path);
            return Ok(Self { ifindex: interface.index, native, note, program: None, hold });
        }
        if let Some(xdp) = &interface.xdp {
            bail!(ApiError::conflict(
                format!(
                    "interface {} already runs an XDP program (id {}) that is not ours",
                    interface.name, xdp.program_id
                ),
                format!(
                    "see whose it is with `bpftool net`; if another fairlead's, stop that with `fairlead --instance NAME \
                     stop --detach`; else detach it with `ip link set dev {} xdp off`, or, if a BPF link holds it, with \
                     `bpftool link list` and `bpftool link detach id ID`",
                    interface.name
                ),
            ));
        }
        let (link, native, note) = climb_down(program, interface, mode)?;
        let hold = Hold::Process(link);
        let program = Some(name);
        let mut attached = Self { ifindex: interface.index, native, note, program, hold };
        if pin {
            attached.pin(pins)?;
        }
        Ok(attached)
    }

    /// Whether [`Attached::turn`] to this program is possible.
    ///
    /// # Errors
    /// During a trial it is not: the link is of this process alone.
    pub fn can_turn(&self, name: &str) -> Result<()> {
        if self.program != Some(name) && matches!(self.hold, Hold::Process(_)) {
            bail!(ApiError::conflict(
                "the role of an attached interface cannot change during a trial",
                "end the trial with `fairlead confirm`, then reload",
            ));
        }
        Ok(())
    }

    /// Puts the loaded program `name` in the place of the one that is attached, if that is another, between two packets.
    ///
    /// # Errors
    /// If the kernel refuses, and as [`Attached::can_turn`]; the program that is attached stays.
    pub fn turn(&mut self, ebpf: &mut Ebpf, name: &'static str) -> Result<()> {
        self.can_turn(name)?;
        if let Hold::Pinned(path) = &self.hold
            && self.program != Some(name)
        {
            PinnedLink::from_pin(path)
                .map_err(anyhow::Error::from)
                .and_then(|pinned| replace(program::xdp(ebpf, name)?, FdLink::from(pinned)))
                .with_context(|| format!("cannot replace the program of {}", path.display()))?;
            self.program = Some(name);
        }
        Ok(())
    }

    /// Kernel's id of the program that the link runs, if it can be read.
    #[must_use]
    pub fn program_id(&self) -> Option<u32> {
        match &self.hold {
            Hold::Process(link) => link.info().ok().map(|info| info.program_id()),
            Hold::Pinned(path) => {
                FdLink::from(PinnedLink::from_pin(path).ok()?).info().ok().map(|info| info.program_id())
            }
        }
    }

    /// Pins the link, so that it outlives the process.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn pin(&mut self, pins: &Path) -> Result<()> {
        let path = pins.join(self.ifindex.to_string());
        // A stand-in that holds nothing, for the moment in which the link changes hands.
        match std::mem::replace(&mut self.hold, Hold::Pinned(path.clone())) {
            Hold::Process(link) => {
                // The pin alone keeps the program attached from here on.
                link.pin(&path).with_context(|| format!("cannot pin the link at {}", path.display()))?;
            }
            other => self.hold = other,
        }
        Ok(())
    }

    /// Detaches the program.
    ///
    /// # Errors
    /// If the pin can't be removed.
    pub fn detach(self) -> Result<()> {
        match self.hold {
            Hold::Process(link) => drop(link),
            Hold::Pinned(path) => {
                // Somebody may have removed it by hand.
                if let Err(error) = unpin(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
            }
        }
        Ok(())
    }
}

/// Removes the pin of a link, and thereby detaches what nothing else holds.
///
/// Removing the last pin ends a link a little later, in the kernel's own time; closing the last descriptor ends it at
/// once. Whoever attaches next, maybe a daemon started right after, must not find the old program still there.
///
/// # Errors
/// If the pin can't be removed.
pub fn unpin(path: &Path) -> io::Result<()> {
    match PinnedLink::from_pin(path) {
        Ok(link) => link.unpin().map(drop),
        Err(_) => std::fs::remove_file(path),
    }
}

/// Whether the driver runs what a link does that an earlier process pinned; `None` if there is none that is alive.
fn adoptable(interface: &Link, mode: AttachMode, path: &Path) -> Result<Option<bool>> {
    match Pinned::at(path)? {
        Pinned::Nothing => return Ok(None),
        Pinned::XdpLink => {}
        other => bail!(ApiError::conflict(
            format!("{} is {other}, where the link to interface {} is to be", path.display(), interface.name),
            "remove or rename it, which fairlead did not pin, and start again",
        )),
    }
    let pinned = PinnedLink::from_pin(path).with_context(|| format!("cannot open {}", path.display()))?;
    let link = FdLink::from(pinned);
    let alive = interface
        .xdp
        .as_ref()
        .is_some_and(|xdp| link.info().is_ok_and(|info| info.program_id() == xdp.program_id));
    let native = interface.xdp.as_ref().is_some_and(|xdp| xdp.native);
    if alive && mode == AttachMode::Native && !native {
        bail!(ApiError::conflict(
            format!(
                "interface {} forwards in generic mode since an earlier start, and mode = \"native\" is demanded now",
                interface.name
            ),
            "set mode = \"auto\" to take it over as it is, or end forwarding with `fairlead stop --detach` and start anew",
        ));
    }
    if !alive {
        tracing::warn!(interface = %interface.name, "the pinned link no longer fits the interface; attaching anew");
        unpin(path).with_context(|| format!("cannot remove {}", path.display()))?;
        return Ok(None);
    }
    Ok(Some(native))
}

/// Has a pinned link run `program` instead of what it runs.
fn replace(program: &mut Xdp, link: FdLink) -> Result<()> {
    let link =
        XdpLink::try_from(link).map_err(|error| anyhow!("the pin is no link of an XDP program: {error}"))?;
    let id = program.attach_to_link(link)?;
    // Not left with the program object, which would hold on to the link beyond its pin.
    program.take_link(id).map(drop)?;
    Ok(())
}

/// Native mode, and if the driver can't, generic mode with the reason, unless native was demanded.
fn climb_down(
    program: &mut Xdp,
    interface: &Link,
    mode: AttachMode,
) -> Result<(FdLink, bool, Option<String>)> {
    if mode != AttachMode::Generic {
        match attach(program, interface.index, XdpMode::Driver) {
            Ok(link) => return Ok((link, true, None)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                bail!(ApiError::conflict(
                    format!("interface {} already runs an XDP program", interface.name),
                    format!("detach it with `ip link set dev {} xdp off`", interface.name),
                ));
            }
            Err(error) => {
                let cause = explain(&error);
                if mode == AttachMode::Native {
                    bail!(
                        "interface {} cannot run XDP in native mode: {cause}; set mode = \"auto\" to accept the slower \
                         generic mode, or see \"On a real NIC\" in the README",
                        interface.name
                    );
                }
                tracing::warn!(interface = %interface.name, %cause, "no native mode, falling back to generic");
                let link = attach(program, interface.index, XdpMode::Skb).map_err(|error| {
                    anyhow!(
                        "interface {} can run XDP in neither mode: {cause}; {}",
                        interface.name,
                        explain(&error)
                    )
                })?;
                return Ok((link, false, Some(cause)));
            }
        }
    }
    let link = attach(program, interface.index, XdpMode::Skb).map_err(|error| {
        anyhow!("interface {} cannot run XDP in generic mode: {}", interface.name, explain(&error))
    })?;
    Ok((link, false, Some("generic mode is configured".to_owned())))
}

fn attach(program: &mut Xdp, ifindex: u32, mode: XdpMode) -> Result<FdLink, io::Error> {
    let id = program.attach_to_if_index(ifindex, mode).map_err(os_error)?;
    let link = program.take_link(id).map_err(os_error)?;
    // A netlink attachment would not outlive the daemon, nor could it be replaced atomically.
    FdLink::try_from(link).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn os_error(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(call) => call.io_error,
        other => io::Error::other(other.to_string()),
    }
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "the driver does not support it".to_owned(),
        Some(libc::EINVAL) => {
            "the driver refuses it with the present MTU, queues or offloads (LRO?)".to_owned()
        }
        Some(libc::EPERM) => "the rights CAP_BPF and CAP_NET_ADMIN are missing".to_owned(),
        Some(libc::ENOMEM) => "the driver has no memory for its queues".to_owned(),
        _ => error.to_string(),
    }
}
