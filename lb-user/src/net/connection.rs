//! A netlink socket for requests and the task that drives it.

use anyhow::{Context, Result};
use futures_util::{Stream, StreamExt};
use rtnetlink::{Error, Handle};
use tokio::task::JoinHandle;

/// A socket for requests; the task that drives it ends with this value.
#[derive(Debug)]
pub(super) struct Connection {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Connection {
    /// Opens a socket in the namespace of this thread, inside a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses the socket.
    pub(super) fn open() -> Result<Self> {
        let (connection, handle, _unsolicited) =
            rtnetlink::new_connection().context("cannot open a netlink socket")?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// For making requests.
    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether it ended, after an error on the socket: nothing will be answered any more.
    pub(super) fn is_closed(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All answers to a dump request.
///
/// # Errors
/// The first error among the answers, with `what` was asked for.
pub(super) async fn collect<T>(what: &str, answers: impl Stream<Item = Result<T, Error>>) -> Result<Vec<T>> {
    let mut answers = std::pin::pin!(answers);
    let mut collected = Vec::new();
    while let Some(answer) = answers.next().await {
        collected.push(answer.with_context(|| format!("the kernel does not list its {what}"))?);
    }
    Ok(collected)
}
