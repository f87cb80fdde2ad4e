//! The HTTP status codes a check takes for healthy.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Every status code HTTP knows a class for.
const VALID: RangeInclusive<u16> = 100..=599;

/// A set of HTTP status codes, written `"200-399"` or `"200,204,300-302"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRanges(Vec<(u16, u16)>);

/// Why a set of status codes could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is not a status code or range between 100 and 599")]
pub struct BadStatusRanges {
    /// The part between two commas that could not be read.
    pub part: String,
}

impl StatusRanges {
    /// Whether an answer with this status code counts as a success.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl Default for StatusRanges {
    /// Success and redirection: `200-399`.
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}

impl FromStr for StatusRanges {
    type Err = BadStatusRanges;

    fn from_str(text: &str) -> Result<Self, BadStatusRanges> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (VALID.contains(&first) && VALID.contains(&last) && first <= last).then_some((first, last))
        };
        let ranges = text
            .split(',')
            .map(|part| range(part).ok_or_else(|| BadStatusRanges { part: part.trim().to_owned() }));
        ranges.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for StatusRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (first, last)) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

impl Serialize for StatusRanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_ends_and_nothing_beyond() {
        let cases: &[(&str, &[u16], &[u16])] = &[
            ("200-399", &[200, 302, 399], &[199, 400, 404]),
            ("204", &[204], &[200, 205]),
            ("200, 204,300-302", &[200, 204, 300, 302], &[201, 203, 303]),
        ];
        for (text, inside, outside) in cases {
            let ranges: StatusRanges = text.parse().expect(text);
            assert!(inside.iter().all(|status| ranges.contains(*status)), "{text}");
            assert!(!outside.iter().any(|status| ranges.contains(*status)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_part() {
        for (text, part) in
            [("", ""), ("200,abc", "abc"), ("399-200", "399-200"), ("99", "99"), ("600", "600")]
        {
            assert_eq!(text.parse::<StatusRanges>(), Err(BadStatusRanges { part: part.to_owned() }));
        }
    }

    #[test]
    fn a_set_reads_back_as_written() {
        for text in ["200-399", "200,204,300-302"] {
            assert_eq!(text.parse::<StatusRanges>().expect(text).to_string(), text);
        }
    }
}
