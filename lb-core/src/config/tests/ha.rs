//! Files about more than one node: who they are, and which VIPs move between them.

use std::fmt::Write;
use std::path::Path;

use super::*;

/// Two nodes with two groups on two interfaces, and a service for each VIP.
const PAIR: &str = r#"
[[interface]]
name = "eth0"

[[interface]]
name = "eth1"
role = "egress"

[cluster]
name = "edge"
node = "lb1"
key_file = "/etc/fairlead/cluster.key"

[ha]

[[ha.group]]
name = "front"
vrid = 51
vips = ["192.0.2.1", "2001:db8::1"]
interface = "eth0"

[[ha.group]]
name = "back"
vrid = 52
vips = ["192.0.2.2"]
interface = "eth0"
"#;

/// The pair with a service for each of these addresses.
fn with_services(head: &str, vips: &[&str]) -> String {
    vips.iter().enumerate().fold(head.to_owned(), |mut text, (i, vip)| {
        let _ =
            write!(text, "\n[[service]]\nname = \"s{i}\"\nvip = \"{vip}\"\nport = 80\ntable_size = 4093\n");
        text + "[[service.backend]]\naddress = \"10.0.0.1\"\n"
    })
}

/// Without it there is a warning.
const SYNC: &str = "\n[sync]\nlisten = \"10.1.0.1:7301\"\npeers = [\"10.1.0.2\"]\n";

const VIPS: &[&str] = &["192.0.2.1", "2001:db8::1", "192.0.2.2"];

/// The pair with one piece replaced.
#[track_caller]
fn changed(piece: &str, replacement: &str) -> String {
    assert!(PAIR.contains(piece), "{piece}");
    with_services(&PAIR.replacen(piece, replacement, 1), VIPS)
}

#[track_caller]
fn check(piece: &str, replacement: &str, expected: &[&str]) {
    assert_eq!(problems(&changed(piece, replacement)), expected, "{piece} -> {replacement}");
}

/// The second group with these lines more.
fn back(lines: &str) -> String {
    format!("vrid = 52\n{lines}")
}

fn warnings(text: &str) -> Vec<String> {
    parse(text).expect("accepted").warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn without_a_word_about_it_a_node_is_alone_and_answers_for_everything() {
    let config = parse(GOOD).expect("good").config;
    assert_eq!((config.cluster.as_ref(), &config.ha), (None, &HighAvailability::default()));
    assert_eq!((config.ha.mode, config.ha.checksum), (HaMode::Vrrp, VrrpChecksum::PseudoHeader));
    assert_eq!(config.ha_group_of(ip("192.0.2.1")), None);
}

#[test]
fn group_that_says_only_what_it_must_has_every_default() {
    let Checked { config, warnings } = parse(&(with_services(PAIR, VIPS) + SYNC)).expect("good");
    assert_eq!(warnings, []);
    let cluster = config.cluster.as_ref().expect("a cluster");
    assert_eq!((cluster.name.as_str(), cluster.node.as_str()), ("edge", "lb1"));
    assert_eq!(cluster.key_file, Path::new("/etc/fairlead/cluster.key"));
    let front = HaGroup {
        name: "front".to_owned(),
        vrid: Some(51),
        vips: vec![ip("192.0.2.1"), ip("2001:db8::1")],
        interface: "eth0".to_owned(),
        priority: 100,
        advert_interval: Duration::from_secs(1),
        preempt: true,
        preempt_delay: Duration::ZERO,
        peers: Vec::new(),
        sync_group: None,
    };
    assert_eq!(config.ha.groups[0], front);
    assert_eq!(config.ha_group_of(ip("2001:db8::1")), Some(&front));
    assert_eq!(config.ha_group_of(ip("192.0.2.2")).map(|group| group.name.as_str()), Some("back"));
    assert_eq!(config.ha_group_of(ip("192.0.2.3")), None);
}

#[test]
fn each_word_of_the_section_is_read() {
    let of = |line: &str| parse(&changed("[ha]", &format!("[ha]\n{line}"))).expect(line).config.ha;
    for mode in HaMode::ALL {
        assert_eq!(of(&format!("mode = \"{mode}\"")).mode, *mode);
    }
    for checksum in VrrpChecksum::ALL {
        assert_eq!(of(&format!("checksum = \"{checksum}\"")).checksum, *checksum);
    }
}

#[test]
fn lone_lease_is_a_minute_or_what_the_file_says_up_to_ten() {
    let of = |line: &str| parse(&changed("[ha]", &format!("[ha]\n{line}"))).expect(line).config.ha.lone_lease;
    for (line, seconds) in
        [("", 60), ("lone_lease = \"0s\"", 0), ("lone_lease = \"90s\"", 90), ("lone_lease = \"10m\"", 600)]
    {
        assert_eq!(of(line), Duration::from_secs(seconds), "{line}");
    }
    for (value, problem) in [
        ("\"601s\"", "\"601s\" is out of range"),
        ("\"long\"", "\"long\" is not a duration: expected number at 0"),
        ("60", "expected a duration, found integer 60"),
        ("false", "expected a duration, found boolean false"),
    ] {
        let line = format!("[ha]\nlone_lease = {value}");
        check("[ha]", &line, &[&format!("line 15: ha.lone_lease: {problem}")]);
    }
}

#[test]
fn reference_is_true_about_the_defaults_of_groups() {
    let config = parse(include_str!("../../../../config/reference.toml")).expect("the reference").config;
    let said = config.ha.groups[0].clone();
    let shortest = parse(&with_services(PAIR, VIPS)).expect("good").config.ha.groups[0].clone();
    let (vips, sync_group) = (said.vips.clone(), said.sync_group.clone());
    assert_eq!(said, HaGroup { vips, sync_group, ..shortest });
    assert_eq!(HighAvailability { groups: Vec::new(), ..config.ha }, HighAvailability::default());
}

#[test]
fn values_of_a_group_that_no_node_can_have_are_refused() {
    for (line, problem) in [
        ("priority = 0", "priority: 0 is out of range"),
        ("priority = 255", "priority: 255 is out of range"),
        ("advert_interval = \"5ms\"", "advert_interval: \"5ms\" is out of range"),
        ("advert_interval = \"41s\"", "advert_interval: \"41s\" is out of range"),
        ("advert_interval = \"15ms\"", "advert_interval: 15ms is no whole number of hundredths of a second"),
        ("advert_interval = 1", "advert_interval: expected a duration, found integer 1"),
        ("preempt = 1", "preempt: expected true or false, found integer 1"),
        ("preempt_delay = \"61m\"", "preempt_delay: \"61m\" is out of range"),
        ("peers = \"10.0.0.2\"", "peers: expected a list of addresses, found string \"10.0.0.2\""),
        ("peers = [1]", "peers: expected a string, found integer 1"),
        ("peers = [\"224.0.0.18\"]", "peers: 224.0.0.18 is a multicast address"),
        ("sync_group = \"\"", "sync_group: \"\" cannot be a sync group's name"),
        ("weight = 1", "weight: unknown key"),
    ] {
        check("vrid = 52", &back(line), &[&format!("line 25: ha.group[1].{problem}")]);
    }
    for (vrid, problem) in [
        ("vrid = 0", "line 24: ha.group[1].vrid: 0 is out of range"),
        ("vrid = 256", "line 24: ha.group[1].vrid: 256 is out of range"),
        ("", "line 22: ha.group[1].vrid: `vrid` is missing, which VRRP needs"),
        ("vrid = 51", "line 24: ha.group[1].vrid: vrid 51 on interface eth0 is there already (line 18)"),
    ] {
        check("vrid = 52", vrid, &[problem]);
    }
}

#[test]
fn bounds_of_a_group_are_within_them() {
    for line in [
        "priority = 1",
        "priority = 254",
        "advert_interval = \"10ms\"",
        "advert_interval = \"40950ms\"",
        "preempt_delay = \"1h\"",
    ] {
        assert!(parse(&changed("vrid = 52", &back(line))).is_ok(), "{line}");
    }
    for vrid in ["vrid = 1", "vrid = 255"] {
        assert!(parse(&changed("vrid = 52", vrid)).is_ok(), "{vrid}");
    }
}

#[test]
fn same_number_on_another_interface_is_another_router() {
    let steering = PAIR.replace("role = \"egress\"", "");
    let text = steering.replace(
        "vrid = 52\nvips = [\"192.0.2.2\"]\ninterface = \"eth0\"",
        "vrid = 51\nvips = [\"192.0.2.2\"]\ninterface = \"eth1\"",
    );
    assert!(parse(&with_services(&text, VIPS)).is_ok());
}

#[test]
fn words_and_sections_that_are_not_known_are_refused() {
    check("[ha]", "[ha]\nmode = \"carp\"", &["line 15: ha.mode: \"carp\" is not known here"]);
    check("[ha]", "[ha]\nchecksum = \"none\"", &["line 15: ha.checksum: \"none\" is not known here"]);
    check("[ha]", "[ha]\nnode = \"lb1\"", &["line 15: ha.node: unknown key"]);
    let problem = parse(&changed("[ha]", "[ha]\nmode = \"vrp\"")).expect_err("an unknown word").remove(0);
    assert_eq!(problem.remedy, "did you mean `vrrp`? Write \"vrrp\" or \"external\"");
}

#[test]
fn cluster_says_all_three_things() {
    check("name = \"edge\"\n", "", &["line 9: cluster.name: `name` is missing"]);
    check("node = \"lb1\"\n", "", &["line 9: cluster.node: `node` is missing"]);
    check("node = \"lb1\"", "node = \"lb 1\"", &["line 11: cluster.node: \"lb 1\" cannot be a node's name"]);
    check("name = \"edge\"", "name = \"\"", &["line 10: cluster.name: \"\" cannot be a cluster's name"]);
    let missing = "line 9: cluster.key_file: `key_file` is missing";
    check("key_file = \"/etc/fairlead/cluster.key\"\n", "", &[missing]);
    for path in ["cluster.key", "./cluster.key", "", "/etc/fairlead/", "~/cluster.key"] {
        let problem = format!("line 12: cluster.key_file: \"{path}\" is not the absolute path of a file");
        check("\"/etc/fairlead/cluster.key\"", &format!("\"{path}\""), &[&problem]);
    }
}

#[test]
fn groups_that_contradict_each_other_or_the_services_are_refused() {
    let (vips, name, interface) =
        ("vips = [\"192.0.2.2\"]", "name = \"back\"", "\"192.0.2.2\"]\ninterface = \"eth0\"");
    check(
        name,
        "name = \"front\"",
        &["line 23: ha.group[1].name: group \"front\" is there already (line 17)"],
    );
    check(vips, "vips = []", &["line 25: ha.group[1].vips: the group has no VIP"]);
    check(
        vips,
        "vips = [\"192.0.2.2\", \"192.0.2.3\"]",
        &["line 25: ha.group[1].vips: 192.0.2.3 is the VIP of no service"],
    );
    check(
        vips,
        "vips = [\"192.0.2.2\", \"192.0.2.2\"]",
        &["line 25: ha.group[1].vips: 192.0.2.2 is twice in the list"],
    );
    check(
        vips,
        "vips = [\"192.0.2.2\", \"192.0.2.1\"]",
        &["line 25: ha.group[1].vips: 192.0.2.1 is in ha.group[0] already"],
    );
    check(
        interface,
        "\"192.0.2.2\"]\ninterface = \"eth2\"",
        &["line 26: ha.group[1].interface: eth2 has no [[interface]]"],
    );
    check(
        interface,
        "\"192.0.2.2\"]\ninterface = \"eth1\"",
        &[
            "line 26: ha.group[1].interface: interface eth1 is for egress alone: no packets for VIPs arrive there",
        ],
    );
}

#[test]
fn what_cannot_be_read_is_not_judged_any_further() {
    let text = with_services(PAIR, &["192.0.2.1", "2001:db8::1", "192.0.2.300"]);
    assert_eq!(problems(&text), ["line 46: service[2].vip: \"192.0.2.300\" is not an IP address"]);
    check("role = \"egress\"", "role = \"exit\"", &["line 7: interface[1].role: \"exit\" is not known here"]);
    check(
        "vips = [\"192.0.2.2\"]",
        "peers = [\"10.0.0.2\"]",
        &["line 22: ha.group[1].vips: `vips` is missing"],
    );
}

#[test]
fn peers_are_nodes_of_the_families_that_the_vips_have() {
    let front = |peers: &str| changed("vrid = 51", &format!("vrid = 51\npeers = [{peers}]"));
    for (peers, problem) in [
        ("\"10.0.0.2\"", "the group has IPv6 VIPs, but none of its peers is an IPv6 address"),
        ("\"2001:db8:1::2\"", "the group has IPv4 VIPs, but none of its peers is an IPv4 address"),
        ("\"10.0.0.2\", \"2001:db8:1::2\", \"10.0.0.2\"", "10.0.0.2 is twice in the list"),
        ("\"192.0.2.2\", \"2001:db8:1::2\"", "192.0.2.2 is a VIP"),
    ] {
        assert_eq!(problems(&front(peers)), [format!("line 19: ha.group[0].peers: {problem}")]);
    }
    assert!(parse(&front("\"10.0.0.2\", \"10.0.0.3\", \"2001:db8:1::2\"")).is_ok());
    check(
        "vrid = 52",
        &back("peers = [\"10.0.0.2\", \"2001:db8:1::2\"]"),
        &["line 25: ha.group[1].peers: the group has no IPv6 VIP, for which 2001:db8:1::2 could be a peer"],
    );
}

#[test]
fn groups_of_one_sync_group_move_by_the_same_rules() {
    let synced = |own: &str| {
        let front =
            PAIR.replace("vrid = 51", "vrid = 51\nsync_group = \"all\"\npriority = 150\npreempt = false");
        let both = front.replace("vrid = 52", &format!("vrid = 52\n{own}"));
        with_services(&both, VIPS)
    };
    assert!(parse(&synced("sync_group = \"all\"\npriority = 150\npreempt = false")).is_ok());
    assert!(parse(&synced("sync_group = \"other\"")).is_ok(), "another one has its own rules");
    assert_eq!(
        problems(&synced("sync_group = \"all\"\nadvert_interval = \"2s\"\npreempt_delay = \"1m\"")),
        [
            "line 25: ha.group[1].priority: 100, but ha.group[0] of sync group \"all\" says 150",
            "line 25: ha.group[1].preempt: true, but ha.group[0] of sync group \"all\" says false",
            "line 29: ha.group[1].advert_interval: \"2s\", but ha.group[0] of sync group \"all\" says \"1s\"",
            "line 30: ha.group[1].preempt_delay: \"1m\", but ha.group[0] of sync group \"all\" says \"0s\"",
        ]
    );
}

#[test]
fn what_only_vrrp_uses_does_not_matter_when_somebody_else_decides() {
    let external = PAIR.replace("[ha]", "[ha]\nmode = \"external\"");
    for own in ["", "vrid = 51", "peers = [\"2001:db8:1::2\"]", "sync_group = \"all\"\npriority = 7"] {
        let text = external.replace("vrid = 51", "vrid = 51\nsync_group = \"all\"").replace("vrid = 52", own);
        let parsed = parse(&with_services(&text, VIPS));
        assert!(parsed.is_ok(), "{own}: {parsed:?}");
    }
}

/// So many services, each with a VIP of its own, and groups of `per_group` of them.
fn many(vips: usize, per_group: usize) -> String {
    let vips: Vec<String> = (0..vips).map(|i| format!("192.0.{}.{}", i / 200, i % 200 + 1)).collect();
    let head = PAIR.split("[[ha.group]]").next().expect("a head").to_owned() + "[limits]\nservices = 1000\n";
    let head = vips.chunks(per_group).enumerate().fold(head, |mut text, (i, vips)| {
        let _ = write!(
            text,
            "[[ha.group]]\nname = \"g{i}\"\nvrid = {}\ninterface = \"eth0\"\nvips = {vips:?}\n",
            i + 1
        );
        text
    });
    with_services(&head, &vips.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn groups_and_their_vips_have_a_limit() {
    assert!(parse(&many(64, 1)).is_ok());
    assert_eq!(problems(&many(65, 1)), ["line 18: ha.group: 65 groups, but the limit is 64"]);
    assert!(parse(&many(255, 255)).is_ok());
    assert_eq!(
        problems(&many(256, 256)),
        ["line 22: ha.group[0].vips: 256 IPv4 VIPs, but an advert holds 255"]
    );
}

#[test]
fn vip_that_every_node_answers_for_and_nodes_without_a_common_key_are_warned_about() {
    let vips: Vec<&str> = VIPS.iter().copied().chain(["192.0.2.9"]).collect();
    assert_eq!(
        warnings(&(with_services(PAIR, &vips) + SYNC)),
        ["line 54: service[3].vip: 192.0.2.9 is in no group, while others are: every node answers for it; \
          add it to the `vips` of an [[ha.group]]"]
    );
    let two_ports = with_services(PAIR, &vips)
        + SYNC
        + "\n[[service]]\nname = \"again\"\nvip = \"192.0.2.9\"\nport = 81\n"
        + "[[service.backend]]\naddress = \"10.0.0.1\"\n";
    assert_eq!(warnings(&two_ports).len(), 1, "once for each VIP");
    let (before, after) = PAIR.split_once("[cluster]").expect("a cluster");
    let alone = format!("{before}{}", after.split_once("\n\n").expect("another section").1);
    assert_eq!(
        warnings(&with_services(&alone, VIPS)),
        [
            "cluster: there are groups, but no [cluster]: without a common key the nodes hash flows differently, and \
          connections do not survive a failover; add [cluster] with name, node and key_file"
        ]
    );
}
