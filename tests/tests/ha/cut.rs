//! Each cut stops what it says and nothing else, and heals.

use anyhow::{Result, ensure};
use fairlead_tests::lab::ha::{Cut, mac_of, part, processes_of, vanish};
use fairlead_tests::lab::{Host, Lab, Peer, wait_until};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::scene::SOON;

const PORT: u16 = 5300;
const BRIEF: Duration = Duration::from_millis(300);

/// Whether a datagram from `from` arrives at `to`: each direction by itself.
fn arrives(from: &Host, to: &Host) -> Result<bool> {
    let at = SocketAddr::new(to.v4.into(), PORT);
    let receiver = to.ns.enter(|| UdpSocket::bind(at))?;
    receiver.set_read_timeout(Some(BRIEF))?;
    let sender = from.ns.enter(|| UdpSocket::bind(SocketAddr::new(from.v4.into(), 0)))?;
    // What cannot be sent does not arrive.
    let _ = sender.send_to(b"x", at);
    Ok(receiver.recv(&mut [0; 8]).is_ok())
}

/// The client and two balancers, whose neighbours are known for ever, so that one direction needs no other.
fn acquainted() -> Result<Lab> {
    let lab = Lab::builder().balancers(2).backends(0).build()?;
    let hosts = [&lab.client, &lab.balancers[0], &lab.balancers[1]];
    for one in hosts {
        for other in hosts.iter().filter(|other| other.role != one.role) {
            let mac = mac_of(other)?;
            one.ns.ip(&format!("neigh replace {} lladdr {mac} dev eth0 nud permanent", other.v4))?;
        }
    }
    // The kernel may take a second until it lets a device send whose carrier is there.
    wait_until("everything gets through before anything is cut", SOON, || Ok(ways(&lab)? == [true; 4]))?;
    Ok(lab)
}

/// Which of these arrive: from the first balancer to the client, back, to the other balancer, back.
fn ways(lab: &Lab) -> Result<[bool; 4]> {
    let [one, other] = lab.balancers.as_slice() else { anyhow::bail!("two balancers") };
    Ok([arrives(one, &lab.client)?, arrives(&lab.client, one)?, arrives(one, other)?, arrives(other, one)?])
}

#[test]
fn cut_links_carry_nothing_in_the_directions_that_were_cut_until_they_heal() -> Result<()> {
    let lab = acquainted()?;
    for (cut, expected) in [
        (Cut::Unplugged, [false; 4]),
        (Cut::Detached, [false; 4]),
        (Cut::FromHost, [false, true, false, true]),
        (Cut::ToHost, [true, false, true, false]),
    ] {
        let link = cut.apply(&lab, &lab.balancers[0])?;
        assert_eq!(ways(&lab)?, expected, "{cut:?}");
        ensure!(arrives(&lab.client, &lab.balancers[1])?, "{cut:?} cut another member off");
        link.heal()?;
        // The kernel may take a second until it lets a device send whose carrier is back.
        wait_until(&format!("{cut:?} is healed"), SOON, || Ok(ways(&lab)? == [true; 4]))?;
    }
    Ok(())
}

#[test]
fn parted_members_reach_everybody_but_each_other() -> Result<()> {
    let lab = acquainted()?;
    let link = part(&lab, &lab.balancers[0], &lab.balancers[1])?;
    assert_eq!(ways(&lab)?, [true, true, false, false]);
    link.heal()?;
    assert_eq!(ways(&lab)?, [true; 4]);
    Ok(())
}

#[test]
fn cuts_add_up_and_heal_one_by_one_and_when_dropped() -> Result<()> {
    let lab = acquainted()?;
    let host = &lab.balancers[0];
    let (from, to) = (Cut::FromHost.apply(&lab, host)?, Cut::ToHost.apply(&lab, host)?);
    assert_eq!(ways(&lab)?, [false; 4]);
    from.heal()?;
    assert_eq!(ways(&lab)?, [true, false, true, false]);
    drop(to);
    assert_eq!(ways(&lab)?, [true; 4]);
    Ok(())
}

#[test]
fn host_that_vanishes_leaves_neither_processes_nor_a_port_and_the_others_stay() -> Result<()> {
    let lab = acquainted()?;
    let gone = &lab.balancers[0];
    let server = Peer::lines(&lab, gone, 7000)?;
    let pid = server.pid();
    ensure!(processes_of(&gone.ns)?.iter().any(|process| process.as_raw().cast_unsigned() == pid));
    vanish(&lab, gone)?;
    ensure!(processes_of(&gone.ns).is_err(), "the namespace has a name still");
    ensure!(arrives(&lab.client, &lab.balancers[1])?);
    Ok(())
}
