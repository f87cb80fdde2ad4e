//! VIPs of one family in front of backends that are reached by the other.

use anyhow::Result;
use fairlead_tests::lab::{Fairlead, Lab};

use crate::scene::*;

#[test]
fn a_vip_of_each_family_is_served_by_backends_of_the_other() -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    let (decaps, _webs, _echoes) = (decaps(&lab)?, webs(&lab)?, echoes(&lab)?);
    let services = FAMILIES.into_iter().flat_map(|v6| {
        let web = Service::new(&named("web", v6), vip(v6, 0), WEB);
        let echo = Service::new(&named("echo", v6), vip(v6, 0), ECHO).key("protocol", "udp");
        [web, echo].map(|service| service.across(&lab.backends))
    });
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&services.collect::<Vec<_>>()))?;
    for v6 in FAMILIES {
        ensure_served_by(&visit(&lab, vip(v6, 0), 40)?, &lab.backends)?;
        ensure_served_by(&census(&ask_all(&asking(&lab, vip(v6, 0), 40)?, "who")?), &lab.backends)?;
        let backend = backend_of(&balancer, &named("web", v6), own(&lab.backends[0], !v6))?;
        assert_eq!(backend["address"], own(&lab.backends[0], !v6).to_string(), "{backend}");
    }
    // All of it came through the tunnels.
    for decap in &decaps {
        assert!(decap_counter(decap, "decapsulated")? > 0);
    }
    Ok(())
}
