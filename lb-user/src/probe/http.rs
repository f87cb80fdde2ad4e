//! The HTTP half of a probe: one GET on a fresh connection.

use std::net::IpAddr;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lb_core::config::Check;
use tokio::net::TcpStream;

use super::error::describe_http;

/// Bytes of a body that are read; the rest stays with the backend. Enough for any page made for checks, and a probe of
/// a wrong path that leads to a large file costs no more.
const MAX_BODY: usize = 64 * 1024;

/// Bytes of status line and headers at most; the smallest limit hyper takes.
const MAX_HEAD: usize = 8 * 1024;

/// Asks for `check.path` and judges the status. A body, or as much of it as is read, must arrive too.
///
/// # Errors
/// Why it was no success, in a few words. There is no limit in time: the caller has it.
pub(super) async fn get(check: &Check, stream: TcpStream, address: IpAddr) -> Result<(), String> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| describe_http(&error))?;
    let mut connection = pin!(connection);
    let mut exchange = pin!(exchange(check, sender, address));
    let mut open = true;
    loop {
        tokio::select! {
            result = &mut exchange => return result,
            // Its error, if any, comes out of the exchange as well.
            _ = &mut connection, if open => open = false,
        }
    }
}

async fn exchange(
    check: &Check,
    mut sender: SendRequest<Empty<Bytes>>,
    address: IpAddr,
) -> Result<(), String> {
    let request = request(check, address)?;
    let response = sender.send_request(request).await.map_err(|error| describe_http(&error))?;
    let status = response.status().as_u16();
    if !check.expect.contains(status) {
        return Err(format!("status {status}, expected {}", check.expect));
    }
    read_body(response).await
}

fn request(check: &Check, address: IpAddr) -> Result<Request<Empty<Bytes>>, String> {
    let host = check.host.clone().unwrap_or_else(|| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    Request::get(&check.path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("fairlead/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| {
            format!("no request can be made of path {:?} and host {:?}: {error}", check.path, check.host)
        })
}

async fn read_body(response: Response<Incoming>) -> Result<(), String> {
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| describe_http(&error))?;
        read += frame.data_ref().map_or(0, Bytes::len);
        if read >= MAX_BODY {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lb_core::config::CheckKind;

    use super::*;

    #[test]
    fn request_names_the_configured_host_or_the_address() {
        let cases = [
            (Some("www.example.com"), "10.0.0.1", "www.example.com"),
            (None, "10.0.0.1", "10.0.0.1"),
            (None, "fd00::1", "[fd00::1]"),
        ];
        for (host, address, expected) in cases {
            let mut check = Check::new(CheckKind::Http);
            check.host = host.map(str::to_owned);
            check.path = "/health?full=1".to_owned();
            let request = request(&check, address.parse().expect("literal")).expect(expected);
            assert_eq!(request.headers()[HOST], expected);
            assert_eq!(request.uri(), "/health?full=1");
        }
    }

    #[test]
    fn path_that_is_none_fails_the_probe_and_not_the_prober() {
        let mut check = Check::new(CheckKind::Http);
        check.path = "/a b".to_owned();
        let error = request(&check, [10, 0, 0, 1].into()).expect_err("a space");
        assert!(error.contains("/a b"), "{error}");
    }
}
