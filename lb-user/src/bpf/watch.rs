//! Programs on the kernel's tracepoints that count redirected frames which did not leave: the balancer's program cannot
//! know of them.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use aya::Ebpf;
use aya::maps::Map;
use aya::programs::RawTracePoint;
use aya::programs::links::FdLink;
use lb_common::egress::WatchRow;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::kernel_types::KernelTypes;
use super::link::unpin;
use super::mapped::Mapped;
use super::pinned::Pinned;
use super::program;

/// Programs and the tracepoints that they are on.
const WATCHES: [(&str, &str); 2] =
    [(program::REFUSED, "xdp_redirect_err"), (program::LOST, "xdp_devmap_xmit")];

/// Whether a link of this name is of one of the programs.
pub(super) fn is_ours(name: &str) -> bool {
    WATCHES.iter().any(|(program, _)| *program == name)
}

/// Puts the programs through the verifier. Like all programs before the maps are taken out of the object.
///
/// # Errors
/// If the kernel refuses one.
pub fn load(ebpf: &mut Ebpf) -> Result<()> {
    for (name, _) in WATCHES {
        on_tracepoint(ebpf, name)?
            .load()
            .with_context(|| format!("the kernel refused the program {name}"))?;
    }
    Ok(())
}

fn on_tracepoint<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut RawTracePoint> {
    let program = ebpf.program_mut(name).with_context(|| format!("the BPF object has no program {name}"))?;
    program.try_into().with_context(|| format!("{name} is on no tracepoint"))
}

/// Attaches the loaded programs. With `pins` their links are pinned there, in the place of an earlier daemon's: for a moment
/// between the two nothing is counted, which is better than twice. Without, they are given back, and end with them.
///
/// # Errors
/// If the kernel has no type information, lacks a tracepoint, or refuses.
pub fn attach(ebpf: &mut Ebpf, devices: u32, pins: Option<&Path>) -> Result<Vec<FdLink>> {
    let types = KernelTypes::of_this_kernel()?;
    let row = WatchRow {
        devices,
        ifindex_at: types.offset_of("net_device", "ifindex")?,
        net_at: types.offset_of("net_device", "nd_net")?,
        cookie_at: types.offset_of("net", "net_cookie")?,
        cookie: namespace_cookie().context("cannot tell network namespaces apart")?,
    };
    let Some(Map::Array(map)) = ebpf.map("WATCH") else {
        return Err(anyhow!("the BPF object has no array WATCH"));
    };
    Mapped::new(map.fd(), 1).context("map WATCH")?.write(0, &row, 0);
    let mut links = Vec::new();
    for (name, tracepoint) in WATCHES {
        if let Some(pins) = pins {
            make_room(&pins.join(name))?;
        }
        let program = on_tracepoint(ebpf, name)?;
        let attached = program.attach(tracepoint);
        let id = attached.with_context(|| format!("cannot attach to the tracepoint {tracepoint}"))?;
        links.push(FdLink::from(program.take_link(id)?));
    }
    match pins {
        Some(pins) => pin(links, pins).map(|()| Vec::new()),
        None => Ok(links),
    }
}

/// Pins the links that [`attach`] gave.
///
/// # Errors
/// If the kernel refuses.
pub fn pin(links: Vec<FdLink>, pins: &Path) -> Result<()> {
    for ((name, _), link) in WATCHES.iter().zip(links) {
        let path = pins.join(name);
        link.pin(&path).with_context(|| format!("cannot pin the link at {}", path.display()))?;
    }
    Ok(())
}

/// Removes what an earlier daemon pinned here.
fn make_room(path: &Path) -> Result<()> {
    match Pinned::at(path)? {
        Pinned::Nothing => Ok(()),
        Pinned::OtherLink => unpin(path).with_context(|| format!("cannot remove {}", path.display())),
        other => bail!("{} is {other}, which fairlead did not pin: remove or rename it", path.display()),
    }
}

/// The kernel's number of the network namespace of this thread.
fn namespace_cookie() -> io::Result<u64> {
    let any = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has eight.
    let result = unsafe {
        libc::getsockopt(
            any.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
