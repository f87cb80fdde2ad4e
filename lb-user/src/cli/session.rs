//! One command's talk with the daemon and with the user.

use std::io::Write;

use anyhow::Context as _;
use hyper::Method;
use hyper::body::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::StdoutError;
use super::options::{Format, Global};
use crate::api::{Client, ClientError};

/// Client, answer format and stdout.
pub(super) struct Session<'a> {
    client: Client,
    format: Format,
    out: &'a mut dyn Write,
}

impl<'a> Session<'a> {
    pub(super) fn new(global: &Global, out: &'a mut dyn Write) -> Self {
        Self { client: Client::new(global.socket_path()), format: global.output, out }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Asks the daemon and shows the answer: rendered, or as JSON unchanged.
    pub(super) fn show<T: DeserializeOwned>(
        &mut self,
        path: &str,
        render: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let answer = block_on(self.client.get(path))?;
        self.print_answer(&answer, render)
    }

    /// Asks the daemon for a text and shows it unchanged.
    pub(super) fn show_text(&mut self, path: &str) -> anyhow::Result<()> {
        let answer = block_on(self.client.get(path))?;
        self.write(&answer)
    }

    /// Asks the daemon and gives back what it answers.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<T> {
        let answer = self.exchange(method, path, body)?;
        self.parsed(&answer)
    }

    /// Has the daemon do something and shows the answer likewise.
    pub(super) fn send<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        render: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let answer = self.exchange(method, path, body)?;
        self.print_answer(&answer, render)
    }

    fn exchange(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> anyhow::Result<Bytes> {
        match body {
            Some(body) => block_on(self.client.send(method, path, body)),
            None => block_on(self.client.call(method, path, Bytes::new())),
        }
    }

    fn parsed<T: DeserializeOwned>(&self, answer: &Bytes) -> anyhow::Result<T> {
        let wrong = |error: serde_json::Error| ClientError::NotTheApi {
            socket: self.client.socket().to_owned(),
            reason: error.to_string(),
        };
        Ok(serde_json::from_slice(answer).map_err(wrong)?)
    }

    fn print_answer<T: DeserializeOwned>(
        &mut self,
        answer: &Bytes,
        render: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        if self.format == Format::Json {
            self.write(answer)?;
            return self.write(b"\n");
        }
        let answer = self.parsed(answer)?;
        self.print(&render(&answer))
    }

    /// Shows what no daemon was needed for: rendered, or as JSON.
    pub(super) fn print_value<T: Serialize>(
        &mut self,
        value: &T,
        render: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Json => {
                let mut json = serde_json::to_vec(value).context("cannot write the answer as JSON")?;
                json.push(b'\n');
                self.write(&json)
            }
            Format::Table => self.print(&render(value)),
        }
    }

    fn print(&mut self, text: &str) -> anyhow::Result<()> {
        self.write(text.as_bytes())?;
        if text.is_empty() || text.ends_with('\n') { Ok(()) } else { self.write(b"\n") }
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.out.write_all(bytes).and_then(|()| self.out.flush());
        written.map_err(|error| StdoutError(error).into())
    }
}

/// Runs one exchange. The runtime lives only as long, so that no thread or reactor is left behind.
fn block_on<T>(exchange: impl Future<Output = Result<T, ClientError>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make an event loop: too many open files?")?;
    Ok(runtime.block_on(exchange)?)
}
