//! Where audit lines go.

use std::io::{self, Write as _};

/// Takes whole lines. Called from one thread only, which may block in it.
pub trait Sink: Send {
    /// Writes `lines`, in order, before it returns. After an error the same lines come again before any others.
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

/// Several sinks. Lines count as written only when every one has them; one that has them is not given them again for the
/// sake of another.
pub struct All(Vec<(Box<dyn Sink>, bool)>);

impl All {
    /// All of `sinks`.
    #[must_use]
    pub fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self(sinks.into_iter().map(|sink| (sink, false)).collect())
    }
}

impl Sink for All {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut result = Ok(());
        for (sink, has_them) in self.0.iter_mut().filter(|(_, has_them)| !has_them) {
            match sink.write(lines) {
                Ok(()) => *has_them = true,
                Err(error) => result = Err(error),
            }
        }
        if result.is_ok() {
            self.0.iter_mut().for_each(|(_, has_them)| *has_them = false);
        }
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.iter_mut().map(|(sink, _)| sink.sync()).fold(Ok(()), io::Result::and)
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
