//! Files about telling the other nodes of flows.

use std::fmt::Write;
use std::net::SocketAddr;

use super::*;

/// One of two nodes with a group, and the service of its VIP.
const NODE: &str = r#"
[[interface]]
name = "eth0"

[cluster]
name = "edge"
node = "lb1"
key_file = "/etc/fairlead/cluster.key"

[[ha.group]]
name = "web"
vrid = 51
vips = ["192.0.2.1", "2001:db8::1"]
interface = "eth0"

[sync]
listen = "10.1.0.1:7301"
peers = ["10.1.0.2"]

[[service]]
name = "web"
vip = "192.0.2.1"
port = 80
[[service.backend]]
address = "10.0.0.1"

[[service]]
name = "web6"
vip = "2001:db8::1"
port = 80
[[service.backend]]
address = "10.0.0.1"
"#;

const LISTEN: &str = "\"10.1.0.1:7301\"";
const PEERS: &str = "[\"10.1.0.2\"]";
const CLUSTER: &str =
    "[cluster]\nname = \"edge\"\nnode = \"lb1\"\nkey_file = \"/etc/fairlead/cluster.key\"\n";
const GROUP: &str = "[[ha.group]]\nname = \"web\"\nvrid = 51\nvips = [\"192.0.2.1\", \"2001:db8::1\"]\ninterface = \"eth0\"\n";
const SYNC: &str = "[sync]\nlisten = \"10.1.0.1:7301\"\npeers = [\"10.1.0.2\"]\n";

/// The file with one piece replaced.
#[track_caller]
fn changed(piece: &str, replacement: &str) -> String {
    assert!(NODE.contains(piece), "{piece}");
    NODE.replacen(piece, replacement, 1)
}

#[track_caller]
fn check(piece: &str, replacement: &str, expected: &[&str]) {
    assert_eq!(problems(&changed(piece, replacement)), expected, "{piece} -> {replacement}");
}

/// The section of a file that is accepted.
#[track_caller]
fn section(text: &str) -> FlowSync {
    match parse(text) {
        Ok(checked) => checked.config.sync.expect("a section"),
        Err(problems) => panic!("{problems:#?}\n{text}"),
    }
}

/// The section with these lines more.
fn with(lines: &str) -> String {
    changed(SYNC, &format!("{SYNC}{lines}\n"))
}

#[track_caller]
fn warns(text: &str, expected: &[&str]) {
    let warnings: Vec<String> =
        parse(text).expect("accepted").warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, expected, "{text}");
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

#[test]
fn without_the_section_nobody_is_told() {
    assert_eq!(parse(GOOD).expect("good").config.sync, None);
}

#[test]
fn section_that_says_only_what_it_must_has_every_default() {
    warns(NODE, &[]);
    let expected = FlowSync {
        listen: at("10.1.0.1:7301"),
        peers: vec![at("10.1.0.2:7301")],
        mode: SyncMode::Full,
        max_rate: 25_000_000,
    };
    assert_eq!(section(NODE), expected);
}

#[test]
fn reference_is_true_about_the_defaults_of_the_section() {
    let said = section(include_str!("../../../../config/reference.toml"));
    let (listen, peers) = (said.listen, said.peers.clone());
    assert_eq!(said, FlowSync { listen, peers, ..section(NODE) });
}

#[test]
fn files_of_the_pair_mirror_each_other() {
    let [a, b] = [include_str!("../../../../config/ha-a.toml"), include_str!("../../../../config/ha-b.toml")]
        .map(section);
    assert_eq!((&a.peers, &b.peers), (&vec![b.listen], &vec![a.listen]));
    assert_eq!((a.mode, a.max_rate), (b.mode, b.max_rate));
}

#[test]
fn each_word_of_the_section_is_read() {
    for mode in SyncMode::ALL {
        assert_eq!(section(&with(&format!("mode = \"{mode}\""))).mode, *mode);
    }
    check(SYNC, &format!("{SYNC}mode = \"all\"\n"), &["line 19: sync.mode: \"all\" is not known here"]);
    let problem = parse(&with("mode = \"ful\"")).expect_err("an unknown word").remove(0);
    assert_eq!(problem.remedy, "did you mean `full`? Write \"full\" or \"exceptions\"");
    check(SYNC, &format!("{SYNC}rate = \"1gbit\"\n"), &["line 19: sync.rate: unknown key"]);
}

#[test]
fn rates_have_a_unit_and_bounds() {
    for (rate, bytes) in [
        ("100kbit", 12_500),
        ("64000kbit", 8_000_000),
        ("1mbit", 125_000),
        ("200mbit", 25_000_000),
        ("200 mbit", 25_000_000),
        ("10gbit", 1_250_000_000),
        ("100gbit", 12_500_000_000),
    ] {
        assert_eq!(section(&with(&format!("max_rate = \"{rate}\""))).max_rate, bytes, "{rate}");
    }
    for (rate, problem) in [
        ("\"99kbit\"", "\"99kbit\" is out of range"),
        ("\"101gbit\"", "\"101gbit\" is out of range"),
        ("\"0mbit\"", "\"0mbit\" is out of range"),
        ("\"99999999999gbit\"", "\"99999999999gbit\" is no rate"),
        ("\"200\"", "\"200\" is no rate"),
        ("\"200mbyte\"", "\"200mbyte\" is no rate"),
        ("\"200Mbit\"", "\"200Mbit\" is no rate"),
        ("\"-1mbit\"", "\"-1mbit\" is no rate"),
        ("\"1.5gbit\"", "\"1.5gbit\" is no rate"),
        ("\"mbit\"", "\"mbit\" is no rate"),
        ("\"\"", "\"\" is no rate"),
        ("200", "expected a string, found integer 200"),
    ] {
        let lines = format!("{SYNC}max_rate = {rate}\n");
        check(SYNC, &lines, &[&format!("line 19: sync.max_rate: {problem}")]);
    }
}

#[test]
fn peers_without_a_port_have_that_of_the_node() {
    let node = |listen: &str, peers: &str| {
        section(&changed(SYNC, &format!("[sync]\nlisten = \"{listen}\"\npeers = [{peers}]\n"))).peers
    };
    for (listen, peers, expected) in [
        ("10.1.0.1:7301", "\"10.1.0.2\"", &["10.1.0.2:7301"][..]),
        ("10.1.0.1:7301", "\"10.1.0.2:7302\"", &["10.1.0.2:7302"]),
        ("10.1.0.1:9", "\"10.1.0.2\", \"10.1.0.3:7301\"", &["10.1.0.2:9", "10.1.0.3:7301"]),
        ("[2001:db8:1::1]:7301", "\"2001:db8:1::2\"", &["[2001:db8:1::2]:7301"]),
        ("[2001:db8:1::1]:7301", "\"[2001:db8:1::2]:7302\"", &["[2001:db8:1::2]:7302"]),
    ] {
        let expected: Vec<SocketAddr> = expected.iter().map(|one| at(one)).collect();
        assert_eq!(node(listen, peers), expected, "{listen} {peers}");
    }
}

#[test]
fn addresses_that_no_node_can_have_are_refused() {
    for listen in
        ["\"10.1.0.1\"", "\"10.1.0.1:0\"", "\"224.0.0.18:7301\"", "\"lb1:7301\"", "\"2001:db8:1::1\""]
    {
        let problem = format!("line 17: sync.listen: {listen} is nothing to listen on");
        check(LISTEN, listen, &[&problem]);
    }
    for peer in
        ["\"10.1.0.2:0\"", "\"0.0.0.0\"", "\"224.0.0.18\"", "\"lb2:7301\"", "\"[::]:7301\"", "\"\"", "1"]
    {
        let problem = format!("line 18: sync.peers: {peer} is no address of a node");
        check(PEERS, &format!("[{peer}]"), &[&problem]);
    }
    let problem = "line 18: sync.peers: expected a list of addresses, found string \"10.1.0.2\"";
    check(PEERS, "\"10.1.0.2\"", &[problem]);
    check("listen = \"10.1.0.1:7301\"\n", "", &["line 16: sync.listen: `listen` is missing"]);
    check("peers = [\"10.1.0.2\"]\n", "", &["line 16: sync.peers: `peers` is missing"]);
}

#[test]
fn peers_are_other_nodes_that_can_be_reached_and_told_apart() {
    for (peers, problems) in [
        ("", &["the list is empty: there is nobody to tell of flows"][..]),
        ("\"10.1.0.2\", \"10.1.0.2\"", &["10.1.0.2 is twice in the list"]),
        ("\"10.1.0.2:7301\", \"10.1.0.3\", \"10.1.0.2:7302\"", &["10.1.0.2 is twice in the list"]),
        ("\"10.1.0.1\"", &["10.1.0.1 is this node's own address"]),
        ("\"10.1.0.2\", \"10.1.0.1:7302\"", &["10.1.0.1 is this node's own address"]),
        ("\"192.0.2.1\"", &["192.0.2.1 is a VIP"]),
        ("\"2001:db8::1\"", &["2001:db8::1 is a VIP"]),
        (
            "\"2001:db8:1::2\"",
            &["2001:db8:1::2 cannot be reached from 10.1.0.1: one is an IPv6 address, the other an IPv4 one"],
        ),
        ("\"10.1.0.1\", \"192.0.2.1\"", &["10.1.0.1 is this node's own address", "192.0.2.1 is a VIP"]),
    ] {
        let problems: Vec<String> =
            problems.iter().map(|problem| format!("line 18: sync.peers: {problem}")).collect();
        let problems: Vec<&str> = problems.iter().map(String::as_str).collect();
        check(PEERS, &format!("[{peers}]"), &problems);
    }
    let problem = "line 18: sync.peers: 10.1.0.2 cannot be reached from 2001:db8:1::1: \
                   one is an IPv4 address, the other an IPv6 one";
    check(LISTEN, "\"[2001:db8:1::1]:7301\"", &[problem]);
}

#[test]
fn node_listens_on_an_address_that_stays_with_it() {
    check(LISTEN, "\"192.0.2.1:7301\"", &["line 17: sync.listen: 192.0.2.1 is a VIP"]);
    let v6 = "[sync]\nlisten = \"[2001:db8::1]:7301\"\npeers = [\"2001:db8:1::2\"]\n";
    check(SYNC, v6, &["line 17: sync.listen: 2001:db8::1 is a VIP"]);
    assert_eq!(section(&changed(LISTEN, "\"0.0.0.0:7301\"")).listen, at("0.0.0.0:7301"));
}

#[test]
fn what_cannot_be_read_is_not_judged_any_further() {
    let no_listen = "[sync]\nlisten = \"lb1\"\npeers = [\"2001:db8:1::2\"]\n";
    check(SYNC, no_listen, &["line 17: sync.listen: \"lb1\" is nothing to listen on"]);
    let anywhere =
        changed(LISTEN, "\"0.0.0.0:7301\"").replace("vip = \"192.0.2.1\"", "vip = \"192.0.2.300\"");
    assert_eq!(problems(&anywhere), ["line 22: service[0].vip: \"192.0.2.300\" is not an IP address"]);
    let no_cluster = format!("cluster = 1\n{}", changed(CLUSTER, ""));
    assert_eq!(problems(&no_cluster), ["line 1: cluster: expected a table, found integer"]);
}

#[test]
fn section_needs_the_key_of_a_cluster() {
    let reason = "there is no [cluster]: without a common key the nodes cannot trust what they are told";
    check(CLUSTER, "", &[&format!("line 12: sync: {reason}")]);
    let problem = parse(&changed(CLUSTER, "")).expect_err("no cluster").remove(0);
    assert_eq!(problem.remedy, "add [cluster] with name, node and key_file, or remove [sync]");
}

#[test]
fn groups_and_the_section_are_not_much_use_without_each_other() {
    warns(
        &changed(GROUP, ""),
        &["line 11: sync: there is no [[ha.group]]: only flows of VIPs that are in a group are told; \
           add an [[ha.group]] with the VIPs that move between nodes, or remove [sync]"],
    );
    let missing = "sync: there are groups, but no [sync]: connections whose backend is not the table's choice any more \
                   break at a failover; add [sync] with listen and peers";
    let without = changed(SYNC, "");
    warns(&without, &[missing]);
    warns(&without.replace("[[ha.group]]", "[ha]\nmode = \"external\"\n[[ha.group]]"), &[missing]);
    warns(&without.replace("port = 80\n", "port = 80\ntrack = false\n"), &[]);
    warns(&without.replace(GROUP, ""), &[]);
}

/// A node with groups of these names, each with a VIP of its own.
fn with_groups(names: &[String]) -> String {
    let (head, _) = NODE.split_once("[[ha.group]]").expect("a head");
    let mut text = format!("{head}{SYNC}");
    for (i, name) in names.iter().enumerate() {
        let _ = write!(
            text,
            "[[ha.group]]\nname = \"{name}\"\nvrid = {vrid}\nvips = [\"192.0.2.{vrid}\"]\ninterface = \"eth0\"\n\
             [[service]]\nname = \"s{i}\"\nvip = \"192.0.2.{vrid}\"\nport = 80\ntable_size = 4093\n\
             [[service.backend]]\naddress = \"10.0.0.1\"\n",
            vrid = i + 1,
        );
    }
    text
}

#[test]
fn names_fit_into_one_packet() {
    // 23 bytes with the names "edge" and "lb1", and three and the name for each group, of 1,340 bytes.
    let names = |last: usize| {
        let long = (0..19).map(|i| format!("g{i:0>63}"));
        long.chain([format!("h{:0>width$}", 0, width = last - 1)]).collect::<Vec<_>>()
    };
    assert!(parse(&with_groups(&names(41))).is_ok());
    let problem = |last: usize| parse(&with_groups(&names(last))).expect_err("too long").remove(0);
    for (last, excess) in [(42, "1 byte"), (43, "2 bytes"), (64, "23 bytes")] {
        let Problem { line, key, reason, remedy } = problem(last);
        assert_eq!((line, key.as_str()), (Some(13), "ha.group"));
        let expected = format!(
            "the names of cluster, node and 20 groups are {excess} too long for the packet of [sync] that tells them"
        );
        assert_eq!(reason, expected);
        assert_eq!(remedy, "write shorter names, or make fewer groups: several VIPs can be in one");
    }
    let short: Vec<String> = (0..64).map(|i| format!("group-{i}")).collect();
    assert!(parse(&with_groups(&short)).is_ok(), "as many as there can be");
    let without = with_groups(&names(64)).replace(SYNC, "");
    assert!(parse(&without).is_ok(), "nobody is told them");
    let unread = with_groups(&names(64)).replace("node = \"lb1\"", "node = \"\"");
    assert_eq!(problems(&unread), ["line 7: cluster.node: \"\" cannot be a node's name"]);
}
