//! What was measured, and medians of it.

use serde::Serialize;

/// One load on one server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) requests: usize,
    pub(crate) failed: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_us: f64,
    /// CPUs that the server kept busy.
    pub(crate) cpus: f64,
    pub(crate) written_bytes: f64,
}

/// All rounds of one load on one server, or why there are none.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Cell {
    pub(crate) rounds: Vec<Round>,
    pub(crate) trouble: Option<String>,
}

/// One load on all servers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) is_create: bool,
    pub(crate) cells: Vec<Cell>,
}

/// A server that holds many keys.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Scale {
    pub(crate) server: String,
    pub(crate) keys: usize,
    pub(crate) creates_per_second: f64,
    pub(crate) create_cpu_us: f64,
    pub(crate) bytes_per_key: f64,
    pub(crate) resident_filled: u64,
    pub(crate) open_ms: f64,
    pub(crate) resident_opened: u64,
    /// Of a listing of 1,111 names right after that.
    pub(crate) list_p50_ms: f64,
    pub(crate) list_p99_ms: f64,
    pub(crate) list_cpu_us: f64,
    /// Keys that were used after that, once each, and memory then.
    pub(crate) hot_keys: usize,
    pub(crate) resident_hot: u64,
    pub(crate) trouble: Option<String>,
}

/// Everything, as it goes into `report.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) command: String,
    pub(crate) machine: String,
    pub(crate) sync_ms: f64,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) servers: Vec<String>,
    /// Resident bytes right after start.
    pub(crate) resident_at_start: Vec<u64>,
    pub(crate) rows: Vec<Row>,
    pub(crate) scale: Vec<Scale>,
}

impl Cell {
    /// Smallest, median and largest of a measure; none without rounds.
    pub(crate) fn spread(&self, measure: impl Fn(&Round) -> f64) -> Option<[f64; 3]> {
        let mut values: Vec<f64> = self.rounds.iter().map(measure).collect();
        values.sort_unstable_by(f64::total_cmp);
        Some([*values.first()?, values[values.len() / 2], *values.last()?])
    }

    pub(crate) fn median(&self, measure: impl Fn(&Round) -> f64) -> Option<f64> {
        self.spread(measure).map(|[_, median, _]| median)
    }
}
