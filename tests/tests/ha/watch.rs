//! The watch and the control measurement, where nothing happens and where nobody is.

use anyhow::Result;
use fairlead_tests::lab::ha::{AnswerWatch, ControlPing, gap, mac_of, overlap, switched_at};
use fairlead_tests::lab::{Lab, wait_until};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::scene::*;

#[test]
fn watch_is_answered_by_who_has_the_address_and_by_nobody_else() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let backend = &lab.backends[0];
    for address in [IpAddr::from(backend.v4), backend.v6.into()] {
        let watch = AnswerWatch::start(&lab.client, address)?;
        more_answers(&watch, 100)?;
        assert_eq!(watch.answering(), Some(mac_of(backend)?));
        let (half, record) = (watch.now() / 2, watch.stop()?);
        assert_eq!(record.answerers().len(), 1, "{address}: {:?}", record.answerers());
        assert!(record.answered().len() >= 100 && record.asked.len() >= record.answered().len());
        assert!(gap(&record, half).is_some() && switched_at(&record, half).is_none());
        assert_eq!(overlap(&record, Duration::ZERO..Duration::MAX).requests, 0);
    }
    Ok(())
}

#[test]
fn nobody_answers_for_an_address_that_nobody_has() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    // Backends have the VIPs on their loopback and must not answer for them.
    let (v4, v6) = lab.vips[0];
    for vip in [IpAddr::from(v4), v6.into()] {
        let watch = AnswerWatch::start(&lab.client, vip)?;
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(watch.answering(), None);
        let record = watch.stop()?;
        if vip.is_ipv4() {
            assert!(record.answers.is_empty(), "{:?}", record.answerers());
        }
        assert!(!record.asked.is_empty());
    }
    Ok(())
}

#[test]
fn the_clients_kernel_learns_nothing_from_what_the_watch_is_answered() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let backend = &lab.backends[0];
    for address in [IpAddr::from(backend.v4), backend.v6.into()] {
        // A wrong entry that any answer the kernel believed would put right.
        lab.client
            .ns
            .ip(&format!("neigh replace {address} lladdr 02:00:00:00:00:99 dev eth0 nud reachable"))?;
        let watch = AnswerWatch::start(&lab.client, address)?;
        more_answers(&watch, 200)?;
        let output = std::process::Command::new("ip")
            .args(["-n", lab.client.ns.name(), "neigh", "show", &address.to_string()])
            .output()?;
        let entry = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(entry.contains("02:00:00:00:00:99"), "{entry}");
    }
    Ok(())
}

#[test]
fn announcements_are_noted_with_their_station() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let backend = &lab.backends[0];
    let watch = AnswerWatch::start(&lab.client, backend.v4.into())?;
    more_answers(&watch, 1)?;
    let status = backend
        .ns
        .command("arping")
        .args(["-U", "-c", "2", "-w", "5", "-I", "eth0", &backend.v4.to_string()])
        .stdout(std::process::Stdio::null())
        .status();
    status?;
    more_answers(&watch, 1)?;
    let record = watch.stop()?;
    let announcers = record.announcers(Duration::ZERO);
    assert_eq!(announcers.keys().copied().collect::<Vec<_>>(), [mac_of(backend)?], "{announcers:?}");
    Ok(())
}

#[test]
fn control_measurement_runs_beside_and_sees_a_dead_line_as_a_stall() -> Result<()> {
    let lab = Lab::builder().backends(0).control().build()?;
    let (control, begun) = (ControlPing::start(&lab)?, Instant::now());
    wait_until("it is answered", SOON, || Ok(control.answers() > 100))?;
    println!("beside nothing: {:?}", control.stop(begun, Instant::now())?);

    let (control, begun) = (ControlPing::start(&lab)?, Instant::now());
    let cut = fairlead_tests::lab::ha::Cut::ToHost.apply(&lab, &lab.control[1])?;
    std::thread::sleep(Duration::from_millis(200));
    cut.heal()?;
    let stalled = control.stop(begun, Instant::now())?;
    assert!(stalled.spoils() && stalled.longest >= Duration::from_millis(150), "{stalled:?}");
    Ok(())
}

#[test]
fn control_measurement_needs_its_namespaces() -> Result<()> {
    let lab = Lab::builder().backends(0).build()?;
    assert!(ControlPing::start(&lab).is_err());
    Ok(())
}
