//! The optional TCP listener: `GET /metrics` for Prometheus and a page that says so, nothing else.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::page;
use crate::api::{ApiError, Command};

/// Connections at a time: a few servers that scrape, and somebody's browser. More wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16;

/// A connection that has not sent a whole request header by then is closed, an idle one too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// No connection lives longer, so that clients that do not read cannot hold all of them. Scrapers connect again.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// Pause after the kernel refused a connection for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The page at `/`.
const FRONT_PAGE: &str =
    "<!DOCTYPE html>\n<title>Fairlead</title>\n<h1>Fairlead</h1>\n<p><a href=\"/metrics\">Metrics</a></p>\n";

/// A socket that listens, and nobody answers yet.
#[derive(Debug)]
pub(crate) struct Bound {
    address: SocketAddr,
    socket: TcpListener,
}

impl Bound {
    /// Listens on an address in the namespace of the process.
    ///
    /// # Errors
    /// A conflict if somebody does already; else what the kernel says.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, ApiError> {
        let listen = || {
            let socket = TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = listen().map_err(|error: io::Error| {
            let message = format!("cannot listen on {address} for metrics: {error}");
            match error.kind() {
                io::ErrorKind::AddrInUse => ApiError::conflict(
                    message,
                    "choose another port for `listen` under [metrics], or stop who has this one",
                ),
                _ => ApiError::conflict(
                    message,
                    "write an address of this machine for `listen` under [metrics]",
                ),
            }
        })?;
        Ok(Self { address, socket })
    }
}

/// The listener as it runs; dropped, it ends.
#[derive(Debug, Default)]
pub(crate) struct MetricsListener {
    running: Option<(SocketAddr, AbortHandle)>,
}

impl MetricsListener {
    /// The first half of a change: listens on `wanted` if it is new. What runs goes on.
    ///
    /// # Errors
    /// As [`Bound::new`].
    pub(crate) fn prepare(&self, wanted: Option<SocketAddr>) -> Result<Option<Bound>, ApiError> {
        let now = self.running.as_ref().map(|(address, _)| *address);
        wanted.filter(|wanted| Some(*wanted) != now).map(Bound::new).transpose()
    }

    /// The second half, which cannot fail: answers on `wanted` from now on and nowhere else.
    pub(crate) fn switch(
        &mut self,
        wanted: Option<SocketAddr>,
        bound: Option<Bound>,
        commands: &mpsc::WeakSender<Command>,
    ) {
        if self.running.as_ref().map(|(address, _)| *address) == wanted {
            return;
        }
        self.stop();
        if let Some(Bound { address, socket }) = bound {
            tracing::info!(%address, "metrics can be fetched");
            self.running = Some((address, tokio::spawn(serve(socket, commands.clone())).abort_handle()));
        }
    }

    fn stop(&mut self) {
        if let Some((_, task)) = self.running.take() {
            // Its connections are its own and end with it.
            task.abort();
        }
    }
}

impl Drop for MetricsListener {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(socket: TcpListener, commands: mpsc::WeakSender<Command>) {
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "metrics cannot be served"),
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = socket.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                // Without a daemon behind the channel there is nothing to tell.
                Ok((stream, _)) => match commands.upgrade() {
                    Some(commands) => { connections.spawn(connection(stream, router(commands))); }
                    None => return,
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for metrics");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn router(commands: mpsc::Sender<Command>) -> Router {
    Router::new().route("/", get(async || Html(FRONT_PAGE))).route("/metrics", get(page)).with_state(commands)
}

async fn connection(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_LIFETIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection for metrics failed"),
        Err(_) => tracing::debug!("connection for metrics closed after its longest lifetime"),
    }
}
