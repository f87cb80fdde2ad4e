//! The program that passes every frame, on the far end of a balancer's veth pair.
//!
//! What XDP sends out of a veth device with `XDP_TX` is put on the other end's queue at once, but that end is woken only
//! if it has an XDP program of its own (`veth_xdp_flush` in drivers/net/veth.c). GRO alone gives it the queue, and the
//! frames wait there until something else is sent.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};

use super::netns::{Namespace, run};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TYPE_XDP: u32 = 6;
/// Frames of more than one buffer are welcome: bridges send them with jumbo MTUs.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// `r0 = XDP_PASS; exit`, as the kernel's eight-byte instructions.
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes those that are left out as zero.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The fields of `union bpf_attr` for `BPF_OBJ_PIN`.
#[repr(C)]
struct PinAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Attaches the program to `device` in `namespace`, where it stays as long as the device. `scratch`: a path on a BPF
/// file system that is free.
///
/// # Errors
/// What the kernel or `ip` said.
pub fn attach(namespace: &Namespace, device: &str, scratch: &Path) -> Result<()> {
    let program = load().context("cannot load the XDP program that passes everything")?;
    pin(&program, scratch).with_context(|| format!("cannot pin a program at {}", scratch.display()))?;
    // `ip -n` would hide the BPF file system behind a /sys of its own.
    let mut command = namespace.command("ip");
    let attached = run(command.args(["link", "set", "dev", device, "xdpdrv", "pinned"]).arg(scratch), "");
    fs::remove_file(scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    attached
}

fn load() -> io::Result<OwnedFd> {
    let license = c"GPL";
    let attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_XDP,
        instructions: 2,
        code: PROGRAM.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: BPF_F_XDP_HAS_FRAGS,
    };
    let fd = bpf(BPF_PROG_LOAD, &attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pin(program: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let fd = u32::try_from(program.as_raw_fd()).map_err(io::Error::other)?;
    bpf(BPF_OBJ_PIN, &PinAttributes { path: path.as_ptr() as u64, fd, flags: 0 }).map(|_| ())
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: the attributes are a prefix of `union bpf_attr` of the size given, and what they point to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}
