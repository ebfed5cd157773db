//! The unseal key in an environment variable, as with `kes init` of KES v0.22.3 (contract §4.3).

use std::os::unix::ffi::OsStrExt as _;

use super::{SealError, SealProvider, parse, unwrap_under, wrap_under};
use crate::{
    crypto::{SealingKeys, SecretKey},
    world::Random,
};

/// Reads the variable each time it is needed and keeps nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Environment {
    variable: String,
}

impl Environment {
    /// The provider that reads `variable`, conventionally `KES_UNSEAL_KEY`.
    #[must_use]
    pub fn new(variable: impl Into<String>) -> Self {
        Self { variable: variable.into() }
    }

    fn key(&self) -> Result<SealingKeys, SealError> {
        let value = std::env::var_os(&self.variable)
            .ok_or_else(|| SealError::VariableMissing(self.variable.clone()))?;
        parse(|| self.describe(), value.as_bytes()).map(SealingKeys::new)
    }
}

impl SealProvider for Environment {
    fn describe(&self) -> String {
        format!("environment variable '{}'", self.variable)
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
    use super::*;

    #[test]
    fn a_missing_variable_is_named() {
        let provider = Environment::new("KES_TEST_UNSEAL_KEY_THAT_NOBODY_SETS");
        let error = provider.unwrap(&[], "c").err().unwrap().to_string();
        assert!(
            error
                .contains("sys: unseal env. variable 'KES_TEST_UNSEAL_KEY_THAT_NOBODY_SETS' not found; set "),
            "{error}"
        );
    }
}
