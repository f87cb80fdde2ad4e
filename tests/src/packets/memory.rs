//! A frame in plain memory that behaves as one in the kernel does: headroom, a first buffer, more behind it.

use std::cell::{Cell, RefCell};

use lb_common::frame::Plain;

/// Room in front of a frame in the kernel's test runs: 256 octets less the kernel's own 40.
pub const HEADROOM: usize = 216;
/// Octets of the first buffer in the kernel's test runs: a page less headroom and what the kernel keeps at the end.
pub const FIRST_BUFFER: usize = 4_096 - 256 - 320;
/// What a grown head contains: anything, but not zeroes.
const UNDEFINED: u8 = 0xa5;

/// A frame.
pub struct Memory {
    bytes: RefCell<Vec<u8>>,
    headroom: Cell<usize>,
    first: Cell<usize>,
}

impl Memory {
    /// The frame as a program meets it.
    #[must_use]
    pub fn new(frame: &[u8]) -> Self {
        Self {
            bytes: RefCell::new(frame.to_vec()),
            headroom: Cell::new(HEADROOM),
            first: Cell::new(frame.len().min(FIRST_BUFFER)),
        }
    }

    /// The same with less room in front.
    #[must_use]
    pub fn with_headroom(frame: &[u8], headroom: usize) -> Self {
        let memory = Self::new(frame);
        memory.headroom.set(headroom);
        memory
    }

    /// The frame at this moment.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        self.bytes.borrow().clone()
    }

    /// Reads a value of the first buffer.
    pub fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        let bytes = self.bytes.borrow();
        let place = bytes.get(..self.first.get())?.get(offset..)?.get(..size_of::<T>())?;
        // SAFETY: the slice has the size of the type, of which any bytes are a value.
        Some(unsafe { place.as_ptr().cast::<T>().read_unaligned() })
    }

    /// Writes a value to the first buffer.
    pub fn store<T: Plain>(&self, offset: usize, value: T) -> bool {
        let mut bytes = self.bytes.borrow_mut();
        let place = bytes.get_mut(..self.first.get()).and_then(|first| first.get_mut(offset..));
        let Some(place) = place.and_then(|rest| rest.get_mut(..size_of::<T>())) else { return false };
        // SAFETY: the slice has the size of the type, which has no padding.
        unsafe { place.as_mut_ptr().cast::<T>().write_unaligned(value) };
        true
    }

    /// Length over all buffers.
    pub fn length(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// Whether this much is in the first buffer.
    pub fn holds(&self, bytes: usize) -> bool {
        self.first.get() >= bytes
    }

    /// Adds to the front.
    pub fn grow_head(&self, bytes: usize) -> bool {
        let Some(headroom) = self.headroom.get().checked_sub(bytes) else { return false };
        self.headroom.set(headroom);
        self.first.set(self.first.get() + bytes);
        self.bytes.borrow_mut().splice(0..0, std::iter::repeat_n(UNDEFINED, bytes));
        true
    }

    /// Takes from the front; the kernel leaves an Ethernet header's worth.
    pub fn shrink_head(&self, bytes: usize) -> bool {
        if self.first.get() < bytes + 14 {
            return false;
        }
        self.headroom.set(self.headroom.get() + bytes);
        self.first.set(self.first.get() - bytes);
        self.bytes.borrow_mut().drain(..bytes);
        true
    }

    /// Cuts or adds at the end; the kernel adds to the first buffer only, and there only within the page.
    pub fn set_length(&self, length: usize) -> bool {
        let now = self.length();
        let whole = self.first.get() == now;
        let room = 4_096 - 320 - 256 + HEADROOM - self.headroom.get();
        if length < 14 || length > now && (!whole || length > room) {
            return false;
        }
        self.bytes.borrow_mut().resize(length, 0);
        self.first.set(if whole { length } else { self.first.get().min(length) });
        true
    }
}

/// Implements packet access for a world whose field `frame` is a [`Memory`].
macro_rules! frame_access {
    ($world:ty) => {
        impl lb_common::frame::PacketView for $world {
            fn load<T: lb_common::frame::Plain>(&self, offset: usize) -> Option<T> {
                self.frame.load(offset)
            }

            fn length(&self) -> usize {
                self.frame.length()
            }

            fn holds(&self, bytes: usize) -> bool {
                self.frame.holds(bytes)
            }
        }

        impl lb_common::frame::PacketEdit for $world {
            fn store<T: lb_common::frame::Plain>(&self, offset: usize, value: T) -> bool {
                self.frame.store(offset, value)
            }

            fn grow_head(&self, bytes: usize) -> bool {
                self.frame.grow_head(bytes)
            }

            fn shrink_head(&self, bytes: usize) -> bool {
                self.frame.shrink_head(bytes)
            }

            fn set_length(&self, length: usize) -> bool {
                self.frame.set_length(length)
            }
        }
    };
}

pub(super) use frame_access;
