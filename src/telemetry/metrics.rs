//! The two registries of metrics.

use std::{
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    counters::Histogram,
    process::{Usage, cpus},
    text::{Kind, Text},
};

/// Bounds that KES has, in seconds.
const KES_BOUNDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 3.0, 5.0, 10.0];
/// Bounds that show what happens below a millisecond, in seconds.
const FINE_BOUNDS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];
/// Status codes from 200 to 599.
const CODES: usize = 400;

/// Everything that is counted. Counting takes no lock and does not allocate.
pub struct Metrics {
    started: Instant,
    codes: Box<[AtomicU64]>,
    active: AtomicI64,
    latency: Histogram<10>,
    error_events: AtomicU64,
    actions: Box<[PerAction]>,
    gauges: RwLock<Vec<Gauge>>,
}

struct PerAction {
    name: &'static str,
    /// Answers of the classes 2xx, 4xx and 5xx.
    classes: [AtomicU64; 3],
    latency: Histogram<12>,
}

struct Gauge {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

/// A request that is being answered; counts as active until dropped.
pub struct InFlight<'m>(&'m Metrics);

impl Metrics {
    /// A registry that tells `actions` apart on `/metrics`; a request is counted by its action's index in them.
    #[must_use]
    pub fn new(actions: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            started: Instant::now(),
            codes: (0..CODES).map(|_| AtomicU64::new(0)).collect(),
            active: AtomicI64::new(0),
            latency: Histogram::new(&KES_BOUNDS),
            error_events: AtomicU64::new(0),
            actions: actions
                .into_iter()
                .map(|name| PerAction {
                    name,
                    classes: [const { AtomicU64::new(0) }; 3],
                    latency: Histogram::new(&FINE_BOUNDS),
                })
                .collect(),
            gauges: RwLock::default(),
        }
    }

    /// Counts a request as active.
    pub fn begin(&self) -> InFlight<'_> {
        self.active.fetch_add(1, Relaxed);
        InFlight(self)
    }

    /// Counts an answer.
    pub fn answered(&self, action: usize, code: u16, took: Duration) {
        if let Some(counter) = usize::from(code).checked_sub(200).and_then(|index| self.codes.get(index)) {
            counter.fetch_add(1, Relaxed);
        }
        self.latency.observe(took);
        if let Some(action) = self.actions.get(action) {
            let class = usize::from(code >= 400) + usize::from(code >= 500);
            action.classes[class].fetch_add(1, Relaxed);
            action.latency.observe(took);
        }
    }

    /// Counts a failure that was logged.
    pub fn error_logged(&self) {
        self.error_events.fetch_add(1, Relaxed);
    }

    /// Shows a value on `/metrics` that another room keeps.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.add(name, help, Kind::Gauge, Box::new(read));
    }

    /// Shows a value on `/metrics` that another room keeps and that only grows; its name ends in `_total`.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.add(name, help, Kind::Counter, Box::new(read));
    }

    fn add(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        read: Box<dyn Fn() -> f64 + Send + Sync>,
    ) {
        let mut gauges = self.gauges.write().unwrap_or_else(PoisonError::into_inner);
        gauges.push(Gauge { name, help, kind, read });
    }

    /// Time since start.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What `/v1/metrics` answers: the families of KES and no other, each with exactly one sample except for the three
    /// request counters, which are left out while they have none (contract §7.1).
    #[must_use]
    pub fn kes_text(&self, audit_events: u64) -> String {
        let mut text = Text::default();
        for (name, help, range) in [
            ("kes_http_request_success", "Number of requests that have been served successfully.", 200..300),
            (
                "kes_http_request_error",
                "Number of requests that failed due to some error of the client.",
                400..500,
            ),
            (
                "kes_http_request_failure",
                "Number of requests that failed due to some internal failure.",
                500..600,
            ),
        ] {
            let counts: Vec<_> = range
                .map(|code| (code, self.codes[code - 200].load(Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect();
            if !counts.is_empty() {
                text.family(name, Kind::Counter, help);
            }
            for (code, count) in counts {
                text.sample(name, &format!("{{code=\"{code}\"}}"), count);
            }
        }
        let usage = Usage::now();
        let uptime = self.uptime().as_secs_f64();
        text.single(
            "kes_http_request_active",
            Kind::Gauge,
            "Requests that are being answered.",
            self.active.load(Relaxed),
        );
        text.family("kes_http_response_time", Kind::Histogram, "Seconds from request to answer.");
        self.latency.write("kes_http_response_time", "", &mut text);
        let errors = self.error_events.load(Relaxed);
        text.single("kes_log_error_events", Kind::Counter, "Errors that were logged.", errors);
        text.single("kes_log_audit_events", Kind::Counter, "Audit records that were written.", audit_events);
        text.single("kes_system_up_time", Kind::Gauge, "Seconds since start.", uptime);
        text.single("kes_system_num_cpu", Kind::Gauge, "Logical CPUs of the machine.", cpus());
        text.single("kes_system_num_cpu_used", Kind::Gauge, "Logical CPUs that the server may use.", cpus());
        text.single("kes_system_num_threads", Kind::Gauge, "Threads of the server.", usage.threads);
        text.single(
            "kes_system_mem_heap_used",
            Kind::Gauge,
            "Resident anonymous memory in bytes.",
            usage.heap_bytes,
        );
        text.single(
            "kes_system_mem_heap_objects",
            Kind::Gauge,
            "Objects on the heap; not known, always 0.",
            0,
        );
        text.single(
            "kes_system_mem_stack_used",
            Kind::Gauge,
            "Stack of the main thread in bytes.",
            usage.stack_bytes,
        );
        text.0
    }

    /// What `/metrics` on the health port answers.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Text::default();
        text.family("kes_requests_total", Kind::Counter, "Requests by action and class of status code.");
        for action in &self.actions {
            for (class, count) in ["2xx", "4xx", "5xx"].iter().zip(&action.classes) {
                let labels = format!("{{action=\"{}\",code=\"{class}\"}}", action.name);
                text.sample("kes_requests_total", &labels, count.load(Relaxed));
            }
        }
        let name = "kes_request_duration_seconds";
        text.family(name, Kind::Histogram, "Seconds from request to answer, by action.");
        for action in self.actions.iter().filter(|action| action.latency.count() > 0) {
            action.latency.write(name, &format!("action=\"{}\"", action.name), &mut text);
        }
        let usage = Usage::now();
        text.single(
            "kes_requests_active",
            Kind::Gauge,
            "Requests that are being answered.",
            self.active.load(Relaxed),
        );
        text.single("kes_uptime_seconds", Kind::Gauge, "Seconds since start.", self.uptime().as_secs_f64());
        text.single(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory in bytes.",
            usage.resident_bytes,
        );
        for gauge in self.gauges.read().unwrap_or_else(PoisonError::into_inner).iter() {
            text.single(gauge.name, gauge.kind, gauge.help, (gauge.read)());
        }
        text.0
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Samples by family, as the SDKs count them: those of a histogram are one.
    fn families(text: &str) -> BTreeMap<String, usize> {
        let mut families = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                current = rest.split(' ').next().unwrap().into();
                assert!(families.insert(current.clone(), 0).is_none(), "{current} appears twice");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&current), "{line} belongs to {current}");
                if !line.contains("_bucket{") && !line.contains("_sum ") {
                    *families.get_mut(&current).unwrap() += 1;
                }
            }
        }
        families
    }

    const SINGLE: [&str; 11] = [
        "kes_http_request_active",
        "kes_http_response_time",
        "kes_log_audit_events",
        "kes_log_error_events",
        "kes_system_mem_heap_objects",
        "kes_system_mem_heap_used",
        "kes_system_mem_stack_used",
        "kes_system_num_cpu",
        "kes_system_num_cpu_used",
        "kes_system_num_threads",
        "kes_system_up_time",
    ];

    #[test]
    fn a_fresh_server_shows_every_family_of_kes_with_one_sample_and_no_empty_one() {
        let families = families(&Metrics::new([]).kes_text(0));
        assert_eq!(families.keys().collect::<Vec<_>>(), SINGLE.iter().collect::<Vec<_>>());
        assert!(families.values().all(|samples| *samples == 1), "{families:?}");
    }

    #[test]
    fn requests_are_counted_by_code_and_latency_by_bucket() {
        let metrics = Metrics::new(["CreateKey"]);
        let active = metrics.begin();
        for (code, millis) in [(200, 1), (200, 60), (403, 1), (404, 1), (500, 20_000)] {
            metrics.answered(0, code, Duration::from_millis(millis));
        }
        let text = metrics.kes_text(7);
        for line in [
            "kes_http_request_success{code=\"200\"} 2",
            "kes_http_request_error{code=\"403\"} 1",
            "kes_http_request_error{code=\"404\"} 1",
            "kes_http_request_failure{code=\"500\"} 1",
            "kes_http_request_active 1",
            "kes_http_response_time_bucket{le=\"0.01\"} 3",
            "kes_http_response_time_bucket{le=\"0.1\"} 4",
            "kes_http_response_time_bucket{le=\"10\"} 4",
            "kes_http_response_time_bucket{le=\"+Inf\"} 5",
            "kes_http_response_time_count 5",
            "kes_http_response_time_sum 20.063",
            "kes_log_audit_events 7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        drop(active);
        assert!(metrics.kes_text(0).contains("kes_http_request_active 0\n"));
    }

    #[test]
    fn the_second_registry_tells_actions_apart_and_shows_gauges_of_others() {
        let metrics = Metrics::new(["CreateKey", "GenerateKey"]);
        metrics.answered(1, 200, Duration::from_micros(150));
        metrics.answered(1, 403, Duration::from_micros(50));
        metrics.answered(usize::MAX, 501, Duration::ZERO);
        metrics.gauge("kes_example", "An example.", || 4.5);
        let text = metrics.text();
        for line in [
            "kes_requests_total{action=\"GenerateKey\",code=\"2xx\"} 1",
            "kes_requests_total{action=\"GenerateKey\",code=\"4xx\"} 1",
            "kes_requests_total{action=\"CreateKey\",code=\"2xx\"} 0",
            "kes_request_duration_seconds_bucket{action=\"GenerateKey\",le=\"0.0001\"} 1",
            "kes_request_duration_seconds_count{action=\"GenerateKey\"} 2",
            "kes_example 4.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
