//! Clients of the API that are many, slow or deaf: others are served, the flow table is swept, and packets go on.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::fixture::{LINES, PATIENCE, Stage, check_cli};

/// More than connections at a time (256).
const CLIENTS: usize = 300;

#[test]
fn more_clients_than_connections_are_all_answered() -> Result<()> {
    let stage = Stage::running(2)?;
    stage.forwards()?;
    let paths = ["/v1/status", "/v1/services/lines/table", "/v1/counters", "/v1/nothing", "/metrics"];
    let socket = stage.daemon.socket();
    let ask = |client: usize| -> Result<()> {
        for turn in 0..3 {
            let path = paths[(client + turn) % paths.len()];
            let mut stream = UnixStream::connect(&socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            let expected: &[u8] = if path == "/v1/nothing" { b"HTTP/1.1 404" } else { b"HTTP/1.1 200" };
            ensure!(answer.starts_with(expected), "{path}: {:?}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || ask(client))).collect();
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    stage.none_broke()
}

/// A connection that sent this and then nothing.
fn silent(stage: &Stage, octets: &[u8]) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(stage.daemon.socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(octets)?;
    Ok(stream)
}

/// A connection that asks until nothing more fits in, and reads no answer.
fn deaf(stage: &Stage) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(stage.daemon.socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(Duration::from_millis(20)))?;
    let question = b"GET /v1/services/lines/table HTTP/1.1\r\nhost: x\r\n\r\n".repeat(64);
    while stream.write(&question).is_ok_and(|written| written > 0) {}
    Ok(stream)
}

#[test]
fn slow_and_deaf_clients_in_some_connections_are_not_noticed_by_others_or_the_sweeper() -> Result<()> {
    let stage = Stage::running(2)?;
    stage.forwards()?;
    let used = || -> Result<u64> {
        stage.daemon.get("/v1/status")?["flow_table"]["used"].as_u64().context("flows in use")
    };
    let half_body = b"POST /v1/services/lines/backends HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
        content-length: 100\r\n\r\n{";
    let (mut halves, mut ears) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        halves.push(silent(&stage, b"GET /v1/status HTTP/1.1\r\nhost:")?);
        halves.push(silent(&stage, half_body)?);
        ears.push(deaf(&stage)?);
    }
    // Only the sweeper tells how many flows there are.
    let before = used()?;
    let targets = [(stage.lab.client.v4.into(), SocketAddr::new(stage.vip(), LINES)); 10];
    stage.lines.open(&targets)?;
    stage.daemon.until("the flows are swept", "/v1/status", PATIENCE, |status| {
        status["flow_table"]["used"].as_u64().is_some_and(|used| used >= before + 10)
    })?;
    for _ in 0..50 {
        check_cli(&stage.daemon, "status", 0, &[])?;
    }
    check_cli(&stage.daemon, &format!("backend drain lines {}", stage.backend(0)), 0, &[])?;
    // The reads end because the daemon gives up.
    for half in &mut halves {
        let mut answer = Vec::new();
        half.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.starts_with("HTTP/1.1 408") && answer.contains("remedy"), "{answer:?}");
    }
    drop(ears);
    stage.none_broke()
}

#[test]
fn deaf_clients_in_all_connections_are_given_up_and_others_are_served_then() -> Result<()> {
    let stage = Stage::running(2)?;
    stage.forwards()?;
    let mut ears = (0..CLIENTS).map(|_| deaf(&stage)).collect::<Result<Vec<_>>>()?;
    // Waits behind all of them, for less than a command has patience.
    check_cli(&stage.daemon, "status", 0, &[])?;
    for (client, ear) in ears.iter_mut().enumerate() {
        let mut answers = Vec::new();
        match ear.read_to_end(&mut answers) {
            // Closed while it still had questions.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            ended => drop(ended.with_context(|| format!("client {client} still has its connection"))?),
        }
        ensure!(answers.starts_with(b"HTTP/1.1 200"), "client {client} was never served");
    }
    check_cli(&stage.daemon, "status", 0, &[])?;
    stage.none_broke()
}
