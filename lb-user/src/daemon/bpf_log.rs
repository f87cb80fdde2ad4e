//! Log lines from the BPF program, for those who asked for them.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::level_filters::LevelFilter;

use crate::cli::logging::BPF_TARGET;

/// The level as the program has it compiled in; 0 takes all logging out.
pub(super) fn number(level: LevelFilter) -> u8 {
    match level.into_level() {
        None => 0,
        Some(tracing::Level::ERROR) => 1,
        Some(tracing::Level::WARN) => 2,
        Some(tracing::Level::INFO) => 3,
        Some(tracing::Level::DEBUG) => 4,
        Some(tracing::Level::TRACE) => 5,
    }
}

/// Passes the program's log lines on until the runtime ends.
///
/// # Errors
/// If the program has no log buffer.
pub(super) fn start(ebpf: &mut Ebpf) -> Result<()> {
    let logger = EbpfLogger::init_with_logger(ebpf, Forward).context("the BPF program has no log buffer")?;
    // SAFETY: the logger's descriptor is that of its ring buffer, the same and open for as long as the logger lives.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = registered.map_err(|_| anyhow::anyhow!("cannot wait for the BPF log"))?;
    tokio::spawn(async move {
        loop {
            let Ok(mut guard) = logger.readable_mut().await else { return };
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(())
}

/// From the `log` crate, which aya-log speaks, to tracing.
struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args();
        match record.level() {
            log::Level::Error => tracing::error!(target: BPF_TARGET, "{line}"),
            log::Level::Warn => tracing::warn!(target: BPF_TARGET, "{line}"),
            log::Level::Info => tracing::info!(target: BPF_TARGET, "{line}"),
            log::Level::Debug => tracing::debug!(target: BPF_TARGET, "{line}"),
            log::Level::Trace => tracing::trace!(target: BPF_TARGET, "{line}"),
        }
    }

    fn flush(&self) {}
}
