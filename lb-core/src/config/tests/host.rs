//! Files that fit no machine, or not this one.

use super::*;

/// A host on which the good file works.
fn host() -> HostFacts {
    let interface = |index, address: &str| HostInterface {
        index,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        addresses: vec![ip(address)],
        is_vlan: false,
    };
    let route = RouteFact { interface: "eth0".to_owned(), gateway: None, source: Some(ip("10.0.0.254")) };
    HostFacts {
        interfaces: BTreeMap::from([
            ("eth0".to_owned(), interface(2, "10.0.0.254")),
            ("eth1".to_owned(), interface(3, "10.9.0.254")),
        ]),
        routes: BTreeMap::from([(ip("10.0.0.1"), Some(route))]),
    }
}

fn host_problems(text: &str, facts: &HostFacts) -> Vec<String> {
    let config = parse(text).expect("good in itself").config;
    check_host(&config, text, facts).iter().map(ToString::to_string).collect()
}

#[test]
fn host_that_fits_has_no_problems() {
    assert_eq!(host_problems(GOOD, &host()), [""; 0]);
}

#[test]
fn host_that_does_not_fit_is_named_with_line_and_remedy() {
    let route = |interface: &str, gateway: Option<&str>, source: Option<&str>| {
        let route =
            RouteFact { interface: interface.to_owned(), gateway: gateway.map(ip), source: source.map(ip) };
        HostFacts { routes: BTreeMap::from([(ip("10.0.0.1"), Some(route))]), ..host() }
    };
    let mut vlan = host();
    vlan.interfaces.get_mut("eth0").expect("eth0").is_vlan = true;
    let l2 = GOOD.replace("port = 80", "port = 80\nmode = \"l2\"");
    let cases = [
        (
            GOOD.replace("eth0", "eth7"),
            HostFacts { routes: BTreeMap::new(), ..host() },
            "line 3: interface[0].name: there is no interface eth7; write one of: eth0, eth1",
        ),
        (
            GOOD.replace("192.0.2.1", "10.9.0.254"),
            host(),
            "line 7: service[0].vip: 10.9.0.254 is the balancer's own address, on eth1; remove it there \
             (ip address del 10.9.0.254 dev eth1): the program answers for VIPs",
        ),
        (
            GOOD.replace("10.0.0.1", "10.0.0.254"),
            host(),
            "line 11: service[0].backend[0].address: 10.0.0.254 is the balancer's own address, on eth0; write the \
             address of another machine",
        ),
        (
            GOOD.to_owned(),
            HostFacts { routes: BTreeMap::from([(ip("10.0.0.1"), None)]), ..host() },
            "line 11: service[0].backend[0].address: there is no route to backend 10.0.0.1; add a route to it, or \
             correct the address",
        ),
        (
            l2,
            route("eth0", Some("10.0.0.253"), Some("10.0.0.254")),
            "line 12: service[0].backend[0].address: mode \"l2\", but backend 10.0.0.1 is behind gateway 10.0.0.253; \
             use mode = \"ipip\", or a backend on a segment of the balancer",
        ),
        (
            GOOD.to_owned(),
            route("eth1", None, Some("10.9.0.254")),
            "line 11: service[0].backend[0].address: backend 10.0.0.1 is reached through eth1, which has no \
             [[interface]]; add [[interface]] with name = \"eth1\" and role = \"egress\" (without the role if packets for \
             the VIPs arrive there too), or correct the route",
        ),
        (
            GOOD.to_owned(),
            route("eth0", None, None),
            "line 11: service[0].backend[0].address: there is no source address for packets to backend 10.0.0.1; \
             give eth0 an IPv4 address",
        ),
        (
            GOOD.to_owned(),
            vlan,
            "line 3: interface[0].name: eth0 is a VLAN device, which the program cannot be attached to; name the \
             interface below it: tags are looked through",
        ),
    ];
    for (text, facts, problem) in cases {
        assert_eq!(host_problems(&text, &facts), [problem]);
    }
    assert_eq!(
        host_problems(GOOD, &route("eth0", Some("10.0.0.253"), Some("10.0.0.254"))),
        [""; 0],
        "ipip is routed"
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_answered_without_a_panic(
        text in "(\\[\\[?(service|interface|limits|service\\.(backend|check))\\]?\\]\n|(name|vip|port|address|weight|kind|expect) = (\"[a-z0-9.:]{0,8}\"|-?[0-9]{1,9}|true|\\[\\]|\\{\\})\n|.{0,9}\n){0,12}"
    ) {
        match parse(&text) {
            Ok(checked) => { let _ = check_host(&checked.config, &text, &HostFacts::default()); }
            Err(problems) => assert!(!problems.is_empty()),
        }
    }
}
