//! Why a probe failed, in words for logs and `backend list`.

use std::error::Error;
use std::io::{self, ErrorKind};

/// A failed system call on the way to the backend.
pub(super) fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        ErrorKind::AddrNotAvailable => "no local address or port left to connect from".to_owned(),
        _ => error.to_string(),
    }
}

/// A connection on which no HTTP answer came to an end.
pub(super) fn describe_http(error: &hyper::Error) -> String {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return describe_io(error);
        }
        cause = inner.source();
    }
    if error.is_incomplete_message() {
        "connection closed before the answer was complete".to_owned()
    } else if error.is_parse() {
        "the answer is not HTTP/1.1".to_owned()
    } else {
        error.to_string()
    }
}
