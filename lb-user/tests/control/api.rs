//! The API on a real Unix socket: every call arrives as its command, and every wrong request gets its reason.

use std::io::Write as _;

use crate::stand_in::{QUEUE, StandIn, parse, read_all};

#[test]
fn every_call_reaches_the_daemon_as_its_command() {
    let daemon = StandIn::start();
    for (call, body, expected) in [
        ("GET /v1/status", "", "Status("),
        ("GET /v1/services", "", "Services("),
        ("GET /v1/services/web", "", "Service { name: \"web\""),
        ("GET /v1/services/web/table", "", "Table { name: \"web\""),
        ("GET /v1/backends", "", "Backends { service: None"),
        ("GET /v1/backends?service=web", "", "Backends { service: Some(\"web\")"),
        (
            "POST /v1/services/web/backends",
            r#"{"address": "10.0.0.9", "weight": 3}"#,
            r#"Change { change: AddBackend { service: "web", address: 10.0.0.9, weight: 3 }"#,
        ),
        (
            "POST /v1/services/web/backends",
            r#"{"address": "2001:db8::9"}"#,
            r#"Change { change: AddBackend { service: "web", address: 2001:db8::9, weight: 1 }"#,
        ),
        (
            "DELETE /v1/services/web/backends/2001%3Adb8%3A%3A9",
            "",
            r#"Change { change: RemoveBackend { service: "web", address: 2001:db8::9 }"#,
        ),
        (
            "POST /v1/services/web/backends/10.0.0.1/drain",
            "",
            r#"Change { change: SetState { service: "web", address: 10.0.0.1, state: Drain }"#,
        ),
        (
            "POST /v1/services/web/backends/10.0.0.1/enable",
            "",
            r#"Change { change: SetState { service: "web", address: 10.0.0.1, state: Enabled }"#,
        ),
        (
            "POST /v1/services/web/backends/10.0.0.1/disable",
            "",
            r#"Change { change: SetState { service: "web", address: 10.0.0.1, state: Disabled }"#,
        ),
        (
            "PUT /v1/services/web/backends/10.0.0.1/weight",
            r#"{"weight": 0}"#,
            r#"Change { change: SetWeight { service: "web", address: 10.0.0.1, weight: 0 }"#,
        ),
        ("GET /v1/flows", "", "Flows { query: FlowQuery { service: None, backend: None, limit: 100 }"),
        (
            "GET /v1/flows?service=web&backend=10.0.0.1&limit=7",
            "",
            r#"Flows { query: FlowQuery { service: Some("web"), backend: Some(10.0.0.1), limit: 7 }"#,
        ),
        (
            "GET /v1/flows/lookup?from=[2001:db8::7]:1&to=%5B2001%3Adb8%3A%3A10%5D:80&protocol=udp",
            "",
            "Lookup { query: LookupQuery { from: [2001:db8::7]:1, to: [2001:db8::10]:80, protocol: Udp }",
        ),
        ("GET /v1/counters", "", "Counters("),
        ("GET /v1/config", "", "Config("),
        ("POST /v1/config/reload", "", "Reload("),
        ("POST /v1/stop", "", "Stop { request: StopRequest { detach: false, hold_ms: None }"),
        (
            "POST /v1/stop",
            r#"{"detach": true}"#,
            "Stop { request: StopRequest { detach: true, hold_ms: None }",
        ),
        (
            "POST /v1/stop",
            r#"{"hold_ms": 5000}"#,
            "Stop { request: StopRequest { detach: false, hold_ms: Some(5000) }",
        ),
        ("POST /v1/confirm", "", "Confirm("),
    ] {
        let (method, path) = call.split_once(' ').expect("method and path");
        daemon.request(method, path, body);
        assert_eq!(daemon.heard(), [expected], "{call}");
    }
}

#[test]
fn replies_are_the_json_of_their_types() {
    let daemon = StandIn::start();
    let (status, body) = daemon.request("GET", "/v1/services/web", "");
    assert_eq!((status, &body), (200, &serde_json::to_value(crate::samples::service()).expect("JSON")));
    let back: lb_user::api::types::Service = serde_json::from_value(body).expect("readable by the client");
    assert_eq!(back, crate::samples::service());
    let (_, body) = daemon.request("GET", "/v1/status", "");
    assert_eq!(body["started"], "2023-11-14T22:13:20.000Z");
    assert_eq!(body["interfaces"][0]["mode"], "generic");
    assert!(body.get("confirm_deadline").is_none(), "only with --try");
    let (_, body) = daemon.request("GET", "/v1/services/web/table", "");
    assert_eq!(
        body,
        serde_json::json!({"size": 3, "backends": ["10.0.0.1", "10.0.0.2"], "table": [0, null, 1]})
    );
}

#[test]
fn a_wrong_request_never_reaches_the_daemon_and_is_told_why() {
    let daemon = StandIn::start();
    for (call, body, status, code, reason) in [
        ("GET /", "", 404, "not_found", "GET /"),
        ("GET /v2/status", "", 404, "not_found", "/v2/status"),
        ("GET /v1/status/", "", 404, "not_found", "/v1/status/"),
        ("POST /v1/services/web/backends/10.0.0.1/explode", "", 404, "not_found", "explode"),
        ("DELETE /v1/status", "", 405, "invalid", "DELETE"),
        ("POST /v1/services/web/backends/10.0.0.1/weight", "", 405, "invalid", "weight"),
        ("DELETE /v1/services/web/backends/backend1", "", 400, "invalid", "backend1"),
        ("POST /v1/services/web/backends/10.0.0.300/drain", "", 400, "invalid", "10.0.0.300"),
        ("GET /v1/services/%ff", "", 400, "invalid", "UTF-8"),
        ("POST /v1/services/web/backends", "", 400, "invalid", "EOF"),
        ("POST /v1/services/web/backends", "{", 400, "invalid", "EOF"),
        ("POST /v1/services/web/backends", "[]", 400, "invalid", "length"),
        ("POST /v1/services/web/backends", r#"{"weight": 1}"#, 400, "invalid", "address"),
        (
            "POST /v1/services/web/backends",
            r#"{"address": "10.0.0.9", "wieght": 1}"#,
            400,
            "invalid",
            "wieght",
        ),
        (
            "POST /v1/services/web/backends",
            r#"{"address": "10.0.0.9", "weight": 1001}"#,
            400,
            "invalid",
            "1001",
        ),
        ("POST /v1/services/web/backends", r#"{"address": "10.0.0.9", "weight": -1}"#, 400, "invalid", "-1"),
        (
            "PUT /v1/services/web/backends/10.0.0.1/weight",
            r#"{"weight": 4294967296}"#,
            400,
            "invalid",
            "4294967296",
        ),
        ("POST /v1/stop", r#"{"detach": "yes"}"#, 400, "invalid", "yes"),
        ("GET /v1/backends?name=web", "", 400, "invalid", "name"),
        ("GET /v1/flows?limit=0", "", 400, "invalid", "limit 0"),
        ("GET /v1/flows?limit=100001", "", 400, "invalid", "100001"),
        ("GET /v1/flows?backend=x", "", 400, "invalid", "backend"),
        ("GET /v1/flows/lookup?from=10.0.0.1:1&to=192.0.2.1:80", "", 400, "invalid", "protocol"),
        ("GET /v1/flows/lookup?from=10.0.0.1&to=192.0.2.1:80&protocol=tcp", "", 400, "invalid", "from"),
        ("GET /v1/flows/lookup?from=10.0.0.1:1&to=192.0.2.1:80&protocol=sctp", "", 400, "invalid", "sctp"),
        (
            "GET /v1/flows/lookup?from=10.0.0.1:1&to=[2001:db8::1]:80&protocol=tcp",
            "",
            400,
            "invalid",
            "families",
        ),
    ] {
        let (method, path) = call.split_once(' ').expect("method and path");
        let (found, answer) = daemon.request(method, path, body);
        let error = &answer["error"];
        assert_eq!((found, error["code"].as_str()), (status, Some(code)), "{call} {body}: {answer}");
        let message = error["message"].as_str().expect("message");
        assert!(message.contains(reason), "{call} {body}: {message}");
        assert!(error["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{call}: {answer}");
        assert_eq!(daemon.heard(), [""; 0], "{call}");
    }
}

#[test]
fn the_daemons_refusals_arrive_with_their_status() {
    let daemon = StandIn::start();
    for (call, body, status, code) in [
        ("GET /v1/services/nope", "", 404, "not_found"),
        ("POST /v1/services/web/backends", r#"{"address": "10.0.0.1"}"#, 409, "conflict"),
        ("POST /v1/config/reload", "", 422, "invalid_config"),
        ("GET /v1/services/stopping", "", 503, "internal"),
    ] {
        let (method, path) = call.split_once(' ').expect("method and path");
        let (found, answer) = daemon.request(method, path, body);
        assert_eq!((found, answer["error"]["code"].as_str()), (status, Some(code)), "{call}: {answer}");
    }
    let (_, answer) = daemon.request("POST", "/v1/config/reload", "");
    assert_eq!(answer["error"]["problems"][0]["line"], 7);
}

#[test]
fn an_oversized_body_is_refused_whether_announced_or_not() {
    let daemon = StandIn::start();
    let body = "x".repeat(64 * 1024 + 1);
    let head = "POST /v1/services/web/backends HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let announced = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for request in [announced, chunked] {
        let (status, answer) = parse(&daemon.raw(request.as_bytes()));
        assert_eq!((status, answer["error"]["code"].as_str()), (413, Some("invalid")), "{answer}");
        assert!(answer["error"]["message"].as_str().expect("message").contains("65536"), "{answer}");
    }
    assert_eq!(daemon.heard(), [""; 0]);
    assert_eq!(daemon.request("GET", "/v1/status", "").0, 200, "the server goes on");
}

#[test]
fn what_is_no_http_is_turned_away() {
    let daemon = StandIn::start();
    for nonsense in
        ["\x16\x03\x01\x02\r\n\r\n".as_bytes(), b"GET /v1/status\r\n\r\n", b"\r\n\r\n\r\n\r\n \r\n\r\n"]
    {
        let answer = daemon.raw(nonsense);
        let (status, body) = parse(&answer);
        assert_eq!((status, body["error"]["code"].as_str()), (400, Some("invalid")), "{answer:?}");
        assert_ne!(body["error"]["remedy"], "");
    }
    // Just more than is read: what a server leaves unread may cost the client the answer.
    let header = format!("GET /v1/status HTTP/1.1\r\nx: {}", "y".repeat(16 << 10));
    let path = format!("GET /{}", "y".repeat(17 << 10));
    for request in [header, path] {
        let answer = daemon.raw(request.as_bytes());
        let (status, body) = parse(&answer);
        assert_eq!((status, body["error"]["code"].as_str()), (431, Some("invalid")), "{answer:?}");
    }
    assert_eq!(daemon.heard(), [""; 0]);
    assert_eq!(daemon.request("GET", "/v1/status", "").0, 200, "the server goes on");
}

#[test]
fn slow_clients_hold_nobody_up_and_are_let_go() {
    let daemon = StandIn::start();
    let mut half_head = daemon.connect();
    half_head.write_all(b"GET /v1/status HTTP/1.1\r\nhost:").expect("sent");
    let mut half_body = daemon.connect();
    let head = "POST /v1/stop HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 20\r\n\r\n{";
    half_body.write_all(head.as_bytes()).expect("sent");
    assert_eq!(daemon.request("GET", "/v1/status", "").0, 200, "others are served meanwhile");
    // Both reads end only because the server gives up; the test fails after a minute if it does not.
    let (status, answer) = parse(&read_all(&mut half_body));
    assert_eq!((status, answer["error"]["code"].as_str()), (408, Some("invalid")), "{answer}");
    let answer = read_all(&mut half_head);
    let (status, answer) = parse(&answer);
    assert_eq!((status, answer["error"]["code"].as_str()), (408, Some("invalid")), "{answer}");
    assert_eq!(daemon.heard(), ["Status("]);
}

#[test]
fn a_full_queue_refuses_with_the_advice_to_come_again_and_carries_nothing_of_it_out() {
    let mut daemon = StandIn::start_busy();
    let weight = "{\"weight\": 7}";
    let request = |address: usize| {
        format!(
            "PUT /v1/services/web/backends/10.0.0.{address}/weight HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{weight}",
            weight.len()
        )
    };
    let (answers, answered) = std::sync::mpsc::channel();
    for address in 1..=3 * QUEUE {
        let (mut client, answers) = (daemon.connect(), answers.clone());
        client.write_all(request(address).as_bytes()).expect("sent");
        std::thread::spawn(move || answers.send((address, read_all(&mut client))));
    }
    assert_eq!(daemon.request("GET", "/v1/nothing", "").0, 404, "what needs no daemon is answered meanwhile");
    let next = || answered.recv_timeout(std::time::Duration::from_secs(60)).expect("answered");
    // As many as find no place; the others wait.
    for _ in QUEUE..3 * QUEUE {
        let (_, answer) = next();
        let (status, body) = parse(&answer);
        assert_eq!((status, body["error"]["code"].as_str()), (503, Some("internal")), "{answer}");
        assert!(answer.contains("\r\nretry-after: 5\r\n"), "{answer}");
        let error = &body["error"];
        assert!(error["message"].as_str().is_some_and(|message| message.contains("busy")), "{answer}");
        assert!(error["remedy"].as_str().is_some_and(|it| it.starts_with("nothing was done")), "{answer}");
    }
    assert_eq!((daemon.heard(), answered.try_recv().is_err()), (vec![], true));
    daemon.go_on();
    let mut done: Vec<String> = (0..QUEUE)
        .map(|_| {
            let (address, answer) = next();
            assert_eq!(parse(&answer).0, 200);
            format!("10.0.0.{address},")
        })
        .collect();
    let heard = daemon.heard();
    done.retain(|address| !heard.iter().any(|heard| heard.contains(address)));
    assert_eq!((heard.len(), &done[..]), (QUEUE, &[][..]), "{heard:?}");
    assert_eq!(daemon.request("GET", "/v1/status", "").0, 200);
}

#[test]
fn a_client_that_never_reads_keeps_nobody_out_and_does_not_keep_the_server_from_stopping() {
    let mut daemon = StandIn::start();
    let deaf: Vec<_> = (0..20).map(|_| deaf(&daemon)).collect();
    for _ in 0..20 {
        assert_eq!(daemon.request("GET", "/v1/status", "").0, 200);
    }
    daemon.stop();
    assert!(!daemon.socket().exists());
    drop(deaf);
}

/// Asks for more than fits into the connection, and reads nothing.
fn deaf(daemon: &StandIn) -> std::os::unix::net::UnixStream {
    let mut client = daemon.connect();
    client.set_nonblocking(true).expect("set");
    let question = b"GET /v1/services/web HTTP/1.1\r\nhost: x\r\n\r\n".repeat(64);
    while client.write(&question).is_ok_and(|written| written > 0) {}
    client
}

#[test]
fn as_many_deaf_clients_as_connections_are_given_up() {
    let daemon = StandIn::start();
    let mut deaf: Vec<_> = (0..256).map(|_| deaf(&daemon)).collect();
    // Waits for a place, and is served once somebody was given up; the test fails after a minute if nobody is.
    assert_eq!(daemon.request("GET", "/v1/status", "").0, 200);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    deaf.retain_mut(|client| {
        loop {
            match client.write(b"x") {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
                Ok(_) => {}
            }
            if std::time::Instant::now() > until {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    assert_eq!(deaf.len(), 0, "some deaf clients are still connected");
}

#[test]
fn two_hundred_idle_connections_keep_nobody_out() {
    let daemon = StandIn::start();
    let idle: Vec<_> = (0..200).map(|_| daemon.connect()).collect();
    for _ in 0..3 {
        assert_eq!(daemon.request("GET", "/v1/status", "").0, 200);
    }
    assert_eq!(daemon.heard(), ["Status("; 3]);
    drop(idle);
}

#[test]
fn idle_connections_do_not_keep_the_server_from_stopping() {
    let mut daemon = StandIn::start();
    let mut idle = daemon.connect();
    idle.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    let mut first = [0; 12];
    std::io::Read::read_exact(&mut idle, &mut first).expect("answered");
    assert_eq!(&first, b"HTTP/1.1 200");
    daemon.stop();
    assert!(!daemon.socket().exists());
    read_all(&mut idle);
}
