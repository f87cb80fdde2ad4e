//! The lab of the demo with everything running in it.

use super::config::{self, HUNDRED_BACKENDS, LINES, SERVED, WEB, is_v6};
use anyhow::{Context, Result};
use fairlead_tests::lab::plan::Row;
use fairlead_tests::lab::{Decap, Fairlead, Lab, LineClient, Nginx, Peer, Tries, binary};
use fairlead_tests::report::Report;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Source addresses of the client.
const SOURCES: u8 = 16;
/// Long-lived connections, half of them IPv6: at least 200 stay whatever backend dies.
const LONG_LIVED: usize = 400;
/// How long a change may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(15);

/// Everything that plays a part. What is declared last ends last: the lab removes what is left.
pub(super) struct Stage {
    /// The long-lived connections.
    pub(super) lines: LineClient,
    /// The daemon under test.
    pub(super) daemon: Fairlead,
    /// nginx of each backend.
    pub(super) web: Vec<Nginx>,
    /// The line server of each backend.
    pub(super) servers: Vec<Peer>,
    /// New connections that failed although nothing may fail in that scene.
    pub(super) failed_connections: usize,
    /// Uploads of 1 MB that failed likewise.
    pub(super) failed_uploads: usize,
    _decaps: Vec<Decap>,
    /// The namespaces.
    pub(super) lab: Lab,
}

impl Stage {
    /// Builds the lab, starts everything and waits until all backends are up and all lines speak.
    pub(super) fn set() -> Result<Self> {
        let lab = Lab::builder().client_addresses(SOURCES).backends(4).build()?;
        let web = lab.backends.iter().map(|host| Nginx::start(&lab, host)).collect::<Result<Vec<_>>>()?;
        let servers =
            lab.backends.iter().map(|host| Peer::lines(&lab, host, LINES)).collect::<Result<Vec<_>>>()?;
        let decaps = lab.backends.iter().map(|host| Decap::attach(&lab, host)).collect::<Result<Vec<_>>>()?;
        let farm = lab.backends.last().context("the lab has backends")?;
        farm.add_addresses(Row::Farm, 0..HUNDRED_BACKENDS + 1)?;
        let daemon = Fairlead::launch(&lab, &lab.balancers[0], &config::text(&lab))?;
        let lines = LineClient::start(&lab.client.ns);
        let stage = Self {
            lines,
            daemon,
            web,
            servers,
            failed_connections: 0,
            failed_uploads: 0,
            _decaps: decaps,
            lab,
        };
        stage.wait_up(3)?;
        stage.open_lines()?;
        Ok(stage)
    }

    fn open_lines(&self) -> Result<()> {
        let families = [false, true].into_iter().cycle();
        let ends = families.zip((0..SOURCES).flat_map(|index| [index, index]).cycle()).map(|(v6, index)| {
            let source: IpAddr = if v6 { Row::Client.v6(index).into() } else { Row::Client.v4(index).into() };
            (source, SocketAddr::new(config::vip(v6), LINES))
        });
        self.lines
            .open(&ends.take(LONG_LIVED).collect::<Vec<_>>())
            .context("opening the long-lived connections")?;
        eprintln!("   {LONG_LIVED} long-lived connections carry a line every 200 ms, both ways");
        Ok(())
    }

    /// Whether the program runs in the driver.
    pub(super) fn check_native(&self, report: &mut Report) -> Result<()> {
        let status = self.daemon.json(&["status"])?;
        let interfaces = status["interfaces"].as_array().context("status names no interfaces")?;
        let native =
            !interfaces.is_empty() && interfaces.iter().all(|interface| interface["mode"] == "native");
        report.environment(
            "mode",
            interfaces.first().map_or(Value::Null, |interface| interface["mode"].clone()),
        );
        report.measured("native_mode", if native { 1.0 } else { 0.0 })
    }

    /// Waits until each service has so many backends that are up and serve.
    pub(super) fn wait_up(&self, count: usize) -> Result<()> {
        for service in SERVED {
            let what = format!("{service} has {count} backends that serve");
            self.daemon.until(&what, &format!("/v1/services/{service}"), IN_FORCE, |answer| {
                let up = |backend: &&Value| {
                    backend["health"]["verdict"] == "up" && backend["slot_state"] == "serving"
                };
                answer["backends"].as_array().is_some_and(|all| all.iter().filter(up).count() == count)
            })?;
        }
        Ok(())
    }

    /// Waits until every service says this of the backend's health; the moment when the last one did.
    pub(super) fn wait_verdict(&self, backend: usize, verdict: &str) -> Result<Instant> {
        for service in SERVED {
            let address = self.address(service, backend)?;
            let what = format!("{service} says that {address} is {verdict}");
            self.daemon.until(&what, &format!("/v1/services/{service}"), IN_FORCE, |answer| {
                let is = |one: &Value| one["address"] == address && one["health"]["verdict"] == verdict;
                answer["backends"].as_array().is_some_and(|all| all.iter().any(is))
            })?;
        }
        Ok(Instant::now())
    }

    /// Runs `fairlead backend WORD SERVICE ADDRESS …` for every served service.
    pub(super) fn each_service(&self, word: &str, backend: usize, more: &[&str]) -> Result<()> {
        for service in SERVED {
            let address = self.address(service, backend)?;
            let arguments = [&["backend", word, service, &address], more].concat();
            eprintln!("   $ fairlead {}", arguments.join(" "));
            self.daemon.ok(&arguments)?;
        }
        Ok(())
    }

    /// A backend's address as a backend of this service.
    pub(super) fn address(&self, service: &str, backend: usize) -> Result<String> {
        let host = self.lab.backends.get(backend).with_context(|| format!("no backend {backend}"))?;
        Ok(host.address_like(config::vip(is_v6(service))).to_string())
    }

    /// New connections to nginx through the balancer, over one family.
    pub(super) fn tries(&self, v6: bool) -> Tries {
        let sources = (0..SOURCES)
            .map(|index| if v6 { Row::Client.v6(index).into() } else { Row::Client.v4(index).into() });
        Tries::new(sources.collect(), SocketAddr::new(config::vip(v6), WEB))
    }

    /// Leaves everything running and prints what to do with it.
    pub(super) fn keep(self) -> Result<()> {
        let client = self.lab.client.ns.name();
        eprintln!("\nThe lab is yours. As root:");
        for (name, value) in self.daemon.environment() {
            eprintln!("  export {name}={}", value.display());
        }
        eprintln!("  alias fairlead={}", binary("fairlead")?.display());
        eprintln!("  fairlead status; fairlead backend list; fairlead flow list; fairlead counters");
        eprintln!("  ip netns exec {client} curl http://{}/", config::vip(false));
        eprintln!("  ip netns exec {client} curl 'http://[{}]/'", config::vip(true));
        eprintln!("  fairlead backend drain web {}", self.address("web", 1)?);
        for (web, host) in self.web.iter().zip(&self.lab.backends) {
            eprintln!("  kill -9 {:<8} # nginx on {}", web.pid(), host.role);
        }
        eprintln!("  $EDITOR {} && fairlead config reload", self.daemon.config_path().display());
        eprintln!("  cargo xtask clean   # removes it all");
        let Self { lines, daemon, web, servers, lab, .. } = self;
        drop(lines);
        std::mem::forget((daemon, web, servers));
        lab.keep()
    }
}
