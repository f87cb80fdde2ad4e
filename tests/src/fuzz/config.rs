//! Any text as configuration file: read, changed by commands, and the way to the maps that it asks for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_core::config::{AdminState, Backend, Config, HostFacts, check_host, line_of, parse, readable_part};
use lb_core::edit::{Change, EditError, apply};
use lb_core::plan::{Actual, NextHop, VerdictMap, diff, plan};

/// Services and backends of each that are changed: more would say the same again.
const MAX_TRIED: usize = 2;
/// Table entries of all services for which the way to the maps is tried: larger tables take long and show nothing else.
const MAX_ENTRIES: u32 = 150_000;

/// Runs the target.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parsed = parse(text);
    if let Err(problems) = &parsed {
        assert!(!problems.is_empty(), "refused without a reason");
        for problem in problems {
            assert!(!problem.reason.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
            assert!(problem.line.is_none_or(|line| line <= text.lines().count() + 1), "{problem:?}");
        }
    }
    let Some(readable) = readable_part(text) else {
        assert!(parsed.is_err(), "accepted, and yet not readable");
        let added = Change::RemoveBackend { service: String::new(), address: Ipv4Addr::LOCALHOST.into() };
        assert!(matches!(apply(text, &added), Err(EditError::Unreadable { .. })), "edited, but not readable");
        return;
    };
    let _ =
        (check_host(&readable, text, &HostFacts::default()), line_of(text, "service[0].backend[0].address"));
    let valid = parsed.ok().map(|checked| checked.config);
    let mut actual = valid.as_ref().filter(|config| is_small(config)).map(|config| {
        let mut actual = Actual::new(config.limits.clone());
        bring_about(&mut actual, config);
        actual
    });
    for change in changes(&readable) {
        let Ok(changed) = apply(text, &change) else { continue };
        let Some(before) = &valid else {
            assert!(readable_part(&changed).is_some(), "no longer TOML after {change}:\n{changed}");
            continue;
        };
        let hashes = |text: &str| text.matches('#').count();
        let removed = matches!(change, Change::RemoveBackend { .. });
        assert!(removed || hashes(&changed) >= hashes(text), "{change} lost a comment:\n{changed}");
        match parse(&changed) {
            Ok(after) => {
                assert_eq!(after.config, expected(before, &change), "after {change}:\n{changed}");
                if let Some(actual) = &mut actual {
                    bring_about(actual, &after.config);
                }
            }
            // It is well-formed and says what was asked; that the whole is not wanted is another matter.
            Err(problems) => {
                let after = readable_part(&changed);
                assert!(after.is_some(), "no longer TOML after {change}: {problems:?}\n{changed}");
            }
        }
    }
}

fn is_small(config: &Config) -> bool {
    let entries = config.services.iter().map(|service| service.table_size.entries());
    entries.fold(0, u32::saturating_add) <= MAX_ENTRIES
}

/// Changes of every kind to what is in the file, and some that cannot be made.
fn changes(config: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    for service in config.services.iter().take(MAX_TRIED) {
        let new = if service.vip.is_ipv4() {
            IpAddr::from([203, 0, 113, 77])
        } else {
            IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x77))
        };
        let name = || service.name.clone();
        changes.push(Change::AddBackend { service: name(), address: new, weight: 1 });
        changes.push(Change::AddBackend { service: name(), address: new, weight: 7 });
        changes.push(Change::SetWeight { service: name(), address: new, weight: 3 });
        for Backend { address, .. } in service.backends.iter().take(MAX_TRIED) {
            let address = *address;
            changes.push(Change::AddBackend { service: name(), address, weight: 1 });
            changes.push(Change::RemoveBackend { service: name(), address });
            for state in [AdminState::Drain, AdminState::Disabled, AdminState::Enabled] {
                changes.push(Change::SetState { service: name(), address, state });
            }
            for weight in [0, 1, 1_000] {
                changes.push(Change::SetWeight { service: name(), address, weight });
            }
        }
    }
    changes
}

/// What the file must say after a change.
fn expected(before: &Config, change: &Change) -> Config {
    let mut config = before.clone();
    let (Change::AddBackend { service, address, .. }
    | Change::RemoveBackend { service, address }
    | Change::SetState { service, address, .. }
    | Change::SetWeight { service, address, .. }) = change;
    let changed = config.services.iter_mut().find(|found| found.name == *service).expect("it was changed");
    let backends = &mut changed.backends;
    let at = backends.iter().position(|backend| backend.address == *address);
    match (change, at) {
        (Change::AddBackend { address, weight, .. }, None) => {
            backends.push(Backend { address: *address, weight: *weight, state: AdminState::Enabled });
        }
        (Change::RemoveBackend { .. }, Some(at)) => drop(backends.remove(at)),
        (Change::SetState { state, .. }, Some(at)) => backends[at].state = *state,
        (Change::SetWeight { weight, .. }, Some(at)) => backends[at].weight = *weight,
        _ => panic!("made, but impossible: {change}"),
    }
    config
}

/// Plans, and brings the mirror of the maps there; then there must be nothing left to do.
fn bring_about(actual: &mut Actual, config: &Config) {
    let hop = |address: IpAddr| {
        let source = if address.is_ipv4() { IpAddr::from([10, 9, 9, 9]) } else { Ipv6Addr::LOCALHOST.into() };
        (address, NextHop { mac: Some([2, 0, 0, 0, 0, 1]), egress: 1, source })
    };
    let backends = || config.services.iter().flat_map(|service| &service.backends);
    let hops: BTreeMap<_, _> = backends().map(|backend| hop(backend.address)).collect();
    let desired = plan(config, &VerdictMap::new(), &hops);
    // Maps of the size that an earlier file asked for may be too small: then nothing is done.
    let Ok(steps) = diff(actual, &desired) else { return };
    for step in &steps {
        actual.apply(step);
    }
    let left = diff(actual, &desired);
    assert!(matches!(&left, Ok(steps) if steps.is_empty()), "there is still to do: {left:?}");
}
