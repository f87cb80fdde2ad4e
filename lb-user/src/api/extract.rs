//! Taking requests apart, with every complaint in the API's own form.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::error::{ApiError, ErrorBody};
use super::types::MAX_TRACE_FRAMES;
use crate::bpf::dry_run::MAX_FRAME_BYTES;

/// Largest body of a request: a change is a few dozen bytes.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

/// The call that takes whole frames.
pub(super) const TRACE_PATH: &str = "/v1/trace";

/// Largest body of that call: as many of the largest frames as it takes, in hexadecimal digits, and what is around them.
pub(super) const MAX_TRACE_BODY_BYTES: usize = MAX_TRACE_FRAMES * (2 * MAX_FRAME_BYTES + 8) + 1_024;

/// A client that has not sent its body by then is not worth a connection.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A refusal with the HTTP status it is sent with, where that of its code is not precise enough.
pub(crate) struct Refusal {
    status: StatusCode,
    error: ApiError,
    retry_after_s: Option<u16>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: ApiError) -> Self {
        Self { status, error, retry_after_s: None }
    }

    /// With the advice to come again after this many seconds.
    pub(super) fn after(self, seconds: u16) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::new(error.code.status(), error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retry = self.retry_after_s.map(|seconds| [(RETRY_AFTER, seconds.to_string())]);
        (self.status, retry, Json(ErrorBody { error: self.error })).into_response()
    }
}

/// Segments of the path.
pub(super) struct Segments<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(rejection) => {
                let message = format!("path {}: {}", parts.uri.path(), rejection.body_text());
                let remedy = "write service names and addresses as `service list` shows them";
                Err(ApiError::invalid(message, remedy).into())
            }
        }
    }
}

/// What stands behind the question mark.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => {
                let message =
                    format!("query \"{}\": {}", parts.uri.query().unwrap_or(""), rejection.body_text());
                Err(ApiError::invalid(message, "see docs/API.md for the parameters of this call").into())
            }
        }
    }
}

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = read(request, state).await?;
        parse(&bytes).map(Self)
    }
}

/// A JSON body, or nothing at all for its default.
pub(super) struct BodyOrDefault<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for BodyOrDefault<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = read(request, state).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { parse(&bytes).map(Self) }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        let remedy = "send a JSON object with the fields of this call and no others";
        ApiError::invalid(format!("the body cannot be read: {error}"), remedy).into()
    })
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    let most = if request.uri().path() == TRACE_PATH { MAX_TRACE_BODY_BYTES } else { MAX_BODY_BYTES };
    match tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) => Err(unreadable(&rejection, most)),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, ApiError::invalid(message, "send it at once")))
        }
    }
}

fn unreadable(rejection: &BytesRejection, most: usize) -> Refusal {
    let status = rejection.status();
    let error = if status == StatusCode::PAYLOAD_TOO_LARGE {
        let message = format!("the body is larger than {most} bytes");
        ApiError::invalid(message, "send one change per request, and a trace in several requests")
    } else {
        ApiError::invalid(format!("the body cannot be read: {}", rejection.body_text()), "send it again")
    };
    Refusal::new(status, error)
}
