//! The balancer in the kernel's generic path.

use anyhow::{Result, ensure};
use fairlead_tests::lab::{Fairlead, Lab, Tries};

use crate::scene::*;

#[test]
fn balancer_in_generic_mode_says_so_and_forwards_in_both_modes() -> Result<()> {
    let lab = Lab::builder().backends(2).vips(2).build()?;
    decaps(&lab)?;
    let (_webs, _echoes) = (webs(&lab)?, echoes(&lab)?);
    let services = FAMILIES.into_iter().flat_map(|v6| {
        [(0, "ipip"), (1, "l2")].into_iter().flat_map(move |(index, mode)| {
            let web = Service::new(&named(&format!("web-{mode}-"), v6), vip(v6, index), WEB);
            let echo = Service::new(&named(&format!("echo-{mode}-"), v6), vip(v6, index), ECHO)
                .key("protocol", "udp");
            [web, echo].map(|service| service.key("mode", mode))
        })
    });
    let services: Vec<Service> = services.map(|service| service.over(&lab.backends)).collect();
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config_in("generic", &services))?;
    let status = balancer.json(&["status"])?;
    ensure!(status["interfaces"][0]["mode"] == "generic", "{status}");
    for v6 in FAMILIES {
        for index in [0, 1] {
            let vip = vip(v6, index);
            ensure_served_by(&visit(&lab, vip, 40)?, &lab.backends)?;
            ensure_served_by(&census(&ask_all(&asking(&lab, vip, 40)?, "who")?), &lab.backends)?;
            let upload = Tries {
                upload: 1_000_000,
                threads: 1,
                ..Tries::new(vec![own(&lab.client, v6)], (vip, WEB).into())
            };
            for attempt in upload.run(&lab.client.ns, 1) {
                ensure!(attempt.outcome.is_ok(), "an upload to {vip}: {attempt:?}");
            }
        }
    }
    ensure!(counter(&balancer, "answered_too_big")? > 0, "both uploads through ipip fitted");
    Ok(())
}
