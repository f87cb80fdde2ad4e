//! The calls of the API: from an HTTP request to a [`Command`] and from its answer to JSON.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use lb_core::config::AdminState;
use lb_core::edit::Change;
use tokio::sync::{mpsc, oneshot};

use super::command::{Answer, Command};
use super::error::ApiError;
use super::extract::{
    Body, BodyOrDefault, MAX_BODY_BYTES, MAX_TRACE_BODY_BYTES, Parameters, Refusal, Segments, TRACE_PATH,
};
use super::types::{
    AddBackendRequest, BackendList, BackendQuery, ChangeReply, ConfigReply, CounterList, Done, FlowList,
    FlowLookup, FlowQuery, HaCommand, HaStatus, LookupQuery, MAX_FLOW_LIMIT, MAX_TRACE_FRAMES, MAX_WEIGHT,
    Service, ServiceList, ServiceTable, Status, StopRequest, TraceReply, TraceRequest, WeightRequest,
};
use crate::bpf::dry_run::MAX_FRAME_BYTES;
use crate::trace::from_hex;

/// The daemon answers within this or is taken for stuck. A reload waits for grace periods and route look-ups.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A daemon that has not even begun with what was asked before gets no more to do.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// When a refused client may come again.
const RETRY_AFTER_S: u16 = 5;

type Commands = mpsc::Sender<Command>;
type Reply<T> = Result<Json<T>, Refusal>;

/// All calls.
pub(super) fn router(commands: Commands) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/services", get(services))
        .route("/v1/services/{name}", get(service))
        .route("/v1/services/{name}/table", get(table))
        .route("/v1/services/{name}/backends", post(add_backend))
        .route("/v1/services/{name}/backends/{address}", delete(remove_backend))
        .route("/v1/services/{name}/backends/{address}/{action}", post(set_state))
        .route("/v1/services/{name}/backends/{address}/weight", put(set_weight))
        .route("/v1/backends", get(backends))
        .route("/v1/flows", get(flows))
        .route("/v1/flows/lookup", get(lookup))
        .route(TRACE_PATH, post(trace).layer(DefaultBodyLimit::max(MAX_TRACE_BODY_BYTES)))
        .route("/v1/ha", get(ha).post(ha_do))
        .route("/v1/counters", get(counters))
        .route("/metrics", get(crate::metrics::fresh))
        .route("/v1/config", get(config))
        .route("/v1/config/reload", post(reload))
        .route("/v1/stop", post(stop))
        .route("/v1/confirm", post(confirm))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(commands)
}

async fn ask<T>(commands: &Commands, command: impl FnOnce(Answer<T>) -> Command) -> Reply<T> {
    exchange(commands, command).await.map(Json)
}

/// Sends a command to the daemon and waits for its answer.
///
/// # Errors
/// The daemon's refusal, or that it does not answer.
pub(crate) async fn exchange<T>(
    commands: &Commands,
    command: impl FnOnce(Answer<T>) -> Command,
) -> Result<T, Refusal> {
    let (answer, answered) = oneshot::channel();
    let exchange = async {
        let place = tokio::time::timeout(QUEUE_TIMEOUT, commands.reserve()).await.map_err(|_| busy())?;
        place.map_err(|_| stopping())?.send(command(answer));
        answered.await.map_err(|_| stopping())?.map_err(Refusal::from)
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("the daemon did not answer within {} s", ANSWER_TIMEOUT.as_secs());
            let error = ApiError::internal(message, "look at its log; a change may still be carried out");
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, error))
        }
    }
}

fn busy() -> Refusal {
    let message = format!("the daemon is busy: it took nothing new for {} s", QUEUE_TIMEOUT.as_secs());
    let error = ApiError::internal(message, "nothing was done; try again in a moment, and look at its log");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).after(RETRY_AFTER_S)
}

/// The refusal of a daemon that takes no more commands.
pub(crate) fn stopping() -> Refusal {
    let error = ApiError::internal("the daemon is stopping", "start it again with `fairlead run`");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error)
}

async fn status(State(commands): State<Commands>) -> Reply<Status> {
    ask(&commands, Command::Status).await
}

async fn services(State(commands): State<Commands>) -> Reply<ServiceList> {
    ask(&commands, Command::Services).await
}

async fn service(State(commands): State<Commands>, Segments(name): Segments<String>) -> Reply<Service> {
    ask(&commands, |answer| Command::Service { name, answer }).await
}

async fn table(State(commands): State<Commands>, Segments(name): Segments<String>) -> Reply<ServiceTable> {
    ask(&commands, |answer| Command::Table { name, answer }).await
}

async fn backends(
    State(commands): State<Commands>,
    Parameters(BackendQuery { service }): Parameters<BackendQuery>,
) -> Reply<BackendList> {
    ask(&commands, |answer| Command::Backends { service, answer }).await
}

async fn change(commands: &Commands, change: Change) -> Reply<ChangeReply> {
    ask(commands, |answer| Command::Change { change, answer }).await
}

async fn add_backend(
    State(commands): State<Commands>,
    Segments(service): Segments<String>,
    Body(AddBackendRequest { address, weight }): Body<AddBackendRequest>,
) -> Reply<ChangeReply> {
    let weight = checked_weight(weight)?;
    change(&commands, Change::AddBackend { service, address, weight }).await
}

async fn remove_backend(
    State(commands): State<Commands>,
    Segments((service, address)): Segments<(String, String)>,
) -> Reply<ChangeReply> {
    let address = backend_address(&address)?;
    change(&commands, Change::RemoveBackend { service, address }).await
}

async fn set_state(
    State(commands): State<Commands>,
    method: Method,
    uri: Uri,
    Segments((service, address, action)): Segments<(String, String, String)>,
) -> Reply<ChangeReply> {
    let state = match action.as_str() {
        "enable" => AdminState::Enabled,
        "drain" => AdminState::Drain,
        "disable" => AdminState::Disabled,
        _ => return Err(unknown_path(method, uri).await),
    };
    let address = backend_address(&address)?;
    change(&commands, Change::SetState { service, address, state }).await
}

async fn set_weight(
    State(commands): State<Commands>,
    Segments((service, address)): Segments<(String, String)>,
    Body(WeightRequest { weight }): Body<WeightRequest>,
) -> Reply<ChangeReply> {
    let (address, weight) = (backend_address(&address)?, checked_weight(weight)?);
    change(&commands, Change::SetWeight { service, address, weight }).await
}

fn backend_address(text: &str) -> Result<IpAddr, ApiError> {
    text.parse().map_err(|_| {
        let remedy = "write an IPv4 or IPv6 address without port, prefix length or brackets";
        ApiError::invalid(format!("\"{text}\" is not an IP address"), remedy)
    })
}

fn checked_weight(weight: u32) -> Result<u32, ApiError> {
    if weight <= MAX_WEIGHT {
        return Ok(weight);
    }
    Err(ApiError::invalid(format!("weight {weight} is out of range"), format!("write 0 to {MAX_WEIGHT}")))
}

async fn flows(
    State(commands): State<Commands>,
    Parameters(query): Parameters<FlowQuery>,
) -> Reply<FlowList> {
    if !(1..=MAX_FLOW_LIMIT).contains(&query.limit) {
        let message = format!("limit {} is out of range", query.limit);
        return Err(ApiError::invalid(message, format!("write 1 to {MAX_FLOW_LIMIT}")).into());
    }
    ask(&commands, |answer| Command::Flows { query, answer }).await
}

async fn lookup(
    State(commands): State<Commands>,
    Parameters(query): Parameters<LookupQuery>,
) -> Reply<FlowLookup> {
    if query.from.is_ipv4() != query.to.is_ipv4() {
        let message = format!("{} and {} are of different families", query.from, query.to);
        return Err(ApiError::invalid(message, "write both as IPv4 or both as IPv6").into());
    }
    ask(&commands, |answer| Command::Lookup { query, answer }).await
}

async fn trace(
    State(commands): State<Commands>,
    Body(TraceRequest { frames, interface, commit }): Body<TraceRequest>,
) -> Reply<TraceReply> {
    if !(1..=MAX_TRACE_FRAMES).contains(&frames.len()) {
        let message = format!("{} frames in one request", frames.len());
        return Err(ApiError::invalid(message, format!("send 1 to {MAX_TRACE_FRAMES}")).into());
    }
    let frame = |(at, digits): (usize, &String)| match from_hex(digits) {
        Ok(frame) if frame.len() <= MAX_FRAME_BYTES => Ok(frame),
        Ok(frame) => {
            let message = format!("frame {} has {} bytes", at + 1, frame.len());
            Err(ApiError::invalid(
                message,
                format!("send up to {MAX_FRAME_BYTES} bytes from the Ethernet header on"),
            ))
        }
        Err(reason) => Err(ApiError::invalid(
            format!("frame {}: {reason}", at + 1),
            "write two hexadecimal digits for each byte and nothing else",
        )),
    };
    let frames = frames.iter().enumerate().map(frame).collect::<Result<Vec<_>, _>>()?;
    ask(&commands, |answer| Command::Trace { frames, interface, commit, answer }).await
}

async fn ha(State(commands): State<Commands>) -> Reply<HaStatus> {
    ask(&commands, Command::Ha).await
}

async fn ha_do(State(commands): State<Commands>, Body(command): Body<HaCommand>) -> Reply<Done> {
    ask(&commands, |answer| Command::HaDo { command, answer }).await
}

async fn counters(State(commands): State<Commands>) -> Reply<CounterList> {
    ask(&commands, Command::Counters).await
}

async fn config(State(commands): State<Commands>) -> Reply<ConfigReply> {
    ask(&commands, Command::Config).await
}

async fn reload(State(commands): State<Commands>) -> Reply<ChangeReply> {
    ask(&commands, Command::Reload).await
}

async fn stop(
    State(commands): State<Commands>,
    BodyOrDefault(request): BodyOrDefault<StopRequest>,
) -> Reply<Done> {
    ask(&commands, |answer| Command::Stop { request, answer }).await
}

async fn confirm(State(commands): State<Commands>) -> Reply<Done> {
    ask(&commands, Command::Confirm).await
}

/// The refusal of what no listener answers.
pub(crate) async fn unknown_path(method: Method, uri: Uri) -> Refusal {
    let message = format!("there is no call {method} {}", uri.path());
    ApiError::not_found(message, "see docs/API.md for the calls there are").into()
}

/// The refusal of a method that a path is not for.
pub(crate) async fn unknown_method(method: Method, uri: Uri) -> Refusal {
    let message = format!("{} cannot be called with {method}", uri.path());
    let error = ApiError::invalid(message, "use a method that the `Allow` header names");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error)
}
