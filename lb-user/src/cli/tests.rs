//! What the command line takes, and that every command explains itself.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_definition_of_the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_shows_examples_of_itself() {
    let mut root = Cli::command();
    root.build();
    let mut seen = 0;
    visit(&mut root, "", &mut seen);
    assert!(seen >= 25, "only {seen} commands were looked at");
}

fn visit(command: &mut clap::Command, path: &str, seen: &mut usize) {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    for help in [command.render_help().to_string(), command.render_long_help().to_string()] {
        let examples = help.split_once("Examples:\n").map(|(_, after)| after);
        assert!(
            examples.is_some_and(|lines| lines.contains(&path)),
            "`{path} --help` shows no example of itself:\n{help}"
        );
    }
    assert!(command.get_about().is_some(), "{path} does not say what it does");
    *seen += 1;
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        visit(sub, &path, seen);
    }
}

#[test]
fn what_is_meant_is_understood() {
    for line in [
        "run --config f.toml",
        "run -c f.toml --netns blue --instance edge --try 60s --pin-dir /p --state-dir /s --log-format json --bpf-log info",
        "run --config f.toml --log-level info,lb_user::probe=debug",
        "status",
        "-o json --socket /tmp/s status",
        "status -o json --instance edge",
        "service list",
        "service show web",
        "backend list",
        "backend list web",
        "backend add web 10.0.0.1",
        "backend add web 2001:db8::1 --weight 1000",
        "backend remove web 10.0.0.1",
        "backend drain web 10.0.0.1",
        "backend enable web 10.0.0.1",
        "backend disable web 10.0.0.1",
        "backend weight web 10.0.0.1 0",
        "flow list",
        "flow list --service web --backend 10.0.0.1 --limit 5",
        "flow lookup --from 198.51.100.7:40000 --to 192.0.2.10:80 --protocol udp",
        "flow lookup --from [2001:db8::7]:1 --to [2001:db8::10]:80",
        "trace --hex 0200",
        "trace --pcap f.pcap --interface eth0 --commit",
        "trace --from 198.51.100.7:40000 --to 192.0.2.10:80 --proto udp --ttl 3 --payload 100",
        "trace --from 198.51.100.7:40000 --to 192.0.2.10:80 --flags FA",
        "counters --all",
        "config check f.toml --netns blue",
        "config check f.toml --offline",
        "config show",
        "config reload",
        "confirm",
        "stop --detach",
        "decap attach --dev eth0 --vip 192.0.2.10 192.0.2.11 --from 10.0.0.0/29 10.1.0.2 --netns web1 --mode generic",
        "decap attach --dev eth0 --vip 192.0.2.10 --vip 2001:db8::10 --from 10.0.0.2,2001:db8::/64",
        "decap detach --dev eth0 --netns web1",
        "decap status --netns /proc/1/ns/net",
    ] {
        let parsed = Cli::try_parse_from(format!("fairlead {line}").split(' '));
        assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("is one"));
    }
}

#[test]
fn wrong_usage_is_refused_with_exit_code_2_and_the_culprit_named() {
    // Should one of these be taken after all, then it names files and devices that are not there.
    for (line, culprit) in [
        ("run", "--config"),
        ("run --config f.toml --try soon", "soon"),
        ("run --config f.toml --try 48h", "48h"),
        ("run --config f.toml --log-level loud", "loud"),
        ("run --config f.toml --bpf-log loud", "loud"),
        ("run --config f.toml --instance ../x", "../x"),
        ("run --config f.toml --instance a.b", "a.b"),
        ("status extra", "extra"),
        ("statsu", "statsu"),
        ("-o xml status", "xml"),
        ("service show", "SERVICE"),
        ("backend add web", "ADDRESS"),
        ("backend add web 10.0.0.1 --weight 1001", "1001"),
        ("backend add web backend1", "backend1"),
        ("backend weight web 10.0.0.1", "N"),
        ("backend weight web 10.0.0.1 -1", "-1"),
        ("flow list --limit 0", "0"),
        ("flow lookup --from 198.51.100.7 --to 192.0.2.10:80", "198.51.100.7"),
        ("flow lookup --from 198.51.100.7:1 --to 192.0.2.10:80 --protocol sctp", "sctp"),
        ("trace", "--hex"),
        ("trace --from 198.51.100.7:1", "--to"),
        ("trace --hex 02 --pcap f", "--pcap"),
        ("trace --from 198.51.100.7:1 --to 192.0.2.1:1 --flags X", "'X'"),
        ("trace --from 198.51.100.7:1 --to 192.0.2.1:1 --proto udp --flags A", "--flags"),
        ("trace --hex no-such-frame.txt", "no-such-frame.txt"),
        ("config check", "FILE"),
        ("config check f.toml --offline --netns blue", "--netns"),
        ("decap attach --dev no-such-dev0 --vip 192.0.2.10", "--from"),
        ("decap attach --dev no-such-dev0 --vip 192.0.2.10 --from 10.0.0.0/33", "10.0.0.0/33"),
        ("decap attach --dev no-such-dev0 --vip 192.0.2.10 --from 10.0.0.2 --mode fast", "fast"),
    ] {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(format!("fairlead {line}").split(' '), &mut out, &mut err);
        let err = String::from_utf8(err).expect("UTF-8");
        assert_eq!(code, 2, "{line}: {err}");
        assert!(err.contains(culprit), "{line}: {err}");
        assert!(out.is_empty(), "{line}: {}", String::from_utf8_lossy(&out));
    }
}

#[test]
fn long_help_shows_the_long_text() {
    for (line, text) in [
        ("--help", LONG_ABOUT),
        ("run --help", run::LONG_ABOUT),
        ("trace --help", trace::LONG_ABOUT),
        ("confirm --help", daemon::CONFIRM_ABOUT),
    ] {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        run(format!("fairlead {line}").split(' '), &mut out, &mut err);
        // Wrapped, it has other white space.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let out = words(&String::from_utf8_lossy(&out));
        assert!(out.contains(&words(text)), "{line}: {out}");
    }
}

#[test]
fn help_and_version_go_to_stdout_and_succeed() {
    for line in ["--help", "-h", "--version", "backend weight --help"] {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(run(format!("fairlead {line}").split(' '), &mut out, &mut err), 0, "{line}");
        assert!(!out.is_empty() && err.is_empty(), "{line}");
    }
}

#[test]
fn a_namespace_that_is_not_there_stops_the_command() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let line = "fairlead decap status --netns fairlead-no-such-namespace";
    assert_eq!(run(line.split(' '), &mut out, &mut err), 1);
    assert!(String::from_utf8_lossy(&err).contains("/run/netns/fairlead-no-such-namespace"));
}
