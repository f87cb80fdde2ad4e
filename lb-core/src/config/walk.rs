//! Reading the file key by key into a [`Config`], with placeholders where a value cannot be used.

mod ha;
mod sync;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lb_common::limits::{MAX_SERVICES, MAX_SLOTS};
use toml_edit::{Document, Item};

use super::convert::{self as read, duration, integer};
use super::model::{
    AdminState, AttachMode, Backend, Check, CheckKind, Config, HighAvailability, Interface, Limits, Metrics,
    Mode, Protocol, Role, Service, TableSize, Timeouts, UnknownPort, WhenAllDown,
};
use super::problem::Notes;
use super::tables::{Complaint, Section};

/// Stands where no address could be read; nothing the file can say.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// Fewest flow entries: one page of buckets.
const MIN_FLOWS: u32 = 512;
/// Most flow entries: 1 GiB of buckets.
const MAX_FLOWS: u32 = 1 << 27;
/// Table entries of the smallest region.
const MIN_TABLE_SLOTS: u32 = 4_096;
/// Most table entries: 2 GiB; array offsets stay within 32 bits.
const MAX_TABLE_SLOTS: u32 = 1 << 30;
/// Greatest weight; with at most 65,535 backends the sum stays within 32 bits.
const MAX_WEIGHT: u32 = 1_000;
/// More results in a row than this is not caution but absence.
const MAX_IN_A_ROW: u32 = 100;
/// Flow ages are kept in ticks of 8 s with eleven bits, signed: a little over two hours.
const MAX_IDLE: Duration = Duration::from_secs(2 * 60 * 60);
/// Shorter probe times measure scheduling, not backends.
const MIN_PROBE: Duration = Duration::from_millis(10);

/// Reads the whole file. `None` if it is not TOML; everything else that is wrong is in the notes.
pub(super) fn walk(text: &str, notes: &mut Notes) -> Option<Config> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            notes.found("", notes.line_at(at));
            let message = error.message().lines().collect::<Vec<_>>().join(" ");
            notes.problem(
                "",
                format!("not TOML: {message}"),
                "correct the line, or compare it with config/reference.toml",
            );
            return None;
        }
    };
    let root = Section::open(document.as_table(), String::new(), None, ROOT_KEYS, notes);
    let interfaces = root.tables("interface", INTERFACE_KEYS, notes);
    let cluster = root.table("cluster", ha::CLUSTER_KEYS, notes);
    let high_availability = root.table("ha", ha::HA_KEYS, notes);
    let flow_sync = root.table("sync", sync::SYNC_KEYS, notes);
    let limits = root.table("limits", LIMITS_KEYS, notes);
    let metrics = root.table("metrics", METRICS_KEYS, notes);
    let services = root.tables("service", SERVICE_KEYS, notes);
    Some(Config {
        interfaces: interfaces.iter().map(|section| interface(section, notes)).collect(),
        cluster: cluster.map(|section| ha::cluster(&section, notes)),
        ha: high_availability
            .map_or_else(HighAvailability::default, |section| ha::high_availability(&section, notes)),
        sync: flow_sync.map(|section| sync::sync(&section, notes)),
        limits: limits.map_or_else(Limits::default, |section| read_limits(&section, notes)),
        metrics: metrics.map_or_else(Metrics::default, |section| Metrics {
            listen: section.optional("listen", None, notes, read::listen),
        }),
        services: services.iter().map(|section| service(section, notes)).collect(),
    })
}

const ROOT_KEYS: &[&str] = &["interface", "cluster", "ha", "sync", "limits", "metrics", "service"];
const INTERFACE_KEYS: &[&str] = &["name", "role", "mode"];
const LIMITS_KEYS: &[&str] =
    &["services", "backends", "flows", "table_slots", "flow_tuples", "new_flows_per_second"];
const METRICS_KEYS: &[&str] = &["listen"];
const TIMEOUTS_KEYS: &[&str] = &["established", "closing", "udp"];
const BACKEND_KEYS: &[&str] = &["address", "weight", "state"];
const SERVICE_KEYS: &[&str] = &[
    "name",
    "vip",
    "port",
    "protocol",
    "mode",
    "table_size",
    "when_all_down",
    "unknown_port",
    "track",
    "timeouts",
    "check",
    "backend",
];

const CHECK_KEYS: &[&str] = &[
    "kind", "port", "host", "path", "expect", "interval", "fast", "down", "timeout", "rise", "fall", "target",
];

/// Every key of every section.
#[cfg(test)]
pub(super) fn all_keys() -> impl Iterator<Item = &'static str> {
    [
        ROOT_KEYS,
        INTERFACE_KEYS,
        ha::CLUSTER_KEYS,
        ha::HA_KEYS,
        ha::GROUP_KEYS,
        LIMITS_KEYS,
        METRICS_KEYS,
        SERVICE_KEYS,
        TIMEOUTS_KEYS,
        CHECK_KEYS,
        BACKEND_KEYS,
    ]
    .concat()
    .into_iter()
}

fn interface(section: &Section<'_>, notes: &mut Notes) -> Interface {
    let remedy = "name the interface on which packets for the VIPs arrive: name = \"eth0\"";
    Interface {
        name: section.required("name", String::new(), remedy, notes, read::interface_name),
        role: section.optional("role", Role::Steer, notes, read::role),
        mode: section.optional("mode", AttachMode::Auto, notes, read::attach_mode),
    }
}

fn read_limits(section: &Section<'_>, notes: &mut Notes) -> Limits {
    let default = Limits::default();
    let flows = section.optional("flows", default.flows, notes, integer(MIN_FLOWS..=MAX_FLOWS));
    Limits {
        services: section.optional("services", default.services, notes, integer(1..=MAX_SERVICES)),
        backends: section.optional("backends", default.backends, notes, integer(1..=MAX_SLOTS)),
        flows: flows.next_power_of_two(),
        table_slots: section.optional(
            "table_slots",
            default.table_slots,
            notes,
            integer(MIN_TABLE_SLOTS..=MAX_TABLE_SLOTS),
        ),
        flow_tuples: section.optional("flow_tuples", default.flow_tuples, notes, read::boolean),
        new_flows_per_second: section.optional(
            "new_flows_per_second",
            default.new_flows_per_second,
            notes,
            integer(0..=u32::MAX),
        ),
    }
}

fn service(section: &Section<'_>, notes: &mut Notes) -> Service {
    let timeouts = section.table("timeouts", TIMEOUTS_KEYS, notes);
    let check = section.table("check", CHECK_KEYS, notes);
    let backends = section.tables("backend", BACKEND_KEYS, notes);
    let port_remedy = "write the port that clients connect to: port = 80";
    Service {
        name: section.required(
            "name",
            String::new(),
            "give the service a unique name",
            notes,
            read::service_name,
        ),
        vip: section.required(
            "vip",
            NO_ADDRESS,
            "write the address that clients connect to",
            notes,
            read::address,
        ),
        port: section.required("port", 0, port_remedy, notes, read::port),
        protocol: section.optional("protocol", Protocol::Tcp, notes, read::protocol),
        mode: section.optional("mode", Mode::Ipip, notes, read::mode),
        table_size: section.optional("table_size", TableSize::Medium, notes, read::table_size),
        when_all_down: section.optional("when_all_down", WhenAllDown::ServeAll, notes, read::when_all_down),
        unknown_port: section.optional("unknown_port", UnknownPort::Drop, notes, read::unknown_port),
        track: section.optional("track", true, notes, read::boolean),
        timeouts: timeouts.map_or_else(Timeouts::default, |section| read_timeouts(&section, notes)),
        check: check.map(|section| read_check(&section, notes)),
        backends: backends.iter().map(|section| backend(section, notes)).collect(),
    }
}

fn read_timeouts(section: &Section<'_>, notes: &mut Notes) -> Timeouts {
    let default = Timeouts::default();
    let mut idle =
        |key, default| section.optional(key, default, notes, duration(Duration::from_secs(1)..=MAX_IDLE));
    Timeouts {
        established: idle("established", default.established),
        closing: idle("closing", default.closing),
        udp: idle("udp", default.udp),
    }
}

fn read_check(section: &Section<'_>, notes: &mut Notes) -> Check {
    let kind = section.required(
        "kind",
        CheckKind::Http,
        "write kind = \"tcp\" or kind = \"http\"",
        notes,
        read::check_kind,
    );
    let default = Check::new(kind);
    if kind == CheckKind::Tcp {
        for key in ["host", "path", "expect"].into_iter().filter(|key| section.has(key)) {
            let remedy = "write kind = \"http\", or leave this key out";
            notes.problem(&section.path_of(key), "a tcp check sends no request", remedy);
        }
    }
    let hour = Duration::from_secs(60 * 60);
    let mut time =
        |key, default, longest| section.optional(key, default, notes, duration(MIN_PROBE..=longest));
    let interval = time("interval", default.interval, hour);
    let fast = time("fast", default.fast, hour);
    let down = time("down", default.down, hour);
    let timeout = time("timeout", default.timeout, Duration::from_secs(60));
    Check {
        kind,
        port: section.optional("port", None, notes, |item: &Item| -> Result<_, Complaint> {
            read::port(item).map(Some)
        }),
        host: section.optional("host", None, notes, read::http_host),
        path: section.optional("path", default.path, notes, read::http_path),
        expect: section.optional("expect", default.expect, notes, read::statuses),
        interval,
        fast,
        down,
        timeout,
        rise: section.optional("rise", default.rise, notes, integer(1..=MAX_IN_A_ROW)),
        fall: section.optional("fall", default.fall, notes, integer(1..=MAX_IN_A_ROW)),
        target: section.optional("target", default.target, notes, read::check_target),
    }
}

fn backend(section: &Section<'_>, notes: &mut Notes) -> Backend {
    let remedy = "write the backend's own address: address = \"10.0.0.11\"";
    Backend {
        address: section.required("address", NO_ADDRESS, remedy, notes, read::address),
        weight: section.optional("weight", 1, notes, integer(0..=MAX_WEIGHT)),
        state: section.optional("state", AdminState::Enabled, notes, read::admin_state),
    }
}
