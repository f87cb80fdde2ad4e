//! Probes of real servers on the loopback.

use std::net::Ipv6Addr;

use lb_core::config::{Check, CheckKind};
use tokio::time::timeout;

use super::servers::{Answer, LOOPBACK, PATIENCE, hasty, http, http_check, patient, port, refusing, silent};
use super::*;

fn tcp_check() -> Check {
    Check::new(CheckKind::Tcp)
}

/// The result of a probe of the loopback, which must come by itself.
async fn result(check: &Check, port: u16) -> Result<(), String> {
    timeout(PATIENCE, probe(check, port, LOOPBACK)).await.expect("a probe ends within its own time")
}

#[tokio::test]
async fn connection_is_enough_for_a_tcp_check_and_not_for_http() {
    let server = silent();
    assert_eq!(result(&patient(tcp_check()), port(&server)).await, Ok(()));
    let error = result(&hasty(http_check()), port(&server)).await;
    assert_eq!(error, Err("connected, but no complete HTTP answer within 100ms".to_owned()));
}

#[tokio::test]
async fn refused_connection_is_told_as_such() {
    for check in [tcp_check(), http_check()] {
        assert_eq!(result(&patient(check), refusing()).await, Err("connection refused".to_owned()));
    }
}

#[tokio::test]
async fn backend_that_answers_no_connection_fails_at_the_deadline() {
    // With no room in its queue, the kernel drops what asks to connect.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind((LOOPBACK, 0).into()).expect("a port of the loopback");
    let server = socket.listen(1).expect("a bound socket");
    let target = server.local_addr().expect("it is bound");
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(hasty(tcp_check()).timeout, tokio::net::TcpStream::connect(target)).await {
        waiting.push(stream.expect("somebody listens"));
    }
    for check in [tcp_check(), http_check()] {
        let error = result(&hasty(check), target.port()).await;
        assert_eq!(error, Err("no answer within 100ms".to_owned()));
    }
}

#[tokio::test]
async fn check_has_a_port_of_its_own_or_the_services() {
    let server = silent();
    let check = Check { port: Some(port(&server)), ..patient(tcp_check()) };
    assert_eq!(result(&check, refusing()).await, Ok(()));
}

#[tokio::test]
async fn status_is_held_against_the_expected_ones() {
    for (status, expect, expected) in [
        (200, "200-399", Ok(())),
        (302, "200-399", Ok(())),
        (204, "200-399", Ok(())),
        (503, "200-399", Err("status 503, expected 200-399")),
        (404, "200,204", Err("status 404, expected 200,204")),
        (200, "204", Err("status 200, expected 204")),
    ] {
        let check = Check { expect: expect.parse().expect(expect), ..patient(http_check()) };
        let (port, _) = http(LOOPBACK, Answer::status(status));
        assert_eq!(result(&check, port).await, expected.map_err(str::to_owned), "{status} for {expect}");
    }
}

#[tokio::test]
async fn request_carries_host_and_path() {
    let (port, mut heads) = http(LOOPBACK, Answer::status(200));
    let check = Check {
        host: Some("www.example.com".to_owned()),
        path: "/live?x=1".to_owned(),
        ..patient(http_check())
    };
    assert_eq!(result(&check, port).await, Ok(()));
    let head = heads.recv().await.expect("a request came").to_lowercase();
    assert!(head.starts_with("get /live?x=1 http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: www.example.com\r\n"), "{head}");
}

#[tokio::test]
async fn ipv6_backend_is_probed() {
    let (port, mut heads) = http(Ipv6Addr::LOCALHOST.into(), Answer::status(200));
    assert_eq!(probe(&patient(http_check()), port, Ipv6Addr::LOCALHOST.into()).await, Ok(()));
    let head = heads.recv().await.expect("a request came").to_lowercase();
    assert!(head.contains("\r\nhost: [::1]\r\n"), "{head}");
}

#[tokio::test]
async fn answer_that_trickles_fails_at_the_one_deadline() {
    for start in ["HTTP/1.1 200 OK\r\nX-Header: ", "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"] {
        let (port, _) = http(LOOPBACK, Answer::Trickle(start.to_owned()));
        let error = result(&hasty(http_check()), port).await;
        assert_eq!(error, Err("connected, but no complete HTTP answer within 100ms".to_owned()), "{start}");
    }
}

#[tokio::test]
async fn wrong_status_is_told_without_waiting_for_the_body() {
    let start = "HTTP/1.1 500 Broken\r\nContent-Length: 60000\r\n\r\n";
    let (port, _) = http(LOOPBACK, Answer::Trickle(start.to_owned()));
    assert_eq!(result(&patient(http_check()), port).await, Err("status 500, expected 200-399".to_owned()));
}

#[tokio::test]
async fn of_an_endless_body_only_the_beginning_is_read() {
    let start = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
    let (port, _) = http(LOOPBACK, Answer::Flood(start.to_owned()));
    assert_eq!(result(&patient(http_check()), port).await, Ok(()));
}

#[tokio::test]
async fn endless_head_is_refused() {
    let (port, _) = http(LOOPBACK, Answer::Flood("HTTP/1.1 200 OK\r\nX-Header: ".to_owned()));
    let error = result(&patient(http_check()), port).await.expect_err("it is too large");
    assert!(!error.contains("within"), "it is refused for its size, not for its time: {error}");
}

#[tokio::test]
async fn answer_that_is_none_is_told_as_such() {
    for (answer, expected) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "the answer is not HTTP/1.1"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "connection closed before the answer was complete"),
        ("", "connection closed before the answer was complete"),
    ] {
        let (port, _) = http(LOOPBACK, Answer::Text(answer.to_owned()));
        assert_eq!(result(&patient(http_check()), port).await, Err(expected.to_owned()), "{answer:?}");
    }
}

#[tokio::test]
async fn probes_leave_no_time_wait_behind() {
    const TIME_WAIT: &str = "06";
    let server = silent();
    for _ in 0..10 {
        assert_eq!(result(&patient(tcp_check()), port(&server)).await, Ok(()));
    }
    let remote = format!("0100007F:{:04X}", port(&server));
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's list of sockets");
    let left: Vec<&str> = sockets
        .lines()
        .filter(|line| {
            let mut words = line.split_whitespace().skip(2);
            words.next() == Some(remote.as_str()) && words.next() == Some(TIME_WAIT)
        })
        .collect();
    assert_eq!(left, Vec::<&str>::new());
}
