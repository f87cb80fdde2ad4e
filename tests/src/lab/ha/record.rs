//! What a watch saw, and what follows from it: how long nobody answered, how long two did, when it changed hands.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// A station's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Somebody said that the address is at this station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The number of the request that it belongs to: the last one sent before it came.
    pub request: usize,
    /// When it came.
    pub at: Duration,
    /// The station it names.
    pub mac: Mac,
}

/// Somebody said so without being asked: a gratuitous ARP, an unsolicited advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// When it came.
    pub at: Duration,
    /// The station it names.
    pub mac: Mac,
}

/// Everything one watch saw. All times count from its beginning.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// When each request was sent.
    pub asked: Vec<Duration>,
    /// Every answer, in the order in which they came.
    pub answers: Vec<Answer>,
    /// Every announcement, in the order in which they came.
    pub announcements: Vec<Announcement>,
    /// Whether the watch ran with real-time priority, so that other work of the machine delayed it little.
    pub real_time: bool,
}

/// How far two stations answered for one address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overlap {
    /// From the first answer of the later one to the last of the earlier one; zero if one ended before the other began.
    pub lasted: Duration,
    /// Requests that both answered.
    pub requests: usize,
}

impl Record {
    /// When those requests were sent that anybody answered, ascending.
    #[must_use]
    pub fn answered(&self) -> Vec<Duration> {
        let mut requests: Vec<usize> = self.answers.iter().map(|answer| answer.request).collect();
        requests.dedup();
        requests.into_iter().filter_map(|request| self.asked.get(request).copied()).collect()
    }

    /// How often each station answered.
    #[must_use]
    pub fn answerers(&self) -> BTreeMap<Mac, usize> {
        let mut census = BTreeMap::new();
        for answer in &self.answers {
            *census.entry(answer.mac).or_default() += 1;
        }
        census
    }

    /// The stations that announced themselves from `since` on, and how often.
    #[must_use]
    pub fn announcers(&self, since: Duration) -> BTreeMap<Mac, usize> {
        let mut census = BTreeMap::new();
        for announcement in self.announcements.iter().filter(|one| one.at >= since) {
            *census.entry(announcement.mac).or_default() += 1;
        }
        census
    }
}

/// The longest time between two requests in a row that were answered, of those that ended after the disturbance at
/// `since`. `None` if nobody answered before it, or nobody after it: then there is no telling.
#[must_use]
pub fn gap(record: &Record, since: Duration) -> Option<Duration> {
    let answered = record.answered();
    answered.first().filter(|first| **first <= since)?;
    let pairs = answered.iter().zip(answered.iter().skip(1));
    pairs.filter(|(_, next)| **next > since).map(|(one, next)| next.saturating_sub(*one)).max()
}

/// How far two stations answered within `window`, which is to hold one change of hands; of more than two stations, the
/// worst pair. A request counts as answered by both if both answers came before the next was sent.
#[must_use]
pub fn overlap(record: &Record, window: Range<Duration>) -> Overlap {
    let within = || record.answers.iter().filter(|answer| window.contains(&answer.at));
    let mut spans: BTreeMap<Mac, (Duration, Duration)> = BTreeMap::new();
    let mut requests: BTreeMap<usize, Vec<Mac>> = BTreeMap::new();
    for answer in within() {
        spans.entry(answer.mac).or_insert((answer.at, answer.at)).1 = answer.at;
        let macs = requests.entry(answer.request).or_default();
        if !macs.contains(&answer.mac) {
            macs.push(answer.mac);
        }
    }
    let spans: Vec<(Duration, Duration)> = spans.into_values().collect();
    let pairs = spans
        .iter()
        .enumerate()
        .flat_map(|(at, one)| spans.iter().skip(at + 1).map(move |other| (one, other)));
    let lasted = pairs.map(|(one, other)| one.1.min(other.1).saturating_sub(one.0.max(other.0)));
    Overlap {
        lasted: lasted.max().unwrap_or_default(),
        requests: requests.values().filter(|macs| macs.len() > 1).count(),
    }
}

/// When, from `since` on, somebody first answered who is not the station that answered last before it. `None` if that
/// never happened, or nobody answered before.
#[must_use]
pub fn switched_at(record: &Record, since: Duration) -> Option<Duration> {
    let before = record.answers.iter().rev().find(|answer| answer.at < since)?.mac;
    record.answers.iter().find(|answer| answer.at >= since && answer.mac != before).map(|answer| answer.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A request every millisecond for `length` ms; each of `spans` answers those from its first to its last, both included.
    fn record(length: u64, spans: &[(Mac, u64, u64)]) -> Record {
        let mut record = Record { asked: (0..length).map(ms).collect(), ..Record::default() };
        for request in 0..length {
            for (mac, first, last) in spans {
                if (*first..=*last).contains(&request) {
                    let request = usize::try_from(request).expect("small");
                    let at = record.asked[request] + Duration::from_micros(50);
                    record.answers.push(Answer { request, at, mac: *mac });
                }
            }
        }
        record
    }

    #[test]
    fn gap_is_from_the_last_answered_request_to_the_next() {
        let moved = record(1000, &[(A, 0, 299), (B, 640, 999)]);
        assert_eq!(gap(&moved, ms(300)), Some(ms(341)));
        assert_eq!(switched_at(&moved, ms(300)), Some(ms(640) + Duration::from_micros(50)));
    }

    #[test]
    fn gaps_that_ended_before_the_disturbance_do_not_count() {
        let stalled = record(1000, &[(A, 0, 99), (A, 180, 499), (B, 520, 999)]);
        assert_eq!(gap(&stalled, ms(500)), Some(ms(21)));
    }

    #[test]
    fn gap_is_one_interval_where_nobody_missed_anything() {
        assert_eq!(gap(&record(1000, &[(A, 0, 999)]), ms(300)), Some(ms(1)));
    }

    #[test]
    fn gap_of_what_never_was_or_never_came_back_is_not_told() {
        assert_eq!(gap(&record(1000, &[(A, 0, 299)]), ms(300)), None);
        assert_eq!(gap(&record(1000, &[(B, 640, 999)]), ms(300)), None);
        assert_eq!(gap(&record(1000, &[]), ms(300)), None);
    }

    #[test]
    fn one_after_the_other_is_no_overlap() {
        let moved = record(1000, &[(A, 0, 299), (B, 300, 999)]);
        assert_eq!(overlap(&moved, ms(0)..ms(1000)), Overlap::default());
    }

    #[test]
    fn overlap_lasts_from_the_first_answer_of_one_to_the_last_of_the_other() {
        let both = record(1000, &[(A, 0, 420), (B, 400, 999)]);
        assert_eq!(overlap(&both, ms(0)..ms(1000)), Overlap { lasted: ms(20), requests: 21 });
        // Taking turns is answering at the same time, though no request has two answers.
        let turns = record(1000, &[(A, 0, 399), (B, 400, 449), (A, 450, 450), (B, 451, 999)]);
        assert_eq!(overlap(&turns, ms(0)..ms(1000)), Overlap { lasted: ms(50), requests: 0 });
    }

    #[test]
    fn overlap_is_of_the_window_only() {
        let there_and_back = record(1000, &[(A, 0, 299), (B, 300, 699), (A, 700, 999)]);
        assert_eq!(overlap(&there_and_back, ms(100)..ms(600)), Overlap::default());
        assert_eq!(overlap(&there_and_back, ms(0)..ms(1000)).lasted, ms(399));
    }

    #[test]
    fn the_same_station_answering_twice_is_one() {
        let twice = record(10, &[(A, 0, 9), (A, 3, 5)]);
        assert_eq!(overlap(&twice, ms(0)..ms(10)), Overlap::default());
        assert_eq!(twice.answered().len(), 10);
    }

    #[test]
    fn who_answers_on_has_not_switched() {
        assert_eq!(switched_at(&record(1000, &[(A, 0, 299), (A, 500, 999)]), ms(300)), None);
        assert_eq!(switched_at(&record(1000, &[(B, 640, 999)]), ms(300)), None);
    }

    #[test]
    fn announcements_are_counted_from_then_on() {
        let mut record = record(10, &[]);
        record.announcements =
            [(ms(1), A), (ms(5), B), (ms(6), B)].map(|(at, mac)| Announcement { at, mac }).to_vec();
        assert_eq!(record.announcers(ms(5)), BTreeMap::from([(B, 2)]));
    }
}
