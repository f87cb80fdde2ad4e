//! How the daemon is.

use lb_core::config::{AttachMode, Role};
use serde::{Deserialize, Serialize};

use crate::api::Timestamp;
use crate::api::words;

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Name of the instance.
    pub instance: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// When the daemon started.
    pub started: Timestamp,
    /// Seconds since then.
    pub uptime_s: u64,
    /// Whether the programs and maps of an earlier daemon were taken over at the start.
    pub adopted: bool,
    /// The configuration in force.
    pub config: ConfigStatus,
    /// Interfaces the program is attached to.
    pub interfaces: Vec<InterfaceStatus>,
    /// Services and backends, counted.
    pub services: ServicesSummary,
    /// Sizes of the maps.
    pub limits: LimitsStatus,
    /// How full the flow table is.
    pub flow_table: FlowTableStatus,
    /// What an operator should look at, in sentences; empty if all is well.
    pub warnings: Vec<String>,
    /// With `--try`: when the program is detached unless `confirm` comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_deadline: Option<Timestamp>,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file it came from.
    pub file: String,
    /// Counts the configurations put in force since the daemon started, from 1.
    pub generation: u64,
    /// When it was put in force.
    pub loaded: Timestamp,
    /// Whether the file on disk says something else by now: changes are refused until it is reloaded.
    pub changed_on_disk: bool,
}

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the kernel's generic path: slower.
    Generic,
    /// Not attached, though it should be: see the warnings.
    Detached,
}

impl AttachedMode {
    /// The word in JSON and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Detached => "detached",
        }
    }
}

/// An interface the program is attached to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// What it is for.
    #[serde(default = "steer", deserialize_with = "words::role")]
    pub role: Role,
    /// The mode in force.
    pub mode: AttachedMode,
    /// The mode that the configuration asks for.
    #[serde(deserialize_with = "words::attach_mode")]
    pub configured: AttachMode,
    /// Its MAC address, as `02:00:5e:00:00:01`.
    #[serde(default)]
    pub mac: String,
    /// Kernel's id of the attached program, as `bpftool prog` shows it; 0 if detached.
    pub program_id: u32,
    /// Why the mode is not native, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Frames redirected to it that the kernel refused, since the maps were made.
    #[serde(default)]
    pub redirect_refused: u64,
    /// Frames redirected to it that its driver did not take, since the maps were made.
    #[serde(default)]
    pub redirect_lost: u64,
    /// Why the last one was refused, in the kernel's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_refused_error: Option<String>,
    /// Why the driver did not take the last one, if it said more than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_lost_error: Option<String>,
}

const fn steer() -> Role {
    Role::Steer
}

/// Services and backends, counted. Each backend counts in exactly one of the lower six.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesSummary {
    /// Services.
    pub services: u32,
    /// Backends of all services together.
    pub backends: u32,
    /// Enabled and up.
    pub up: u32,
    /// Enabled and down.
    pub down: u32,
    /// Enabled, and not checked often enough yet.
    pub unknown: u32,
    /// Enabled, in a service without check.
    pub unchecked: u32,
    /// Draining, whatever their health.
    pub draining: u32,
    /// Disabled, whatever their health.
    pub disabled: u32,
}

/// Sizes of the maps, and how much of them is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsStatus {
    /// Services at most.
    pub services: u32,
    /// Services now.
    pub services_used: u32,
    /// (service, backend) pairs at most.
    pub backends: u32,
    /// Pairs now, with those that are still being removed.
    pub backends_used: u32,
    /// Entries of all Maglev tables at most.
    pub table_slots: u32,
    /// Entries reserved by the tables now.
    pub table_slots_used: u32,
    /// Entries of the flow table.
    pub flows: u32,
    /// Whether addresses of flows are kept for `flow list`.
    pub flow_tuples: bool,
    /// New flows stored in a second on one CPU at most; 0: any number.
    pub new_flows_per_second: u32,
    /// Memory of all maps in bytes.
    pub memory_bytes: u64,
}

/// How full the flow table is, as the last sweep found it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowTableStatus {
    /// Entries there are.
    pub capacity: u64,
    /// Entries in use.
    pub used: u64,
    /// `used` in percent of `capacity`. Above 50 flows begin to find no place.
    pub used_percent: f64,
    /// Entries of flows that the present tables would send elsewhere.
    pub exceptions: u64,
    /// Entries of flows of which only the first packet was seen.
    pub unconfirmed: u64,
    /// Flows that made room for new ones, since the maps were made.
    pub evicted: u64,
    /// Packets of flows that found no place, since the maps were made.
    pub unstored: u64,
    /// Packets of flows that the flood guard kept out, since the maps were made.
    pub guarded: u64,
}
