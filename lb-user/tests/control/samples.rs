//! Canned replies, each field with a value of its own.

use std::time::{Duration, SystemTime};

use lb_core::config::{AdminState, AttachMode, Mode, Protocol, Role, WhenAllDown};
use lb_core::health::Verdict;
use lb_user::api::Timestamp;
use lb_user::api::types::*;

pub(crate) fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        instance: "main".to_owned(),
        pid: 4711,
        started: Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        uptime_s: 3_723,
        adopted: true,
        config: ConfigStatus {
            file: "/etc/f.toml".to_owned(),
            generation: 3,
            loaded: Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            changed_on_disk: true,
        },
        interfaces: vec![InterfaceStatus {
            name: "eth0".to_owned(),
            index: 2,
            role: Role::Steer,
            mode: AttachedMode::Generic,
            configured: AttachMode::Auto,
            mac: "02:00:5e:00:00:01".to_owned(),
            program_id: 77,
            note: Some("the driver refused".to_owned()),
            redirect_refused: 3,
            redirect_lost: 4,
            redirect_refused_error: Some("Network is down".to_owned()),
            redirect_lost_error: None,
        }],
        services: ServicesSummary { services: 1, backends: 2, up: 1, down: 1, ..ServicesSummary::default() },
        limits: LimitsStatus {
            memory_bytes: 64 << 20,
            services: 512,
            services_used: 1,
            ..LimitsStatus::default()
        },
        flow_table: FlowTableStatus {
            capacity: 1 << 20,
            used: 1_024,
            used_percent: 0.1,
            ..FlowTableStatus::default()
        },
        warnings: vec!["eth0 is attached in generic mode".to_owned()],
        confirm_deadline: None,
    }
}

pub(crate) fn service() -> Service {
    let backend = |last: u8, verdict, reason: Option<&str>| Backend {
        service: "web".to_owned(),
        address: [10, 0, 0, last].into(),
        weight: 1,
        state: AdminState::Enabled,
        overridden: false,
        health: Health { verdict, reason: reason.map(str::to_owned), last_check: None },
        slot_state: if verdict == Verdict::Up { SlotState::Serving } else { SlotState::Dead },
        slot: Some(u16::from(last)),
        share_percent: if verdict == Verdict::Up { 100.0 } else { 0.0 },
        flows: 12,
        packets: 3_400,
        bytes: 5 << 20,
    };
    Service {
        name: "web".to_owned(),
        vip: [192, 0, 2, 10].into(),
        port: 80,
        protocol: Protocol::Tcp,
        mode: Mode::Ipip,
        table_size: 65_521,
        table_generation: 2,
        track: true,
        check: Some("http :80/health every 1s".to_owned()),
        when_all_down: WhenAllDown::ServeAll,
        all_down: false,
        serving: true,
        flows: 24,
        packets: 6_800,
        bytes: 10 << 20,
        backends: vec![
            backend(1, Verdict::Up, None),
            backend(2, Verdict::Down, Some("10.0.0.2:80: connection refused")),
        ],
    }
}

pub(crate) fn flow() -> Flow {
    Flow {
        client: ([198, 51, 100, 7], 40_000).into(),
        vip: ([192, 0, 2, 10], 80).into(),
        service: "web".to_owned(),
        backend: [10, 0, 0, 1].into(),
        protocol: Protocol::Tcp,
        state: FlowState::Established,
        age_s: 9,
        exception: true,
    }
}

pub(crate) fn lookup() -> FlowLookup {
    FlowLookup {
        service: "web".to_owned(),
        backend: Some([10, 0, 0, 1].into()),
        entry: Some(flow()),
        table_index: 17,
        table_backend: Some([10, 0, 0, 2].into()),
        exception_since: Some(ExceptionSince {
            at: Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            cause: "backend add web 10.0.0.2".to_owned(),
            generation: 4,
        }),
        explanation: vec![
            "the flow table has an entry".to_owned(),
            "the table would say 10.0.0.2".to_owned(),
            "elsewhere than the table since 2023-11-14T22:13:20.000Z: backend add web 10.0.0.2 (generation 4)"
                .to_owned(),
        ],
    }
}

/// A group that is active here, and whose peer said goodbye.
pub(crate) fn ha() -> HaStatus {
    let at = |seconds: u64| Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds));
    HaStatus {
        mode: "vrrp".to_owned(),
        cluster: Some("edge".to_owned()),
        node: Some("lb-a".to_owned()),
        transitions: 2,
        thread: Some(HaThreadStatus {
            real_time: true,
            locked_memory: false,
            notes: vec!["cannot lock memory: not permitted".to_owned()],
            lateness_max_us: 120,
            late_wakeups: 1,
            unknown_routers: 5,
        }),
        groups: vec![HaGroupStatus {
            name: "web".to_owned(),
            moves_with: None,
            vips: vec!["192.0.2.10".parse().expect("literal")],
            interface: "eth0".to_owned(),
            role: "active".to_owned(),
            since: Some(at(9)),
            reason: Some("192.0.2.3 said goodbye".to_owned()),
            lease_until: Some(at(12)),
            priority: Some(150),
            paused: true,
            handed_over: false,
            ready: None,
            not_ready: None,
            lone: true,
            fault: None,
            problems: vec!["VIPs are not announced: 192.0.2.10: no buffer space".to_owned()],
            routers: vec![HaRouterStatus {
                vrid: 51,
                family: "ipv4".to_owned(),
                active: Some(HaActive {
                    address: "192.0.2.3".parse().expect("literal"),
                    priority: 200,
                    at: at(8),
                    resigned: true,
                }),
                adverts_sent: 30,
                adverts_received: 31,
                rivals: 0,
                discarded: 0,
                became_active: 1,
            }],
            last: Some(HaTransition {
                from: "backup".to_owned(),
                to: "active".to_owned(),
                reason: "192.0.2.3 said goodbye".to_owned(),
                at: at(9),
            }),
        }],
        sync: Some(HaSyncStatus {
            listen: "192.0.2.2:7301".parse().expect("literal"),
            mode: "full".to_owned(),
            fault: None,
            strangers: 3,
            unsent: 0,
            peers: vec![HaPeerStatus {
                address: "192.0.2.3:7301".parse().expect("literal"),
                node: Some("lb-b".to_owned()),
                up: false,
                last_heard: Some(at(8)),
                active: vec!["db".to_owned()],
                has_ours: false,
                have_theirs: true,
                lag_ms: 120,
                unconfirmed: 4,
                differing: vec!["pg".to_owned()],
                sent: 70,
                received: 60,
                resent: 1,
                unplaced: 2,
                rejected: [("replay".to_owned(), 5)].into(),
            }],
        }),
    }
}

pub(crate) fn counters() -> CounterList {
    let counter = |name: &str, kind, packets| Counter {
        name: name.to_owned(),
        kind,
        description: format!("about {name}"),
        packets,
    };
    CounterList {
        counters: vec![
            counter("forwarded", CounterKind::Verdict, 6_800),
            counter("no_backend", CounterKind::Drop, 0),
            counter("flow_stored", CounterKind::Event, 24),
        ],
    }
}

pub(crate) fn config() -> ConfigReply {
    ConfigReply {
        file: "/etc/f.toml".to_owned(),
        generation: 3,
        loaded: Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        changed_on_disk: false,
        text: "# hand-written\n[[interface]]\nname = \"eth0\"\n".to_owned(),
        config: serde_json::json!({"interfaces": [{"name": "eth0", "mode": "auto"}]}),
    }
}
