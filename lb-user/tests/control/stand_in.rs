//! A daemon that only answers: the real API server on a real socket, and behind it canned replies.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use lb_core::config::Problem;
use lb_core::edit::Change;
use lb_user::api::types::{BackendList, ChangeReply, Done, FlowList, ServiceList, ServiceTable, TraceReply};
use lb_user::api::{ApiError, Command, Listener, serve};
use tokio::sync::{mpsc, oneshot};

use crate::samples::{config, counters, flow, ha, lookup, service, status};

/// What the stand-in answers to `GET /metrics`.
pub(crate) const METRICS: &str = "# TYPE fairlead_config_generation gauge\nfairlead_config_generation 7\n";

/// A reply that never comes is a failure after this long, well above every timeout of the server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Commands that wait for a daemon that is busy.
pub(crate) const QUEUE: usize = 4;

/// The stand-in; dropping it stops the server.
pub(crate) struct StandIn {
    folder: PathBuf,
    socket: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
    /// Until this is gone the daemon takes no command.
    busy: Option<oneshot::Sender<()>>,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    pub(crate) fn start() -> Self {
        let mut daemon = Self::start_busy();
        daemon.go_on();
        daemon
    }

    /// One that takes no command until [`Self::go_on`]: [`QUEUE`] of them wait.
    pub(crate) fn start_busy() -> Self {
        let folder = scratch();
        let socket = folder.join("main.sock");
        let listener = Listener::bind(&socket).expect("a fresh socket");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (shutdown, stopped) = oneshot::channel::<()>();
        let (busy, free) = oneshot::channel::<()>();
        let log = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let (sender, receiver) = mpsc::channel(QUEUE);
                let actor = tokio::spawn(async {
                    drop(free.await);
                    actor(receiver, log).await;
                });
                let stopped = async { drop(stopped.await) };
                serve(listener, sender, stopped).await.expect("served");
                actor.abort();
            });
        });
        Self { folder, socket, heard, busy: Some(busy), shutdown: Some(shutdown), thread: Some(thread) }
    }

    /// Takes what waits, and all that comes.
    pub(crate) fn go_on(&mut self) {
        drop(self.busy.take());
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the daemon was asked since the last call, as `Debug` shows it up to the answer's channel.
    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().expect("not poisoned"))
    }

    pub(crate) fn stop(&mut self) {
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server did not panic");
        }
    }

    /// Sends these bytes and reads until the server closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may refuse and close before it has everything: its answer counts.
        let _ = stream.write_all(bytes);
        read_all(&mut stream)
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    /// One request on a connection of its own: status and body.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        let answer = self.raw(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        parse(&answer)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A directory of its own for each call.
pub(crate) fn scratch() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("fairlead-api-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("temporary directory");
    folder
}

pub(crate) fn read_all(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    // A server that closes while it is still sent to resets: what it said before counts.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("UTF-8")
}

/// Status and JSON of an answer with `content-length`.
pub(crate) fn parse(answer: &str) -> (u16, serde_json::Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("status");
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body:?}")))
}

async fn actor(mut commands: mpsc::Receiver<Command>, heard: Arc<Mutex<Vec<String>>>) {
    while let Some(command) = commands.recv().await {
        let shown = format!("{command:?}");
        let shown = shown.split_once(", answer").map_or(shown.as_str(), |(before, _)| before);
        let shown = shown.split_once("Sender").map_or(shown, |(before, _)| before);
        heard.lock().expect("not poisoned").push(shown.to_owned());
        answer(command);
    }
}

pub(crate) fn answer(command: Command) {
    // A client that went away is no failure of the daemon.
    match command {
        Command::Status(answer) => drop(answer.send(Ok(status()))),
        Command::Services(answer) => drop(answer.send(Ok(ServiceList { services: vec![service()] }))),
        Command::Service { name, answer } => match name.as_str() {
            "web" => drop(answer.send(Ok(service()))),
            "stopping" => drop(answer),
            _ => drop(answer.send(Err(unknown(&name)))),
        },
        Command::Table { answer, .. } => {
            let table = vec![Some(0), None, Some(1)];
            let backends = service().backends.iter().map(|one| one.address).collect();
            drop(answer.send(Ok(ServiceTable { size: 3, backends, table })));
        }
        Command::Backends { service: Some(name), answer } if name != "web" => {
            drop(answer.send(Err(unknown(&name))));
        }
        Command::Backends { answer, .. } => {
            drop(answer.send(Ok(BackendList { backends: service().backends })))
        }
        Command::Change { change, answer } => drop(answer.send(changed(&change))),
        Command::Flows { answer, .. } => {
            drop(answer.send(Ok(FlowList { flows: vec![flow()], truncated: true })))
        }
        Command::Lookup { answer, .. } => drop(answer.send(Ok(lookup()))),
        Command::Trace { answer, .. } => drop(answer.send(Ok(TraceReply { frames: Vec::new() }))),
        Command::Ha(answer) => drop(answer.send(Ok(ha()))),
        Command::HaDo { command, answer } => {
            let message = format!("{:?} of {}", command.deed, command.group.as_deref().unwrap_or("all"));
            drop(answer.send(Ok(Done { message })));
        }
        Command::Counters(answer) => drop(answer.send(Ok(counters()))),
        Command::Metrics { answer, .. } => drop(answer.send(Ok(METRICS.into()))),
        Command::Config(answer) => drop(answer.send(Ok(config()))),
        Command::Reload(answer) => {
            let problem = Problem {
                line: Some(7),
                key: "service[0].vip".to_owned(),
                reason: "\"x\" is not an IP address".to_owned(),
                remedy: "write an address".to_owned(),
            };
            drop(answer.send(Err(ApiError::invalid_config("/etc/f.toml", vec![problem]))));
        }
        Command::Stop { request, answer } => {
            let message = if request.detach { "stopped, detached" } else { "stopped" };
            drop(answer.send(Ok(Done { message: message.to_owned() })));
        }
        Command::Confirm(answer) => {
            drop(answer.send(Err(ApiError::conflict("there is no trial to confirm", "start with --try"))));
        }
    }
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("there is no service \"{name}\""), "known are: web")
}

fn changed(change: &Change) -> Result<ChangeReply, ApiError> {
    if let Change::AddBackend { address, .. } = change
        && service().backends.iter().any(|backend| backend.address == *address)
    {
        return Err(ApiError::conflict(format!("web has backend {address} already"), "change its weight"));
    }
    Ok(ChangeReply { generation: 4, message: "done as asked".to_owned(), warnings: Vec::new() })
}
