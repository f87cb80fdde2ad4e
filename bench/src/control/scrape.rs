//! What a scrape of all metrics costs a daemon with as many backends as there may be by default.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::{Fairlead, http};
use fairlead_tests::report::Report;

use super::cold_start::{BACKENDS, config, lab};
use super::{milliseconds, record};
use crate::stats::Summary;

const SERVICES: u16 = 512;
const TIMES: usize = 50;
const PORT: u16 = 9_273;

/// From the request on the API's socket to the end of the answer: each of these texts is written anew. Beside it, the
/// same from the listener, which keeps a text for a second and so only sends it.
pub(super) fn measure(report: &mut Report) -> Result<()> {
    let lab = lab()?;
    let (vip, _) = *lab.vips.first().context("the lab has a VIP")?;
    let balancer = lab.balancers.first().context("the lab has a balancer")?;
    let text = format!("{}[metrics]\nlisten = \"127.0.0.1:{PORT}\"\n", config(vip, SERVICES));
    let daemon = Fairlead::launch(&lab, balancer, &text)?;
    let from = SocketAddr::from(([127, 0, 0, 1], PORT));
    let (mut fresh, mut kept, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TIMES {
        let begun = Instant::now();
        let answer = daemon.call("GET", "/metrics", "")?;
        fresh.push(milliseconds(begun.elapsed()));
        let shown = answer.body.matches("\nfairlead_backend_packets_total{").count();
        let all = usize::from(SERVICES) * usize::from(BACKENDS);
        ensure!(shown == all, "{shown} backends are in the text, not {all}");
        let begun = Instant::now();
        let again = balancer.ns.enter(|| http::get(None, from, "/metrics", http::PATIENCE))?;
        kept.push(milliseconds(begun.elapsed()));
        ensure!(again.body == answer.body, "the listener wrote another text within a second");
        bytes = again.body.len();
    }
    report.environment("scrape_bytes", bytes);
    report.environment("scrape_kept_ms", Summary::of(kept).json());
    record(report, "scrape_ms", &fresh)
}
