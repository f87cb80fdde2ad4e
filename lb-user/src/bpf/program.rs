//! Loading the BPF object: map sizes, frozen settings, pins.

use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::{ProgramInfo, Xdp};
use aya::{Ebpf, EbpfLoader, Pod, include_bytes_aligned};
use lb_common::guard::per_window;
use lb_common::hash::HashKey;
use lb_common::settings::Settings;

use super::layout::Layout;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fairlead.bpf.o"));

/// Name of the balancer program.
pub const BALANCER: &str = "fairlead_lb";
/// Name of the balancer program that has no effect.
pub const DRY: &str = "fairlead_dry";
/// Name of the decapsulator program.
pub const DECAPSULATOR: &str = "fairlead_decap";
/// Name of the program that passes everything.
pub const PASS: &str = "fairlead_pass";

/// Name of the program that counts redirected frames which the kernel refused.
pub const REFUSED: &str = "fairlead_refused";
/// Name of the program that counts redirected frames which a driver did not take.
pub const LOST: &str = "fairlead_lost";

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PodSettings(Settings);

// SAFETY: repr(C) integers without padding.
unsafe impl Pod for PodSettings {}

/// Reads the object and creates its maps, or takes the pinned ones below `pins`. Nothing is verified or attached yet.
///
/// # Errors
/// If the kernel refuses a map.
pub fn open(layout: &Layout, seed: [u64; 2], pins: Option<&Path>, log_level: u8) -> Result<Ebpf> {
    let settings = PodSettings(Settings {
        key: HashKey::from_seed(seed),
        bucket_mask: layout.buckets - 1,
        slots: layout.slots,
        flow_tuples: u32::from(layout.flow_tuples),
        guard_per_window: per_window(layout.new_flows_per_second),
    });
    let shapes = layout.shapes();
    let mut loader = EbpfLoader::new();
    loader.override_global("SETTINGS", &settings, true);
    loader.override_global("AYA_LOG_LEVEL", &log_level, false);
    for shape in &shapes {
        loader.map_max_entries(shape.name, shape.entries);
        if let Some(directory) = pins {
            loader.map_pin_path(shape.name, directory.join(shape.name));
        }
    }
    loader.map_max_entries("DECAP_COUNTERS", layout.cpus * 8);
    loader.load(OBJECT).context("the kernel refused a map of the BPF object")
}

/// Reads the object for the decapsulator alone; its maps are pinned in, or taken from, `pins`.
///
/// # Errors
/// If the kernel refuses a map.
pub fn open_decapsulator(cpus: u32, maps: &[&'static str], pins: &Path) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader.override_global("AYA_LOG_LEVEL", &0u8, false);
    loader.map_max_entries("DECAP_COUNTERS", cpus * 8);
    for name in maps {
        loader.map_pin_path(name, pins.join(name));
    }
    loader.load(OBJECT).context("the kernel refused a map of the BPF object")
}

/// Puts a program through the verifier.
///
/// # Errors
/// The verifier's complaint, or missing rights.
pub fn load<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = xdp(ebpf, name)?;
    program.load().with_context(|| format!("the kernel refused the program {name}"))?;
    Ok(program)
}

/// A program of an object, loaded or not.
///
/// # Errors
/// If the object has none of this name.
pub fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("the BPF object has no program {name}"))?;
    program.try_into().with_context(|| format!("{name} is not an XDP program"))
}

/// What the verifier did for a program, and what came out.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Instructions that the verifier looked at over all paths (Linux 5.16).
    pub verified_instructions: u32,
    /// Bytes of machine code.
    pub jited_bytes: u32,
    /// Bytes of BPF code.
    pub translated_bytes: u32,
}

/// Reads a loaded program's cost.
#[must_use]
pub fn cost(info: &ProgramInfo) -> Cost {
    Cost {
        verified_instructions: info.verified_instruction_count().unwrap_or(0),
        jited_bytes: info.size_jitted(),
        translated_bytes: info.size_translated().unwrap_or(0),
    }
}
