//! Who serves while verdicts are missing, or all are bad.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::{Fairlead, Host, Lab, udp, wait_until};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use crate::scene::*;

const CHECKED: u16 = 8080;

/// A UDP service in which every check is answered when and how the test wants it.
fn oracle(host: &Host, v6: bool) -> Result<TcpListener> {
    Ok(host.ns.enter(|| TcpListener::bind((own(host, v6), CHECKED)))?)
}

/// Answers the probe that waits.
fn answer(oracle: &TcpListener, status: &str) -> Result<()> {
    let (mut probe, _) = oracle.accept()?;
    let mut request = [0; 4096];
    ensure!(probe.read(&mut request)? > 0, "a probe that asks nothing");
    probe.write_all(format!("HTTP/1.0 {status} -\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
    Ok(())
}

fn echo_service(v6: bool, hosts: &[Host]) -> Service {
    Service::new(&named("echo", v6), vip(v6, 0), ECHO).key("protocol", "udp").over(hosts)
}

/// Sends a datagram from each of `count` ports; none must be answered and each be counted as `no_backend`.
fn ensure_unserved(lab: &Lab, balancer: &Fairlead, vip: IpAddr, count: usize) -> Result<()> {
    let before = counter(balancer, "no_backend")?;
    let sockets = asking(lab, vip, count)?;
    for socket in &sockets {
        socket.send(b"nobody?")?;
    }
    let expected = before + count as u64;
    wait_until("all are dropped", SOON, || Ok(counter(balancer, "no_backend")? >= expected))?;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        ensure!(socket.recv(&mut [0; 64]).is_err(), "{vip}: somebody answered");
    }
    assert_eq!(counter(balancer, "no_backend")?, expected);
    Ok(())
}

#[test]
fn backends_serve_nobody_before_their_first_verdict() -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    decaps(&lab)?;
    let _echoes = echoes(&lab)?;
    for v6 in FAMILIES {
        let oracles = lab.backends.iter().map(|host| oracle(host, v6)).collect::<Result<Vec<_>>>()?;
        let check = format!("kind = \"http\"; port = {CHECKED}; timeout = \"60s\"; fall = 1");
        let service = echo_service(v6, &lab.backends).check(&check);
        let mut balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&[service]))?;
        let (vip, name) = (vip(v6, 0), named("echo", v6));
        for host in &lab.backends {
            until_verdict(&balancer, &name, own(host, v6), "unknown")?;
        }
        ensure_unserved(&lab, &balancer, vip, 10)?;
        // One success is enough for the first verdict; the other stays unknown and serves nobody.
        answer(&oracles[0], "200")?;
        until_verdict(&balancer, &name, own(&lab.backends[0], v6), "up")?;
        let served = census(&ask_all(&asking(&lab, vip, 30)?, "one")?);
        ensure_served_by(&served, &lab.backends[..1])?;
        // A bad first verdict changes nothing for the others.
        answer(&oracles[1], "500")?;
        until_verdict(&balancer, &name, own(&lab.backends[1], v6), "down")?;
        let served = census(&ask_all(&asking(&lab, vip, 30)?, "still one")?);
        ensure_served_by(&served, &lab.backends[..1])?;
        balancer.detach()?;
    }
    Ok(())
}

#[test]
fn backend_that_is_dead_at_a_cold_start_never_gets_a_packet() -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    let decaps = decaps(&lab)?;
    let _echoes = echoes(&lab)?;
    let _checked = fairlead_tests::lab::Peer::lines(&lab, &lab.backends[0], CHECKED)?;
    let service = |v6| echo_service(v6, &lab.backends).check(&format!("kind = \"tcp\"; port = {CHECKED}"));
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&FAMILIES.map(service)))?;
    // No waiting for verdicts: whatever they are by now, the dead one must not be used.
    let sockets = FAMILIES.map(|v6| asking(&lab, vip(v6, 0), 30));
    let mut answered = 0;
    for sockets in sockets {
        for socket in sockets? {
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            if let Ok(name) = udp::ask(&socket, "early") {
                assert_eq!(name, "backend1");
                answered += 1;
            }
        }
    }
    let forwarded = counter(&balancer, "forwarded")?;
    assert!(answered <= forwarded, "{answered} of {forwarded}");
    assert_eq!(decap_counter(&decaps[1], "decapsulated")?, 0);
    for v6 in FAMILIES {
        let dead = until_verdict(&balancer, &named("echo", v6), own(&lab.backends[1], v6), "down")?;
        assert_eq!((&dead["packets"], &dead["flows"]), (&0.into(), &0.into()), "{dead}");
    }
    Ok(())
}

#[test]
fn service_without_check_serves_from_the_first_packet_on() -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    decaps(&lab)?;
    let _echoes = echoes(&lab)?;
    let service = |v6| echo_service(v6, &lab.backends);
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&FAMILIES.map(service)))?;
    for v6 in FAMILIES {
        let served = census(&ask_all(&asking(&lab, vip(v6, 0), 30)?, "at once")?);
        ensure_served_by(&served, &lab.backends)?;
        let backend = backend_of(&balancer, &named("echo", v6), own(&lab.backends[0], v6))?;
        assert_eq!(backend["health"]["verdict"], "unchecked");
    }
    Ok(())
}

/// Takes all checked backends down, then up again: whom `policy` lets serve in between.
fn all_down(policy: &str, serves: bool) -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    decaps(&lab)?;
    let (_echoes, mut checked) = (echoes(&lab)?, liners(&lab)?);
    let service = |v6| {
        let check = format!("kind = \"tcp\"; port = {LINES}; fall = 2; rise = 2");
        echo_service(v6, &lab.backends).key("when_all_down", policy).check(&check)
    };
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&FAMILIES.map(service)))?;
    let all = |verdict: &str| {
        FAMILIES.into_iter().try_for_each(|v6| {
            let mut hosts = lab.backends.iter();
            hosts.try_for_each(|host| {
                until_verdict(&balancer, &named("echo", v6), own(host, v6), verdict).map(drop)
            })
        })
    };
    let everyone_serves = |question: &str| {
        FAMILIES.into_iter().try_for_each(|v6| {
            ensure_served_by(&census(&ask_all(&asking(&lab, vip(v6, 0), 30)?, question)?), &lab.backends)
        })
    };
    all("up")?;
    everyone_serves("up")?;
    checked.clear();
    all("down")?;
    let shown = balancer.get("/v1/services/echo4")?;
    ensure!(shown["all_down"] == true && shown["serving"] == serves, "{shown}");
    if serves {
        everyone_serves("suspecting the check")?;
    } else {
        FAMILIES.into_iter().try_for_each(|v6| ensure_unserved(&lab, &balancer, vip(v6, 0), 10))?;
    }
    let _checked = liners(&lab)?;
    all("up")?;
    everyone_serves("up again")
}

#[test]
fn all_backends_serve_when_all_are_down_and_the_check_is_suspected() -> Result<()> {
    all_down("serve_all", true).context("serve_all")
}

#[test]
fn no_backend_serves_when_all_are_down_and_the_check_is_believed() -> Result<()> {
    all_down("drop", false).context("drop")
}
