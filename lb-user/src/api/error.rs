//! What the API answers when it does not do what was asked, and the exit code that stands for it.

use axum::http::StatusCode;
use lb_core::config::Problem;
use lb_core::edit::EditError;
use serde::{Deserialize, Serialize};

/// Kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// It contradicts what is there: a backend that exists already, a file that changed on disk, a second daemon.
    Conflict,
    /// No such service, backend or path.
    NotFound,
    /// The request itself is wrong.
    Invalid,
    /// The configuration that would result has problems; all of them are in `problems`.
    InvalidConfig,
    /// The daemon could not do it.
    Internal,
}

impl ErrorCode {
    /// The HTTP status it is sent with.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Conflict => StatusCode::CONFLICT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::InvalidConfig => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The exit code of a command that met it.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::NotFound | Self::Internal => 1,
            Self::Invalid => 2,
            Self::InvalidConfig => 3,
            Self::Conflict => 5,
        }
    }
}

/// A refusal with its remedy. Anywhere in an `anyhow` chain it decides the exit code of the command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of refusal it is.
    pub code: ErrorCode,
    /// What was asked and why it was not done, with the offending value.
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
    /// Everything wrong with a configuration.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

impl ApiError {
    /// A refusal without problems of a configuration.
    pub fn new(code: ErrorCode, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: remedy.into(), problems: Vec::new() }
    }

    /// Contradicts what is there: HTTP 409, exit code 5.
    pub fn conflict(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorCode::Conflict, message, remedy)
    }

    /// No such thing: HTTP 404, exit code 1.
    pub fn not_found(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message, remedy)
    }

    /// A wrong request: HTTP 400, exit code 2.
    pub fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message, remedy)
    }

    /// A configuration with problems: HTTP 422, exit code 3.
    #[must_use]
    pub fn invalid_config(file: &str, problems: Vec<Problem>) -> Self {
        let count = match problems.len() {
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        Self {
            code: ErrorCode::InvalidConfig,
            message: format!("{file} has {count}; nothing was applied"),
            remedy: "correct what is named and try again".to_owned(),
            problems,
        }
    }

    /// The daemon's own failure: HTTP 500, exit code 1.
    pub fn internal(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message, remedy)
    }
}

impl From<EditError> for ApiError {
    fn from(error: EditError) -> Self {
        let code = match &error {
            EditError::UnknownService { .. } | EditError::UnknownBackend { .. } => ErrorCode::NotFound,
            EditError::AlreadyPresent { .. } => ErrorCode::Conflict,
            _ => ErrorCode::InvalidConfig,
        };
        Self::new(code, error.to_string(), "")
    }
}

/// The body of every refusal: `{"error": {…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The refusal.
    pub error: ApiError,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status_and_exit_code() {
        for (code, word, status, exit) in [
            (ErrorCode::Conflict, "conflict", 409, 5),
            (ErrorCode::NotFound, "not_found", 404, 1),
            (ErrorCode::Invalid, "invalid", 400, 2),
            (ErrorCode::InvalidConfig, "invalid_config", 422, 3),
            (ErrorCode::Internal, "internal", 500, 1),
        ] {
            assert_eq!(serde_json::to_value(code).expect("serializable"), word);
            assert_eq!((code.status().as_u16(), code.exit_code()), (status, exit), "{word}");
        }
    }

    #[test]
    fn an_impossible_edit_keeps_its_kind() {
        let unknown = EditError::UnknownService { name: "web".to_owned(), known: vec!["dns".to_owned()] };
        assert_eq!(ApiError::from(unknown).code, ErrorCode::NotFound);
        let address = std::net::IpAddr::from([10, 0, 0, 1]);
        let present = EditError::AlreadyPresent { service: "web".to_owned(), address };
        assert_eq!(ApiError::from(present).code, ErrorCode::Conflict);
    }
}
