//! Serving the API on the Unix socket until the daemon stops.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::command::Command;
use super::reasons;
use super::routes::{self, ANSWER_TIMEOUT};
use super::socket::Listener;

/// Connections at a time; more wait in the kernel's queue, until an idle one is closed for its idleness. One client uses
/// one.
const MAX_CONNECTIONS: usize = 256;

/// Request line and headers together: paths are short, and no header means anything here.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// A connection that has not sent a whole request header by then is closed, an idle one too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// No connection lives longer, whatever it does: a client that reads its answer octet by octet would hold it for ever.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(ANSWER_TIMEOUT.as_secs() * 4);

/// Answers still on their way when the daemon stops get this long.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after the kernel refused a connection for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API until `shutdown` is ready; answers that are on their way are still sent. Removes the socket.
///
/// # Errors
/// If the runtime cannot take over the socket. Trouble with single connections is logged.
pub async fn serve(
    listener: Listener,
    commands: mpsc::Sender<Command>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (inner, socket_file) = listener.into_parts();
    let listener = UnixListener::from_std(inner)?;
    let router = routes::router(commands);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), graceful.watcher()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the API socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // New clients shall hear "no daemon" at once instead of waiting in the queue.
    drop(listener);
    drop(socket_file);
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("closing API connections whose clients do not read their answers");
    }
    Ok(())
}

/// Serves a single connection, of whatever kind, to its end; what [`serve`] does for each. For tests.
///
/// # Errors
/// What was wrong with the connection or with what came over it.
pub async fn serve_one<S>(stream: S, commands: mpsc::Sender<Command>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http(stream, routes::router(commands), GracefulShutdown::new().watcher()).await
}

/// Speaks HTTP until the client or the server has enough.
async fn http<S>(stream: S, router: Router, watcher: Watcher) -> hyper::Result<()>
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

async fn connection(stream: UnixStream, router: Router, watcher: Watcher) {
    match tokio::time::timeout(CONNECTION_LIFETIME, http(stream, router, watcher)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "API connection failed"),
        Err(_) => tracing::debug!("API connection closed after its longest lifetime"),
    }
}
