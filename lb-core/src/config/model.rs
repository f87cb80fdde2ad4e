//! What a configuration file can say, with every default filled in.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::service::TableClass;
use serde::{Serialize, Serializer};

use super::StatusRanges;

mod ha;
mod sync;

pub(crate) use ha::DEFAULT_LONE_LEASE;
pub use ha::{Cluster, HaGroup, HaMode, HighAvailability, VrrpChecksum};
pub use sync::{FlowSync, SyncMode};

/// A whole configuration file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Interfaces on which packets for the VIPs arrive, at least one, and those that only lead to backends.
    pub interfaces: Vec<Interface>,
    /// The nodes that this one shares flows and VIPs with; `None`: it is alone.
    pub cluster: Option<Cluster>,
    /// Which node answers for which VIPs.
    pub ha: HighAvailability,
    /// How the others are told of flows; `None`: they are not.
    pub sync: Option<FlowSync>,
    /// Sizes of the maps, fixed when the program is loaded.
    pub limits: Limits,
    /// Where metrics can be fetched.
    pub metrics: Metrics,
    /// The services, in the order of the file.
    pub services: Vec<Service>,
}

impl Config {
    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The group that this VIP is in; `None` if every node answers for it.
    #[must_use]
    pub fn ha_group_of(&self, vip: IpAddr) -> Option<&HaGroup> {
        self.ha.groups.iter().find(|group| group.vips.contains(&vip))
    }
}

/// An interface that frames come in by, or leave by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Interface {
    /// Its name in the namespace of the daemon.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// How the program may be attached.
    pub mode: AttachMode,
}

/// Sizes of the maps, and bounds of the program. They cannot change while the program is loaded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Services at most.
    pub services: u32,
    /// (service, backend) pairs at most; 65,535 is the end of the 16-bit slot number.
    pub backends: u32,
    /// Entries of the flow table, a power of two, eight to a bucket of 64 bytes.
    pub flows: u32,
    /// Entries of all Maglev tables together, two bytes each.
    pub table_slots: u32,
    /// Whether the addresses of every flow are kept as well, for `flow list`.
    pub flow_tuples: bool,
    /// New flows stored in a second on one CPU at most; 0: any number. Those above go by the Maglev table alone.
    pub new_flows_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            services: 512,
            backends: 4096,
            flows: 1 << 20,
            table_slots: 8_388_608,
            flow_tuples: true,
            new_flows_per_second: 500_000,
        }
    }
}

/// Where metrics can be fetched, beside the API's socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// Address and port of a listener for Prometheus; `None`: there is none.
    pub listen: Option<SocketAddr>,
}

/// A virtual address and port, and what stands behind it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    /// Its unique name.
    pub name: String,
    /// The address clients connect to.
    pub vip: IpAddr,
    /// The port clients connect to.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// How packets reach the backends.
    pub mode: Mode,
    /// Entries of its Maglev table.
    pub table_size: TableSize,
    /// What to do when every checked backend is down.
    pub when_all_down: WhenAllDown,
    /// What becomes of packets to ports of the VIP that no service has. The same for all services of one VIP.
    pub unknown_port: UnknownPort,
    /// Whether flows are remembered, so that they stay where they are when the backends change.
    pub track: bool,
    /// How long an idle flow is remembered.
    pub timeouts: Timeouts,
    /// How the backends are checked; without a check they always serve.
    pub check: Option<Check>,
    /// The backends, in the order of the file.
    pub backends: Vec<Backend>,
}

/// How long an idle flow is remembered, 1 second to 2 hours each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeouts {
    /// A TCP connection.
    #[serde(serialize_with = "human")]
    pub established: Duration,
    /// A TCP connection after FIN or RST.
    #[serde(serialize_with = "human")]
    pub closing: Duration,
    /// UDP.
    #[serde(serialize_with = "human")]
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            established: Duration::from_secs(15 * 60),
            closing: Duration::from_secs(30),
            udp: Duration::from_secs(60),
        }
    }
}

/// How the backends of a service are checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Connecting is enough, or an HTTP answer is asked for.
    pub kind: CheckKind,
    /// The port; `None` for the service's own.
    pub port: Option<u16>,
    /// `Host` header of an HTTP check; `None` for the backend's address.
    pub host: Option<String>,
    /// Path of an HTTP check.
    pub path: String,
    /// Status codes that count as a success.
    pub expect: StatusRanges,
    /// Between two probes when all is well.
    #[serde(serialize_with = "human")]
    pub interval: Duration,
    /// Between two probes while results disagree with the verdict, or there is none yet.
    #[serde(serialize_with = "human")]
    pub fast: Duration,
    /// Between two probes of a backend that is down.
    #[serde(serialize_with = "human")]
    pub down: Duration,
    /// A probe without an answer for this long has failed.
    #[serde(serialize_with = "human")]
    pub timeout: Duration,
    /// Successes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take a backend down.
    pub fall: u32,
    /// Where probes are addressed to.
    pub target: CheckTarget,
}

impl Check {
    /// A check with every default.
    #[must_use]
    pub fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            port: None,
            host: None,
            path: "/".to_owned(),
            expect: StatusRanges::default(),
            interval: Duration::from_secs(1),
            fast: Duration::from_millis(200),
            down: Duration::from_secs(5),
            timeout: Duration::from_millis(300),
            rise: 2,
            fall: 3,
            target: CheckTarget::Backend,
        }
    }
}

/// A machine behind a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backend {
    /// Its own address; of the VIP's family if the service's mode is `l2`.
    pub address: IpAddr,
    /// Its share of new flows, 0 to 1000; 0 takes none and keeps those it has.
    pub weight: u32,
    /// What the operator wants of it.
    pub state: AdminState,
}

/// Defines an enum whose variants are words in the file, in JSON and on the command line.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$inner])* $variant),+ }

        impl $name {
            /// Every value there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it in the configuration file.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value for a word of the configuration file.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.word()) }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }
    };
}
use words;

words! {
    /// What an interface is for.
    Role {
        /// Packets for the VIPs arrive here, and backends may be behind it.
        Steer = "steer",
        /// It only leads to backends: frames are redirected to it, and what it receives is the kernel's.
        Egress = "egress",
    }
}

words! {
    /// How the program may be attached to an interface.
    AttachMode {
        /// In the driver if it can, else generic.
        Auto = "auto",
        /// In the driver or not at all.
        Native = "native",
        /// In the kernel's generic path: works everywhere, slower.
        Generic = "generic",
    }
}

words! {
    /// Transport protocol of a service.
    Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
    }
}

words! {
    /// How packets reach a backend.
    Mode {
        /// In an IP header of their own: the backend decapsulates.
        Ipip = "ipip",
        /// With the backend's MAC address only: the backend shares a segment with the balancer.
        L2 = "l2",
    }
}

words! {
    /// What to do when every checked backend is down.
    WhenAllDown {
        /// Suspect the check: all enabled backends serve.
        ServeAll = "serve_all",
        /// Believe the check: packets are dropped, with a counted reason.
        Drop = "drop",
    }
}

words! {
    /// What becomes of packets to ports of a VIP that no service has.
    UnknownPort {
        /// Dropped, with a counted reason.
        Drop = "drop",
        /// Left to the kernel of the balancer.
        Pass = "pass",
    }
}

words! {
    /// How a probe decides.
    CheckKind {
        /// A TCP connection can be made.
        Tcp = "tcp",
        /// An HTTP/1.1 GET is answered with an expected status.
        Http = "http",
    }
}

words! {
    /// Where probes are addressed to.
    CheckTarget {
        /// The backend's own address.
        Backend = "backend",
    }
}

words! {
    /// What the operator wants of a backend.
    AdminState {
        /// Takes flows, if it is healthy.
        Enabled = "enabled",
        /// Keeps the flows it has and takes no new ones.
        Drain = "drain",
        /// Takes nothing; its flows move to other backends.
        Disabled = "disabled",
    }
}

impl Protocol {
    /// Its number in the IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// Entries of a Maglev table: primes just below the stride of their region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableSize {
    /// 4,093: up to some 40 backends.
    Small,
    /// 65,521: up to some 650 backends.
    Medium,
    /// 1,048,573: up to some 10,000 backends.
    Large,
}

impl TableSize {
    /// Every size there is, smallest first.
    pub const ALL: &'static [Self] = &[Self::Small, Self::Medium, Self::Large];

    /// Entries of the table, a prime.
    #[must_use]
    pub const fn entries(self) -> u32 {
        self.class().entries()
    }

    /// The same as the data plane knows it.
    #[must_use]
    pub const fn class(self) -> TableClass {
        match self {
            Self::Small => TableClass::Small,
            Self::Medium => TableClass::Medium,
            Self::Large => TableClass::Large,
        }
    }

    /// Entries its region takes up among `limits.table_slots`, a power of two.
    #[must_use]
    pub const fn stride(self) -> u32 {
        self.class().stride()
    }

    /// The size with this number of entries.
    #[must_use]
    pub fn from_entries(entries: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|size| size.entries() == entries)
    }
}

impl fmt::Display for TableSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.entries())
    }
}

impl Serialize for TableSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.entries())
    }
}

/// A duration as it is written in the file: `15m`, `200ms`.
fn human<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}
