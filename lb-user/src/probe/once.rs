//! One probe of one backend, under one deadline.

use std::net::{IpAddr, SocketAddr};

use lb_core::config::{Check, CheckKind};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::error::describe_io;
use super::http;

/// Probes `address` as `check` says: a TCP connection, or an HTTP/1.1 GET on one. `check.timeout` is for all of it.
///
/// # Errors
/// Why the backend is not taken for healthy, in a few words.
pub async fn probe(check: &Check, service_port: u16, address: IpAddr) -> Result<(), String> {
    let target = SocketAddr::new(address, check.port.unwrap_or(service_port));
    let limit = humantime::format_duration(check.timeout);
    let deadline = Instant::now() + check.timeout;
    let stream = match timeout_at(deadline, TcpStream::connect(target)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(describe_io(&error)),
        Err(_) => return Err(format!("no answer within {limit}")),
    };
    // However it ends, the socket goes at once: a probe each second must not pile up TIME_WAIT, nor one that was given
    // up keep the backend's state.
    stream.set_zero_linger().map_err(|error| describe_io(&error))?;
    match check.kind {
        CheckKind::Tcp => Ok(()),
        CheckKind::Http => match timeout_at(deadline, http::get(check, stream, address)).await {
            Ok(result) => result,
            Err(_) => Err(format!("connected, but no complete HTTP answer within {limit}")),
        },
    }
}
