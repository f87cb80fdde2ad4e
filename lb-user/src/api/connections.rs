//! Connections of HTTP, on whatever they come in by: how many, for how long, and that every refusal has a reason.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::reasons;

/// Request line and headers together: paths are short, and no header means anything here.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// A connection that has not sent a whole request header by then is closed, an idle one too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after the kernel refused a connection for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the clients of a listener get at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// What they come for, in the log.
    pub(crate) purpose: &'static str,
    /// Connections at a time; more wait in the kernel's queue.
    pub(crate) connections: usize,
    /// How long one lives, whatever it does.
    pub(crate) lifetime: Duration,
}

/// Serves all that `accept` brings, for as long as this is polled. The connections are in `connections` and end with
/// it, or with `graceful`. Trouble with single ones is logged.
pub(crate) async fn serve_all<S>(
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>,
    router: Router,
    bounds: Bounds,
    graceful: &GracefulShutdown,
    connections: &mut JoinSet<()>,
) -> Infallible
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let purpose = bounds.purpose;
    loop {
        tokio::select! {
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = poll_fn(&accept), if connections.len() < bounds.connections => match accepted {
                Ok(stream) => {
                    connections.spawn(one(stream, router.clone(), graceful.watcher(), bounds));
                }
                Err(error) => {
                    tracing::warn!(%error, purpose, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn one<S>(stream: S, router: Router, watcher: Watcher, bounds: Bounds)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let purpose = bounds.purpose;
    match tokio::time::timeout(bounds.lifetime, http(stream, router, watcher)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, purpose, "connection failed"),
        Err(_) => tracing::debug!(purpose, "connection closed after its longest lifetime"),
    }
}

/// Speaks HTTP until the client or the server has enough.
pub(super) async fn http<S>(stream: S, router: Router, watcher: Watcher) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, farewell) = reasons::Connection::new(stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let outcome = watcher.watch(connection).await;
    if outcome.as_ref().is_err_and(hyper::Error::is_timeout) {
        farewell.too_slow(HEADER_TIMEOUT.as_secs()).await;
    }
    outcome
}
