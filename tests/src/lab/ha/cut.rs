//! Links cut, in one direction or both, and healed again.

use crate::lab::netns::{Namespace, run};
use crate::lab::{Host, Lab};
use anyhow::{Context, Result};
use std::sync::atomic::{AtomicU32, Ordering};

/// How a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The switch's end goes down: the host sees that its carrier is gone.
    Unplugged,
    /// The switch forgets the port: nothing gets through, and the host does not notice.
    Detached,
    /// What the host sends is lost.
    FromHost,
    /// What is sent to the host is lost.
    ToHost,
}

impl Cut {
    /// Cuts `host` off.
    ///
    /// # Errors
    /// The lab's bridge refuses; the link is as it was.
    pub fn apply(self, lab: &Lab, host: &Host) -> Result<CutLink> {
        let port = &host.role;
        let (do_it, heal) = match self {
            Self::Unplugged => (format!("link set {port} down"), Heal::Ip(format!("link set {port} up"))),
            Self::Detached => {
                (format!("link set {port} nomaster"), Heal::Ip(format!("link set {port} master br0")))
            }
            Self::FromHost => return drop_at(&lab.bridge, port, "ingress"),
            Self::ToHost => return drop_at(&lab.bridge, port, "egress"),
        };
        lab.bridge.ip(&do_it).with_context(|| format!("cutting off {port}"))?;
        Ok(CutLink { bridge: lab.bridge.clone(), heal: Some(heal) })
    }
}

/// Cuts two members off from each other; each still reaches everybody else.
///
/// # Errors
/// `nft` refuses; the links are as they were.
pub fn part(lab: &Lab, one: &Host, other: &Host) -> Result<CutLink> {
    let (one, other) = (&one.role, &other.role);
    let table = table_name();
    let rules = format!(
        "table bridge {table} {{\n chain forward {{\n  type filter hook forward priority 0; policy accept;\n  \
         iifname \"{one}\" oifname \"{other}\" drop\n  iifname \"{other}\" oifname \"{one}\" drop\n }}\n}}\n"
    );
    nft(&lab.bridge, &rules).with_context(|| format!("parting {one} and {other}"))?;
    Ok(CutLink {
        bridge: lab.bridge.clone(),
        heal: Some(Heal::Nft(format!("delete table bridge {table}\n"))),
    })
}

/// Drops at a port of the bridge: `ingress` is what the member sent. What the member's XDP program sends comes by here
/// too: the switch's end of the pair hands it to its kernel.
fn drop_at(bridge: &Namespace, port: &str, hook: &str) -> Result<CutLink> {
    let table = table_name();
    let rules = format!(
        "table netdev {table} {{\n chain drops {{\n  type filter hook {hook} device \"{port}\" priority 0; policy drop;\n }}\n}}\n"
    );
    nft(bridge, &rules).with_context(|| format!("dropping at the {hook} of {port}"))?;
    Ok(CutLink { bridge: bridge.clone(), heal: Some(Heal::Nft(format!("delete table netdev {table}\n"))) })
}

/// Each cut has a table of its own, so that they heal one by one.
fn table_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    format!("cut{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn nft(ns: &Namespace, rules: &str) -> Result<()> {
    run(ns.command("nft").args(["-f", "-"]), rules)
}

#[derive(Debug)]
enum Heal {
    Ip(String),
    Nft(String),
}

/// A link that is cut. Dropping it heals it, so that a test that fails leaves no other in the dark.
#[derive(Debug)]
#[must_use = "the link heals when this is dropped"]
pub struct CutLink {
    bridge: Namespace,
    heal: Option<Heal>,
}

impl CutLink {
    /// Makes the link whole again. After [`Cut::Unplugged`] the host's kernel may take another second until it sends.
    ///
    /// # Errors
    /// The lab's bridge refuses.
    pub fn heal(mut self) -> Result<()> {
        self.heal.take().map_or(Ok(()), |heal| perform(&self.bridge, &heal))
    }
}

impl Drop for CutLink {
    fn drop(&mut self) {
        if let Some(heal) = self.heal.take()
            && let Err(error) = perform(&self.bridge, &heal)
        {
            eprintln!("error: a link stays cut: {error:#}");
        }
    }
}

fn perform(bridge: &Namespace, heal: &Heal) -> Result<()> {
    match heal {
        Heal::Ip(lines) => bridge.ip(lines),
        Heal::Nft(rules) => nft(bridge, rules),
    }
    .context("healing a link")
}
