//! A connection on which every refusal has a reason: the HTTP library refuses what it cannot read with a bare status, and
//! hangs up on who is too slow; here both become the API's own form.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf, split};
use tokio::time::{Sleep, sleep};

use super::error::{ApiError, ErrorBody};

/// A client that takes nothing of its answer for this long is given up, so that it holds no connection.
const DEAF_TIMEOUT: Duration = Duration::from_secs(10);

/// Both directions of a connection. Reads and writes as the stream does, but for bare refusals.
pub(super) struct Connection<S> {
    from: ReadHalf<S>,
    to: Arc<Mutex<Writer<S>>>,
}

/// What is left of a [`Connection`] once the HTTP library has given it up.
pub(super) struct Farewell<S>(Arc<Mutex<Writer<S>>>);

struct Writer<S> {
    to: WriteHalf<S>,
    /// Written as far as the HTTP library knows, but not sent.
    pending: Vec<u8>,
    /// Something came in to which nothing was said yet.
    owing: bool,
    /// Until when the client must take something: there while it does not.
    deaf: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite> Connection<S> {
    pub(super) fn new(stream: S) -> (Self, Farewell<S>) {
        let (from, to) = split(stream);
        let to = Arc::new(Mutex::new(Writer { to, pending: Vec::new(), owing: false, deaf: None }));
        (Self { from, to: Arc::clone(&to) }, Farewell(to))
    }

    fn writer(&self) -> MutexGuard<'_, Writer<S>> {
        self.to.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite> Farewell<S> {
    /// Tells a client whose request header did not become whole in time. One that asked nothing is told nothing.
    pub(super) async fn too_slow(self, seconds: u64) {
        let Some(mut writer) =
            Arc::into_inner(self.0).map(|to| to.into_inner().unwrap_or_else(PoisonError::into_inner))
        else {
            return;
        };
        if writer.owing && writer.pending.is_empty() {
            let message = format!("the request's header did not arrive within {seconds} s");
            let answer = refusal(StatusCode::REQUEST_TIMEOUT, message, "send it at once");
            // Who has gone does not want to know.
            let _ = writer.to.write_all(&answer).await;
            let _ = writer.to.shutdown().await;
        }
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.from).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.writer().owing = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for Connection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let mut writer = self.writer();
        let outcome = writer.poll_write(cx, octets);
        writer.unless_deaf(cx, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writer = self.writer();
        let outcome = match writer.poll_pending(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut writer.to).poll_flush(cx),
            other => other,
        };
        writer.unless_deaf(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writer = self.writer();
        let outcome = match writer.poll_pending(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut writer.to).poll_shutdown(cx),
            other => other,
        };
        writer.unless_deaf(cx, outcome)
    }
}

impl<S: AsyncWrite> Writer<S> {
    fn poll_write(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(cx))?;
        self.owing = false;
        let Some((before, answer)) = explained(octets) else {
            return Pin::new(&mut self.to).poll_write(cx, octets);
        };
        self.pending = [before, &answer].concat();
        Poll::Ready(Ok(octets.len()))
    }

    /// The outcome of a step, or the end if too long ago there was one.
    fn unless_deaf<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.deaf = None;
            return outcome;
        }
        let deaf = self.deaf.get_or_insert_with(|| Box::pin(sleep(DEAF_TIMEOUT)));
        deaf.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let sent = ready!(Pin::new(&mut self.to).poll_write(cx, &self.pending))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }
}

/// If these octets end with a refusal that has no body: what is before it, and the same refusal with a reason. All that
/// the API itself refuses has a body.
fn explained(octets: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    // After a request of HTTP/1.0 the library answers as HTTP/1.0.
    const START: &[u8] = b"HTTP/1.";
    if !octets.ends_with(b"\r\n\r\n") {
        return None;
    }
    let at = octets.windows(START.len()).rposition(|window| window == START)?;
    let (before, head) = octets.split_at(at);
    let head = std::str::from_utf8(head).ok()?;
    if head.find("\r\n\r\n")? + 4 != head.len() || !head.contains("\r\ncontent-length: 0\r\n") {
        return None;
    }
    let status =
        StatusCode::from_bytes(head.get(9..12)?.as_bytes()).ok().filter(StatusCode::is_client_error)?;
    let (reason, remedy) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ("the request's path or header is too large", "ask for less at once; docs/API.md has the limits")
        }
        StatusCode::URI_TOO_LONG => ("the request's path is too long", "docs/API.md has the calls there are"),
        _ => ("this is no HTTP/1.1 request", "write a request line, headers and a body as RFC 9112 has them"),
    };
    Some((before, refusal(status, reason.to_owned(), remedy)))
}

/// A whole answer, after which the connection ends.
fn refusal(status: StatusCode, message: String, remedy: &str) -> Vec<u8> {
    let body =
        serde_json::to_string(&ErrorBody { error: ApiError::invalid(message, remedy) }).unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_without_a_body_is_explained() {
        let bare = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let (before, answer) = explained(bare.as_bytes()).expect("explained");
        assert!(before.is_empty());
        let answer = String::from_utf8(answer).expect("text");
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n") && answer.contains("no HTTP/1.1 request"),
            "{answer}"
        );
        assert!(explained(bare.replace("/1.1", "/1.0").as_bytes()).is_some(), "the answer to HTTP/1.0");
        let behind = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{{}}{bare}");
        let (before, _) = explained(behind.as_bytes()).expect("explained");
        assert_eq!(before.len(), behind.len() - bare.len());
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 7\r\n\r\n",
            "",
        ] {
            assert!(explained(other.as_bytes()).is_none(), "{other}");
        }
    }
}
