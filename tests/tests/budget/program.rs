//! One program as the kernel has it: verified, translated and compiled.
//!
//! The kernel tells the stack of a program only in the verifier's log, which the loader does not hand out after a success. It
//! is read from the translated instructions instead: the lowest offset from the frame pointer that each function uses.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, ensure};
use lb_user::bpf::Layout;
use lb_user::bpf::{program, watch};

/// Bytes of one instruction.
const INSTRUCTION: usize = 8;
/// The command of bpf(2).
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
/// The frame pointer.
const R10: u8 = 10;

/// The first fields of `struct bpf_prog_info` (linux/bpf.h).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_bytes: u32,
    xlated_bytes: u32,
    jited: u64,
    xlated: u64,
    load_time: u64,
    uid: u32,
    maps: u32,
    map_ids: u64,
    name: [u8; 16],
    ifindex: u32,
    gpl: u32,
    netns_dev: u64,
    netns_ino: u64,
    symbol_count: u32,
    length_count: u32,
    symbols: u64,
    lengths: u64,
    btf_id: u32,
    function_size: u32,
    functions: u64,
    function_count: u32,
    line_count: u32,
}

/// What BPF_OBJ_GET_INFO_BY_FD is given.
#[repr(C)]
struct Attributes {
    fd: u32,
    length: u32,
    info: u64,
}

/// All figures of a program, by name.
///
/// # Errors
/// It cannot be loaded, or the kernel does not tell.
pub(crate) fn figures(name: &str) -> Result<BTreeMap<String, u64>> {
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))?;
    let cpus = u32::try_from(cpus).context("too many CPUs")?;
    let layout = Layout {
        services: 4,
        slots: 16,
        buckets: 64,
        flow_tuples: true,
        units: 1,
        cpus,
        new_flows_per_second: 1_000,
    };
    let mut ebpf = program::open(&layout, [1, 2], None, 0)?;
    if [program::REFUSED, program::LOST].contains(&name) {
        watch::load(&mut ebpf)?;
    } else {
        program::load(&mut ebpf, name)?;
    }
    let loaded = ebpf.program(name).context("just loaded")?;
    let info = loaded.info().context("the kernel tells about its programs")?;
    let cost = program::cost(&info);
    ensure!(cost.verified_instructions > 0, "{name}: this kernel does not count (Linux 5.16 does)");
    let fd = loaded.fd().context("just loaded")?.as_fd().as_raw_fd();
    let (code, starts, names) = translated(fd)?;
    let mut figures = BTreeMap::from([
        (format!("{name}.verified_instructions"), u64::from(cost.verified_instructions)),
        (format!("{name}.xlated_instructions"), (code.len() / INSTRUCTION) as u64),
        (format!("{name}.jited_bytes"), u64::from(cost.jited_bytes)),
    ]);
    for (number, start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(code.len() / INSTRUCTION);
        let function =
            code.get(start * INSTRUCTION..end * INSTRUCTION).context("a function beyond the end")?;
        let label = names.get(number).cloned().unwrap_or_else(|| format!("function{number}"));
        figures.insert(format!("{name}.stack_bytes.{label}"), stack_bytes(function));
    }
    Ok(figures)
}

/// Instructions, where functions begin among them, and the functions' names.
fn translated(fd: i32) -> Result<(Vec<u8>, Vec<usize>, Vec<String>)> {
    let mut sizes = ProgramInfo::default();
    ask(fd, &mut sizes)?;
    let mut code = vec![0u8; sizes.xlated_bytes as usize];
    let mut symbols = vec![0u64; sizes.symbol_count as usize];
    let words = sizes.function_size as usize / 4;
    let mut functions = vec![0u32; words * sizes.function_count as usize];
    let mut info = ProgramInfo {
        xlated_bytes: sizes.xlated_bytes,
        xlated: code.as_mut_ptr() as u64,
        symbol_count: sizes.symbol_count,
        symbols: symbols.as_mut_ptr() as u64,
        function_size: sizes.function_size,
        function_count: sizes.function_count,
        functions: functions.as_mut_ptr() as u64,
        ..ProgramInfo::default()
    };
    ask(fd, &mut info)?;
    ensure!(info.xlated != 0, "the kernel does not show the instructions: net.core.bpf_jit_harden is set");
    let mut starts: Vec<usize> =
        functions.chunks(words.max(1)).filter_map(|record| Some(*record.first()? as usize)).collect();
    if starts.is_empty() {
        starts.push(0);
    }
    Ok((code, starts, names(&symbols)))
}

fn ask(fd: i32, info: &mut ProgramInfo) -> Result<()> {
    let attributes = Attributes {
        fd: u32::try_from(fd)?,
        length: u32::try_from(size_of::<ProgramInfo>())?,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: both structures live through the call; the buffers that `info` names have the sizes that it says.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const attributes, size_of::<Attributes>())
    };
    ensure!(result == 0, "BPF_OBJ_GET_INFO_BY_FD: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Names of compiled functions as /proc/kallsyms has them, without the tag before them.
fn names(symbols: &[u64]) -> Vec<String> {
    let text = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let known: BTreeMap<u64, &str> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (address, name) = (words.next()?, words.nth(1)?.strip_prefix("bpf_prog_")?);
            Some((u64::from_str_radix(address, 16).ok()?, name.split_once('_')?.1))
        })
        .collect();
    let name = |(number, symbol)| {
        known.get(symbol).map_or_else(|| format!("function{number}"), |name| (*name).to_owned())
    };
    symbols.iter().enumerate().map(name).collect()
}

/// The lowest offset from the frame pointer that the instructions use, as a positive number.
fn stack_bytes(code: &[u8]) -> u64 {
    let mut lowest = 0i64;
    // Registers that hold the frame pointer itself, until something is added.
    let mut copies = [false; 16];
    for instruction in code.chunks_exact(INSTRUCTION) {
        let [operation, registers, o0, o1, i0, i1, i2, i3] = *instruction else { continue };
        let (to, from) = (registers & 15, registers >> 4);
        let offset = i64::from(i16::from_le_bytes([o0, o1]));
        let immediate = i64::from(i32::from_le_bytes([i0, i1, i2, i3]));
        let used = match operation & 7 {
            // Loads read from, stores write to the frame.
            1 if from == R10 => offset,
            2 | 3 if to == R10 => offset,
            // A 64-bit addition of a constant to a copy.
            7 if operation == 0x07 && copies[usize::from(to)] => immediate,
            _ => 0,
        };
        lowest = lowest.min(used);
        // What computes or loads ends a copy; stores do not.
        if matches!(operation & 7, 0 | 1 | 4 | 7) {
            copies[usize::from(to)] = operation == 0xbf && from == R10;
        }
    }
    lowest.unsigned_abs()
}
