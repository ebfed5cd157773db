//! The outside world as small traits: the clock and randomness, so that a simulator can stand in for both.
//!
//! Nothing below `service` asks the operating system for the time or for random bytes in any other way.

use jiff::Timestamp;

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> Timestamp;
}

/// Gives bytes that nobody can predict.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// The real machine: its clock and the operating system's CSPRNG.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Random for System {
    /// # Panics
    /// When the operating system gives no randomness: no key may be made without it, so the process must end.
    fn fill(&self, bytes: &mut [u8]) {
        #[expect(clippy::expect_used, reason = "without randomness no key material may be made")]
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}
