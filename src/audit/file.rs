//! A file as sink: appended to, durable before a mutation is answered, and reopened when something rotates it away.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::Sink;

/// How often it is looked whether the path still leads to the file that is written to.
const LOOK: Duration = Duration::from_secs(1);

/// Why an audit file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step} audit file '{path}': {source}")]
pub struct FileError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// A file of audit lines, readable by its owner only.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    file: fs::File,
    /// Where the last whole line ends.
    end: u64,
    looked: Instant,
}

impl File {
    /// Opens `path` for appending, and makes it when it does not exist.
    ///
    /// # Errors
    /// When the file system refuses, or it is not a plain file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let failed = |step| move |source| FileError { step, path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed("open"))?;
        let metadata = file.metadata().map_err(failed("read"))?;
        if !metadata.is_file() {
            return Err(failed("open")(io::Error::other("it is not a plain file")));
        }
        // a new name must survive a power cut as well
        let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("sync"))?;
        let mut end = metadata.len();
        if end > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).map_err(failed("read"))?;
            file.read_exact(&mut last).map_err(failed("read"))?;
            if last != *b"\n" {
                // a line that a crash cut off: the next one must not become part of it
                file.write_all(b"\n").map_err(failed("write"))?;
                end += 1;
            }
        }
        Ok(Self { path: path.to_owned(), file, end, looked: Instant::now() })
    }

    /// Goes on in a new file when the path leads elsewhere.
    fn follow(&mut self) -> io::Result<()> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        let own = self.file.metadata()?;
        let is_there = match fs::metadata(&self.path) {
            Ok(there) => (there.dev(), there.ino()) == (own.dev(), own.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !is_there {
            self.file.sync_data()?;
            *self = Self::open(&self.path).map_err(|error| error.source)?;
        }
        Ok(())
    }
}

impl Sink for File {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.follow()?;
        if let Err(error) = self.file.write_all(lines) {
            // whoever hears of the failure must not find half a line later
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        self.end += lines.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_a_line_that_a_crash_cut_off_stays_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let mut file = File::open(&path).unwrap();
        file.write(b"one\n").unwrap();
        file.sync().unwrap();
        drop(file);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"time\":").unwrap();
        let mut file = File::open(&path).unwrap();
        file.write(b"two\nthree\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n{\"time\":\ntwo\nthree\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_rotated_away_gets_a_successor() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("audit.log"), directory.path().join("audit.log.1"));
        let mut file = File::open(&path).unwrap();
        file.write(b"one\n").unwrap();
        fs::rename(&path, &old).unwrap();
        file.looked -= LOOK;
        file.write(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn what_cannot_be_a_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        for (path, why) in [
            (directory.path().to_owned(), "directory"),
            (directory.path().join("missing/audit.log"), "No such file"),
            ("/dev/null".into(), "not a plain file"),
        ] {
            let error = File::open(&path).unwrap_err().to_string();
            assert!(error.starts_with("failed to open audit file '") && error.contains(why), "{error}");
        }
    }
}
