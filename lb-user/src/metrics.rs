//! Metrics in the classic text format of Prometheus: which there are, their text, and the listener they are fetched from.

mod exposition;
mod family;
pub(crate) mod listener;

pub use exposition::{Exposition, label};
pub use family::{FAMILIES, Family, Kind};

use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use crate::api::Command;

/// What the text says of itself. OpenMetrics is another format, which tools for this one refuse.
pub const CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics` on the API's socket: the text of this moment.
pub(crate) async fn fresh(State(commands): State<mpsc::Sender<Command>>) -> Response {
    page(&commands, Duration::ZERO).await
}

/// A text that is younger than `lifetime`.
async fn page(commands: &mpsc::Sender<Command>, lifetime: Duration) -> Response {
    match crate::api::ask(commands, |answer| Command::Metrics { lifetime, answer }).await {
        Ok(text) => ([(CONTENT_TYPE, CONTENT)], text).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}
