//! Whatever comes, in whatever order and at whatever time.

use proptest::prelude::*;

use super::*;

fn any_time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        8 => (0..60_000_u64).prop_map(ms),
        1 => Just(Duration::MAX),
        1 => any::<u64>().prop_map(Duration::from_nanos),
    ]
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (1..=254_u8, 1..=4_095_u16, any::<bool>(), any_time(), any_time(), 0..4_u8).prop_map(
        |(value, centis, preempt, preempt_delay, lone_lease, routers)| {
            let all = dual_stack().routers.into_iter();
            Settings {
                priority: priority(value),
                interval: interval(centis),
                preempt,
                preempt_delay,
                lone_lease,
                routers: all.filter(|(id, _)| routers & 1 << id.0 != 0).collect(),
            }
        },
    )
}

fn any_advert() -> impl Strategy<Value = Input> {
    (0..3_u32, 3..8_u8, any::<u8>(), 1..=4_095_u16, any::<bool>()).prop_map(
        |(id, last, priority, centis, fairlead)| Input::Advert {
            router: RouterId(id),
            from: ip(&format!("192.0.2.{last}")),
            advert: Advert { interval: interval(centis), ..advert(priority) },
            fairlead,
        },
    )
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        1 => prop::option::of(any_time()).prop_map(|lease_in_force| Input::Start { lease_in_force }),
        6 => any_advert(),
        1 => Just(Input::Discarded { router: R4, why: AdvertError::NoAddress }),
        1 => Just(Input::PeerHeard),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(fault, penalty)| Input::Track {
            fault: fault.then(|| "no carrier".to_owned()),
            penalty,
        }),
        1 => any::<bool>().prop_map(|open| Input::Gate { open }),
        1 => Just(Input::Handover),
        1 => Just(Input::TakeOver),
        1 => any_time().prop_map(|until| Input::Hold { until }),
        1 => Just(Input::Pause),
        1 => Just(Input::Resume),
        8 => Just(Input::Tick),
        1 => prop::option::of(any_time()).prop_map(|hold| Input::Stop { hold }),
        1 => any_settings().prop_map(Input::Settings),
    ]
}

proptest! {
    /// No panic; and at every time: an advert of a living router only from one that is active and has a lease, a lease
    /// only for the active one or over a restart, a deadline that is not for ever in the past.
    #[test]
    fn nothing_makes_it_panic_or_say_what_it_is_not(
        settings in any_settings(), inputs in prop::collection::vec((any_time(), any::<bool>(), any_input()), 0..60),
    ) {
        let mut machine = Machine::new(settings);
        let mut now = Duration::ZERO;
        for (time, back, input) in inputs {
            now = if back { time } else { now.saturating_add(time.min(ms(2_000))) };
            let stops = matches!(input, Input::Stop { .. } | Input::Start { .. });
            machine.handle(now, input);
            let mut lease = None;
            while let Some(effect) = machine.poll() {
                match effect {
                    Effect::SetLease { until } => lease = Some(until),
                    Effect::SendAdvert { priority: 1.., .. } => {
                        prop_assert!(lease.is_some_and(|until| until > Duration::ZERO), "no lease before the advert");
                    }
                    Effect::Transition(change) => {
                        prop_assert_eq!(change.reason.cause().to(), change.to, "{}", change.reason);
                    }
                    _ => {}
                }
            }
            if machine.role() != Role::Active && !stops {
                prop_assert!(lease.is_none_or(|until| until.is_zero()), "a lease for one that is not active");
            }
            // A tick gets it on, whenever it comes.
            for _ in 0..3 {
                machine.handle(now, Input::Tick);
                while machine.poll().is_some() {}
            }
            let due = machine.next_deadline();
            prop_assert!(due.is_none_or(|due| due > now || now == Duration::MAX), "due at {due:?}, now {now:?}");
        }
    }
}
