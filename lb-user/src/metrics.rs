//! Metrics in the classic text format of Prometheus: which there are, their text, and the listener they are fetched from.

mod exposition;
mod family;
pub(crate) mod listener;

pub use exposition::{Exposition, label};
pub use family::{FAMILIES, Family, Kind};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use crate::api::Command;

/// What the text says of itself. OpenMetrics is another format, which tools for this one refuse.
pub const CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`, on the API's socket and on the listener.
pub(crate) async fn page(State(commands): State<mpsc::Sender<Command>>) -> Response {
    match crate::api::ask(&commands, Command::Metrics).await {
        Ok(text) => ([(CONTENT_TYPE, CONTENT)], text).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}
