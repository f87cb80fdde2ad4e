//! Backends behind another interface than clients: frames are redirected to it.

use anyhow::{Context, Result, bail, ensure};
use fairlead_tests::lab::{
    Answer, Decap, Fairlead, Lab, LineClient, Tries, attach_pass, http, udp, wait_until,
};
use fairlead_tests::packets::Client;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

use crate::scene::*;
use crate::tap::Tap;

/// A port of the VIP that no service has.
const UNKNOWN: u16 = 4444;

/// The second interface, as most would configure it.
const EGRESS: &str = "[[interface]]\nname = \"eth1\"\nrole = \"egress\"\n\n";

/// Services of both families over IPv4 and IPv6 VIPs, TCP and UDP, `ipip` (VIP 0) and `l2` (VIP 1), whose backends are
/// reached by the second segment.
fn services(lab: &Lab) -> Vec<Service> {
    let services = FAMILIES.into_iter().flat_map(|v6| {
        [(0, "ipip"), (1, "l2")].into_iter().flat_map(move |(index, mode)| {
            let web = Service::new(&named(&format!("web-{mode}-"), v6), vip(v6, index), WEB);
            let echo = Service::new(&named(&format!("echo-{mode}-"), v6), vip(v6, index), ECHO);
            [web, echo.key("protocol", "udp")].map(|service| service.key("mode", mode))
        })
    });
    services.map(|service| service.by_second(&lab.backends)).collect()
}

/// What `status` says of the second interface.
fn egress(balancer: &Fairlead) -> Result<Value> {
    let status = balancer.json(&["status"])?;
    let mut all = status["interfaces"].as_array().into_iter().flatten();
    all.find(|interface| interface["name"] == "eth1").cloned().with_context(|| format!("no eth1 in {status}"))
}

/// A metric with these labels, as the text has it.
fn metric(balancer: &Fairlead, series: &str) -> Result<f64> {
    let text = balancer.ok(&["metrics"])?;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.with_context(|| format!("no {series} in:\n{text}"))?.trim().parse().context("a number")
}

#[test]
fn backends_behind_another_interface_are_reached_in_every_mode() -> Result<()> {
    for mode in ["native", "generic"] {
        let lab = Lab::builder().backends(2).vips(2).second_segment(1500).build()?;
        let decaps =
            lab.backends.iter().map(|host| Decap::attach_second(&lab, host)).collect::<Result<Vec<_>>>()?;
        let (_webs, _echoes) = (webs(&lab)?, echoes(&lab)?);
        let text =
            EGRESS.replace("\n\n", &format!("\nmode = \"{mode}\"\n\n")) + &config_in(mode, &services(&lab));
        let balancer = Fairlead::launch(&lab, &lab.balancers[0], &text)?;
        let interface = egress(&balancer)?;
        ensure!((&interface["role"], &interface["mode"]) == (&"egress".into(), &mode.into()), "{interface}");
        for v6 in FAMILIES {
            for index in [0, 1] {
                let vip = vip(v6, index);
                ensure_served_by(&visit(&lab, vip, 40)?, &lab.backends)?;
                ensure_served_by(&census(&ask_all(&asking(&lab, vip, 40)?, "who")?), &lab.backends)?;
            }
        }
        let (forwarded, redirected) = (counter(&balancer, "forwarded")?, counter(&balancer, "redirected")?);
        ensure!(
            forwarded == 0 && redirected > 600,
            "{forwarded} left by the first interface, {redirected} by the second"
        );
        for decap in &decaps {
            ensure!(decap_counter(decap, "decapsulated")? > 100, "little came through the tunnel");
        }
        // Nothing got lost, and nobody says so.
        // In generic mode the kernel tells of refusals only.
        let interface = egress(&balancer)?;
        ensure!(
            (&interface["redirect_refused"], &interface["redirect_lost"]) == (&0.into(), &0.into()),
            "{interface}"
        );
        let warnings = balancer.json(&["status"])?["warnings"].to_string();
        ensure!(!warnings.contains("redirect") && !warnings.contains("did not leave"), "{warnings}");
    }
    Ok(())
}

#[test]
fn one_service_has_backends_on_both_sides() -> Result<()> {
    let lab = Lab::builder().backends(2).second_segment(1500).build()?;
    let _decaps = (Decap::attach(&lab, &lab.backends[0])?, Decap::attach_second(&lab, &lab.backends[1])?);
    let _webs = webs(&lab)?;
    let service = |v6| {
        let service = Service::new(&named("web", v6), vip(v6, 0), WEB);
        service.backend(&lab.backends[0]).by_second(&lab.backends[1..])
    };
    let text = EGRESS.to_owned() + &config(&FAMILIES.map(service));
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &text)?;
    for v6 in FAMILIES {
        ensure_served_by(&visit(&lab, vip(v6, 0), 60)?, &lab.backends)?;
    }
    for name in ["forwarded", "redirected"] {
        ensure!(counter(&balancer, name)? > 60, "few are {name}");
    }
    // And `trace` tells where a packet would leave.
    let mut told = Vec::new();
    for port in 20_000..20_032 {
        let (from, to) = (format!("{}:{port}", lab.client.v4), format!("{}:{WEB}", vip(false, 0)));
        let trace = balancer.json(&["trace", "--from", &from, "--to", &to])?;
        let (verdict, steps) = (trace["verdict"].as_str().unwrap_or_default(), trace["steps"].to_string());
        let (by, backend) = match verdict {
            "tx" => ("forwarded: out by eth0", own(&lab.backends[0], false)),
            "redirect" => ("redirected: out by eth1", second(&lab.backends[1], false)),
            other => bail!("{other}: {trace}"),
        };
        ensure!(steps.contains(by) && trace["backend"] == backend.to_string(), "{trace}");
        told.push(verdict.to_owned());
    }
    ensure!(["tx", "redirect"].iter().all(|verdict| told.iter().any(|one| one == verdict)), "{told:?}");
    Ok(())
}

#[test]
fn uploads_adapt_to_an_interface_that_takes_less() -> Result<()> {
    let lab = Lab::builder().backends(1).vips(2).second_segment(1400).build()?;
    let (_decap, _webs) = (Decap::attach_second(&lab, &lab.backends[0])?, webs(&lab)?);
    let text = EGRESS.to_owned() + &config(&services(&lab));
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &text)?;
    for (v6, index, fits) in [(false, 0, 1380), (true, 0, 1360), (false, 1, 1400), (true, 1, 1400)] {
        let vip = vip(v6, index);
        let tries = Tries {
            upload: 1_000_000,
            threads: 1,
            ..Tries::new(vec![lab.client.address_like(vip)], (vip, WEB).into())
        };
        for attempt in tries.run(&lab.client.ns, 2) {
            assert_eq!(attempt.outcome.as_deref(), Ok("backend1"), "an upload to {vip}");
        }
        let family = if v6 { "-6 " } else { "" };
        let route = ip_json(&lab.client.ns, &format!("{family}route get {vip}"))?;
        ensure!(route[0]["metrics"].to_string().contains(&format!("\"mtu\":{fits}")), "{vip}: {route}");
    }
    ensure!(counter(&balancer, "answered_too_big")? >= 4, "the senders were not told");
    Ok(())
}

/// Sends datagrams of this size to the first VIP; nobody answers them.
fn into_the_void(lab: &Lab, octets: usize, count: usize) -> Result<()> {
    let target = (vip(false, 0), ECHO).into();
    let socket = lab.client.ns.enter(|| udp::open((lab.client.v4, 0).into(), target, http::PATIENCE))?;
    (0..count).try_for_each(|_| socket.send(&vec![b'x'; octets]).map(drop)).context("datagrams")
}

#[test]
fn frames_that_do_not_leave_are_counted_by_interface_and_reason() -> Result<()> {
    let lab = Lab::builder().backends(1).second_segment(1500).build()?;
    let (_decap, _echoes) = (Decap::attach_second(&lab, &lab.backends[0])?, echoes(&lab)?);
    let service = Service::new("echo", vip(false, 0), ECHO).key("protocol", "udp").by_second(&lab.backends);
    let mut balancer = Fairlead::launch(&lab, &lab.balancers[0], &(EGRESS.to_owned() + &config(&[service])))?;
    assert_eq!(ask_all(&asking(&lab, vip(false, 0), 1)?, "who")?, ["backend1"]);
    let faults = |balancer: &Fairlead| -> Result<(u64, u64, [Value; 2])> {
        let interface = egress(balancer)?;
        let number = |name: &str| interface[name].as_u64().with_context(|| format!("{name} in {interface}"));
        Ok((
            number("redirect_refused")?,
            number("redirect_lost")?,
            ["refused", "lost"].map(|kind| interface[format!("redirect_{kind}_error")].clone()),
        ))
    };

    // The driver of a veth takes nothing that is larger than its far end does.
    lab.bridge.ip(&format!("link set {} mtu 1000", lab.balancers[0].second_port()))?;
    into_the_void(&lab, 1_200, 7)?;
    wait_until("seven are lost", SOON, || Ok(faults(&balancer)?.1 >= 7))
        .with_context(|| format!("{:?} {}", balancer.get("/v1/status"), balancer.log()))?;
    assert_eq!(faults(&balancer)?.0, 0);
    assert_eq!((counter(&balancer, "redirect_lost")?, counter(&balancer, "redirect_refused")?), (7, 0));
    balancer.until("status warns", "/v1/status", SOON, |status| {
        status["warnings"]
            .to_string()
            .contains("7 frames for backends behind another interface did not leave: eth1")
    })?;
    let series =
        |kind| format!("fairlead_interface_redirect_errors_total{{interface=\"eth1\",kind=\"{kind}\"}}");
    ensure!(metric(&balancer, &series("lost"))? == 7.0 && metric(&balancer, &series("refused"))? == 0.0);

    // Without a daemon the program goes on, and so does the count; an interface that is down is the kernel's refusal.
    balancer.kill();
    lab.balancers[0].ns.ip("link set eth1 down")?;
    into_the_void(&lab, 100, 5)?;
    lab.balancers[0]
        .ns
        .ip(&format!("link set eth1 up\naddr replace {}/64 dev eth1 nodad", lab.balancers[0].second().1))?;
    balancer.start()?;
    assert_eq!(faults(&balancer)?, (5, 7, ["Network is down".into(), Value::Null]));
    assert_eq!(counter(&balancer, "redirect_refused")?, 5);
    wait_until("the backend answers again", SOON, || {
        Ok(ask_all(&asking(&lab, vip(false, 0), 1)?, "who").is_ok())
    })?;

    // Frames that another program redirects between the same interfaces' names in another namespace are not ours.
    let other = Lab::builder().backends(1).second_segment(1500).build()?;
    let _decap = Decap::attach_second(&other, &other.backends[0])?;
    let service = Service::new("echo", vip(false, 0), ECHO).key("protocol", "udp").by_second(&other.backends);
    let index = |lab: &Lab| {
        Ok::<_, anyhow::Error>(ip_json(&lab.balancers[0].ns, "link show eth1")?[0]["ifindex"].clone())
    };
    assert_eq!(index(&lab)?, index(&other)?, "only the namespace tells them apart");
    let neighbour =
        Fairlead::launch(&other, &other.balancers[0], &(EGRESS.to_owned() + &config(&[service])))?;
    other.bridge.ip(&format!("link set {} mtu 1000", other.balancers[0].second_port()))?;
    into_the_void(&other, 1_200, 3)?;
    wait_until("three are lost there", SOON, || Ok(faults(&neighbour)?.1 >= 3))?;
    assert_eq!(faults(&neighbour)?.1, 3);
    assert_eq!(faults(&balancer)?.1, 7, "counted here, too");
    Ok(())
}

/// Opens a connection to [`LINES`] of the first VIP.
fn connect(lab: &Lab, lines: &LineClient) -> Result<()> {
    lines.open(&[(lab.client.v4.into(), (vip(false, 0), LINES).into())])
}

fn none_broke(lines: &LineClient) -> Result<()> {
    let heard: Vec<u64> = lines.lines().iter().map(|line| line.heard).collect();
    wait_until("every connection goes on", SOON, || {
        let now = lines.lines();
        ensure!(now.iter().all(|line| line.broken.is_none()), "{now:?}");
        Ok(now.iter().zip(&heard).all(|(line, heard)| line.heard >= heard + 2))
    })
}

#[test]
fn the_role_of_an_interface_changes_by_reload_and_restart_without_a_broken_connection() -> Result<()> {
    let lab = Lab::builder().backends(1).second_segment(1500).build()?;
    let (_decap, _liners) = (Decap::attach_second(&lab, &lab.backends[0])?, liners(&lab)?);
    let service = Service::new("lines", vip(false, 0), LINES).by_second(&lab.backends);
    let rest = config(&[service]);
    let (egress_role, steer_role) = (EGRESS.to_owned(), EGRESS.replace("egress", "steer"));
    let lines = LineClient::start(&lab.client.ns);
    let mut balancer = Fairlead::launch(&lab, &lab.balancers[0], &(egress_role.clone() + &rest))?;
    connect(&lab, &lines)?;
    // A packet for the VIP that arrives there is the kernel's as long as the interface is for egress alone.
    let tap = Tap::open(&lab.backends[0].ns, "eth1")?;
    let [to, from] = [mac_of(&lab.balancers[0], "eth1")?, mac_of(&lab.backends[0], "eth1")?];
    let stray = Client::new("10.21.9.9", &vip(false, 0).to_string());
    let stray = stray.with(|packet| (packet.to_port, packet.mac, packet.source_mac) = (UNKNOWN, to, from));
    let noticed = |balancer: &Fairlead| -> Result<bool> {
        let before = counter(balancer, "unknown_port")?;
        (0..3).try_for_each(|_| tap.send(&stray.frame()))?;
        std::thread::sleep(Duration::from_millis(300));
        Ok(counter(balancer, "unknown_port")? > before)
    };
    let mut programs = vec![egress(&balancer)?["program_id"].clone()];
    for (role, by_reload) in [("steer", true), ("egress", true), ("steer", false), ("egress", false)] {
        let head = if role == "steer" { &steer_role } else { &egress_role };
        balancer.write_config(&(head.clone() + &rest))?;
        if by_reload {
            balancer.ok(&["config", "reload"])?;
        } else {
            balancer.kill();
            balancer.start()?;
        }
        let interface = egress(&balancer)?;
        ensure!(interface["role"] == role && interface["mode"] == "native", "{interface}");
        ensure!(programs.last() != Some(&interface["program_id"]), "{interface} still runs the same program");
        programs.push(interface["program_id"].clone());
        ensure!(noticed(&balancer)? == (role == "steer"), "{role}: the wrong program runs");
        connect(&lab, &lines)?;
        none_broke(&lines).with_context(|| format!("to {role}, by reload: {by_reload}"))?;
    }
    Ok(())
}

#[test]
fn native_frames_to_a_driver_that_takes_none_are_refused_counted_and_warned_of() -> Result<()> {
    let lab = Lab::builder().backends(1).second_segment(1500).build()?;
    let (_decap, _echoes) = (Decap::attach_second(&lab, &lab.backends[0])?, echoes(&lab)?);
    // Without a program at the far end this veth cannot send redirected frames.
    let port = lab.balancers[0].second_port();
    lab.bridge.ip(&format!("link set dev {port} xdp off"))?;
    let generic = EGRESS.replace("\n\n", "\nmode = \"generic\"\n\n");
    let services =
        || [Service::new("echo", vip(false, 0), ECHO).key("protocol", "udp").by_second(&lab.backends)];
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &(generic.clone() + &config(&services())))?;
    into_the_void(&lab, 100, 4)?;
    balancer.until("status warns of both", "/v1/status", SOON, |status| {
        let warnings = status["warnings"].to_string();
        warnings.contains("4 refused by the kernel (last: Operation not supported")
            && warnings.contains("set mode = \\\"generic\\\" on eth0")
    })?;
    // The remedy works.
    balancer.ok(&["stop", "--detach"])?;
    drop(balancer);
    let text = generic + &config_in("generic", &services());
    let _balancer = Fairlead::launch(&lab, &lab.balancers[0], &text)?;
    assert_eq!(ask_all(&asking(&lab, vip(false, 0), 1)?, "who")?, ["backend1"]);
    Ok(())
}

/// Makes an interface of the balancer that runs somebody else's program; its section of the configuration.
fn occupied(lab: &Lab) -> Result<&'static str> {
    lab.balancers[0].ns.ip("link add uplink type veth peer name far\nlink set uplink up\nlink set far up")?;
    attach_pass(&lab.balancers[0].ns, "uplink", &lab.pin_folder("foreign")?)?;
    Ok("\n[[interface]]\nname = \"uplink\"\n")
}

#[test]
fn a_takeover_that_is_refused_leaves_every_program_where_it_was() -> Result<()> {
    let lab = Lab::builder().backends(1).second_segment(1500).build()?;
    let (_decap, _liners) = (Decap::attach_second(&lab, &lab.backends[0])?, liners(&lab)?);
    let uplink = occupied(&lab)?;
    let rest = config(&[Service::new("lines", vip(false, 0), LINES).by_second(&lab.backends)]);
    let lines = LineClient::start(&lab.client.ns);
    let mut balancer = Fairlead::launch(&lab, &lab.balancers[0], &(EGRESS.to_owned() + &rest))?;
    connect(&lab, &lines)?;
    balancer.kill();
    // The one that steers is to lead to backends only, and another cannot be had.
    let roles = rest.replacen("name = \"eth0\"", "name = \"eth0\"\nrole = \"egress\"", 1);
    let wrong = EGRESS.replace("egress", "steer") + &roles + uplink;
    balancer.write_config(&wrong)?;
    let (code, said) = balancer.refused()?;
    ensure!(code == 5 && said.contains("uplink") && said.contains("not ours"), "{code}: {said}");
    connect(&lab, &lines)?;
    none_broke(&lines)?;
    balancer.write_config(&(EGRESS.to_owned() + &rest))?;
    balancer.start()?;
    connect(&lab, &lines)?;
    none_broke(&lines)
}

#[test]
fn a_reload_that_fails_leaves_roles_and_interfaces_as_they_were() -> Result<()> {
    let lab = Lab::builder().backends(1).second_segment(1500).build()?;
    let (_decap, _liners) = (Decap::attach_second(&lab, &lab.backends[0])?, liners(&lab)?);
    let uplink = occupied(&lab)?;
    let rest = config(&[Service::new("lines", vip(false, 0), LINES).by_second(&lab.backends)]);
    let lines = LineClient::start(&lab.client.ns);
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &(EGRESS.to_owned() + &rest))?;
    connect(&lab, &lines)?;
    let before = egress(&balancer)?;
    // One is to change its role, and another cannot be had.
    let wrong = EGRESS.replace("egress", "steer") + &rest + uplink;
    balancer.write_config(&wrong)?;
    let Answer { code, stderr, .. } = balancer.cli(&["config", "reload"])?;
    ensure!(code == 5 && stderr.contains("uplink") && stderr.contains("not ours"), "{code}: {stderr}");
    assert_eq!(egress(&balancer)?, before);
    connect(&lab, &lines)?;
    none_broke(&lines)?;
    // An interface that leaves the file while a backend is behind it is refused, and named.
    balancer.write_config(&rest)?;
    let Answer { code, stderr, .. } = balancer.cli(&["config", "reload"])?;
    ensure!(code == 3 && stderr.contains("eth1") && stderr.contains("role = \"egress\""), "{code}: {stderr}");
    let stranger: IpAddr = "10.21.2.99".parse()?;
    ensure!(!balancer.get("/v1/backends")?.to_string().contains(&stranger.to_string()));
    none_broke(&lines)
}
