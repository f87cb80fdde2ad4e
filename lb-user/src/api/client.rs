//! The client's end of the API, over the daemon's Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;

use super::error::{ApiError, ErrorBody, ErrorCode};
use super::routes::ANSWER_TIMEOUT;

/// A little more than the server gives the daemon, so that its own message wins.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(ANSWER_TIMEOUT.as_secs() + 5);

/// Exit code for a daemon that cannot be reached.
pub const EXIT_UNREACHABLE: u8 = 4;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket, or it may not be used.
    #[error("no daemon answers on {}: {source}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The daemon was reached, but no complete answer came back.
    #[error("the daemon on {} did not answer: {reason}", socket.display())]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// What happened instead.
        reason: String,
    },
    /// What came back is not the API.
    #[error("{} does not speak this API: {reason}", socket.display())]
    NotTheApi {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The daemon says no.
    #[error(transparent)]
    Refused(#[from] ApiError),
}

impl ClientError {
    /// What to do about it; may be empty.
    #[must_use]
    pub fn remedy(&self) -> &str {
        match self {
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run the command as root"
            }
            Self::Unreachable { .. } => {
                "start it with `fairlead run --config FILE`, or name the right one with --instance or --socket"
            }
            Self::NoAnswer { .. } => {
                "look at its log; a change may have been carried out: see `fairlead status`"
            }
            Self::NotTheApi { .. } => "use the `fairlead` of the daemon's version, or another --socket",
            Self::Refused(error) => &error.remedy,
        }
    }

    /// Exit code of a command that met it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable { .. } => EXIT_UNREACHABLE,
            Self::NoAnswer { .. } | Self::NotTheApi { .. } => ErrorCode::Internal.exit_code(),
            Self::Refused(error) => error.code.exit_code(),
        }
    }
}

/// A client; each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon on this socket. Nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for something; the answer is the JSON as sent.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// Makes a call with a JSON body; the answer is the JSON as sent.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Bytes, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| {
            ApiError::internal(
                format!("cannot write the request as JSON: {error}"),
                "report this as a defect",
            )
        })?;
        self.call(method, path, body.into()).await
    }

    /// Makes a call with this body, which may be empty. `path` starts with `/v1/` and is percent-encoded.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        match tokio::time::timeout(CLIENT_TIMEOUT, exchange(stream, method, path, body)).await {
            Ok(Ok((status, answer))) => self.judge(status, answer),
            Ok(Err(reason)) => Err(self.no_answer(reason)),
            Err(_) => Err(self.no_answer(format!("nothing came within {} s", CLIENT_TIMEOUT.as_secs()))),
        }
    }

    fn no_answer(&self, reason: String) -> ClientError {
        ClientError::NoAnswer { socket: self.socket.clone(), reason }
    }

    fn judge(&self, status: hyper::StatusCode, answer: Bytes) -> Result<Bytes, ClientError> {
        if status.is_success() {
            return Ok(answer);
        }
        match serde_json::from_slice::<ErrorBody>(&answer) {
            Ok(body) => Err(ClientError::Refused(body.error)),
            Err(error) => Err(ClientError::NotTheApi {
                socket: self.socket.clone(),
                reason: format!("HTTP status {status} with an unreadable body ({error})"),
            }),
        }
    }
}

/// One request and its whole answer.
async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(hyper::StatusCode, Bytes), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "fairlead")
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| format!("request for {path}: {error}"))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes()))
    };
    // The connection is driven by this task; it ends by itself once the answer is there.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// A segment of a path with everything but letters, digits and `-_.` percent-encoded.
#[must_use]
pub fn encode(segment: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_encoded_so_that_no_argument_leaves_its_place() {
        for (segment, expected) in [
            ("web-1_a.b", "web-1_a.b"),
            ("2001:db8::1", "2001%3Adb8%3A%3A1"),
            ("../x?y#z", "..%2Fx%3Fy%23z"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(encode(segment), expected);
        }
    }
}
