//! Where audit lines go.

use std::io::{self, Write as _};

/// Takes whole lines. Called from one thread only, which may block in it.
pub trait Sink: Send {
    /// Writes `lines`, in order, before it returns.
    ///
    /// # Errors
    /// When they may not have been written.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Makes what was written survive a power cut, where the sink can.
    ///
    /// # Errors
    /// When it may not survive.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All of them. Lines count as written only when every one has them.
impl Sink for Vec<Box<dyn Sink>> {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.iter_mut().map(|sink| sink.write(lines)).fold(Ok(()), io::Result::and)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.iter_mut().map(|sink| sink.sync()).fold(Ok(()), io::Result::and)
    }
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
