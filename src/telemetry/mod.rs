//! What the server tells about itself: logs on standard error, and metrics in two registries.
//!
//! `/v1/metrics` has the exact families of KES, since its clients fail on others (contract §7.1); `/metrics` on the
//! health port has the rest, with labels.

mod counters;
mod logs;
mod metrics;
mod process;
mod text;

pub use logs::{LogError, init};
pub use metrics::{InFlight, Metrics};
pub use process::Usage;
