//! Servers on the loopback that behave as backends do, well or badly.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use lb_core::config::{Check, CheckKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Far longer than any probe here takes: only a probe that never ends takes longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What a server does with a connection once the request's head has come.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Sends this and closes.
    Text(String),
    /// Sends this, then a byte every 10 ms for ever.
    Trickle(String),
    /// Sends this, then as much as the client takes.
    Flood(String),
}

impl Answer {
    /// An answer with this status and no body.
    pub(super) fn status(status: u16) -> Self {
        Self::Text(format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n"))
    }
}

/// Accepts connections as the kernel does and never answers.
pub(super) fn silent() -> TcpListener {
    TcpListener::bind((LOOPBACK, 0)).expect("a port of the loopback")
}

pub(super) fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("it is bound").port()
}

/// A port nobody listens on, nor will before the test run ends.
pub(super) fn refusing() -> u16 {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind((LOOPBACK, 0).into()).expect("a port of the loopback");
    let port = socket.local_addr().expect("it is bound").port();
    // As long as it is bound, no other test gets it.
    std::mem::forget(socket);
    port
}

/// Answers HTTP requests on `address` until the runtime ends; its port, and the heads of the requests.
pub(super) fn http(address: IpAddr, answer: Answer) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind(SocketAddr::new(address, 0)).expect("a port of the loopback");
    listener.set_nonblocking(true).expect("a socket");
    let port = port(&listener);
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
    let (heads, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone(), heads.clone()));
        }
    });
    (port, receiver)
}

async fn serve(mut stream: TcpStream, answer: Answer, heads: tokio::sync::mpsc::UnboundedSender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    // A test that does not look at the heads has dropped the receiver.
    let _ = heads.send(String::from_utf8_lossy(&head).into_owned());
    let (Answer::Text(first) | Answer::Trickle(first) | Answer::Flood(first)) = &answer;
    if stream.write_all(first.as_bytes()).await.is_err() {
        return;
    }
    let block: &[u8] = match answer {
        Answer::Text(_) => return,
        Answer::Trickle(_) => b"x",
        Answer::Flood(_) => &[b'x'; 16_384],
    };
    while stream.write_all(block).await.is_ok() {
        if block.len() == 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// An HTTP check of the service's own port.
pub(super) fn http_check() -> Check {
    Check { timeout: Duration::from_millis(300), ..Check::new(CheckKind::Http) }
}

/// A check whose time is over soon, for servers that do not answer in it.
pub(super) fn hasty(check: Check) -> Check {
    Check { timeout: Duration::from_millis(100), ..check }
}

/// A check that a server which answers passes however loaded the machine is.
pub(super) fn patient(check: Check) -> Check {
    Check { timeout: PATIENCE, ..check }
}
