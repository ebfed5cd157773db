//! Which MinIO Operator there is, as the annotation on its CRD says, and what that one cannot do. Pure.

use std::fmt;

/// Where each release of the MinIO Operator writes its version on the CRD of Tenants.
pub(crate) const ANNOTATION: &str = "operator.min.io/version";

/// A release of the MinIO Operator.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The first with `externalClientCertSecrets`, the only list that brings a certificate of ours into MinIO.
    pub(crate) const FIRST: Self = Self { major: 4, minor: 5, patch: 0 };
    /// The first with `additionalVolumes`.
    pub(crate) const FIRST_WITH_VOLUMES: Self = Self { major: 5, minor: 0, patch: 9 };

    /// Reads `v7.1.1`; what comes after a `-` or `+` does not count. Nothing where it is no version.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let core = text.split(['-', '+']).next()?;
        let mut parts = core.split('.').map(|part| part.parse::<u32>().ok());
        let version =
            Self { major: parts.next()??, minor: parts.next()??, patch: parts.next().unwrap_or(Some(0))? };
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, patch } = self;
        write!(f, "v{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_numbers_and_anything_else_is_unknown() {
        for (text, read) in [
            ("v7.1.1", Some((7, 1, 1))),
            ("4.4.28", Some((4, 4, 28))),
            ("v5.0", Some((5, 0, 0))),
            ("v6.0.0-rc.1", Some((6, 0, 0))),
            ("(devel)", None),
            ("v7", None),
            ("v7.x.1", None),
            ("v7.1.1.1", None),
            ("", None),
        ] {
            let found = Version::parse(text).map(|Version { major, minor, patch }| (major, minor, patch));
            assert_eq!(found, read, "{text:?}");
        }
        assert!(Version::parse("v4.4.28") < Some(Version::FIRST));
        assert!(Version::parse("v5.0.10") > Some(Version::FIRST_WITH_VOLUMES), "not compared as text");
    }
}
