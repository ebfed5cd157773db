//! The data directory: whose it is, which format it has, and that only one process uses it.
//!
//! ```text
//! DIR/manifest.json  format, cluster id, member id, settings, checksum; written last, so its presence means "complete"
//! DIR/lock           held by the running process (flock)
//! DIR/log.redb       the Raft log, vote and membership (`consensus`)
//! DIR/records/       the records (`records`)
//! ```

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Version of the directory's format that this release reads and writes.
pub const FORMAT: u32 = 2;

const MANIFEST: &str = "manifest.json";
const LOCK: &str = "lock";
/// What `kes init` of KES v0.22 and v0.23 leaves in its directories.
const OF_KES: [&str; 2] = [".init", ".unseal"];

/// What the directory says of itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Manifest {
    /// Version of the directory's format.
    pub format: u32,
    /// Random id of the cluster, chosen at bootstrap.
    pub cluster_id: String,
    /// Random id of this member, chosen when the directory was made.
    pub member_id: u64,
    /// How `kes server` was told to run at `kes init`; opaque here.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub settings: serde_json::Value,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// There is none.
    #[error("'{0}' is not initialised: it holds no {MANIFEST}")]
    NotInitialised(PathBuf),
    /// There is one where there must be none.
    #[error("'{0}' already exists")]
    Exists(PathBuf),
    /// Files are there but no manifest: half a copy, or somebody else's folder.
    #[error(
        "'{0}' is incomplete: it has files but no {MANIFEST}, so it is half a copy or not a data directory"
    )]
    Incomplete(PathBuf),
    /// KES made it.
    #[error("'{0}' is a data directory of KES, which this server does not read")]
    OfKes(PathBuf),
    /// A part that every complete directory has is missing.
    #[error("'{dir}' is incomplete: '{part}' is missing, so this is only half a copy")]
    MissingPart {
        /// The directory.
        dir: PathBuf,
        /// The file or folder that is not there.
        part: &'static str,
    },
    /// Another process runs on it.
    #[error("'{0}' is in use by another process")]
    InUse(PathBuf),
    /// A later release wrote it.
    #[error("'{dir}' has format {found}, and this release reads up to {FORMAT}")]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A development version wrote it, before the first release.
    #[error("'{dir}' has format {found}, which no release ever wrote, and this release reads {FORMAT}")]
    Older {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The manifest is no manifest.
    #[error("'{0}/{MANIFEST}' is damaged: {1}")]
    Damaged(PathBuf, String),
    /// The file system refused.
    #[error("failed to {step} '{path}': {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl DirectoryError {
    fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }

    /// What the person in front of it can do.
    #[must_use]
    pub fn next_step(&self) -> String {
        match self {
            Self::NotInitialised(dir) => format!("run 'kes init --config init.yml {}' first", dir.display()),
            Self::Exists(dir) => {
                format!("start it with 'kes server {}', or choose another path", dir.display())
            }
            Self::Incomplete(_) | Self::MissingPart { .. } | Self::Damaged(..) => {
                "restore the whole directory from its volume or backup; it is never initialised over".into()
            }
            Self::OfKes(_) => {
                "make one of ours with 'kes init' at another path and import the keys there ('kes key import NAME KEY')".into()
            }
            Self::InUse(_) => "stop the other 'kes server' first; two must never share one directory".into(),
            Self::Older { .. } => "make a new one with 'kes init' and import the keys again".into(),
            Self::Newer { .. } => "run the release that wrote it, or a later one".into(),
            Self::Io { .. } => "check the path, its owner and its permissions".into(),
        }
    }
}

/// A data directory that this process holds alone, until it is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    manifest: Manifest,
    _lock: File,
}

impl Directory {
    /// Whether a complete directory is at `path`. Looks only for the manifest.
    #[must_use]
    pub fn is_initialised(path: &Path) -> bool {
        path.join(MANIFEST).exists()
    }

    /// Makes sure that a directory can be made at `path`: nothing is there, or an empty folder.
    ///
    /// # Errors
    /// [`DirectoryError::Exists`] or [`DirectoryError::Incomplete`] when something is there.
    pub fn check_absent(path: &Path) -> Result<(), DirectoryError> {
        if Self::is_initialised(path) {
            return Err(DirectoryError::Exists(path.into()));
        }
        match fs::read_dir(path) {
            Ok(mut entries) => match entries.next() {
                Some(_) if OF_KES.iter().any(|file| path.join(file).exists()) => {
                    Err(DirectoryError::OfKes(path.into()))
                }
                Some(_) => Err(DirectoryError::Incomplete(path.into())),
                None => Ok(()),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => Err(DirectoryError::Exists(path.into())),
            Err(e) => Err(DirectoryError::io("read", path)(e)),
        }
    }

    /// Makes a directory at `path`: `fill` writes everything but the manifest into a sibling, which takes its
    /// place only when it is complete and synced, so a crash leaves nothing half made.
    ///
    /// # Errors
    /// When something is there already, `fill` fails, or the file system refuses.
    pub async fn create<E, F>(path: &Path, manifest: &Manifest, fill: F) -> Result<(), E>
    where
        E: From<DirectoryError>,
        F: AsyncFnOnce(&Path) -> Result<(), E>,
    {
        Self::check_absent(path)?;
        let mut staging = path.as_os_str().to_owned();
        staging.push(".init");
        let staging = PathBuf::from(staging);
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(DirectoryError::io("remove the unfinished", &staging))?;
        }
        make_private_dir(&staging)?;
        let result = Self::fill_and_move(path, &staging, manifest, fill).await;
        if result.is_err() {
            let _ = fs::remove_dir_all(&staging);
        }
        result
    }

    async fn fill_and_move<E, F>(path: &Path, staging: &Path, manifest: &Manifest, fill: F) -> Result<(), E>
    where
        E: From<DirectoryError>,
        F: AsyncFnOnce(&Path) -> Result<(), E>,
    {
        fill(staging).await?;
        let text = render(manifest).map_err(|e| DirectoryError::Damaged(staging.into(), e.to_string()))?;
        let file = staging.join(MANIFEST);
        write_synced(&file, text.as_bytes()).map_err(DirectoryError::io("write", &file))?;
        sync_dir(staging).map_err(DirectoryError::io("sync", staging))?;
        // an empty folder may be in the way: a mounted volume's
        match fs::remove_dir(path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(DirectoryError::io("replace", path)(e).into()),
        }
        fs::rename(staging, path).map_err(DirectoryError::io("create", path))?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_dir(parent).map_err(DirectoryError::io("sync", parent))?;
        Ok(())
    }

    /// Opens the directory at `path` and locks it.
    ///
    /// # Errors
    /// When it is missing, in use, newer than this release, half a copy, or damaged.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let file = path.join(MANIFEST);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(match Self::check_absent(path) {
                    Ok(()) => DirectoryError::NotInitialised(path.into()),
                    Err(incomplete) => incomplete,
                });
            }
            Err(e) => return Err(DirectoryError::io("read", &file)(e)),
        };
        let manifest = parse(path, &text)?;
        for part in ["log.redb", "records"] {
            if !path.join(part).exists() {
                return Err(DirectoryError::MissingPart { dir: path.into(), part });
            }
        }
        Ok(Self { path: path.into(), manifest, _lock: lock(path)? })
    }

    /// Reads the manifest without locking.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn read_manifest(path: &Path) -> Result<Manifest, DirectoryError> {
        let file = path.join(MANIFEST);
        match fs::read(&file) {
            Ok(text) => parse(path, &text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(match Self::check_absent(path) {
                Ok(()) => DirectoryError::NotInitialised(path.into()),
                Err(incomplete) => incomplete,
            }),
            Err(e) => Err(DirectoryError::io("read", &file)(e)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

/// What stands before the checksum, which is the last field.
const CHECKSUM: &str = ",\n  \"checksum\": \"";

/// The manifest as JSON, whose last field is a checksum of the text before it.
fn render(manifest: &Manifest) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string_pretty(manifest)?;
    let open = text.trim_end_matches('}').trim_end();
    Ok(format!("{open}{CHECKSUM}{:016x}\"\n}}\n", xxh3_64(open.as_bytes())))
}

fn parse(path: &Path, text: &[u8]) -> Result<Manifest, DirectoryError> {
    #[derive(Deserialize)]
    struct Probe {
        format: u32,
    }
    let damaged = |why: &dyn std::fmt::Display| DirectoryError::Damaged(path.into(), why.to_string());
    let Probe { format } = serde_json::from_slice(text).map_err(|e| damaged(&e))?;
    match format {
        FORMAT => {}
        0..FORMAT => return Err(DirectoryError::Older { dir: path.into(), found: format }),
        _ => return Err(DirectoryError::Newer { dir: path.into(), found: format }),
    }
    let manifest = serde_json::from_slice(text).map_err(|e| damaged(&e))?;
    let fits = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.rsplit_once(CHECKSUM))
        .is_some_and(|(open, checksum)| checksum == format!("{:016x}\"\n}}\n", xxh3_64(open.as_bytes())));
    if fits { Ok(manifest) } else { Err(damaged(&"its checksum does not fit, so it was changed")) }
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let file = path.join(LOCK);
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file)
        .map_err(DirectoryError::io("open", &file))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DirectoryError::InUse(path.into())),
        Err(e) => Err(DirectoryError::io("lock", &file)(e.into())),
    }
}

fn make_private_dir(path: &Path) -> Result<(), DirectoryError> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(DirectoryError::io("create", parent))?;
    }
    // fails where one is already: it would be somebody else's, who would keep the rights to it
    fs::DirBuilder::new().mode(0o700).create(path).map_err(DirectoryError::io("create", path))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest { format: FORMAT, cluster_id: "c1".into(), member_id: 7, settings: serde_json::Value::Null }
    }

    async fn make(path: &Path) -> Result<(), DirectoryError> {
        Directory::create(path, &manifest(), async |staging: &Path| {
            fs::write(staging.join("log.redb"), b"").unwrap();
            fs::create_dir(staging.join("records")).unwrap();
            Ok(())
        })
        .await
    }

    #[tokio::test]
    async fn a_directory_is_made_once_and_used_by_one_process() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        assert!(matches!(Directory::open(&path), Err(DirectoryError::NotInitialised(_))));
        make(&path).await.unwrap();
        assert!(matches!(make(&path).await, Err(DirectoryError::Exists(_))));
        let open = Directory::open(&path).unwrap();
        assert_eq!(open.manifest(), &manifest());
        assert!(matches!(Directory::open(&path), Err(DirectoryError::InUse(_))));
        drop(open);
        Directory::open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_somebody_else_made_is_not_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let (theirs, link) = (root.path().join("theirs"), root.path().join("link"));
        make_private_dir(&theirs).unwrap();
        assert!(make_private_dir(&theirs).is_err());
        std::os::unix::fs::symlink(&theirs, &link).unwrap();
        assert!(make_private_dir(&link).is_err());
        make_private_dir(&root.path().join("some/where")).unwrap();
    }

    #[tokio::test]
    async fn every_flipped_bit_and_every_cut_of_the_manifest_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        make(&path).await.unwrap();
        let good = fs::read(path.join(MANIFEST)).unwrap();
        serde_json::from_slice::<serde_json::Value>(&good).unwrap();
        for at in 0..good.len() {
            let cut = good[..at].to_vec();
            let flips = (0..8).map(|bit| {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                bad
            });
            for bad in flips.chain([cut]) {
                fs::write(path.join(MANIFEST), &bad).unwrap();
                let error = Directory::open(&path).err().map(|e| e.to_string());
                assert!(error.is_some(), "{}", String::from_utf8_lossy(&bad));
            }
        }
    }

    #[tokio::test]
    async fn a_failed_creation_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let result: Result<(), DirectoryError> =
            Directory::create(&path, &manifest(), async |_: &Path| Err(DirectoryError::InUse("x".into())))
                .await;
        assert!(result.is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn half_a_copy_and_a_newer_format_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        make(&path).await.unwrap();
        fs::remove_dir(path.join("records")).unwrap();
        assert!(matches!(Directory::open(&path), Err(DirectoryError::MissingPart { part: "records", .. })));
        let newer = r#"{"format":3,"something":"else"}"#;
        fs::write(path.join(MANIFEST), newer).unwrap();
        assert!(matches!(Directory::open(&path), Err(DirectoryError::Newer { found: 3, .. })));
        fs::write(path.join(MANIFEST), r#"{"format":1}"#).unwrap();
        assert!(matches!(Directory::open(&path), Err(DirectoryError::Older { found: 1, .. })));
        fs::remove_file(path.join(MANIFEST)).unwrap();
        assert!(matches!(Directory::open(&path), Err(DirectoryError::Incomplete(_))));
        assert!(matches!(make(&path).await, Err(DirectoryError::Incomplete(_))));
        fs::write(path.join(".unseal"), "").unwrap();
        assert!(matches!(Directory::open(&path), Err(DirectoryError::OfKes(_))));
        assert!(matches!(make(&path).await, Err(DirectoryError::OfKes(_))));
    }
}
