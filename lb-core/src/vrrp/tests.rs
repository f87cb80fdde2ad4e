use super::*;

fn priority(value: u8) -> Priority {
    Priority::new(value).expect("a priority that may be given")
}

#[test]
fn priorities_of_owner_and_goodbye_are_refused() {
    assert_eq!(Priority::new(0), None);
    assert_eq!(Priority::new(255), None);
    assert_eq!(Priority::new(1).map(Priority::get), Some(1));
    assert_eq!(Priority::new(254).map(Priority::get), Some(254));
    assert_eq!(Priority::DEFAULT.get(), 100);
}

#[test]
fn a_penalty_lowers_a_priority_to_one_at_least() {
    for (penalty, left) in [(0, 100), (1, 99), (99, 1), (100, 1), (255, 1)] {
        assert_eq!(priority(100).lowered_by(penalty).get(), left, "{penalty}");
    }
}

#[test]
fn intervals_are_whole_hundredths_that_fit_into_12_bits() {
    let centis =
        |nanos| AdvertInterval::from_duration(Duration::from_nanos(nanos)).map(AdvertInterval::centis);
    assert_eq!(centis(0), None);
    assert_eq!(centis(9_999_999), None);
    assert_eq!(centis(10_000_000), Some(1));
    assert_eq!(centis(10_000_001), None);
    assert_eq!(centis(1_000_000_000), Some(100));
    assert_eq!(centis(40_950_000_000), Some(4_095));
    assert_eq!(centis(40_960_000_000), None);
    assert_eq!(AdvertInterval::from_duration(Duration::MAX), None);
    assert_eq!(AdvertInterval::from_centis(0), None);
    assert_eq!(AdvertInterval::from_centis(4_096), None);
    assert_eq!(AdvertInterval::DEFAULT.duration(), Duration::from_secs(1));
    assert_eq!(AdvertInterval::MAX.to_string(), "40s 950ms");
}

/// Values of RFC 9568, 6.1: in hundredths `((256 - 100) * 100) / 256`, not rounded here.
#[test]
fn skew_and_down_interval_follow_the_formulas_of_the_rfc() {
    let second = AdvertInterval::DEFAULT;
    assert_eq!(priority(100).skew(second), Duration::from_micros(609_375));
    assert_eq!(priority(100).active_down(second), Duration::from_micros(3_609_375));
    assert_eq!(priority(254).skew(second), Duration::from_nanos(7_812_500));
    assert_eq!(priority(1).skew(second), Duration::from_nanos(996_093_750));
    assert_eq!(priority(254).skew(AdvertInterval::MIN), Duration::from_nanos(78_125));
}

#[test]
fn every_down_interval_outlasts_the_lease_of_the_same_interval() {
    for interval in [AdvertInterval::MIN, AdvertInterval::DEFAULT, AdvertInterval::MAX] {
        for value in 1..=254 {
            let (lease, down) = (interval.times(LEASE_INTERVALS), priority(value).active_down(interval));
            // By more than clocks that go wrong by 1,000 ppm against each other.
            assert!(down > lease + lease / 500, "{value}: {down:?}, {lease:?}");
        }
    }
}
