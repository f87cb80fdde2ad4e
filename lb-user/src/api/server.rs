//! Serving the API on the Unix socket until the daemon stops.

use std::future::Future;
use std::io;
use std::task::Context;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::command::Command;
use super::connections::{Bounds, http, serve_all};
use super::routes::{self, ANSWER_TIMEOUT};
use super::socket::Listener;

/// One client uses one connection, and an idle one is closed for its idleness. A client that reads its answer octet by
/// octet would hold it for ever if there were no lifetime.
const BOUNDS: Bounds =
    Bounds { purpose: "API", connections: 256, lifetime: Duration::from_secs(ANSWER_TIMEOUT.as_secs() * 4) };

/// Answers still on their way when the daemon stops get this long.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

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
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
    let router = routes::router(commands);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::select! {
        () = shutdown => {}
        never = serve_all(accept, router, BOUNDS, &graceful, &mut connections) => match never {},
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
