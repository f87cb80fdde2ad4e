//! Single frames through the program: without effect by the dry run, or with all of it by the program that is attached.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use aya::Ebpf;
use aya::maps::Map;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::trace::TraceRow;

use super::layout::Layout;
use super::mapped::Mapped;
use super::program;

/// Largest frame that is traced: jumbo frames with two VLAN tags.
pub const MAX_FRAME_BYTES: usize = 9_238;

/// Smallest frame that the kernel takes in a test run: an Ethernet header.
pub const MIN_FRAME_BYTES: usize = 14;

/// Room for what the program adds: an outer IPv6 header, or that of an answer.
const MAX_GROWTH: usize = 64;

/// What the program tells the kernel to do with a frame, and the frame afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What happens to the frame.
    pub fate: Fate,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// What the program tells the kernel to do with a frame: an XDP action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Dropped.
    Drop,
    /// Handed to the kernel.
    Pass,
    /// Sent out by the interface it came in by.
    Transmit,
    /// Sent out by another interface.
    Redirect,
}

/// A second load of the object on the maps of the first one, whose program writes to none of them.
pub struct DryRun {
    ebpf: Ebpf,
    row: Mapped<TraceRow>,
}

impl DryRun {
    /// Loads the program on the maps pinned below `pins`.
    ///
    /// # Errors
    /// If the kernel refuses a map or the program.
    pub fn load(layout: &Layout, seed: [u64; 2], pins: &Path) -> Result<Self> {
        let mut ebpf = program::open(layout, seed, Some(pins), 0)?;
        program::load(&mut ebpf, program::DRY)?;
        let Some(Map::Array(map)) = ebpf.map("TRACE") else {
            return Err(anyhow!("the BPF object has no array TRACE"));
        };
        let row = Mapped::new(map.fd(), 1).context("map TRACE")?;
        Ok(Self { ebpf, row })
    }

    /// Runs a frame of at least [`MIN_FRAME_BYTES`] as if it came in by the interface with this index.
    ///
    /// # Errors
    /// If the kernel refuses the run.
    pub fn run(&mut self, ifindex: u32, frame: &[u8]) -> Result<(Run, TraceRow)> {
        self.row.write(0, &TraceRow::asking(ifindex), 0);
        let run = run(program::xdp(&mut self.ebpf, program::DRY)?, None, frame)?;
        Ok((run, self.row.read(0)))
    }
}

/// Runs a frame through the attached program: it is counted, and its flow is stored.
///
/// # Errors
/// If the kernel refuses the run: the interface must be in this process's network namespace.
pub fn commit(ebpf: &mut Ebpf, ifindex: u32, frame: &[u8]) -> Result<Run> {
    run(program::xdp(ebpf, program::BALANCER)?, Some(ifindex), frame)
}

fn run(program: &Xdp, ifindex: Option<u32>, frame: &[u8]) -> Result<Run> {
    let length = u32::try_from(frame.len()).context("the frame is too large")?;
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context: Vec<u8> =
        [0, length, 0, ifindex.unwrap_or(0), 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let mut out = vec![0; frame.len() + MAX_GROWTH];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    options.ctx_in = ifindex.is_some().then_some(&context[..]);
    let result = program.test_run(options).context("the kernel refused to run the frame")?;
    let fate = match result.return_value {
        1 => Fate::Drop,
        2 => Fate::Pass,
        3 => Fate::Transmit,
        4 => Fate::Redirect,
        other => bail!("the program answered {other}, which is no action of ours"),
    };
    out.truncate(result.data_size_out as usize);
    Ok(Run { fate, frame: out })
}
