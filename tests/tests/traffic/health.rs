//! Checks against a real web server.

use anyhow::{Result, ensure};
use fairlead_tests::lab::{Fairlead, Lab};

use crate::scene::*;

#[test]
fn killed_web_server_is_avoided_until_it_is_back() -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    decaps(&lab)?;
    let mut webs = webs(&lab)?;
    let service =
        |v6| Service::new(&named("web", v6), vip(v6, 0), WEB).over(&lab.backends).check("kind = \"http\"");
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&FAMILIES.map(service)))?;
    let all = |index: usize, verdict: &str| {
        FAMILIES.into_iter().try_for_each(|v6| {
            let address = own(&lab.backends[index], v6);
            until_verdict(&balancer, &named("web", v6), address, verdict).map(drop)
        })
    };
    let visits = |hosts| {
        FAMILIES.into_iter().try_for_each(|v6| ensure_served_by(&visit(&lab, vip(v6, 0), 40)?, hosts))
    };
    all(0, "up")?;
    all(1, "up")?;
    visits(&lab.backends)?;
    webs[0].kill();
    all(0, "down")?;
    visits(&lab.backends[1..])?;
    let down = backend_of(&balancer, "web4", lab.backends[0].v4.into())?;
    ensure!(down["slot_state"] == "dead" && down["share_percent"] == 0.0, "{down}");
    ensure!(down["health"]["reason"].as_str().is_some_and(|reason| reason.contains("refused")), "{down}");
    webs[0].restart(&lab)?;
    all(0, "up")?;
    visits(&lab.backends)
}

#[test]
fn web_server_with_another_status_than_expected_is_down_and_the_reason_is_shown() -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    decaps(&lab)?;
    let _webs = webs(&lab)?;
    // The same servers, asked for what they answer and for what they do not.
    let service = |name: &str, v6, expect: &str| {
        let check = format!("kind = \"http\"; port = {WEB}; path = \"/\"; expect = \"{expect}\"");
        let port = if name == "good" { WEB } else { WEB + 1 };
        Service::new(&named(name, v6), vip(v6, 0), port).over(&lab.backends).check(&check)
    };
    let services =
        FAMILIES.into_iter().flat_map(|v6| [service("good", v6, "200"), service("bad", v6, "204,300-399")]);
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&services.collect::<Vec<_>>()))?;
    for v6 in FAMILIES {
        for host in &lab.backends {
            let bad = until_verdict(&balancer, &named("bad", v6), own(host, v6), "down")?;
            ensure!(bad["health"]["reason"].as_str().is_some_and(|reason| reason.contains("200")), "{bad}");
            let good = until_verdict(&balancer, &named("good", v6), own(host, v6), "up")?;
            ensure!(good["health"].get("reason").is_none_or(serde_json::Value::is_null), "{good}");
        }
    }
    Ok(())
}
