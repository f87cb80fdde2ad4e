//! The harness program: one system call runs the program under test many times, each time on a fresh packet.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use aya::maps::{Map, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use lb_user::bpf::mapped::Mapped;
use lb_user::bpf::program::xdp;
use nix::time::{ClockId, clock_gettime};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.bpf.o"));

/// Words of the frame that are written anew for each run; the first holds six bytes, the MAC it goes to.
const TEMPLATE_WORDS: usize = 8;
const LENGTH: usize = 8;
const MASK: usize = 9;
const NEXT: usize = 10;
const PLAN_WORDS: u32 = 16;

/// What a case sends.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// The frame of flow 0.
    pub(super) frame: Vec<u8>,
    /// Number of flows, a power of two; flows beyond 0 differ in source port and, beyond 65,536, source address.
    pub(super) flows: u64,
}

/// The harness with the programs that do nothing.
pub(super) struct Harness {
    ebpf: Ebpf,
    plan: Mapped<u64>,
    programs: ProgramArray<aya::maps::MapData>,
}

/// A program to be measured.
pub(super) struct Target(ProgramFd);

impl Target {
    /// A loaded program.
    ///
    /// # Errors
    /// If the object has none of this name, or it is not loaded.
    pub(super) fn new(ebpf: &mut Ebpf, name: &str) -> Result<Self> {
        let fd = xdp(ebpf, name)?.fd()?;
        Ok(Self(fd.try_clone().context("another descriptor of a program")?))
    }
}

impl Harness {
    /// Loads the harness and the programs that do nothing.
    ///
    /// # Errors
    /// Most often for want of rights.
    pub(super) fn load() -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(OBJECT).context("the kernel refused the harness")?;
        let names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let program = xdp(&mut ebpf, &name)?;
            program.load().with_context(|| format!("the kernel refused the program {name}"))?;
        }
        let Some(Map::Array(plan)) = ebpf.take_map("PLAN") else { return Err(anyhow!("no array PLAN")) };
        let plan = Mapped::new(plan.fd(), PLAN_WORDS)?;
        let programs = ProgramArray::try_from(ebpf.take_map("PROGRAMS").context("no map PROGRAMS")?)?;
        Ok(Self { ebpf, plan, programs })
    }

    /// One of the programs that do nothing.
    ///
    /// # Errors
    /// If there is none of this name.
    pub(super) fn null(&mut self, name: &str) -> Result<Target> {
        Target::new(&mut self.ebpf, name)
    }

    /// Puts a program under test.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn choose(&mut self, target: &Target) -> Result<()> {
        self.programs.set(0, &target.0, 0).context("the kernel refused the tail call")
    }

    /// Puts a stream before it, which begins with flow number `next`.
    pub(super) fn prepare(&self, stream: &Stream, next: u64) {
        let (station, rest) = stream.frame.split_at(6);
        let words = std::iter::once(station).chain(rest.chunks(8)).take(TEMPLATE_WORDS);
        for (at, word) in words.enumerate() {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            self.plan.word(at).store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        self.plan.word(LENGTH).store(stream.frame.len() as u64, Ordering::Relaxed);
        self.plan.word(MASK).store(stream.flows - 1, Ordering::Relaxed);
        self.plan.word(NEXT).store(next, Ordering::Relaxed);
    }

    /// Runs the program under test on the next `repeat` packets of the stream: the processor time it took.
    ///
    /// # Errors
    /// If the kernel refuses, or a run had another verdict than `verdict`.
    pub(super) fn run(&self, stream: &Stream, repeat: u32, verdict: u32) -> Result<Duration> {
        let program: &Xdp = self.ebpf.program("bench_harness").context("no harness")?.try_into()?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&stream.frame);
        options.repeat = repeat;
        let begun = cpu_time()?;
        let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
        let took = cpu_time()?.saturating_sub(begun);
        ensure!(result.return_value == verdict, "the verdict was {}, not {verdict}", result.return_value);
        Ok(took)
    }

    /// Number of the next run.
    pub(super) fn next(&self) -> u64 {
        self.plan.word(NEXT).load(Ordering::Relaxed)
    }
}

/// Processor time of this thread: what others took meanwhile is not in it.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
