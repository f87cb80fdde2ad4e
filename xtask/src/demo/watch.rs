//! Watching a scene: new connections and uploads all the time, and the long-lived connections afterwards.

use super::stage::Stage;
use anyhow::Result;
use fairlead_tests::lab::{Attempt, Line, Load, SILENCE, Tries, wait_until};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bytes of an upload.
const UPLOAD: usize = 1_000_000;
/// Lines that every connection must carry after a scene: a second of both directions.
const MORE_LINES: u64 = 10;
/// Rests between new connections, so that the load leaves room for what is measured.
const REST: Duration = Duration::from_millis(4);
const UPLOAD_REST: Duration = Duration::from_millis(40);

/// A scene being watched.
pub(super) struct Watch {
    since: Instant,
    connections: Vec<Load>,
    uploads: Vec<Load>,
}

/// What happened while it was watched.
pub(super) struct Seen {
    /// Long-lived connections that broke.
    pub(super) broken: Vec<Line>,
    /// New connections, in the order of their beginnings for each family.
    pub(super) connections: Vec<Attempt>,
    /// Uploads of 1 MB.
    pub(super) uploads: Vec<Attempt>,
}

impl Watch {
    /// Begins, with load on both families.
    pub(super) fn begin(stage: &Stage) -> Self {
        let ns = &stage.lab.client.ns;
        let start = |v6, tries: fn(Tries) -> Tries| tries(stage.tries(v6)).start(ns);
        let plain: fn(Tries) -> Tries = |tries| Tries { threads: 3, rest: REST, ..tries };
        let upload: fn(Tries) -> Tries =
            |tries| Tries { threads: 1, rest: UPLOAD_REST, upload: UPLOAD, ..tries };
        Self {
            since: Instant::now(),
            connections: vec![start(false, plain), start(true, plain)],
            uploads: vec![start(false, upload), start(true, upload)],
        }
    }

    /// Waits until every long-lived connection has either carried more lines or broken, and ends the load.
    pub(super) fn end(self, stage: &Stage) -> Result<Seen> {
        settle(stage)?;
        let stop = |loads: Vec<Load>| loads.into_iter().flat_map(Load::stop).collect::<Vec<_>>();
        let seen = Seen {
            connections: stop(self.connections),
            uploads: stop(self.uploads),
            broken: stage.lines.broken_since(self.since),
        };
        for line in &seen.broken {
            if let Some((at, why)) = &line.broken {
                let after = at.duration_since(self.since).as_secs_f32();
                eprintln!(
                    "   {} -> {} at {} broke after {after:.1} s: {why}",
                    line.from, line.to, line.backend
                );
            }
        }
        Ok(seen)
    }
}

impl Seen {
    /// Counts failures that no change may cause, and says what they were.
    pub(super) fn charge(&self, stage: &mut Stage) {
        stage.failed_connections += report_failures("connection", &self.connections);
        stage.failed_uploads += report_failures("upload", &self.uploads);
    }

    /// How many new connections were answered by this backend since `mark`, and how many there were.
    pub(super) fn answered_by(&self, backend: &str, mark: Instant) -> (usize, usize) {
        let later = || self.connections.iter().filter(|attempt| attempt.started >= mark);
        (later().filter(|attempt| attempt.outcome.as_deref() == Ok(backend)).count(), later().count())
    }
}

/// How many failed; the kinds of failure are printed.
pub(super) fn report_failures(what: &str, attempts: &[Attempt]) -> usize {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for error in attempts.iter().filter_map(|attempt| attempt.outcome.as_ref().err()) {
        *kinds.entry(error).or_default() += 1;
    }
    for (error, count) in &kinds {
        eprintln!("   {count} of {} {what}s failed: {error}", attempts.len());
    }
    kinds.values().sum()
}

/// A connection that goes on speaking is whole; one that does not breaks of silence within [`SILENCE`].
fn settle(stage: &Stage) -> Result<()> {
    let before: BTreeMap<_, u64> = stage.lines.lines().iter().map(|line| (line.from, line.heard)).collect();
    wait_until("every connection speaks or is broken", SILENCE * 3, || {
        let decided = |line: &Line| {
            let heard = before.get(&line.from).copied().unwrap_or(0);
            line.broken.is_some() || line.heard >= heard + MORE_LINES
        };
        Ok(stage.lines.lines().iter().all(decided))
    })
}
