//! From an error to a message with its remedy and an exit code.

use std::io::{self, Write};

use serde_json::json;

use super::options::Format;
use crate::api::{ApiError, ClientError, ErrorCode};

/// Done.
pub const EXIT_OK: u8 = 0;
/// Failed.
pub const EXIT_FAILED: u8 = 1;
/// The command line is wrong.
pub const EXIT_USAGE: u8 = 2;
/// A configuration has problems.
pub const EXIT_INVALID_CONFIG: u8 = 3;

/// Arguments that contradict each other in a way that the parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What is told about an error.
struct Told {
    code: &'static str,
    exit_code: u8,
    remedy: String,
    problems: Vec<lb_core::config::Problem>,
}

/// Tells the user on `err` and returns the exit code. A reader of stdout that went away is no error.
///
/// A [`ClientError`], [`ApiError`] or [`UsageError`] anywhere in the chain decides code and remedy.
pub fn report(error: &anyhow::Error, format: Format, err: &mut dyn Write) -> u8 {
    if error.chain().any(is_broken_pipe) {
        return EXIT_OK;
    }
    let told = judge(error);
    let message = message(error);
    let text = match format {
        Format::Json => {
            let error = json!({
                "code": told.code, "message": message, "remedy": told.remedy, "problems": told.problems,
            });
            format!("{}\n", json!({ "error": error }))
        }
        Format::Table => {
            let mut text = format!("error: {message}\n");
            for problem in &told.problems {
                text.push_str(&format!("  {problem}\n"));
            }
            if !told.remedy.is_empty() {
                text.push_str(&format!("remedy: {}\n", told.remedy));
            }
            text
        }
    };
    // Nobody is left to hear about a broken stderr.
    let _ = err.write_all(text.as_bytes());
    told.exit_code
}

/// The chain of causes, without those that the message before quotes already.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.contains(&cause) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&cause);
    }
    message
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<StdoutError>().is_some_and(|error| error.0.kind() == io::ErrorKind::BrokenPipe)
}

/// Stdout could not be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub struct StdoutError(pub io::Error);

fn judge(error: &anyhow::Error) -> Told {
    for cause in error.chain() {
        if let Some(client) = cause.downcast_ref::<ClientError>() {
            let (code, problems) = match client {
                ClientError::Unreachable { .. } => ("unreachable", Vec::new()),
                ClientError::Refused(refusal) => (word(refusal.code), refusal.problems.clone()),
                _ => (word(ErrorCode::Internal), Vec::new()),
            };
            return Told {
                code,
                exit_code: client.exit_code(),
                remedy: client.remedy().to_owned(),
                problems,
            };
        }
        if let Some(refusal) = cause.downcast_ref::<ApiError>() {
            return Told {
                code: word(refusal.code),
                exit_code: refusal.code.exit_code(),
                remedy: refusal.remedy.clone(),
                problems: refusal.problems.clone(),
            };
        }
        if cause.is::<UsageError>() {
            let remedy = "see --help".to_owned();
            return Told {
                code: word(ErrorCode::Invalid),
                exit_code: EXIT_USAGE,
                remedy,
                problems: Vec::new(),
            };
        }
    }
    Told {
        code: word(ErrorCode::Internal),
        exit_code: EXIT_FAILED,
        remedy: String::new(),
        problems: Vec::new(),
    }
}

const fn word(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Conflict => "conflict",
        ErrorCode::NotFound => "not_found",
        ErrorCode::Invalid => "invalid",
        ErrorCode::InvalidConfig => "invalid_config",
        ErrorCode::Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn told(error: &anyhow::Error, format: Format) -> (u8, String) {
        let mut err = Vec::new();
        let code = report(error, format, &mut err);
        (code, String::from_utf8(err).expect("UTF-8"))
    }

    #[test]
    fn a_refusal_below_any_context_decides_exit_code_and_remedy() {
        let refusal = ApiError::conflict("eth0 has a foreign XDP program", "detach it first");
        let error = Err::<(), _>(refusal).context("cannot start").expect_err("is one");
        let (code, text) = told(&error, Format::Table);
        assert_eq!(code, 5);
        assert_eq!(text, "error: cannot start: eth0 has a foreign XDP program\nremedy: detach it first\n");
    }

    #[test]
    fn a_cause_that_is_quoted_already_is_not_told_twice() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        let client = ClientError::Unreachable { socket: "/run/x.sock".into(), source };
        let (code, text) = told(&client.into(), Format::Table);
        assert_eq!(code, 4);
        assert!(
            text.starts_with("error: no daemon answers on /run/x.sock: entity not found\nremedy: "),
            "{text}"
        );
    }

    #[test]
    fn problems_of_a_configuration_are_all_listed() {
        let problem = |line, key: &str| lb_core::config::Problem {
            line: Some(line),
            key: key.to_owned(),
            reason: "is wrong".to_owned(),
            remedy: "correct it".to_owned(),
        };
        let refusal = ApiError::invalid_config(
            "f.toml",
            vec![problem(3, "service[0].vip"), problem(9, "limits.flows")],
        );
        let (code, text) = told(&refusal.into(), Format::Table);
        assert_eq!(code, 3);
        assert!(text.contains("line 3: service[0].vip: is wrong; correct it"), "{text}");
        assert!(text.contains("line 9: limits.flows"), "{text}");
    }

    #[test]
    fn errors_are_json_when_answers_are() {
        for (error, exit_code, code) in [
            (anyhow::anyhow!("the disk is full"), 1, "internal"),
            (UsageError("--from and --vip disagree".to_owned()).into(), 2, "invalid"),
            (ApiError::not_found("no service web", "").into(), 1, "not_found"),
        ] {
            let (exit, text) = told(&error, Format::Json);
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(exit, exit_code);
            assert_eq!(value["error"]["code"], code);
            assert_eq!(value["error"]["message"], error.to_string());
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let error = anyhow::Error::from(StdoutError(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(told(&error, Format::Table), (0, String::new()));
        let error = anyhow::Error::from(StdoutError(io::ErrorKind::StorageFull.into()));
        assert_eq!(told(&error, Format::Table).0, 1);
    }
}
