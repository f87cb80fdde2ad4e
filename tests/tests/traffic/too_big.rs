//! Frames that would not fit once encapsulated.

use anyhow::{Result, ensure};
use fairlead_tests::lab::{Fairlead, Lab, Tries};

use crate::scene::*;

#[test]
fn upload_through_ipip_arrives_because_the_client_is_told_what_fits() -> Result<()> {
    let lab = Lab::builder().backends(1).mtu(1500).build()?;
    let (_decaps, _webs) = (decaps(&lab)?, webs(&lab)?);
    let service = |v6| Service::new(&named("web", v6), vip(v6, 0), WEB).over(&lab.backends);
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&FAMILIES.map(service)))?;
    for (v6, fits) in [(false, 1480), (true, 1460)] {
        let (vip, before) = (vip(v6, 0), counter(&balancer, "answered_too_big")?);
        let tries = Tries {
            upload: 1_000_000,
            threads: 1,
            ..Tries::new(vec![lab.client.address_like(vip)], (vip, WEB).into())
        };
        for attempt in tries.run(&lab.client.ns, 3) {
            assert_eq!(attempt.outcome.as_deref(), Ok("backend1"), "an upload to {vip}");
        }
        let told = counter(&balancer, "answered_too_big")? - before;
        ensure!(told > 0, "{vip}: nobody was told");
        let family = if v6 { "-6 " } else { "" };
        let route = ip_json(&lab.client.ns, &format!("{family}route get {vip}"))?;
        let metrics = &route[0]["metrics"];
        ensure!(metrics.to_string().contains(&format!("\"mtu\":{fits}")), "{vip}: {route}");
    }
    assert_eq!(counter(&balancer, "too_big")?, 0, "every answer could be written");
    Ok(())
}

#[test]
fn upload_through_l2_fits_as_it_is() -> Result<()> {
    let lab = Lab::builder().backends(1).mtu(1500).build()?;
    let _webs = webs(&lab)?;
    let service = |v6| Service::new(&named("web", v6), vip(v6, 0), WEB).key("mode", "l2").over(&lab.backends);
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&FAMILIES.map(service)))?;
    for v6 in FAMILIES {
        let tries = Tries {
            upload: 1_000_000,
            threads: 1,
            ..Tries::new(vec![own(&lab.client, v6)], (vip(v6, 0), WEB).into())
        };
        for attempt in tries.run(&lab.client.ns, 2) {
            assert_eq!(attempt.outcome.as_deref(), Ok("backend1"));
        }
    }
    assert_eq!(counter(&balancer, "answered_too_big")?, 0);
    Ok(())
}
