//! The programs that the packet bench measures with: one that makes every run start from a fresh packet and hands it to
//! the program under test, and programs that do nothing, to be subtracted. Never part of the balancer.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

use aya_ebpf::bindings::{BPF_F_MMAPABLE, xdp_action};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::XdpContext;

/// Bytes that are written anew: Ethernet, the IPv6 header (or the IPv4 header and the TCP header) and the ports.
const WRITTEN: usize = 62;
/// Steps from flow to flow, so that neighbours in time are none in any table; odd, so that all are visited in turn.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bytes that an IPv4 header takes in front of the packet.
const GROWTH: i32 = 20;

/// What user space asks for. The word `next` is the program's while it runs.
#[repr(C)]
pub(crate) struct Plan {
    /// The first bytes of the frame of flow 0: six in the first word, eight in each of the others.
    template: [u64; 8],
    /// Bytes of the frame.
    length: u64,
    /// Number of flows minus one, a power of two minus one.
    mask: u64,
    /// Number of the next run.
    next: u64,
    reserved: [u64; 5],
}

#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The program under test.
#[map]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Takes back what the run before grew, writes the header of the next flow, and goes on with the program under test.
#[xdp(frags)]
pub(crate) fn bench_harness(context: XdpContext) -> u32 {
    let Some(plan) = PLAN.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: only this program and user space, which waits for it, use the row.
    let plan = unsafe { &mut *plan };
    let grown = difference(context.data_end(), context.data()).wrapping_sub(plan.length as usize);
    if grown != 0 && !move_head(&context, grown as i32) {
        return xdp_action::XDP_ABORTED;
    }
    let start = context.data();
    if start + WRITTEN > context.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    let flow = plan.next.wrapping_mul(STRIDE) & plan.mask;
    plan.next = plan.next.wrapping_add(1);
    let [to, from, ip, mut source, mut ports, f, g, h] = plan.template;
    // The second octet of an IPv4 source goes up and the fourth down by the same: the header's checksum stays right.
    source = source.wrapping_add((flow >> 16) << 40).wrapping_sub((flow >> 16) << 56);
    ports = ports.wrapping_add((flow & 0xffff) << 32);
    // No address and no port is written in two pieces: a processor hands a load on what one store in flight wrote, but
    // waits where it would have to put two together, which packets from a network card never make it do.
    write(start, 0, to as u32);
    write(start, 4, (to >> 32) as u16);
    write(start, 6, from);
    write(start, 14, ip);
    write(start, 22, source);
    write(start, 30, ports);
    write(start, 38, f);
    write(start, 46, g);
    write(start, 54, h);
    // SAFETY: comes back only if there is no such program.
    unsafe { PROGRAMS.tail_call(&context, 0) };
    xdp_action::XDP_ABORTED
}

/// The first minus the second, calculated without letting the compiler know: it would subtract the frame's length first,
/// and the verifier wants no numbers that it does not know added to packet addresses.
#[inline(always)]
fn difference(end: usize, start: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut end = end;
        // SAFETY: subtracts a register from another, nothing else.
        unsafe {
            core::arch::asm!("{0} -= {1}", inlateout(reg) end, in(reg) start, options(pure, nomem, nostack));
        }
        end
    }
    #[cfg(not(target_arch = "bpf"))]
    end.wrapping_sub(start)
}

#[inline(always)]
fn write<T>(start: usize, offset: usize, value: T) {
    let place = start.wrapping_add(offset) as *mut T;
    // SAFETY: the caller has compared the last byte written with the end of the frame.
    unsafe { place.write_unaligned(value) };
}

#[inline(always)]
fn move_head(context: &XdpContext, bytes: i32) -> bool {
    // SAFETY: the context is the one of this run; packet addresses are derived anew.
    (unsafe { bpf_xdp_adjust_head(context.ctx, bytes) }) == 0
}

/// Sends the frame back.
#[xdp(frags)]
pub(crate) fn bench_null(_context: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Passes the frame.
#[xdp(frags)]
pub(crate) fn bench_null_pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Makes room for an outer header and sends the frame back.
#[xdp(frags)]
pub(crate) fn bench_null_grow(context: XdpContext) -> u32 {
    if move_head(&context, -GROWTH) { xdp_action::XDP_TX } else { xdp_action::XDP_ABORTED }
}

/// Makes room, takes it back and makes it again: what two more calls cost.
#[xdp(frags)]
pub(crate) fn bench_null_grow_shrink_grow(context: XdpContext) -> u32 {
    let moved = move_head(&context, -GROWTH) && move_head(&context, GROWTH) && move_head(&context, -GROWTH);
    if moved { xdp_action::XDP_TX } else { xdp_action::XDP_ABORTED }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: nothing here panics, so this is never reached and never linked.
    unsafe { core::hint::unreachable_unchecked() }
}

/// The helpers used need a licence compatible with the GPL; the objects are under either, at your choice.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
