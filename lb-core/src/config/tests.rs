//! Files that are refused, with exactly what is said about them, and files that are not.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

mod ha;
mod host;
mod sync;

const GOOD: &str = r#"
[[interface]]
name = "eth0"

[[service]]
name = "web"
vip = "192.0.2.1"
port = 80

[[service.backend]]
address = "10.0.0.1"
"#;

/// Problems of a file, one a line, without remedies.
fn problems(text: &str) -> Vec<String> {
    let problems = parse(text).map(|checked| checked.config).expect_err("a file that is refused");
    for problem in &problems {
        assert!(!problem.reason.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    }
    let brief = |problem: &Problem| Problem { remedy: String::new(), ..problem.clone() }.to_string();
    problems.iter().map(brief).map(|line| line.trim_end_matches("; ").to_owned()).collect()
}

/// Replaces one piece of the good file and compares the problems.
#[track_caller]
fn check(piece: &str, replacement: &str, expected: &[&str]) {
    assert!(GOOD.contains(piece), "{piece}");
    assert_eq!(problems(&GOOD.replacen(piece, replacement, 1)), expected, "{piece} -> {replacement}");
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().expect(text)
}

#[test]
fn shortest_file_has_every_default() {
    let Checked { config, warnings } = parse(GOOD).expect("good");
    assert_eq!(warnings, []);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(
        config.interfaces,
        [Interface { name: "eth0".to_owned(), role: Role::Steer, mode: AttachMode::Auto }]
    );
    let expected = Service {
        name: "web".to_owned(),
        vip: ip("192.0.2.1"),
        port: 80,
        protocol: Protocol::Tcp,
        mode: Mode::Ipip,
        table_size: TableSize::Medium,
        when_all_down: WhenAllDown::ServeAll,
        unknown_port: UnknownPort::Drop,
        track: true,
        timeouts: Timeouts {
            established: Duration::from_secs(900),
            closing: Duration::from_secs(30),
            udp: Duration::from_secs(60),
        },
        check: None,
        backends: vec![Backend { address: ip("10.0.0.1"), weight: 1, state: AdminState::Enabled }],
    };
    assert_eq!(config.services, [expected]);
}

#[test]
fn every_file_in_config_is_accepted_without_warnings() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect(folder) {
        let path = entry.expect(folder).path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).expect("readable");
            let checked = parse(&text).unwrap_or_else(|problems| panic!("{}: {problems:#?}", path.display()));
            assert_eq!(checked.warnings, [], "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 2, "reference.toml and minimal.toml at least");
}

#[test]
fn reference_names_every_key_and_its_defaults_are_true() {
    let text = include_str!("../../../config/reference.toml");
    let config = parse(text).expect("the reference").config;
    let web = &config.services[0];
    assert_eq!((&config.limits, &web.timeouts), (&Limits::default(), &Timeouts::default()));
    let check = web.check.clone().expect("a check");
    let said = Check { port: None, host: None, path: "/".to_owned(), ..check };
    assert_eq!(said, Check::new(CheckKind::Http));
    for key in walk::all_keys() {
        let named = text
            .lines()
            .any(|line| line.starts_with(&format!("{key} = ")) || line.contains(&format!("{key}]")));
        assert!(named, "reference.toml does not name `{key}`");
    }
}

#[test]
fn an_interface_has_a_role_and_one_at_least_steers() {
    let two = GOOD.replace("[[service]]", "[[interface]]\nname = \"eth1\"\nrole = \"egress\"\n\n[[service]]");
    let roles: Vec<Role> = parse(&two).expect("good").config.interfaces.iter().map(|one| one.role).collect();
    assert_eq!(roles, [Role::Steer, Role::Egress]);
    check(
        "name = \"eth0\"",
        "name = \"eth0\"\nrole = \"egress\"",
        &[
            "line 4: interface[0].role: every interface is for egress alone: packets for the VIPs arrive on none",
        ],
    );
    check(
        "name = \"eth0\"",
        "name = \"eth0\"\nrole = \"exit\"",
        &["line 4: interface[0].role: \"exit\" is not known here"],
    );
}

#[test]
fn values_of_the_wrong_kind_or_range_are_refused() {
    check("port = 80", "port = \"80\"", &["line 8: service[0].port: expected a number, found string \"80\""]);
    check("port = 80", "port = 0", &["line 8: service[0].port: 0 is out of range"]);
    check("port = 80", "port = 65536", &["line 8: service[0].port: 65536 is out of range"]);
    check("port = 80", "", &["line 5: service[0].port: `port` is missing"]);
    check("\"web\"", "\"a b\"", &["line 6: service[0].name: \"a b\" cannot be a service's name"]);
    check("\"web\"", "7", &["line 6: service[0].name: expected a string, found integer 7"]);
    for (listen, shown) in
        [("localhost:9273", "localhost:9273"), ("127.0.0.1", "127.0.0.1"), ("[::1]:0", "[::1]:0")]
    {
        check(
            "[[service]]",
            &format!("[metrics]\nlisten = \"{listen}\"\n[[service]]"),
            &[&format!("line 6: metrics.listen: \"{shown}\" is nothing to listen on")],
        );
    }
    check(
        "port = 80",
        "port = 80\ntable_size = 65536",
        &["line 9: service[0].table_size: expected a table size, found integer 65536"],
    );
    check(
        "port = 80",
        "port = 80\nprotocol = \"tpc\"",
        &["line 9: service[0].protocol: \"tpc\" is not known here"],
    );
    check(
        "port = 80",
        "port = 80\ntrack = \"yes\"",
        &["line 9: service[0].track: expected true or false, found string \"yes\""],
    );
    check(
        "\"10.0.0.1\"",
        "\"10.0.0.1\"\nweight = 1001",
        &["line 12: service[0].backend[0].weight: 1001 is out of range"],
    );
    check(
        "\"10.0.0.1\"",
        "\"10.0.0.1\"\nweight = -1",
        &["line 12: service[0].backend[0].weight: -1 is out of range"],
    );
    check(
        "\"eth0\"",
        "\"an-interface-name\"",
        &["line 3: interface[0].name: \"an-interface-name\" cannot be an interface's name"],
    );
}

#[test]
fn addresses_that_cannot_be_reached_are_refused() {
    for (address, kind) in [
        ("10.0.0.1/24", "not an IP address"),
        ("10.0.0.1:80", "not an IP address"),
        ("example.org", "not an IP address"),
        ("0.0.0.0", "the unspecified address"),
        ("127.0.0.1", "a loopback address"),
        ("224.0.0.1", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
        ("fe80::1", "a link-local address"),
        ("::ffff:10.0.0.1", "an IPv4 address in IPv6 form"),
    ] {
        let text = GOOD.replace("10.0.0.1", address);
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("line 11: service[0].backend[0].address: ") && found[0].ends_with(kind),
            "{found:?}"
        );
    }
}

#[test]
fn durations_need_a_unit_and_a_sensible_length() {
    let timeouts = |value: &str| GOOD.replace("port = 80", &format!("port = 80\ntimeouts.udp = {value}"));
    for (value, reason) in [
        ("60", "expected a duration, found integer 60"),
        ("\"60\"", "\"60\" is not a duration: time unit needed, for example 60sec or 60ms"),
        ("\"500ms\"", "\"500ms\" is out of range"),
        ("\"3h\"", "\"3h\" is out of range"),
    ] {
        assert_eq!(problems(&timeouts(value)), [format!("line 9: service[0].timeouts.udp: {reason}")]);
    }
    let config = parse(&timeouts("\"1h 30m\"")).expect("good").config;
    assert_eq!(config.services[0].timeouts.udp, Duration::from_secs(5_400));
}

#[test]
fn unknown_key_is_refused_with_the_nearest_one() {
    check("port = 80", "port = 80\nprot = \"udp\"", &["line 9: service[0].prot: unknown key"]);
    let problem = parse(&GOOD.replace("address =", "adress =")).expect_err("unknown key").remove(1);
    assert_eq!(
        problem.to_string(),
        "line 11: service[0].backend[0].adress: unknown key; did you mean `address`?"
    );
    check(
        "[[interface]]",
        "[[interfaces]]",
        &["interface: there is no interface", "line 2: interfaces: unknown key"],
    );
}

#[test]
fn sections_of_the_wrong_shape_are_refused() {
    check("[[interface]]", "[interface]", &["line 2: interface: expected a list of tables, found table"]);
    check(
        "port = 80",
        "port = 80\ncheck = true",
        &["line 9: service[0].check: expected a table, found boolean"],
    );
    let text = GOOD.replace("[[service.backend]]\naddress =", "backend = [").replace("0.1\"", "0.1\"]");
    assert_eq!(
        problems(&text),
        ["line 10: service[0].backend: expected a list of tables, found string in it"]
    );
}

#[test]
fn inline_tables_are_as_good() {
    let text =
        GOOD.replace("[[service.backend]]\naddress = \"10.0.0.1\"", "backend = [{ address = \"10.0.0.1\" }]");
    assert_eq!(parse(&text).expect("good").config, parse(GOOD).expect("good").config);
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let found = problems("[[interface]]\nname = \"eth0\n");
    assert!(found.len() == 1 && found[0].starts_with("line 2: not TOML: "), "{found:?}");
    let found = problems(&GOOD.replace("port = 80", "port = 80\nport = 81"));
    assert!(found.len() == 1 && found[0].starts_with("line 9: not TOML: duplicate key"), "{found:?}");
}

#[test]
fn everything_wrong_is_said_at_once_in_the_order_of_the_file() {
    let text = r#"
[[interface]]
mode = "fast"
[[service]]
name = "a"
vip = "192.0.2.300"
port = 70000
colour = "red"
[[service.backend]]
weight = "much"
[[service]]
name = "a"
vip = "192.0.2.1"
port = 80
[[service.backend]]
address = "192.0.2.1"
[[service.backend]]
address = "10.0.0.1"
[[service.backend]]
address = "10.0.0.1"
"#;
    assert_eq!(
        problems(text),
        [
            "line 2: interface[0].name: `name` is missing",
            "line 3: interface[0].mode: \"fast\" is not known here",
            "line 6: service[0].vip: \"192.0.2.300\" is not an IP address",
            "line 7: service[0].port: 70000 is out of range",
            "line 8: service[0].colour: unknown key",
            "line 9: service[0].backend[0].address: `address` is missing",
            "line 10: service[0].backend[0].weight: expected a number, found string \"much\"",
            "line 12: service[1].name: service \"a\" is there already (line 5)",
            "line 16: service[1].backend[0].address: 192.0.2.1 is the VIP of service[1]",
            "line 20: service[1].backend[2].address: backend 10.0.0.1 is there already (line 18)",
        ]
    );
}

/// A second service after the good one.
fn second(keys: &str, backends: &str) -> String {
    format!("{GOOD}\n[[service]]\nname = \"two\"\n{keys}\n{backends}")
}

#[test]
fn services_that_contradict_each_other_are_refused() {
    let backend = "[[service.backend]]\naddress = \"10.0.0.2\"";
    let cases = [
        (
            second("vip = \"192.0.2.1\"\nport = 80", backend),
            "line 15: service[1].vip: a service for 192.0.2.1 port 80 tcp is there already (line 7)",
        ),
        (
            second("vip = \"192.0.2.1\"\nport = 81\nunknown_port = \"pass\"", backend),
            "line 17: service[1].unknown_port: \"pass\", but service[0] says \"drop\" for the same VIP 192.0.2.1",
        ),
        (
            second("vip = \"10.0.0.1\"\nport = 80", backend),
            "line 11: service[0].backend[0].address: 10.0.0.1 is the VIP of service[1]",
        ),
        (
            second("vip = \"2001:db8::1\"\nport = 80\nmode = \"l2\"", backend),
            "line 19: service[1].backend[0].address: mode \"l2\" cannot take packets for an IPv6 VIP to an IPv4 address",
        ),
        (second("vip = \"192.0.2.2\"\nport = 80", ""), "line 13: service[1]: the service has no backend"),
        (
            second("vip = \"192.0.2.2\"\nport = 80", &format!("{backend}\nweight = 0")),
            "line 13: service[1]: its only backend has weight 0",
        ),
    ];
    for (text, problem) in cases {
        assert_eq!(problems(&text), [problem]);
    }
    let other_protocol = second("vip = \"192.0.2.1\"\nport = 80\nprotocol = \"udp\"", backend);
    assert!(parse(&other_protocol).is_ok());
}

/// The good service with a small table and backends of these weights.
fn weighted(weights: &[u32]) -> String {
    let head = GOOD.replace("port = 80", "port = 80\ntable_size = 4093");
    let head = head.split("[[service.backend]]").next().expect("a head");
    let backend = |(i, weight): (usize, &u32)| {
        format!("[[service.backend]]\naddress = \"10.0.{}.{}\"\nweight = {weight}\n", i / 200, i % 200 + 1)
    };
    weights.iter().enumerate().map(backend).fold(head.to_owned(), |text, backend| text + &backend)
}

#[test]
fn backend_without_a_place_in_the_table_is_refused() {
    assert_eq!(
        problems(&weighted(&[1, 1000, 1000, 1000, 1000, 1000])),
        ["line 13: service[0].backend[0].weight: weight 1 of 5001 gets none of the 4093 table entries: \
          10.0.0.1 would never be chosen"]
    );
    assert!(parse(&weighted(&[1, 1000, 1000, 1000])).is_ok());
    assert!(parse(&weighted(&[0, 1000, 1000, 1000, 1000, 1000])).is_ok(), "weight 0 wants no place");
}

#[test]
fn accepted_weights_all_have_a_place_in_the_table() {
    // The sums are just around the size of the table: whether all get a place depends on how turns are given.
    for heavy in [1_000, 1_022, 1_023, 1_024, 1_030] {
        let weights = [1, heavy / 4, heavy / 4, heavy / 4, 1000, 1000, 1000, 330];
        let Ok(checked) = parse(&weighted(&weights)) else { continue };
        let service = &checked.config.services[0];
        let pool: Vec<_> = (1..)
            .zip(&service.backends)
            .map(|(slot, b)| lb_common::maglev::Candidate { address: b.address, weight: b.weight, slot })
            .collect();
        let table = crate::plan::populate(service.table_size.class(), &pool);
        assert!((1..=8).all(|slot| table.contains(&slot)), "{weights:?}");
    }
}

#[test]
fn uneven_spread_and_other_doubts_are_warnings() {
    let warnings = |text: &str| -> Vec<String> {
        parse(text)
            .expect("accepted")
            .warnings
            .iter()
            .map(|warning| format!("{}: {}", warning.key, warning.reason))
            .collect()
    };
    assert_eq!(warnings(&weighted(&[1; 40])), [""; 0]);
    assert_eq!(
        warnings(&weighted(&[1; 41])),
        ["service[0].table_size: 4093 table entries for 41 backends spread flows unevenly"]
    );
    let off = GOOD.replace("\"10.0.0.1\"", "\"10.0.0.1\"\nstate = \"drain\"");
    assert_eq!(warnings(&off), ["service[0]: no backend is enabled: new flows are dropped"]);
    let check =
        GOOD.replace("port = 80", "port = 80\nprotocol = \"udp\"\ncheck = { kind = \"tcp\", fast = \"2s\" }");
    assert_eq!(
        warnings(&check),
        [
            "service[0].check.fast: longer than `interval`",
            "service[0].check.port: the check connects over TCP to port 80 of a UDP service",
        ]
    );
    let empty = GOOD.split("[[service]]").next().expect("a head");
    assert_eq!(warnings(empty), [": there is no service"]);
}

#[test]
fn more_than_the_maps_hold_is_refused() {
    let backend = "[[service.backend]]\naddress = \"10.0.0.2\"";
    let two = second("vip = \"192.0.2.2\"\nport = 80\ntable_size = 4093", backend);
    let limited = |limits: &str| format!("{two}\n[limits]\n{limits}");
    assert_eq!(
        problems(&limited("services = 1")),
        ["line 21: limits.services: 2 services, but the limit is 1"]
    );
    assert_eq!(
        problems(&limited("backends = 1")),
        ["line 21: limits.backends: 2 backends in all services, but the limit is 1"]
    );
    // 65536 and 4096 for the two, and a spare of the larger.
    assert_eq!(
        problems(&limited("table_slots = 135167")),
        [
            "line 21: limits.table_slots: the tables of all services and a spare one need 135168 entries, but the limit is 135167"
        ]
    );
    assert!(parse(&limited("services = 2\nbackends = 2\ntable_slots = 135168")).is_ok());
    let config = parse(&limited("flows = 5000")).expect("good").config;
    assert_eq!(config.limits.flows, 8192);
}

#[test]
fn check_section_is_read_and_checked() {
    let with = |check: &str| GOOD.replace("port = 80", &format!("port = 80\n[service.check]\n{check}"));
    let check =
        |text: &str| parse(&with(text)).expect(text).config.services.remove(0).check.expect("a check");
    assert_eq!(check("kind = \"http\""), Check::new(CheckKind::Http));
    let full = check(
        "kind = \"http\"\nport = 81\nhost = \"a.b\"\npath = \"/x\"\nexpect = \"204\"\nrise = 1\nfall = 9",
    );
    assert_eq!(
        (full.port, full.host.as_deref(), full.path.as_str(), full.expect.to_string(), full.rise, full.fall),
        (Some(81), Some("a.b"), "/x", "204".to_owned(), 1, 9)
    );
    for (text, problem) in [
        ("", "line 9: service[0].check.kind: `kind` is missing"),
        ("kind = \"icmp\"", "line 10: service[0].check.kind: \"icmp\" is not known here"),
        ("kind = \"tcp\"\npath = \"/x\"", "line 11: service[0].check.path: a tcp check sends no request"),
        (
            "kind = \"http\"\npath = \"x\"",
            "line 11: service[0].check.path: \"x\" cannot be the path of a request",
        ),
        (
            "kind = \"http\"\nhost = \"a\\r\\nb\"",
            "line 11: service[0].check.host: \"a\\r\\nb\" cannot be a Host header",
        ),
        (
            "kind = \"http\"\nexpect = \"2xx\"",
            "line 11: service[0].check.expect: `2xx` is not a status code or range between 100 and 599",
        ),
        ("kind = \"tcp\"\nrise = 0", "line 11: service[0].check.rise: 0 is out of range"),
        ("kind = \"tcp\"\ninterval = \"1ms\"", "line 11: service[0].check.interval: \"1ms\" is out of range"),
        (
            "kind = \"tcp\"\ntarget = \"vip\"",
            "line 11: service[0].check.target: probes addressed to the VIP are not there yet",
        ),
    ] {
        assert_eq!(problems(&with(text)), [problem]);
    }
}
