//! Redirected frames that did not leave, as tracepoints of the kernel tell.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::programs::RawTracePointContext;
use lb_common::counters::Event;
use lb_common::egress::{EgressRow, WatchRow};
use lb_common::limits::MAX_EGRESS;

use crate::atomic::add_atomically;
use crate::balancer::count_row;
use crate::maps;

/// The two numbers that a row of FAULTS counts, by their places.
#[derive(Clone, Copy)]
enum Fault {
    Refused = 0,
    Lost = 1,
}

/// Words of a row of FAULTS that keep the last errors begin here, in the order of the numbers.
const ERROR_WORDS: usize = 2;

/// `xdp_redirect_err` (dev, prog, tgt, err, map_type, map_id, index): a frame that was not handed to a driver. In this
/// form since Linux 5.13.
#[inline(always)]
pub fn refused(context: &RawTracePointContext) {
    let Some(watch) = watch() else { return };
    if context.arg::<u32>(5) == watch.devices {
        note(context.arg(6), Fault::Refused, 1, context.arg(3));
    }
}

/// `xdp_devmap_xmit` (from_dev, to_dev, sent, drops, err): what a driver made of up to sixteen frames. In this form
/// since Linux 5.6.
#[inline(always)]
pub fn transmitted(context: &RawTracePointContext) {
    let drops: i32 = context.arg(3);
    if drops <= 0 {
        return;
    }
    let Some(watch) = watch() else { return };
    // Redirected by another program, or in another namespace: not ours to count.
    if known_interface(&watch, context.arg(0)).is_some()
        && let Some(position) = known_interface(&watch, context.arg(1))
    {
        note(position, Fault::Lost, u64::from(drops.unsigned_abs()), context.arg(4));
    }
}

#[inline(always)]
fn watch() -> Option<WatchRow> {
    maps::WATCH.get(0).copied()
}

/// The egress row of a `net_device`, if the balancer knows it.
#[inline(always)]
fn known_interface(watch: &WatchRow, device: u64) -> Option<u32> {
    let net: u64 = read(device, watch.net_at)?;
    if read::<u64>(net, watch.cookie_at)? != watch.cookie {
        return None;
    }
    let ifindex: u32 = read(device, watch.ifindex_at)?;
    let position = EgressRow::position(ifindex);
    maps::EGRESS.get(position).filter(|row| row.ifindex == ifindex).map(|_| position)
}

/// A field of a structure of the kernel.
#[inline(always)]
fn read<T>(structure: u64, offset: u32) -> Option<T> {
    let place = structure.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper fails on an address that can't be read; what it finds is a number, whatever it is.
    unsafe { bpf_probe_read_kernel(place) }.ok()
}

#[inline(always)]
fn note(position: u32, fault: Fault, frames: u64, error: i32) {
    let event = match fault {
        Fault::Refused => Event::RedirectRefused,
        Fault::Lost => Event::RedirectLost,
    };
    count_row(event.row(), frames);
    let Some(row) = maps::FAULTS.get_ptr_mut(position & (MAX_EGRESS - 1)) else { return };
    let words = row.cast::<u64>();
    // SAFETY: a row has four words, and the numbers of faults are below that.
    let place = unsafe { words.add(fault as usize) };
    // SAFETY: an aligned word inside the row.
    unsafe { add_atomically(place, frames) };
    // SAFETY: as above.
    let place = unsafe { words.add(ERROR_WORDS.wrapping_add(fault as usize)) };
    // SAFETY: an aligned word inside the row; whichever CPU writes last is right.
    unsafe { place.write_volatile(u64::from(error.unsigned_abs())) };
}
