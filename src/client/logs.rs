//! The log streams of an enclave. They end only when the server or the caller ends them.

use super::{Client, Error, Lines, call::Scope};
use crate::api::message::{AuditEvent, ErrorEvent};

impl Client {
    /// What is asked of the enclave from now on, and what is answered.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn audit_log(&self) -> Result<Lines<AuditEvent>, Error> {
        self.open(Scope::Enclave, "/v1/log/audit").await
    }

    /// What fails within the enclave from now on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn error_log(&self) -> Result<Lines<ErrorEvent>, Error> {
        self.open(Scope::Enclave, "/v1/log/error").await
    }
}
