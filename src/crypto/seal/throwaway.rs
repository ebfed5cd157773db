//! An unseal key that is nowhere but in this process: for servers whose keys shall end with them.

use super::{SealError, SealProvider, unwrap_under, wrap_under};
use crate::{
    crypto::{SealingKeys, SecretKey},
    world::Random,
};

/// Holds its own unseal key, so that nothing on disk can be opened once the process is gone.
pub struct Throwaway(SealingKeys);

impl Throwaway {
    /// A provider with a new unseal key.
    #[must_use]
    pub fn new(random: &dyn Random) -> Self {
        Self(SealingKeys::new(SecretKey::generate(random)))
    }
}

impl SealProvider for Throwaway {
    fn describe(&self) -> String {
        "the memory of this process".into()
    }

    fn wrap(&self, root: &SecretKey, cluster: &str, random: &dyn Random) -> Result<Vec<u8>, SealError> {
        Ok(wrap_under(&self.0, root, cluster, random))
    }

    fn unwrap(&self, sealed: &[u8], cluster: &str) -> Result<SecretKey, SealError> {
        unwrap_under(&self.0, sealed, cluster, || self.describe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::System;

    #[test]
    fn only_the_same_process_opens_what_it_sealed() {
        let (one, other) = (Throwaway::new(&System), Throwaway::new(&System));
        let root = SecretKey::from_bytes([2; 32]);
        let sealed = one.wrap(&root, "c", &System).unwrap();
        assert!(one.unwrap(&sealed, "c").unwrap().same_as(&root));
        assert!(matches!(other.unwrap(&sealed, "c"), Err(SealError::WrongKey { .. })));
    }
}
