//! Where fields lie in the structures of the running kernel, by its own type information (BTF).
//!
//! Libraries for this either stop at kinds that newer kernels have, or come under a licence that ours does not allow;
//! and offsets of members are all that is needed.

use std::fs;

use anyhow::{Context, Result, anyhow, bail};

/// The kernel's type information (Linux 5.4 with CONFIG_DEBUG_INFO_BTF, which distributions set).
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// Structures without a name in one another at most: the kernel has three.
const MAX_NESTING: u32 = 8;

/// Types of the kernel.
pub(super) struct KernelTypes {
    bytes: Vec<u8>,
    /// Where each type begins; numbers start with 1.
    types: Vec<usize>,
    strings: usize,
}

impl KernelTypes {
    /// The types of the running kernel.
    ///
    /// # Errors
    /// If the kernel does not tell them, or in a format of the future.
    pub(super) fn of_this_kernel() -> Result<Self> {
        let bytes = fs::read(VMLINUX).with_context(|| format!("cannot read {VMLINUX}"))?;
        Self::parse(bytes).with_context(|| format!("cannot understand {VMLINUX}"))
    }

    /// Linux' Documentation/bpf/btf.rst: a header, a section of types, a section of strings.
    fn parse(bytes: Vec<u8>) -> Result<Self> {
        let magic = bytes.first_chunk().map(|first| u16::from_ne_bytes(*first));
        if magic != Some(MAGIC) {
            bail!("no type information of this machine's byte order");
        }
        let [header, type_at, type_bytes, string_at] =
            [4, 8, 12, 16].map(|at| word(&bytes, at).map(|word| word as usize));
        let header = header?;
        if header < HEADER_BYTES {
            bail!("a header of {header} bytes");
        }
        let (first, strings) = (header + type_at?, header + string_at?);
        let end = first + type_bytes?;
        if end > bytes.len() {
            bail!("it is cut short");
        }
        let mut types = Vec::new();
        let mut at = first;
        while at < end {
            types.push(at);
            let info = word(&bytes, at + 4)?;
            at += TYPE_BYTES + extra_bytes(kind(info), members(info))?;
        }
        Ok(Self { bytes, types, strings })
    }

    /// Offset of a field of a structure in bytes. Members without a name are looked through.
    ///
    /// # Errors
    /// If there is no such structure or field.
    pub(super) fn offset_of(&self, structure: &str, field: &str) -> Result<u32> {
        let found = self.types.iter().copied().find(|at| {
            word(&self.bytes, at + 4).is_ok_and(|info| kind(info) == STRUCT)
                && self.name(*at) == Some(structure)
        });
        let bits = found.and_then(|at| self.bits_to(at, field, MAX_NESTING));
        bits.map(|bits| bits / 8).ok_or_else(|| anyhow!("this kernel has no {structure}.{field}"))
    }

    fn bits_to(&self, at: usize, field: &str, nesting: u32) -> Option<u32> {
        let info = word(&self.bytes, at + 4).ok()?;
        if kind(info) != STRUCT && kind(info) != UNION {
            return None;
        }
        (0..members(info)).find_map(|index| {
            let member = at + TYPE_BYTES + index * MEMBER_BYTES;
            let offset = word(&self.bytes, member + 8).ok()?;
            // With the flag, the upper eight bits are the size of a bit field.
            let offset = if info >> 31 == 1 { offset & 0x00ff_ffff } else { offset };
            match self.name(member)? {
                name if name == field => Some(offset),
                "" if nesting > 0 => {
                    let number = word(&self.bytes, member + 4).ok()? as usize;
                    let inside = self.types.get(number.checked_sub(1)?)?;
                    self.bits_to(*inside, field, nesting - 1).map(|bits| offset + bits)
                }
                _ => None,
            }
        })
    }

    /// The name of the type or member that begins here.
    fn name(&self, at: usize) -> Option<&str> {
        let start = self.strings + word(&self.bytes, at).ok()? as usize;
        let rest = self.bytes.get(start..)?;
        std::str::from_utf8(rest.split(|byte| *byte == 0).next()?).ok()
    }
}

const fn kind(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

const fn members(info: u32) -> usize {
    (info & 0xffff) as usize
}

/// Bytes behind a type's first three words.
fn extra_bytes(kind: u32, members: usize) -> Result<usize> {
    Ok(match kind {
        // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        STRUCT | UNION => members * MEMBER_BYTES,
        // Enumeration, parameters.
        6 | 13 => members * 8,
        // Section, enumeration of 64 bits.
        15 | 19 => members * 12,
        other => bail!("a type of kind {other}, which is not known"),
    })
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let octets = bytes.get(at..).and_then(<[u8]>::first_chunk);
    octets.map(|octets| u32::from_ne_bytes(*octets)).context("it is cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "\0int\0outer\0first\0second\0";

    /// `struct outer { int first; struct { int second; }; }`, after an integer and the structure without a name.
    fn sample() -> Vec<u8> {
        let small = |number: usize| u32::try_from(number).expect("a small number");
        let name = |name: &str| small(NAMES.find(&format!("\0{name}\0")).expect("in the list")) + 1;
        let types: Vec<u32> = [
            [name("int"), 1 << 24, 4, 32].to_vec(),
            [0, (4 << 24) | 1, 4, name("second"), 1, 32].to_vec(),
            // With the flag: the offsets carry sizes of bit fields.
            [name("outer"), (1 << 31) | (4 << 24) | 2, 12, name("first"), 1, 0, 0, 2, (7 << 24) | 64]
                .to_vec(),
        ]
        .concat();
        let bytes = small(types.len() * 4);
        let header = [u32::from(MAGIC) | (1 << 16), 24, 0, bytes, bytes, small(NAMES.len())];
        let words = header.into_iter().chain(types).flat_map(u32::to_ne_bytes);
        words.chain(NAMES.bytes()).collect()
    }

    #[test]
    fn offsets_are_found_through_members_without_a_name() {
        let types = KernelTypes::parse(sample()).expect("whole");
        assert_eq!(types.offset_of("outer", "first").expect("there"), 0);
        assert_eq!(types.offset_of("outer", "second").expect("there"), 12);
        for (structure, field) in [("outer", "third"), ("int", "first"), ("inner", "first")] {
            let error = types.offset_of(structure, field).expect_err("not there").to_string();
            assert_eq!(error, format!("this kernel has no {structure}.{field}"));
        }
    }

    #[test]
    fn cut_short_or_of_another_format_is_an_error() {
        let whole = sample();
        let types_end = whole.len() - NAMES.len();
        for length in 0..types_end {
            assert!(KernelTypes::parse(whole[..length].to_vec()).is_err(), "{length} of {types_end} bytes");
        }
        let mut future = whole;
        future[24 + 7] = 0x1f;
        assert!(format!("{:#}", KernelTypes::parse(future).err().expect("unknown")).contains("kind 31"));
    }

    #[test]
    fn this_kernel_tells_what_is_needed() {
        let types = KernelTypes::of_this_kernel().expect("the kernel has type information");
        for (structure, field) in [("net_device", "ifindex"), ("net_device", "nd_net"), ("net", "net_cookie")]
        {
            types.offset_of(structure, field).expect("a field of all supported kernels");
        }
    }
}
