//! Texts before and after a change.

use super::*;

const FILE: &str = r#"# the front door
[[interface]]
name = "eth0" # uplink

[[service]]
name = "web"
vip = "192.0.2.1"
port = 80

# old machines
[[service.backend]]
address = "10.0.0.1" # rack 1
weight = 2   # twice the cores

# new machine
[[service.backend]]
address = "10.0.0.2"
state = "enabled"

[service.check] # behind the backends
kind = "tcp"

# name service
[[service]]
name = "dns"
vip = "192.0.2.2"
port = 53
backend = [ { address = "10.0.0.3" }, { address = "10.0.0.4", weight = 5 } ] # inline
"#;

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// Applies a change and compares, line by line, what went (`-`) and what came (`+`).
#[track_caller]
fn check(change: &Change, difference: &[&str]) {
    let new = apply(FILE, change).expect("a change that can be made");
    let (old_lines, new_lines): (Vec<_>, Vec<_>) = (FILE.lines().collect(), new.lines().collect());
    let same_head = old_lines.iter().zip(&new_lines).take_while(|(old, new)| old == new).count();
    let same_tail = old_lines[same_head..]
        .iter()
        .rev()
        .zip(new_lines[same_head..].iter().rev())
        .take_while(|(old, new)| old == new)
        .count();
    let gone = old_lines[same_head..old_lines.len() - same_tail].iter().map(|line| format!("-{line}"));
    let came = new_lines[same_head..new_lines.len() - same_tail].iter().map(|line| format!("+{line}"));
    assert_eq!(gone.chain(came).collect::<Vec<_>>(), difference, "whole text:\n{new}");
}

fn add(service: &str, address: &str, weight: u32) -> Change {
    Change::AddBackend { service: service.to_owned(), address: ip(address), weight }
}

fn remove_of(service: &str, address: &str) -> Change {
    Change::RemoveBackend { service: service.to_owned(), address: ip(address) }
}

fn state(service: &str, address: &str, state: AdminState) -> Change {
    Change::SetState { service: service.to_owned(), address: ip(address), state }
}

fn weight(service: &str, address: &str, weight: u32) -> Change {
    Change::SetWeight { service: service.to_owned(), address: ip(address), weight }
}

#[test]
fn added_backend_stands_behind_the_last_one_of_its_service() {
    check(
        &add("web", "10.0.0.9", 3),
        &["+[[service.backend]]", "+address = \"10.0.0.9\"", "+weight = 3", "+"],
    );
    check(&add("web", "10.0.0.9", 1), &["+[[service.backend]]", "+address = \"10.0.0.9\"", "+"]);
    check(
        &add("dns", "10.0.0.9", 2),
        &[
            "-backend = [ { address = \"10.0.0.3\" }, { address = \"10.0.0.4\", weight = 5 } ] # inline",
            "+backend = [ { address = \"10.0.0.3\" }, { address = \"10.0.0.4\", weight = 5 }, { address = \"10.0.0.9\", weight = 2 } ] # inline",
        ],
    );
}

#[test]
fn removed_backend_takes_only_its_own_lines() {
    check(
        &remove_of("web", "10.0.0.2"),
        &["-[[service.backend]]", "-address = \"10.0.0.2\"", "-state = \"enabled\""],
    );
    check(
        &remove_of("web", "10.0.0.1"),
        &["-[[service.backend]]", "-address = \"10.0.0.1\" # rack 1", "-weight = 2   # twice the cores"],
    );
    let inline = apply(FILE, &remove_of("dns", "10.0.0.3")).expect("it is there");
    assert!(inline.contains("[ { address = \"10.0.0.4\", weight = 5 } ] # inline"), "{inline}");
}

#[test]
fn changed_value_keeps_the_comment_beside_it() {
    check(
        &weight("web", "10.0.0.1", 7),
        &["-weight = 2   # twice the cores", "+weight = 7   # twice the cores"],
    );
    check(&state("web", "10.0.0.2", AdminState::Drain), &["-state = \"enabled\"", "+state = \"drain\""]);
}

#[test]
fn missing_key_is_written_behind_the_others() {
    check(&state("web", "10.0.0.1", AdminState::Disabled), &["+state = \"disabled\""]);
    check(&weight("web", "10.0.0.2", 0), &["+weight = 0"]);
}

#[test]
fn default_that_is_not_written_stays_unwritten() {
    check(&state("web", "10.0.0.1", AdminState::Enabled), &[]);
    check(&weight("web", "10.0.0.2", 1), &[]);
}

#[test]
fn addresses_are_compared_by_value() {
    let file = "[[service]]\nname = \"six\"\n[[service.backend]]\naddress = \"2001:DB8:0::1\"\n";
    let new = apply(file, &weight("six", "2001:db8::1", 4)).expect("the same address");
    assert_eq!(new, format!("{file}weight = 4\n"));
}

#[test]
fn indentation_of_the_neighbours_is_kept() {
    let file = "[[service]]\n  name = \"a\"\n  [[service.backend]]\n    address = \"10.0.0.1\"\n";
    let new = apply(file, &add("a", "10.0.0.2", 2)).expect("added");
    assert_eq!(new, format!("{file}  [[service.backend]]\n    address = \"10.0.0.2\"\n    weight = 2\n"));
    let new = apply(file, &weight("a", "10.0.0.1", 3)).expect("set");
    assert_eq!(new, format!("{file}    weight = 3\n"));
}

#[test]
fn inline_list_on_several_lines_keeps_its_layout() {
    let file = "[[service]]\nname = \"a\"\nbackend = [\n  { address = \"10.0.0.1\" }, # one\n]\n";
    let new = apply(file, &add("a", "10.0.0.2", 1)).expect("added");
    assert_eq!(
        new,
        "[[service]]\nname = \"a\"\nbackend = [\n  { address = \"10.0.0.1\" }, # one\n  { address = \"10.0.0.2\" },\n]\n"
    );
}

#[test]
fn comment_without_a_comma_before_it_survives() {
    let file = "[[service]]\nname = \"a\"\nbackend = [\n  { address = \"10.0.0.1\" } # one\n]\n";
    let new = apply(file, &add("a", "10.0.0.2", 1)).expect("added");
    assert!(new.contains("# one\n") && new.parse::<DocumentMut>().is_ok(), "{new}");
    assert!(new.contains("\n  { address = \"10.0.0.2\" }"), "{new}");
}

#[test]
fn first_backend_of_a_service_can_be_added() {
    let file = "[[service]]\nname = \"a\"\nport = 1\n\n[[service]]\nname = \"b\"\n";
    let new = apply(file, &add("a", "10.0.0.1", 1)).expect("added");
    assert_eq!(
        new,
        "[[service]]\nname = \"a\"\nport = 1\n\n[[service.backend]]\naddress = \"10.0.0.1\"\n\n[[service]]\nname = \"b\"\n"
    );
}

#[test]
fn adding_and_removing_restores_the_text() {
    let with = apply(FILE, &add("web", "10.0.0.9", 3)).expect("added");
    assert_eq!(apply(&with, &remove_of("web", "10.0.0.9")).expect("removed"), FILE);
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let cases = [
        (weight("wbe", "10.0.0.1", 2), "there is no service \"wbe\"; known are: web, dns"),
        (remove_of("wbe", "10.0.0.1"), "there is no service \"wbe\"; known are: web, dns"),
        (
            state("web", "10.0.0.7", AdminState::Drain),
            "service \"web\" has no backend 10.0.0.7; it has: 10.0.0.1, 10.0.0.2",
        ),
        (remove_of("dns", "10.0.0.7"), "service \"dns\" has no backend 10.0.0.7; it has: 10.0.0.3, 10.0.0.4"),
        (
            add("web", "10.0.0.1", 1),
            "service \"web\" has backend 10.0.0.1 already; change its weight or state instead",
        ),
    ];
    for (change, message) in cases {
        assert_eq!(apply(FILE, &change).expect_err(message).to_string(), message);
    }
}

#[test]
fn text_that_is_not_toml_is_refused() {
    let error = apply("[[service]\n", &weight("a", "10.0.0.1", 2)).expect_err("not TOML");
    assert!(matches!(error, EditError::Unreadable { .. }), "{error}");
}

#[test]
fn windows_line_ends_are_read_and_stay_valid() {
    let file = FILE.replace('\n', "\r\n");
    for change in [add("web", "10.0.0.9", 3), remove_of("web", "10.0.0.1"), weight("web", "10.0.0.2", 4)] {
        let new = apply(&file, &change).expect("a change that can be made");
        let plain = apply(FILE, &change).expect("a change that can be made");
        assert_eq!(new.replace('\r', ""), plain);
    }
}
