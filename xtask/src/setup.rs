//! `cargo xtask setup`: installs what is missing, says what it does, and is quick when nothing is.

use crate::machine::{self, as_root, cargo, find_program, shell_line};
use crate::toolchain::{self, BPF_LINKER};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// A program of the machine that the lab or the build calls, and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: [Tool; 9] = [
    Tool { program: "cc", package: "gcc" },
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "ethtool", package: "ethtool" },
    Tool { program: "nginx", package: "nginx" },
    Tool { program: "ping", package: "iputils-ping" },
    Tool { program: "arping", package: "iputils-arping" },
    Tool { program: "promtool", package: "prometheus" },
    Tool { program: "keepalived", package: "keepalived" },
    Tool { program: "nft", package: "nftables" },
];

/// Debian's compiler with a prebuilt BPF core, for machines whose rustup nightly has no rust-src.
const BPF_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// Packages ask this program whether their service may be started.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs whatever is missing. Does nothing, and asks no server, when nothing is.
///
/// # Errors
/// Something is missing and cannot be installed here; the message says what to install by hand.
pub(crate) fn run() -> Result<()> {
    let mut packages: Vec<&str> =
        TOOLS.iter().filter(|tool| find_program(tool.program).is_none()).map(|tool| tool.package).collect();
    if toolchain::compiler().is_none() {
        packages.extend(BPF_PACKAGES);
    }
    let linker = toolchain::linker_version();
    let linker_is_right = linker.as_deref() == Some(BPF_LINKER);
    if packages.is_empty() && linker_is_right {
        eprintln!("setup: nothing is missing");
        return Ok(());
    }
    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    if toolchain::compiler().is_none() {
        bail!(
            "no compiler for BPF even after installing {}; install rustup's nightly with its sources instead: \
             rustup toolchain install nightly --component rust-src",
            BPF_PACKAGES.join(" and ")
        );
    }
    if !linker_is_right {
        install_linker(linker.as_deref())?;
    }
    eprintln!("setup: done");
    Ok(())
}

/// Installs `package` unless `program`, which not every task needs, is there.
///
/// # Errors
/// It is missing and cannot be installed here.
pub(crate) fn need(program: &str, package: &str) -> Result<()> {
    if find_program(program).is_some() { Ok(()) } else { install_packages(&[package]) }
}

fn install_packages(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    eprintln!("setup: missing: {list}");
    if find_program("apt-get").is_none() {
        bail!(
            "this machine has no apt-get; install by your own means: {list} (for the BPF compiler, rustup's nightly \
             also serves: rustup toolchain install nightly --component rust-src), then run this again"
        );
    }
    step(as_root("apt-get")?.args(["update", "--quiet"]))
        .context("the package lists cannot be fetched; is this machine offline?")?;
    let policy = ServicesStayOff::new()?;
    let installed = step(
        as_root("env")?
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet"])
            .arg("--no-install-recommends")
            .args(packages),
    );
    drop(policy);
    installed.with_context(|| {
        format!(
            "cannot install {list}; if your distribution has no such package, install the program by your own means \
             (for the BPF compiler: rustup toolchain install nightly --component rust-src)"
        )
    })
}

fn install_linker(found: Option<&str>) -> Result<()> {
    match found {
        Some(version) => eprintln!("setup: bpf-linker {version} is here, {BPF_LINKER} is needed"),
        None => eprintln!("setup: missing: bpf-linker {BPF_LINKER} (a minute or two to build)"),
    }
    let version = format!("={BPF_LINKER}");
    step(cargo().args(["install", "--locked", "--force", "bpf-linker", "--version", &version]))
        .context("bpf-linker cannot be built; is this machine offline?")?;
    match toolchain::linker_version() {
        Some(version) if version == BPF_LINKER => Ok(()),
        Some(version) => bail!(
            "another bpf-linker, {version}, comes first on PATH; put cargo's bin folder before it or remove it"
        ),
        None => bail!(
            "bpf-linker was installed but is not on PATH; add cargo's bin folder (~/.cargo/bin) to PATH"
        ),
    }
}

fn step(command: &mut Command) -> Result<()> {
    eprintln!("setup: $ {}", shell_line(command));
    machine::run(command)
}

/// While this lives, packages do not start their services: the lab wants nginx's program, not a web server on this
/// machine's port 80. A policy that is already there is left alone.
struct ServicesStayOff {
    ours: bool,
}

impl ServicesStayOff {
    fn new() -> Result<Self> {
        if Path::new(POLICY).exists() || !Path::new("/usr/sbin/invoke-rc.d").exists() {
            return Ok(Self { ours: false });
        }
        eprintln!("setup: {POLICY} forbids new services to start, until the packages are installed");
        let line = format!("printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}");
        machine::run(as_root("sh")?.args(["-c", &line]))?;
        Ok(Self { ours: true })
    }
}

impl Drop for ServicesStayOff {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        let removed = as_root("rm").and_then(|mut rm| machine::run(rm.args(["-f", POLICY])));
        if let Err(error) = removed {
            eprintln!(
                "setup: remove {POLICY} by hand, else no service will start on this machine: {error:#}"
            );
        }
    }
}
