//! A real Prometheus in a namespace of the lab, which scrapes one address each second.

use super::http::{self, PATIENCE};
use super::process::Process;
use super::topology::{Host, Lab};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

/// How long it may take to answer its first query.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A running Prometheus; dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    _process: Process,
    host: Host,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts it on a host of the lab, for a target that can be reached from there.
    ///
    /// # Errors
    /// It is missing or does not start.
    pub fn start(lab: &Lab, host: &Host, target: SocketAddr) -> Result<Self> {
        let folder = lab.folder().join(format!("prometheus-{}", host.role));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let config = folder.join("prometheus.yml");
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
                 scrape_configs: [{{job_name: fairlead, static_configs: [{{targets: ['{target}']}}]}}]\n"
            ),
        )?;
        let address: SocketAddr = ([127, 0, 0, 1], 9090).into();
        let mut command = host.ns.command("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let what = format!("prometheus on {}", host.role);
        let mut process = Process::start(lab.name(), &what, command, &folder.join("output.log"))?;
        process.wait_ready(STARTS_WITHIN, || {
            host.ns
                .enter(|| http::get(None, address, "/-/ready", PATIENCE))
                .is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(Self { _process: process, host: host.clone(), address })
    }

    /// Values of the series that an instant query finds, in any order. The query is put into a URL as it is.
    ///
    /// # Errors
    /// Prometheus does not answer, or refuses the query.
    pub fn query(&self, query: &str) -> Result<Vec<f64>> {
        let path = format!("/api/v1/query?query={query}");
        let answer = self.host.ns.enter(|| http::get(None, self.address, &path, PATIENCE))?;
        ensure!(answer.status == 200, "{query}: HTTP {}: {}", answer.status, answer.body);
        let body: Value = serde_json::from_str(&answer.body)?;
        let found = body["data"]["result"].as_array().context("no result")?;
        found.iter().map(|one| Ok(one["value"][1].as_str().context("no value")?.parse::<f64>()?)).collect()
    }
}
