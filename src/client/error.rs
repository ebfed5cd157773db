//! Why a call has no result.

use crate::api::ApiError;

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The endpoint is no `https://host:port`.
    #[error("invalid endpoint '{endpoint}': {reason}")]
    Endpoint {
        /// As given.
        endpoint: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The certificates to trust cannot be used.
    #[error("failed to load the certificates to trust: {0}")]
    Trust(String),
    /// The client's certificate cannot be used.
    #[error("failed to use the client certificate: {0}")]
    Identity(rustls::Error),
    /// No connection, or it broke.
    #[error("failed to connect to '{endpoint}': {source}")]
    Connect {
        /// Where to.
        endpoint: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The handshake failed: one side does not accept the other's certificate, or there is no TLS.
    #[error("failed to agree on TLS with '{endpoint}': {reason}")]
    Tls {
        /// Where to.
        endpoint: String,
        /// What the TLS library or the server said.
        reason: String,
    },
    /// The answer did not come in time.
    #[error("failed to get an answer from '{endpoint}' in time: {after:?} passed")]
    Timeout {
        /// Where to.
        endpoint: String,
        /// The limit.
        after: std::time::Duration,
    },
    /// The server refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The server's answer is not one of the key API.
    #[error("failed to read the answer of '{endpoint}': {reason}")]
    Protocol {
        /// Where from.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// What the server said, if it was the server that refused.
    #[must_use]
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            _ => None,
        }
    }

    /// What a person can do next, as one sentence.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } => {
                "Set KES_SERVER to the server's address, for example 'https://127.0.0.1:7373'."
            }
            Self::Trust(_) => "Give a PEM file with the server's certificate authority.",
            Self::Identity(_) => "Give a client certificate and its key, or an API key.",
            Self::Connect { .. } => "Check that the server runs and that KES_SERVER holds its address.",
            Self::Tls { .. } => {
                "Give the server's certificate authority with '--ca FILE' or, for a test only, skip the check with '-k'."
            }
            Self::Timeout { .. } => "Check that the server is ready and try again.",
            Self::Api(error) => api_next_step(error),
            Self::Protocol { .. } => "Check that KES_SERVER is the address of a key server.",
        }
    }
}

fn api_next_step(error: &ApiError) -> &'static str {
    match error {
        e if *e == ApiError::NOT_ALLOWED => {
            "Ask the enclave's admin to assign a policy that allows this to your identity ('kes policy assign'); a system admin has no rights in enclaves."
        }
        e if *e == ApiError::KEY_NOT_FOUND => {
            "See which keys exist with 'kes key ls', or create it with 'kes key create'."
        }
        e if *e == ApiError::KEY_EXISTS => {
            "Keys are never overwritten: choose another name, or go on with the existing key."
        }
        e if *e == ApiError::DECRYPT => "Give the key and the context that the ciphertext was made with.",
        e if *e == ApiError::POLICY_NOT_FOUND => {
            "See which policies exist with 'kes policy ls', or create it with 'kes policy create'."
        }
        e if *e == ApiError::IDENTITY_NOT_FOUND => "See which identities exist with 'kes identity ls'.",
        e if *e == ApiError::ENCLAVE_NOT_FOUND => {
            "See which exist with 'kes enclave ls'; '--enclave' or KES_ENCLAVE says in which one a command works."
        }
        e if *e == ApiError::ENCLAVE_EXISTS => "Choose another name, or go on with the existing enclave.",
        e if *e == ApiError::SELF_ASSIGN => "Let another admin assign it: nobody changes their own rights.",
        e if *e == ApiError::ASSIGN_ADMIN
            || *e == ApiError::ASSIGN_SYSTEM_ADMIN
            || *e == ApiError::DELETE_ADMIN =>
        {
            "Admins have no policy: use an identity of its own for each application ('kes identity new')."
        }
        e if *e == ApiError::ADMIN_IS_SYSTEM_ADMIN => {
            "Roles stay apart: make another identity with 'kes identity new'."
        }
        e if *e == ApiError::BODY_TOO_LARGE => {
            "Send less at once: the server takes requests of up to 1 MiB, base64 included."
        }
        e if *e == ApiError::SECRET_NOT_FOUND => {
            "See which secrets exist with 'kes secret ls', or create it with 'kes secret create'."
        }
        e if *e == ApiError::SECRET_EXISTS => {
            "Secrets are never overwritten: choose another name, or delete the existing one with 'kes secret rm'."
        }
        e if *e == ApiError::SEALED => "Restart the server with its unseal key.",
        e if *e == ApiError::NOT_INITIALISED => {
            "Wait until the operator has bootstrapped the cluster, or run 'kes init'."
        }
        e if *e == ApiError::UNKNOWN_ROUTE => {
            "The server does not offer this: compare versions with 'kes status'."
        }
        e if *e == ApiError::STORAGE_FULL => "Enlarge the server's volume.",
        e => match e.status() {
            400 => "Correct what the message names and run the command again.",
            500.. => "Look at the server's log; if it goes on, report it with the message.",
            _ => "Check the command's arguments and the server's version.",
        },
    }
}
