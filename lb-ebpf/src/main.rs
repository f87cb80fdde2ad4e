//! Entry points of the BPF programs.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{raw_tracepoint, xdp};
use aya_ebpf::programs::{RawTracePointContext, XdpContext};
use aya_log_ebpf::{debug, trace};
use lb_common::decap::decapsulate;
use lb_common::journey;
use lb_common::reason::{Action, Outcome};
use lb_ebpf::dry::DryFrame;
use lb_ebpf::frame::Frame;
use lb_ebpf::watch::{refused, transmitted};

/// Steers packets for VIPs to backends.
#[xdp(frags)]
pub(crate) fn fairlead_lb(context: XdpContext) -> u32 {
    let outcome = journey(&Frame::new(&context));
    // Compiled away by the verifier unless a log level was set at load.
    match outcome {
        Outcome::Drop(reason) => debug!(&context, "dropped: {}", reason.name()),
        Outcome::Verdict(verdict) => trace!(&context, "{}", verdict.name()),
    }
    action(outcome.action())
}

/// The same journey without any effect: run by `fairlead trace`, never attached.
#[xdp(frags)]
pub(crate) fn fairlead_dry(context: XdpContext) -> u32 {
    action(journey(&DryFrame::new(Frame::new(&context))).action())
}

/// Takes the outer header off what balancers send.
#[xdp(frags)]
pub(crate) fn fairlead_decap(context: XdpContext) -> u32 {
    action(decapsulate(&Frame::new(&context)).action())
}

/// Counts redirected frames that the kernel refused.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
pub(crate) fn fairlead_refused(context: RawTracePointContext) -> i32 {
    refused(&context);
    0
}

/// Counts redirected frames that a driver did not take.
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
pub(crate) fn fairlead_lost(context: RawTracePointContext) -> i32 {
    transmitted(&context);
    0
}

/// Hands every frame to the kernel: the far end of a veth pair needs a program before the near end can transmit.
#[xdp(frags)]
pub(crate) fn fairlead_pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[inline(always)]
const fn action(action: Action) -> u32 {
    match action {
        Action::Transmit => xdp_action::XDP_TX,
        Action::Redirect => xdp_action::XDP_REDIRECT,
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: nothing here panics (lints deny all that could), so this is never reached and never linked.
    unsafe { core::hint::unreachable_unchecked() }
}

/// The helpers used need a licence compatible with the GPL; the objects are under either, at your choice.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
