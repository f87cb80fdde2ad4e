//! Every metric there is: name, kind, labels and meaning.

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a start of the daemon with new maps.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The word in the text format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// Declares the metrics: the documentation is the HELP text.
macro_rules! families {
    ($($(#[doc = $doc:literal])+ $variant:ident = $kind:ident $name:literal [$($label:literal),*];)+) => {
        /// A metric with all its series.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Family { $($(#[doc = $doc])+ $variant,)+ }

        /// All of them, in the order of the text.
        pub const FAMILIES: &[Family] = &[$(Family::$variant),+];

        impl Family {
            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Its kind.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind),+ }
            }

            /// Names of its labels, all of them on each series.
            #[must_use]
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($label),*]),+ }
            }

            /// What it means, in words.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim()),+ }
            }
        }
    };
}

families! {
    /// 1, with what runs: version of the daemon, commit it was built from if the build said so, layout of the maps.
    BuildInfo = Gauge "fairlead_build_info" ["version", "commit", "abi"];
    /// When the daemon started, in seconds since 1970.
    StartTime = Gauge "fairlead_start_time_seconds" [];
    /// Counts the configurations put in force since the daemon started, from 1.
    ConfigGeneration = Gauge "fairlead_config_generation" [];
    /// Whether the last reload succeeded; 1 before the first.
    ConfigReloadOk = Gauge "fairlead_config_last_reload_successful" [];
    /// When a configuration was last put in force, by start, reload or command, in seconds since 1970.
    ConfigReloadTime = Gauge "fairlead_config_last_reload_success_timestamp_seconds" [];
    /// Whether the file on disk says something else than what is in force.
    ConfigChanged = Gauge "fairlead_config_changed_on_disk" [];
    /// How often the maps could not be made what they should be, since the daemon started.
    MapFailures = Counter "fairlead_map_operation_failures_total" [];
    /// 1 for the mode in which the program is attached to the interface: native, generic or none.
    InterfaceAttached = Gauge "fairlead_interface_attached" ["interface", "mode"];
    /// Whether the interface is there and switched on.
    InterfaceUp = Gauge "fairlead_interface_up" ["interface"];
    /// Frames redirected to the interface that did not leave by it: refused by the kernel, or lost in the driver.
    RedirectFaults = Counter "fairlead_interface_redirect_errors_total" ["interface", "kind"];
    /// Packets that were sent on, answered or left to the kernel, by verdict.
    Packets = Counter "fairlead_packets_total" ["verdict"];
    /// Packets that were dropped, by reason.
    Dropped = Counter "fairlead_dropped_packets_total" ["reason"];
    /// What happened to flows beside, by event.
    Events = Counter "fairlead_flow_events_total" ["event"];
    /// Entries of the flow table.
    FlowCapacity = Gauge "fairlead_flow_table_capacity" [];
    /// Entries in use, as the last sweep found them.
    FlowUsed = Gauge "fairlead_flow_table_used" [];
    /// Part of the flow table in use, 0 to 1. Above 0.5 flows begin to find no place.
    FlowLoad = Gauge "fairlead_flow_table_load_ratio" [];
    /// Entries of flows that the present tables would send elsewhere.
    FlowExceptions = Gauge "fairlead_flow_table_exceptions" [];
    /// Entries of flows of which only the first packet was seen.
    FlowUnconfirmed = Gauge "fairlead_flow_table_unconfirmed" [];
    /// Slots that there is room for, one for each backend of a service.
    SlotCapacity = Gauge "fairlead_slots_capacity" [];
    /// Slots in use, with those that are still being removed.
    SlotsUsed = Gauge "fairlead_slots_used" [];
    /// Whether any backend of the service takes new flows.
    ServiceUp = Gauge "fairlead_service_up" ["service"];
    /// Backends of the service.
    ServiceBackends = Gauge "fairlead_service_backends" ["service"];
    /// Enabled backends of the service that are up or unchecked.
    ServiceHealthy = Gauge "fairlead_service_healthy_backends" ["service"];
    /// Flows of the service in the flow table, as the last sweep found them.
    ServiceFlows = Gauge "fairlead_service_flows" ["service"];
    /// Packets forwarded for the service, those to backends that are gone too.
    ServicePackets = Counter "fairlead_service_packets_total" ["service"];
    /// Bytes of these packets, from the IP header on, without the outer header.
    ServiceBytes = Counter "fairlead_service_bytes_total" ["service"];
    /// Flows of the service that were stored or picked anew, and SYNs of those not stored; UDP flows that are not stored do not count.
    ServiceNewFlows = Counter "fairlead_service_new_flows_total" ["service"];
    /// Packets forwarded to the backend, in all slots that it had.
    BackendPackets = Counter "fairlead_backend_packets_total" ["service", "backend"];
    /// Bytes of these packets, from the IP header on, without the outer header.
    BackendBytes = Counter "fairlead_backend_bytes_total" ["service", "backend"];
    /// Flows stored for the backend or picked anew, and SYNs of those not stored; UDP flows that are not stored do not count.
    BackendNewFlows = Counter "fairlead_backend_new_flows_total" ["service", "backend"];
    /// Flows of the backend in the flow table, as the last sweep found them.
    BackendFlows = Gauge "fairlead_backend_flows" ["service", "backend"];
    /// Slots that the backend has: 0 without a route, seldom 2 while one replaces another.
    BackendSlots = Gauge "fairlead_backend_slots" ["service", "backend"];
    /// Its part of the Maglev table, 0 to 1, which is its part of new flows.
    BackendShare = Gauge "fairlead_backend_table_share_ratio" ["service", "backend"];
    /// Its weight as configured.
    BackendWeight = Gauge "fairlead_backend_weight" ["service", "backend"];
    /// 1 for what the operator wants of it: enabled, drain or disabled.
    BackendAdmin = Gauge "fairlead_backend_admin_state" ["service", "backend", "state"];
    /// 1 for what its checks say: unchecked, unknown, up or down.
    BackendHealth = Gauge "fairlead_backend_health" ["service", "backend", "state"];
    /// 1 for what the data plane does with it: serving, draining or dead.
    BackendSlotState = Gauge "fairlead_backend_slot_state" ["service", "backend", "state"];
    /// How often its health became up or down, since the daemon started.
    BackendTransitions = Counter "fairlead_backend_health_transitions_total" ["service", "backend", "to"];
    /// How long its last check took, a failed one too.
    BackendCheckDuration = Gauge "fairlead_backend_last_check_duration_seconds" ["service", "backend"];
    /// When its last check ended, in seconds since 1970.
    BackendCheckTime = Gauge "fairlead_backend_last_check_timestamp_seconds" ["service", "backend"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut names = std::collections::BTreeSet::new();
        for family in FAMILIES {
            let name = family.name();
            assert!(names.insert(name), "{name} twice");
            assert!(name.starts_with("fairlead_"), "{name}");
            assert_eq!(name.ends_with("_total"), family.kind() == Kind::Counter, "{name}");
            assert!(family.help().ends_with('.'), "{name}: {}", family.help());
        }
    }
}
