//! The optional TCP listener: `GET /metrics` for Prometheus and a page that says so, nothing else.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::task::Context;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::page;
use crate::api::{ApiError, Bounds, Command, serve_all, stopping, unknown_method, unknown_path};

/// A few servers that scrape, and somebody's browser: scrapers connect again, and clients that do not read cannot hold
/// all connections for long.
const BOUNDS: Bounds = Bounds { purpose: "metrics", connections: 16, lifetime: Duration::from_secs(60) };

/// How old a text may be that is given away. What concerns flows is as old anyway, and so any number of clients, whom
/// nobody asks who they are, costs the daemon one text a second.
const TEXT_LIFETIME: Duration = Duration::from_secs(1);

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
    let accept = |cx: &mut Context<'_>| socket.poll_accept(cx).map_ok(|(stream, _)| stream);
    // Whoever stops this drops the connections with it.
    match serve_all(accept, router(commands), BOUNDS, &GracefulShutdown::new(), &mut JoinSet::new()).await {}
}

fn router(commands: mpsc::WeakSender<Command>) -> Router {
    Router::new()
        .route("/", get(async || Html(FRONT_PAGE)))
        .route("/metrics", get(kept))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(commands)
}

async fn kept(State(commands): State<mpsc::WeakSender<Command>>) -> Response {
    // The daemon ends when nobody is left who could ask it something, which shall not wait for this listener.
    match commands.upgrade() {
        Some(commands) => page(&commands, TEXT_LIFETIME).await,
        None => stopping().into_response(),
    }
}
