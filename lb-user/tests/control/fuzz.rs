//! Any octets on a connection of the API: the body of the fuzz target `api`, which ordinary tests replay.
//!
//! The first byte chooses in which pieces the rest arrives.

use std::time::Duration;

use lb_user::api::serve_one;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;

use crate::stand_in::answer;

/// Nothing of this takes any time: who is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Turns of the runtime without an octet after which the server has nothing more to say.
const QUIET_TURNS: u32 = 64;

/// Runs the target.
///
/// # Panics
/// If something does not hold that must.
pub(crate) fn run(bytes: &[u8]) {
    let Some((shape, request)) = bytes.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let answers = runtime.block_on(async {
        let (ours, theirs) = duplex([64, 512, 4_096, 1 << 16][usize::from(shape & 3)]);
        let (sender, mut commands) = mpsc::channel(4);
        let server = tokio::spawn(serve_one(theirs, sender));
        let daemon = tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                answer(command);
            }
        });
        let piece = [1, 7, 97, usize::MAX][usize::from(shape >> 2 & 3)];
        let exchange = async {
            let answers = exchange(ours, request, piece.min(request.len().max(1))).await;
            // An error is what the server thinks of the octets; a panic is none.
            let outcome = server.await.expect("the server did not panic");
            daemon.await.expect("the daemon did not panic");
            drop(outcome);
            answers
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("the connection ends")
    });
    are_answers(&answers);
}

/// Sends in pieces, takes all that comes, and hangs up once nothing comes any more.
async fn exchange(stream: DuplexStream, request: &[u8], piece: usize) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(stream);
    let reader = tokio::spawn(async move {
        let mut answers = Vec::new();
        let _ = from.read_to_end(&mut answers).await;
        answers
    });
    for piece in request.chunks(piece) {
        // The server may have closed already: what it said before counts.
        if to.write_all(piece).await.is_err() {
            break;
        }
    }
    for _ in 0..QUIET_TURNS {
        tokio::task::yield_now().await;
    }
    let _ = to.shutdown().await;
    reader.await.expect("the reader did not panic")
}

/// Panics unless this is a row of whole HTTP answers, each with what its status promises.
fn are_answers(mut octets: &[u8]) {
    while !octets.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut answer = httparse::Response::new(&mut headers);
        let head = match answer.parse(octets) {
            Ok(httparse::Status::Complete(head)) => head,
            other => panic!("no HTTP answer ({other:?}): {:?}", String::from_utf8_lossy(octets)),
        };
        let status = answer.code.expect("a whole answer has a status");
        let value = |name: &str| {
            let header = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            header.and_then(|header| std::str::from_utf8(header.value).ok())
        };
        let rest = &octets[head..];
        if status == 100 {
            octets = rest;
            continue;
        }
        assert!(status < 500, "{status} for what a client sent: {:?}", String::from_utf8_lossy(octets));
        let length: usize = value("content-length").and_then(|text| text.parse().ok()).expect("a length");
        // An answer to HEAD has the length of a body that it has not: then another answer follows, or nothing. No body
        // begins as an answer does.
        let has_body = length > 0 && !rest.is_empty() && !rest.starts_with(b"HTTP/1.");
        let is_bare = status >= 400 && !has_body;
        assert!(!is_bare || length > 0, "{status} without a body: {:?}", String::from_utf8_lossy(octets));
        if has_body {
            let kind = value("content-type").expect("a kind of body");
            let body = rest.get(..length).unwrap_or_else(|| panic!("{length} octets, not {}", rest.len()));
            is_a_body(status, kind, body);
        }
        assert!(
            status != 405 || value("allow").is_some_and(|methods| !methods.is_empty()),
            "405 without Allow"
        );
        octets = if has_body { &rest[length..] } else { rest };
    }
}

/// Panics unless this is what such an answer carries: JSON, or the metrics as text.
fn is_a_body(status: u16, kind: &str, body: &[u8]) {
    match kind {
        "application/json" => {
            let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            if status >= 400 {
                is_a_reason(status, &body);
            }
        }
        lb_user::metrics::CONTENT if status == 200 => {
            let text = std::str::from_utf8(body).expect("UTF-8");
            assert!(text.starts_with('#'), "metrics begin with {text:.40}");
        }
        other => panic!("{status} with a body of kind {other:?}"),
    }
}

fn is_a_reason(status: u16, body: &serde_json::Value) {
    let said = |field: &str| body["error"][field].as_str().is_some_and(|text| !text.is_empty());
    assert!(said("code") && said("message") && said("remedy"), "{status} without a reason: {body}");
}

/// What fuzzing found, and what it reaches the code with.
#[cfg(test)]
#[test]
fn every_kept_connection_gets_its_answers() {
    for (path, bytes) in fairlead_tests::fuzz::kept_inputs("api") {
        println!("{}", path.display());
        run(&bytes);
    }
}
