//! Direct packet access. Every read and write compares with the end of the frame: that is what the verifier wants to see.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use lb_common::answer::is_valid_solicitation;
use lb_common::frame::{PacketEdit, PacketView, Plain};
use lb_common::packet::{Walk, walk_extensions};

use crate::atomic::behind;

/// The frame of an XDP program.
pub struct Frame<'c> {
    context: &'c XdpContext,
}

impl<'c> Frame<'c> {
    /// The frame of this run.
    #[inline(always)]
    #[must_use]
    pub const fn new(context: &'c XdpContext) -> Self {
        Self { context }
    }

    /// The context of this run.
    #[inline(always)]
    #[must_use]
    pub const fn context(&self) -> &XdpContext {
        self.context
    }

    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.context.data().wrapping_add(offset);
        // Left to itself the compiler turns this into comparisons that are equal in numbers, but in which the verifier
        // does not recognise a bound: "start >= end" for one octet, arithmetic on the end for a loop.
        if behind::<T>(start) > self.context.data_end() {
            return None;
        }
        Some(start as *mut T)
    }
}

impl PacketView for Frame<'_> {
    #[inline(always)]
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        let place = self.at::<T>(offset)?;
        // SAFETY: the bytes are inside the frame, and any bytes are a value of a plain type.
        Some(unsafe { place.read_unaligned() })
    }

    #[inline(always)]
    fn length(&self) -> usize {
        // SAFETY: the context is the one of this run.
        (unsafe { bpf_xdp_get_buff_len(self.context.ctx) }) as usize
    }

    #[inline(always)]
    fn holds(&self, bytes: usize) -> bool {
        self.context.data_end().wrapping_sub(self.context.data()) >= bytes
    }

    #[inline(always)]
    fn walk(&self, offset: usize, protocol: u8) -> Walk {
        Walk(fairlead_walk(self.context.ctx, offset as u64 & MAX_WALK_START, u64::from(protocol)))
    }

    #[inline(always)]
    fn solicits(&self, network: usize, bytes: usize) -> bool {
        fairlead_solicits(self.context.ctx, network as u64 & MAX_WALK_START, bytes as u64) != 0
    }
}

/// Extension headers start within this many bytes: link header and IPv6 header.
const MAX_WALK_START: u64 = 127;

/// [`walk_extensions`] as a global function of the program: the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fairlead_walk(context: *mut xdp_md, offset: u64, protocol: u64) -> u64 {
    let context = XdpContext::new(context);
    walk_extensions(&Frame::new(&context), (offset & MAX_WALK_START) as usize, protocol as u8).0
}

/// [`is_valid_solicitation`] as a global function of the program: the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fairlead_solicits(context: *mut xdp_md, network: u64, bytes: u64) -> u64 {
    let context = XdpContext::new(context);
    let (network, bytes) = ((network & MAX_WALK_START) as usize, bytes as usize);
    u64::from(is_valid_solicitation(&Frame::new(&context), network, bytes))
}

impl PacketEdit for Frame<'_> {
    #[inline(always)]
    fn store<T: Plain>(&self, offset: usize, value: T) -> bool {
        let Some(place) = self.at::<T>(offset) else { return false };
        // SAFETY: the bytes are inside the frame, which nobody else reads while the program runs.
        unsafe { place.write_unaligned(value) };
        true
    }

    #[inline(always)]
    fn grow_head(&self, bytes: usize) -> bool {
        // SAFETY: the context is the one of this run; packet addresses are derived anew at each access.
        (unsafe { bpf_xdp_adjust_head(self.context.ctx, (bytes as i32).wrapping_neg()) }) == 0
    }

    #[inline(always)]
    fn shrink_head(&self, bytes: usize) -> bool {
        // SAFETY: as above.
        (unsafe { bpf_xdp_adjust_head(self.context.ctx, bytes as i32) }) == 0
    }

    #[inline(always)]
    fn set_length(&self, length: usize) -> bool {
        let change = (length as i32).wrapping_sub(self.length() as i32);
        // SAFETY: as above.
        (unsafe { bpf_xdp_adjust_tail(self.context.ctx, change) }) == 0
    }
}
