//! The metrics of a server, read from their Prometheus text and written as the JSON of v0.22.3 (contract §7.1).

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// What `GET /v1/metrics` says. Fields are named and ordered as v0.22.3 prints them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Values {
    #[serde(rename = "kes_http_request_success")]
    pub(super) success: u64,
    #[serde(rename = "kes_http_request_error")]
    pub(super) error: u64,
    #[serde(rename = "kes_http_request_failure")]
    pub(super) failure: u64,
    #[serde(rename = "kes_http_request_active")]
    pub(super) active: u64,
    #[serde(rename = "kes_log_audit_events")]
    pub(super) audit_events: u64,
    #[serde(rename = "kes_log_error_events")]
    pub(super) error_events: u64,
    /// Requests that took at most so many nanoseconds.
    #[serde(rename = "kes_http_response_time", serialize_with = "by_text")]
    pub(super) response_time: BTreeMap<u64, u64>,
    /// All requests of [`Self::response_time`].
    #[serde(skip)]
    pub(super) answered: u64,
    /// Nanoseconds.
    #[serde(rename = "kes_system_up_time")]
    pub(super) up_time: u64,
    #[serde(rename = "kes_system_num_cpu")]
    pub(super) cpus: u64,
    #[serde(rename = "kes_system_num_cpu_used")]
    pub(super) cpus_used: u64,
    #[serde(rename = "kes_system_num_threads")]
    pub(super) threads: u64,
    #[serde(rename = "kes_system_mem_heap_used")]
    pub(super) heap: u64,
    #[serde(rename = "kes_system_mem_heap_objects")]
    pub(super) objects: u64,
    #[serde(rename = "kes_system_mem_stack_used")]
    pub(super) stack: u64,
}

impl Values {
    /// Reads the text format of Prometheus; what is not known is left out.
    pub(super) fn parse(text: &str) -> Self {
        let mut values = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            if name == "kes_http_response_time_bucket" {
                if let Some(limit) = nanoseconds(labels) {
                    values.response_time.insert(limit, whole(value));
                }
                continue;
            }
            let (field, factor) = match name {
                // one sample for each status code
                "kes_http_request_success" | "kes_http_request_success_total" => (&mut values.success, 1.0),
                "kes_http_request_error" | "kes_http_request_error_total" => (&mut values.error, 1.0),
                "kes_http_request_failure" | "kes_http_request_failure_total" => (&mut values.failure, 1.0),
                "kes_http_request_active" => (&mut values.active, 1.0),
                "kes_log_audit_events" | "kes_log_audit_events_total" => (&mut values.audit_events, 1.0),
                "kes_log_error_events" | "kes_log_error_events_total" => (&mut values.error_events, 1.0),
                "kes_http_response_time_count" => (&mut values.answered, 1.0),
                "kes_system_up_time" => (&mut values.up_time, 1e9),
                "kes_system_num_cpu" => (&mut values.cpus, 1.0),
                "kes_system_num_cpu_used" => (&mut values.cpus_used, 1.0),
                "kes_system_num_threads" => (&mut values.threads, 1.0),
                "kes_system_mem_heap_used" => (&mut values.heap, 1.0),
                "kes_system_mem_heap_objects" => (&mut values.objects, 1.0),
                "kes_system_mem_stack_used" => (&mut values.stack, 1.0),
                _ => continue,
            };
            *field += whole(value * factor);
        }
        values
    }

    /// Requests that were answered.
    pub(super) fn requests(&self) -> u64 {
        self.success + self.error + self.failure
    }

    /// The bucket within which this share of the requests was answered, for people.
    pub(super) fn within(&self, share: f64) -> String {
        if self.answered == 0 {
            return "-".into();
        }
        let enough = (self.answered as f64 * share).ceil();
        match self.response_time.iter().find(|(_, count)| **count as f64 >= enough) {
            Some((limit, _)) => format!("{} ms", limit / 1_000_000),
            None => "more than 10 s".into(),
        }
    }
}

/// `le="0.05"` in nanoseconds; nothing for the last bucket, which holds all.
fn nanoseconds(labels: &str) -> Option<u64> {
    let seconds = labels.split("le=\"").nth(1)?.split('"').next()?;
    let seconds: f64 = seconds.parse().ok()?;
    seconds.is_finite().then(|| whole(seconds * 1e9))
}

/// Counts are whole, far below 2⁵³, and never negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded on the line before")]
fn whole(value: f64) -> u64 {
    value.round().clamp(0.0, 9e15) as u64
}

/// In the order of the keys' text, as Go writes maps.
fn by_text<S: Serializer>(buckets: &BTreeMap<u64, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    let by_text: BTreeMap<String, u64> = buckets.iter().map(|(k, v)| (k.to_string(), *v)).collect();
    by_text.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP kes_http_request_success Number of requests that have been served successfully.
# TYPE kes_http_request_success counter
kes_http_request_success{code=\"200\"} 10
kes_http_request_error{code=\"403\"} 1
kes_http_request_error{code=\"404\"} 2
kes_http_request_failure{code=\"500\"} 0
kes_http_request_active 1
kes_log_audit_events 13
kes_log_error_events 0
kes_http_response_time_bucket{le=\"0.01\"} 12
kes_http_response_time_bucket{le=\"0.05\"} 13
kes_http_response_time_bucket{le=\"1\"} 13
kes_http_response_time_bucket{le=\"+Inf\"} 13
kes_http_response_time_sum 0.02
kes_http_response_time_count 13
kes_system_up_time 2.5
kes_system_num_cpu 2
kes_system_num_cpu_used 2
kes_system_num_threads 10
kes_system_mem_heap_used 2.919480e+06
kes_system_mem_heap_objects 18882
kes_system_mem_stack_used 720896
something_new{a=\"b\"} 7
";

    #[test]
    fn prometheus_text_becomes_the_json_of_kes() {
        let values = Values::parse(TEXT);
        insta::assert_snapshot!(serde_json::to_string(&values).unwrap(), @r#"{"kes_http_request_success":10,"kes_http_request_error":3,"kes_http_request_failure":0,"kes_http_request_active":1,"kes_log_audit_events":13,"kes_log_error_events":0,"kes_http_response_time":{"10000000":12,"1000000000":13,"50000000":13},"kes_system_up_time":2500000000,"kes_system_num_cpu":2,"kes_system_num_cpu_used":2,"kes_system_num_threads":10,"kes_system_mem_heap_used":2919480,"kes_system_mem_heap_objects":18882,"kes_system_mem_stack_used":720896}"#);
        assert_eq!((values.within(0.5), values.within(0.99)), ("10 ms".into(), "50 ms".into()));
    }

    #[test]
    fn a_server_that_was_not_asked_yet_has_no_latency() {
        assert_eq!(Values::parse("").within(0.5), "-");
        let slow = Values { answered: 1, ..Values::default() };
        assert_eq!(slow.within(0.5), "more than 10 s");
        assert_eq!(Values::parse("nonsense\nkes_http_request_active x\n"), Values::default());
    }
}
