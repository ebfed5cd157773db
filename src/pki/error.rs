//! What can go wrong with certificates and keys, and what to do about it.

use std::path::PathBuf;

/// A certificate, key or API key that cannot be used, or one that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("failed to read {what} '{path}': {source}")]
    Read {
        /// What the file should hold.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A text holds no PEM block of the kind that was asked for.
    #[error("failed to read {what}: no PEM block '{expected}' found")]
    NoPem {
        /// What was read, with its path where there is one.
        what: String,
        /// The label between `BEGIN` and the dashes.
        expected: &'static str,
    },
    /// A PEM block whose content is no DER of its kind.
    #[error("failed to parse {what}: {reason}")]
    Malformed {
        /// What was read, with its path where there is one.
        what: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A private key under a password.
    #[error("failed to read {what}: the key is encrypted with a password")]
    Encrypted {
        /// What was read, with its path where there is one.
        what: String,
    },
    /// A private key under another password.
    #[error("failed to read {what}: the password is wrong")]
    Password {
        /// What was read, with its path where there is one.
        what: String,
    },
    /// Certificate and private key do not belong together.
    #[error("the private key does not match the certificate: {what}")]
    KeyMismatch {
        /// Which pair.
        what: String,
    },
    /// A server certificate that names no host.
    #[error("the certificate of the server names no host: {what} has no DNS name and no IP address")]
    NoServerName {
        /// Which certificate.
        what: String,
    },
    /// A server certificate that clients would refuse.
    #[error("a client would refuse the server certificate as {name}: {reason}")]
    NotTrusted {
        /// The name that it was checked for.
        name: String,
        /// Which check it fails.
        reason: String,
    },
    /// A certificate that should be that of an authority.
    #[error("the certificate is not that of an authority: its basic constraints do not say CA")]
    NotAuthority,
    /// Nobody presented a certificate.
    #[error("no client certificate is present")]
    NoCertificate,
    /// More than one certificate that is not that of an authority.
    #[error("too many client certificates are present")]
    TooManyCertificates,
    /// A text that is no API key; the text itself is never shown.
    #[error("invalid API key: {0}")]
    ApiKey(&'static str),
    /// A name that no certificate can carry.
    #[error("invalid {kind} '{name}' for a certificate")]
    Name {
        /// `DNS name` or `common name`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A validity that ends beyond what a certificate can say.
    #[error("invalid validity: the certificate would expire after the year 9999")]
    Validity,
    /// The cryptographic library refused.
    #[error("failed to {step}: {reason}")]
    Crypto {
        /// What was attempted.
        step: &'static str,
        /// What the library said.
        reason: String,
    },
}

impl Error {
    /// What a person can do next, as one sentence.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Check that the path is right and that this user may read the file.",
            Self::NoPem { .. } => "Give a file in PEM form: text that starts with '-----BEGIN'.",
            Self::Malformed { .. } => "Create the file again, for example with 'kes identity new'.",
            Self::Encrypted { .. } => {
                "Set its password (MINIO_KMS_KES_KEY_PASSWORD for a client, 'tls.password' for a server) if 'kes identity new --encrypt' made it; else give one without: 'openssl pkey -in encrypted.key -out plain.key'."
            }
            Self::Password { .. } => {
                "Give the password with which the key was made: MINIO_KMS_KES_KEY_PASSWORD for a client, 'tls.password' for a server."
            }
            Self::KeyMismatch { .. } => {
                "Give the key that this certificate was made for, or create a new pair with 'kes identity new'."
            }
            Self::NoServerName { .. } => {
                "Create a certificate with the names that clients use: 'kes identity new --dns NAME --ip ADDRESS SUBJECT'."
            }
            Self::NotTrusted { .. } => {
                "Give a certificate with that name, that has not expired, signed by an authority in 'ca.crt'."
            }
            Self::NotAuthority => "Give the certificate of the authority itself, not one that it issued.",
            Self::NoCertificate => "Give a client certificate and its key, or an API key.",
            Self::TooManyCertificates => "Give exactly one certificate besides those of authorities.",
            Self::ApiKey(_) => {
                "An API key looks like 'kes:v1:' and 44 characters; create one with 'kes identity new'."
            }
            Self::Name { .. } => "Use a name in ASCII letters, digits, '-' and '.'.",
            Self::Validity => "Give a shorter validity.",
            Self::Crypto { .. } => "This is not expected: please report it with the command that you ran.",
        }
    }

    pub(super) fn crypto(step: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |error| Self::Crypto { step, reason: error.to_string() }
    }
}
