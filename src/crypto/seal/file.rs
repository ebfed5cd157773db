//! The unseal key in a file, as a mounted Secret gives it.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{SealError, SealProvider, parse, unwrap_under, wrap_under};
use crate::{
    crypto::{SealingKeys, SecretKey},
    world::Random,
};

/// Reads the file each time it is needed and keeps nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    path: PathBuf,
}

impl File {
    /// The provider that reads `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn key(&self) -> Result<SealingKeys, SealError> {
        let value = std::fs::read(&self.path)
            .map_err(|error| SealError::FileUnreadable { path: self.path.clone(), error })?;
        parse(|| self.describe(), &Zeroizing::new(value)).map(SealingKeys::new)
    }
}

impl SealProvider for File {
    fn describe(&self) -> String {
        format!("file '{}'", self.path.display())
    }

    fn wrap(&self, root: &SecretKey, cluster: &str, random: &dyn Random) -> Result<Vec<u8>, SealError> {
        Ok(wrap_under(&self.key()?, root, cluster, random))
    }

    fn unwrap(&self, sealed: &[u8], cluster: &str) -> Result<SecretKey, SealError> {
        unwrap_under(&self.key()?, sealed, cluster, || self.describe())
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::world::System;

    #[test]
    fn the_root_key_comes_back_through_the_file_and_a_bad_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unseal");
        let provider = File::new(&path);
        let root = SecretKey::from_bytes([2; 32]);

        let error = provider.wrap(&root, "c", &System).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("No such file"), "{error}");

        std::fs::write(&path, STANDARD.encode([1; 32]) + "\n").unwrap();
        let sealed = provider.wrap(&root, "c", &System).unwrap();
        assert!(provider.unwrap(&sealed, "c").unwrap().same_as(&root));

        std::fs::write(&path, STANDARD.encode([3; 32])).unwrap();
        assert!(matches!(provider.unwrap(&sealed, "c"), Err(SealError::WrongKey { .. })));
    }
}
