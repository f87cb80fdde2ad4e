//! Every metric there is: name, kind, labels and meaning.

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a start of the daemon with new maps.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by how much, from the start of the daemon.
    Histogram,
}

impl Kind {
    /// The word in the text format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
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
    /// 1, with who decides who is active (vrrp or external), and the names of cluster and node if they are configured. Like all that begins with `fairlead_ha_` only there with groups of VIPs.
    HaInfo = Gauge "fairlead_ha_info" ["cluster", "node", "mode"];
    /// Whether the thread that keeps leases and adverts answers; without it nothing else about groups is told.
    HaThreadUp = Gauge "fairlead_ha_thread_up" [];
    /// Whether that thread runs under SCHED_FIFO.
    HaThreadRealtime = Gauge "fairlead_ha_thread_realtime" [];
    /// Whether all memory of the daemon is locked, what is mapped later too.
    HaMemoryLocked = Gauge "fairlead_ha_memory_locked" [];
    /// By how much that thread woke late, each time that something was due.
    HaLateness = Histogram "fairlead_ha_wakeup_lateness_seconds" [];
    /// By how much it woke late at most, since the daemon started.
    HaLatenessMax = Gauge "fairlead_ha_wakeup_lateness_max_seconds" [];
    /// By how much it woke late at most in the last five to ten minutes.
    HaLatenessRecent = Gauge "fairlead_ha_wakeup_lateness_recent_max_seconds" [];
    /// How often it woke more than 5 ms late.
    HaLateWakeups = Counter "fairlead_ha_late_wakeups_total" [];
    /// Adverts for virtual routers that are not configured here.
    HaUnknownRouters = Counter "fairlead_ha_unknown_router_adverts_total" [];
    /// 1 for what this node is to the group: active, backup or init.
    HaRole = Gauge "fairlead_ha_role" ["cluster", "group", "role"];
    /// When the role last changed, the start of the daemon included, in seconds since 1970.
    HaRoleTime = Gauge "fairlead_ha_role_changed_timestamp_seconds" ["group"];
    /// How often the role changed, by the new one and why. Groups that move together count alike, and so in all that has no virtual router.
    HaTransitions = Counter "fairlead_ha_transitions_total" ["group", "to", "reason"];
    /// For how long the VIPs are answered for here unless the lease is renewed; 0: they are not.
    HaLease = Gauge "fairlead_ha_lease_remaining_seconds" ["group"];
    /// Time between adverts as configured.
    HaInterval = Gauge "fairlead_ha_advert_interval_seconds" ["group"];
    /// By how much a renewal of the lease may be late before the role is given up: one and a half intervals.
    HaLatenessLimit = Gauge "fairlead_ha_lateness_limit_seconds" ["group"];
    /// Priority in force: as configured, less what is tracked, 1 after a handover.
    HaPriority = Gauge "fairlead_ha_priority" ["group"];
    /// Priority as configured.
    HaPriorityConfigured = Gauge "fairlead_ha_configured_priority" ["group"];
    /// 1 for why the group can't be active here: no_interface, interface_down, no_carrier, not_attached, no_address (to send adverts from) or deaf (adverts can't be heard).
    HaFault = Gauge "fairlead_ha_fault" ["group", "reason"];
    /// 1 for what does not get through: adverts_not_sent or vips_not_announced.
    HaProblem = Gauge "fairlead_ha_problem" ["group", "reason"];
    /// 1 for what keeps the group from its usual course: paused; handed_over by a command until it is resumed; held_back, it does not preempt whom it gave its role to; hold, a peer restarts; lone, active with the longer lease of a node without peer.
    HaCondition = Gauge "fairlead_ha_condition" ["group", "condition"];
    /// Adverts sent, goodbyes too.
    HaSent = Counter "fairlead_ha_adverts_sent_total" ["group", "vrid", "family"];
    /// Of these goodbyes: adverts with priority 0.
    HaSentZero = Counter "fairlead_ha_goodbyes_sent_total" ["group", "vrid", "family"];
    /// Adverts received that were right.
    HaReceived = Counter "fairlead_ha_adverts_received_total" ["group", "vrid", "family"];
    /// Of these goodbyes: adverts with priority 0.
    HaReceivedZero = Counter "fairlead_ha_goodbyes_received_total" ["group", "vrid", "family"];
    /// Packets that were no adverts, or our own, by the check that they failed.
    HaRejected = Counter "fairlead_ha_adverts_rejected_total" ["group", "vrid", "family", "reason"];
    /// Adverts received that have another interval, or other addresses, than this node.
    HaDiffering = Counter "fairlead_ha_adverts_differing_total" ["group", "vrid", "family", "what"];
    /// Adverts of another active node while this one was active and stayed so. A few are usual when the role moves.
    HaRivalAdverts = Counter "fairlead_ha_rival_adverts_total" ["group", "vrid", "family"];
    /// For how long another active node has been heard while this one is active; 0: there is none.
    HaRival = Gauge "fairlead_ha_rival_seconds" ["group", "vrid", "family"];
    /// When another active node was last heard, in seconds since 1970.
    HaHeardTime = Gauge "fairlead_ha_active_peer_heard_timestamp_seconds" ["group", "vrid", "family"];
    /// Whether flow sync works, that is whether its socket could be had.
    SyncUp = Gauge "fairlead_sync_up" [];
    /// Name of each peer, always 1; without a name until it was heard.
    SyncPeerInfo = Gauge "fairlead_sync_peer_info" ["peer", "node"];
    /// Whether a peer is heard by flow sync.
    SyncPeerUp = Gauge "fairlead_sync_peer_up" ["peer"];
    /// How long ago the oldest change of flows or backends came up here that the peer has not confirmed; 0: it has all.
    SyncLag = Gauge "fairlead_sync_lag_seconds" ["peer"];
    /// Whether the peer has all flows of the groups that this node is active for.
    SyncHasOurs = Gauge "fairlead_sync_peer_has_ours" ["peer"];
    /// Whether this node has all flows of the groups that the peer is active for.
    SyncHaveTheirs = Gauge "fairlead_sync_have_theirs" ["peer"];
    /// Whether the peer, active for it, steers the service by another configuration than this node has.
    SyncDiffers = Gauge "fairlead_sync_digest_differs" ["peer", "service"];
    /// Whether this node may take the group from the peer that is active: it has all flows, and both steer alike.
    SyncReady = Gauge "fairlead_sync_group_ready" ["group"];
    /// Datagrams sent to the peer.
    SyncSent = Counter "fairlead_sync_datagrams_sent_total" ["peer"];
    /// Datagrams of the peer that were taken.
    SyncReceived = Counter "fairlead_sync_datagrams_received_total" ["peer"];
    /// Datagrams from the peer's address that were not taken, by the reason.
    SyncRejected = Counter "fairlead_sync_datagrams_rejected_total" ["peer", "reason"];
    /// Messages sent again because the peer missed them.
    SyncResent = Counter "fairlead_sync_messages_resent_total" ["peer"];
    /// Flows of the peer that found no place here, or whose backend is unknown here.
    SyncUnplaced = Counter "fairlead_sync_flows_unplaced_total" ["peer"];
    /// Datagrams from addresses that are no peer's.
    SyncStrangers = Counter "fairlead_sync_strangers_total" [];
    /// Datagrams that the kernel did not take to send.
    SyncUnsent = Counter "fairlead_sync_datagrams_unsent_total" [];
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
