//! Where audit lines go.

use std::io::{self, Write as _};

/// Takes whole lines. Called from one thread only, which may block in it.
pub trait Sink: Send {
    /// Writes `lines`, in order, before it returns.
    ///
    /// # Errors
    /// When they may not have been written.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;
}

/// Standard output, one JSON object per line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stdout;

impl Sink for Stdout {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(lines)?;
        out.flush()
    }
}
