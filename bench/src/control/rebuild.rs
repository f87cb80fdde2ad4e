//! How long one changed backend of a thousand takes until the new table is published.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use fairlead_tests::report::Report;
use lb_core::config::{self, AdminState, Config};
use lb_core::plan::{Actual, MapOp, NextHop, VerdictMap, diff, plan};
use lb_user::bpf::{Layout, Tables, program};

use super::{milliseconds, record};

const BACKENDS: u16 = 1_000;
const TIMES: usize = 50;
const SEED: [u64; 2] = [1, 2];

/// From the decision (a backend is disabled, or enabled again) to the store of the service word that names the new table:
/// plan, differences, population, and writing to the maps.
pub(super) fn measure(report: &mut Report) -> Result<()> {
    let mut config = config()?;
    let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
    let layout = Layout::new(&config.limits, u32::try_from(cpus)?);
    let mut ebpf = program::open(&layout, SEED, None, 0)?;
    let mut tables = Tables::new(&mut ebpf, layout)?;
    let mut actual = Actual::new(layout.limits());
    let hops = next_hops();
    let desired = plan(&config, &VerdictMap::new(), &hops);
    tables.perform(&diff(&actual, &desired)?, |_| {}, |op| actual.apply(op))?;
    let (mut published, mut whole) = (Vec::new(), Vec::new());
    for turn in 0..TIMES {
        let backends = &mut config.services[0].backends;
        let backend = &mut backends[turn / 2 * 7 % usize::from(BACKENDS)];
        backend.state = if turn % 2 == 0 { AdminState::Disabled } else { AdminState::Enabled };
        let begun = Instant::now();
        let desired = plan(&config, &VerdictMap::new(), &hops);
        let ops = diff(&actual, &desired)?;
        let mut stored = None;
        tables.perform(
            &ops,
            |_| {},
            |op| {
                if matches!(op, MapOp::StoreService { .. }) {
                    stored = Some(begun.elapsed());
                }
                actual.apply(op);
            },
        )?;
        whole.push(milliseconds(begun.elapsed()));
        ensure!(stored.is_some(), "a changed backend did not change the table");
        published.extend(stored.map(milliseconds));
    }
    report.environment("table_rebuild_with_grace_ms", crate::stats::Summary::of(whole).json());
    record(report, "table_rebuild_ms", &published)
}

fn config() -> Result<Config> {
    let mut text = String::from(
        "[[interface]]\nname = \"lo\"\n[[service]]\nname = \"web\"\nvip = \"192.0.2.1\"\nport = 80\nmode = \"ipip\"\n",
    );
    for number in 0..BACKENDS {
        let _ = write!(text, "[[service.backend]]\naddress = \"{}\"\n", address(number));
    }
    let checked = config::parse(&text).map_err(|problems| anyhow!("its own configuration: {problems:?}"))?;
    Ok(checked.config)
}

fn address(number: u16) -> IpAddr {
    let [high, low] = (number + 1).to_be_bytes();
    IpAddr::from([10, 1, high, low])
}

fn next_hops() -> BTreeMap<IpAddr, NextHop> {
    let hop = NextHop { mac: Some([2, 0, 0, 0, 0, 1]), egress: 1, source: IpAddr::from([10, 0, 0, 1]) };
    (0..BACKENDS).map(|number| (address(number), hop)).collect()
}
