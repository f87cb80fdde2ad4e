//! The command line against a daemon on a real socket: what it shows, and its exit codes.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::stand_in::{METRICS, StandIn, scratch};
use lb_user::cli;

/// Exit code, stdout and stderr of a command.
fn fairlead(socket: &Path, line: &str) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let socket = socket.to_str().expect("UTF-8");
    let args = ["fairlead", "--socket", socket].into_iter().chain(line.split(' '));
    let code = cli::run(args, &mut out, &mut err);
    (code, String::from_utf8(out).expect("UTF-8"), String::from_utf8(err).expect("UTF-8"))
}

#[test]
fn answers_are_shown_in_tables() {
    let daemon = StandIn::start();
    for (line, expected) in [
        ("status", "fairlead 0.1.0, instance main, process 4711, up 1h 2m, took over from an earlier daemon"),
        ("status", "/etc/f.toml, generation 3, loaded"),
        ("status", "changed on disk since: `fairlead config reload`"),
        ("status", "1 service, 2 backends: 1 up, 1 down\n"),
        ("status", "1024 of 1048576 entries (0.1 %)"),
        ("status", "64.0 MiB: services 1/512"),
        ("status", "eth0           2  steer  generic  auto             77     7  the driver refused\n"),
        ("status", "warning: eth0 is attached in generic mode\n"),
        (
            "service list",
            "web   192.0.2.10:80  tcp       ipip      1/2     24     6800  10.0 MiB  10.0.0.2 is down\n",
        ),
        ("service show web", "check     http :80/health every 1s\n"),
        ("service show web", "10.0.0.1       1  enabled  up      serving  100.0 %"),
        ("backend list", "web      10.0.0.2"),
        ("backend list web", "10.0.0.2:80: connection refused\n"),
        ("backend add web 10.0.0.9 --weight 2", "done as asked (generation 4)\n"),
        ("backend weight web 10.0.0.1 0", "done as asked (generation 4)\n"),
        (
            "flow list",
            "198.51.100.7:40000  192.0.2.10:80  tcp       web      10.0.0.1  established   9s  yes\n",
        ),
        ("flow list", "there are more: raise --limit\n"),
        (
            "flow lookup --from 198.51.100.7:40000 --to 192.0.2.10:80",
            "web -> 10.0.0.1\n  the flow table has an entry\n",
        ),
        (
            "flow lookup --from 198.51.100.7:40000 --to 192.0.2.10:80",
            "  elsewhere than the table since 2023-11-14T22:13:20.000Z: backend add web 10.0.0.2 (generation 4)\n",
        ),
        (
            "-o json flow lookup --from 198.51.100.7:40000 --to 192.0.2.10:80",
            r#""exception_since":{"at":"2023-11-14T22:13:20.000Z","cause":"backend add web 10.0.0.2","generation":4}"#,
        ),
        ("ha status", "web    active   150  192.0.2.10  2023-11-14T22:13:29.000Z  192.0.2.3 said goodbye\n"),
        ("ha status", "web: VRID 51 ipv4: 192.0.2.3 was active with priority 200, heard last at"),
        ("ha status", "web: paused: takes no role over; `fairlead ha resume` ends that\n"),
        ("ha status", "web: VIPs are not announced: 192.0.2.10: no buffer space\n"),
        ("ha status", "Timekeeping: real-time, memory not locked, at most 120 us late, 1 wake-ups"),
        ("ha handover --all", "Handover of all\n"),
        ("ha resume --group web", "Resume of web\n"),
        ("ha set active", "Active of all\n"),
        ("ha set standby --group web", "Standby of web\n"),
        ("-o json ha status", r#""role":"active""#),
        ("counters", "verdict  forwarded       6800  about forwarded\n"),
        ("counters --all", "drop     no_backend         0  about no_backend\n"),
        (
            "config show",
            "# /etc/f.toml, generation 3, loaded 2023-11-14T22:13:20.000Z\n# hand-written\n[[interface]]",
        ),
        ("metrics", METRICS),
        ("-o json metrics", METRICS),
        ("stop", "stopped\n"),
        ("stop --detach", "stopped, detached\n"),
    ] {
        let (code, out, err) = fairlead(daemon.socket(), line);
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        assert!(out.contains(expected), "{line} shows no {expected:?}:\n{out}");
    }
    assert!(!fairlead(daemon.socket(), "counters").1.contains("no_backend"), "zeros only with --all");
}

#[test]
fn json_is_the_answer_of_the_api_unchanged() {
    let daemon = StandIn::start();
    for (line, path) in [
        ("-o json status", "/v1/status"),
        ("service list -o json", "/v1/services"),
        ("-o json service show web", "/v1/services/web"),
        ("-o json backend list", "/v1/backends"),
        ("-o json backend list web", "/v1/backends"),
        ("-o json flow list", "/v1/flows"),
        ("-o json counters", "/v1/counters"),
        ("-o json config show", "/v1/config"),
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = daemon.raw(head.as_bytes());
        let (_, body) = answer.split_once("\r\n\r\n").expect("HTTP");
        assert_eq!(fairlead(daemon.socket(), line), (0, format!("{body}\n"), String::new()), "{line}");
    }
}

#[test]
fn arguments_arrive_at_the_daemon_whatever_is_in_them() {
    let daemon = StandIn::start();
    for (line, expected) in [
        ("service show a/b?c", r#"Service { name: "a/b?c""#),
        ("backend list ü&service=x", r#"Backends { service: Some("ü&service=x")"#),
        (
            "backend drain .. 2001:db8::1",
            r#"Change { change: SetState { service: "..", address: 2001:db8::1, state: Drain }"#,
        ),
        (
            "flow list --service web --backend 2001:db8::1 --limit 5",
            r#"Flows { query: FlowQuery { service: Some("web"), backend: Some(2001:db8::1), limit: 5 }"#,
        ),
        (
            "flow lookup --from [2001:db8::7]:5 --to [2001:db8::10]:53 --protocol udp",
            "Lookup { query: LookupQuery { from: [2001:db8::7]:5, to: [2001:db8::10]:53, protocol: Udp }",
        ),
        ("stop --detach", "Stop { request: StopRequest { detach: true, hold_ms: None }"),
        ("stop --hold 5s", "Stop { request: StopRequest { detach: false, hold_ms: Some(5000) }"),
    ] {
        fairlead(daemon.socket(), line);
        assert_eq!(daemon.heard(), [expected], "{line}");
    }
}

#[test]
fn refusals_decide_the_exit_code_and_name_the_remedy() {
    let daemon = StandIn::start();
    for (line, code, word, text) in [
        ("service show nope", 1, "not_found", "known are: web"),
        ("backend list nope", 1, "not_found", "known are: web"),
        ("service show stopping", 1, "internal", "the daemon is stopping"),
        ("flow lookup --from 10.0.0.1:1 --to [2001:db8::1]:80", 2, "invalid", "different families"),
        (
            "config reload",
            3,
            "invalid_config",
            "line 7: service[0].vip: \"x\" is not an IP address; write an address",
        ),
        ("backend add web 10.0.0.1", 5, "conflict", "change its weight"),
        ("confirm", 5, "conflict", "start with --try"),
    ] {
        let (found, out, err) = fairlead(daemon.socket(), line);
        assert_eq!((found, out.as_str()), (code, ""), "{line}: {err}");
        assert!(err.contains(text), "{line}: {err}");
        let (found, out, err) = fairlead(daemon.socket(), &format!("-o json {line}"));
        assert_eq!((found, out.as_str()), (code, ""), "{line}: {err}");
        let error: serde_json::Value = serde_json::from_str(&err).expect("JSON");
        assert_eq!(error["error"]["code"], word, "{line}");
    }
}

#[test]
fn an_unreachable_daemon_is_exit_code_4_and_the_socket_is_named() {
    let folder = scratch();
    let missing = folder.join("missing.sock");
    let dead = folder.join("dead.sock");
    drop(UnixListener::bind(&dead).expect("bound"));
    for socket in [missing, dead] {
        for line in ["status", "backend drain web 10.0.0.1", "stop", "config reload", "flow list"] {
            let (code, out, err) = fairlead(&socket, line);
            assert_eq!((code, out.as_str()), (4, ""), "{line}: {err}");
            assert!(
                err.contains(socket.to_str().expect("UTF-8")) && err.contains("fairlead run"),
                "{line}: {err}"
            );
        }
        let (code, _, err) = fairlead(&socket, "-o json status");
        assert_eq!(code, 4);
        assert!(err.contains("\"code\":\"unreachable\""), "{err}");
    }
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn a_peer_that_is_not_the_daemon_is_a_failure_and_not_a_panic() {
    for (answer, expected) in [
        ("", "did not answer"),
        ("SSH-2.0-OpenSSH_9.9\r\n", "did not answer"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "did not answer"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "does not speak this API"),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\nnope", "HTTP status 502"),
    ] {
        let folder = scratch();
        let socket = folder.join("other.sock");
        let listener = UnixListener::bind(&socket).expect("bound");
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).expect("read") > 0);
            stream.write_all(answer.as_bytes()).expect("sent");
        });
        let (code, out, err) = fairlead(&socket, "status");
        peer.join().expect("peer");
        assert_eq!((code, out.as_str()), (1, ""), "{answer:?}: {err}");
        assert!(err.contains(expected), "{answer:?}: {err}");
        std::fs::remove_dir_all(folder).expect("removed");
    }
}

const GOOD: &str = r#"
[[interface]]
name = "eth0"

[[service]]
name = "web"
vip = "192.0.2.10"
port = 80
[[service.backend]]
address = "10.0.0.1"
"#;

#[test]
fn a_file_is_checked_without_daemon_and_everything_wrong_is_told() {
    let folder = scratch();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let nobody = folder.join("nobody.sock");
    let good = file("good.toml", GOOD);
    let bad = file("bad.toml", &GOOD.replace("192.0.2.10", "192.0.2.300").replace("port = 80", "port = 0"));

    let (code, out, err) = fairlead(&nobody, &format!("config check {good} --offline"));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("good.toml is good: 1 service, 1 backend"), "{out}");

    let (code, out, err) = fairlead(&nobody, &format!("config check {bad} --offline"));
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("bad.toml has 2 problems") && err.contains("line 7: service[0].vip"), "{err}");
    assert!(err.contains("line 8: service[0].port"), "{err}");

    let (code, out, _) = fairlead(&nobody, &format!("-o json config check {bad} --offline"));
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &report["ok"]), (3, &serde_json::Value::Bool(false)));
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(2), "{report}");

    let (code, _, err) = fairlead(&nobody, "config check /nonexistent/f.toml --offline");
    assert_eq!(code, 1);
    assert!(err.contains("/nonexistent/f.toml"), "{err}");
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn stdout_that_nobody_reads_is_no_error() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let daemon = StandIn::start();
    let mut err = Vec::new();
    let args = ["fairlead", "--socket", daemon.socket().to_str().expect("UTF-8"), "service", "list"];
    assert_eq!(cli::run(args, &mut Closed, &mut err), 0);
    assert!(err.is_empty(), "{}", String::from_utf8_lossy(&err));
}
