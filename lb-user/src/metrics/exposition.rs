//! The text: series of each family, collected in any order.

use std::collections::BTreeMap;
use std::fmt::Display;

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::family::{Family, Kind};

/// Values of all series at one moment.
#[derive(Debug, Default)]
pub struct Exposition {
    series: BTreeMap<Family, Vec<Metric>>,
}

/// The value of a label, whatever characters it has: the text escapes them.
pub fn label(value: impl Display) -> String {
    value.to_string()
}

impl Exposition {
    /// Adds a series. `labels` are the values of the family's labels, in their order; one that is empty is left out.
    ///
    /// # Panics
    /// In debug builds, if there are more or fewer labels than the family has.
    #[expect(clippy::cast_precision_loss, reason = "the format knows only doubles: exact up to 9 PB")]
    pub fn count(&mut self, family: Family, labels: &[String], value: u64) {
        self.set(family, labels, value as f64);
    }

    /// As [`Self::count`], for truths.
    ///
    /// # Panics
    /// As [`Self::count`].
    pub fn flag(&mut self, family: Family, labels: &[String], value: bool) {
        self.set(family, labels, f64::from(u8::from(value)));
    }

    /// As [`Self::count`], for quantities.
    ///
    /// # Panics
    /// As [`Self::count`].
    pub fn set(&mut self, family: Family, labels: &[String], value: f64) {
        let mut metric = labelled(family, labels);
        match family.kind() {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Kind::Histogram => debug_assert!(false, "{} is a histogram", family.name()),
        }
        self.series.entry(family).or_default().push(metric);
    }

    /// Adds a histogram: by upper bound the number of values that do not exceed it, the number of all, and their sum.
    ///
    /// # Panics
    /// As [`Self::count`], or if the family is no histogram.
    pub fn histogram(
        &mut self,
        family: Family,
        labels: &[String],
        cumulative: impl Iterator<Item = (f64, u64)>,
        (count, sum): (u64, f64),
    ) {
        debug_assert_eq!(family.kind(), Kind::Histogram, "{}", family.name());
        let bucket = |(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(cumulative.map(bucket).collect());
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum);
        let mut metric = labelled(family, labels);
        metric.set_histogram(histogram);
        self.series.entry(family).or_default().push(metric);
    }

    /// The text, families without series left out.
    ///
    /// # Errors
    /// None that the encoder is known to have for a text in memory.
    pub fn text(self) -> prometheus::Result<String> {
        let families: Vec<MetricFamily> = self
            .series
            .into_iter()
            .map(|(family, series)| {
                let mut out = MetricFamily::default();
                out.set_name(family.name().to_owned());
                out.set_help(family.help().to_owned());
                out.set_field_type(match family.kind() {
                    Kind::Counter => MetricType::COUNTER,
                    Kind::Gauge => MetricType::GAUGE,
                    Kind::Histogram => MetricType::HISTOGRAM,
                });
                out.set_metric(series);
                out
            })
            .collect();
        TextEncoder::new().encode_to_string(&families)
    }
}

/// A series without a value yet.
fn labelled(family: Family, labels: &[String]) -> Metric {
    debug_assert_eq!(labels.len(), family.labels().len(), "labels of {}", family.name());
    let pair = |(name, value): (&&str, &String)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    };
    let given = family.labels().iter().zip(labels).filter(|(_, value)| !value.is_empty());
    Metric::from_label(given.map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together_with_help_type_and_escaped_labels() {
        let mut exposition = Exposition::default();
        exposition.count(Family::ServicePackets, &[label("a\"b\\c\nd")], 18_014_398_509_481_984);
        exposition.flag(Family::ConfigChanged, &[], true);
        exposition.set(Family::FlowLoad, &[], 0.25);
        exposition.count(Family::ServicePackets, &[label("web")], 7);
        exposition.count(Family::BuildInfo, &[label("1.0"), label(""), label(2)], 1);
        let expected = r#"# HELP fairlead_build_info 1, with what runs: version of the daemon, commit it was built from if the build said so, layout of the maps.
# TYPE fairlead_build_info gauge
fairlead_build_info{version="1.0",abi="2"} 1
# HELP fairlead_config_changed_on_disk Whether the file on disk says something else than what is in force.
# TYPE fairlead_config_changed_on_disk gauge
fairlead_config_changed_on_disk 1
# HELP fairlead_flow_table_load_ratio Part of the flow table in use, 0 to 1. Above 0.5 flows begin to find no place.
# TYPE fairlead_flow_table_load_ratio gauge
fairlead_flow_table_load_ratio 0.25
# HELP fairlead_service_packets_total Packets forwarded for the service, those to backends that are gone too.
# TYPE fairlead_service_packets_total counter
fairlead_service_packets_total{service="a\"b\\c\nd"} 18014398509481984
fairlead_service_packets_total{service="web"} 7
"#;
        assert_eq!(exposition.text().expect("encoded"), expected);
    }

    #[test]
    fn a_histogram_has_its_bounds_and_one_for_all() {
        let mut exposition = Exposition::default();
        let buckets = [(0.005, 2), (0.01, 3)].into_iter();
        exposition.histogram(Family::HaLateness, &[], buckets, (4, 1.5));
        let text = exposition.text().expect("encoded");
        let (_, series) =
            text.split_once("# TYPE fairlead_ha_wakeup_lateness_seconds histogram\n").expect("a type");
        let expected = r#"fairlead_ha_wakeup_lateness_seconds_bucket{le="0.005"} 2
fairlead_ha_wakeup_lateness_seconds_bucket{le="0.01"} 3
fairlead_ha_wakeup_lateness_seconds_bucket{le="+Inf"} 4
fairlead_ha_wakeup_lateness_seconds_sum 1.5
fairlead_ha_wakeup_lateness_seconds_count 4
"#;
        assert_eq!(series, expected);
    }
}
