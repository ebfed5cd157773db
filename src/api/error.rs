//! The errors of the key API: status and exact text, as SDKs compare them by value (contract §1.4).

/// Who is to blame for a refused request, and so which status it gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The request is malformed or contradicts what exists: 400.
    BadRequest,
    /// The caller may not do this: 403.
    Forbidden,
    /// What the request names does not exist: 404.
    NotFound,
    /// The method is not the route's: 405.
    MethodNotAllowed,
    /// The algorithm or its key size is none of ours: 406.
    NotAcceptable,
    /// The request contradicts the cluster's state: 409.
    Conflict,
    /// The body is larger than the route's limit: 413.
    TooLarge,
    /// Something failed here: 500.
    Internal,
    /// The feature does not exist; clients read 501 as "absent": 501.
    NotImplemented,
    /// Try again later: 503.
    Unavailable,
    /// No space left on the volume: 507.
    StorageFull,
}

/// An answer of the key API that is not a success: rendered to HTTP by `server`, to text by `cli`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    fault: Fault,
    message: std::borrow::Cow<'static, str>,
    /// What the client is not told.
    cause: Option<Box<str>>,
}

/// Two errors are the same when a client cannot tell them apart.
impl PartialEq for ApiError {
    fn eq(&self, other: &Self) -> bool {
        self.fault == other.fault && self.message == other.message
    }
}

impl Eq for ApiError {}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident = $fault:ident, $text:literal;)*) => {
        impl ApiError {
            $($(#[$doc])*
            pub const $name: Self =
                Self { fault: Fault::$fault, message: std::borrow::Cow::Borrowed($text), cause: None };)*
        }
    };
}

fixed! {
    /// The caller may not do this; also said to identities that nobody knows.
    NOT_ALLOWED = Forbidden, "not authorized: insufficient permissions";
    /// No key of this name in the enclave.
    KEY_NOT_FOUND = NotFound, "key does not exist";
    /// Create never overwrites.
    KEY_EXISTS = BadRequest, "key already exists";
    /// Wrong key, wrong context or changed bytes: which one is not said.
    DECRYPT = BadRequest, "decryption failed: ciphertext is not authentic";
    /// No policy of this name in the enclave.
    POLICY_NOT_FOUND = NotFound, "policy does not exist";
    /// No such identity in the enclave.
    IDENTITY_NOT_FOUND = NotFound, "identity does not exist";
    /// No secret of this name in the enclave.
    SECRET_NOT_FOUND = NotFound, "secret does not exist";
    /// 404 as in KES, because SDKs compare status and text.
    SECRET_EXISTS = NotFound, "secret already exists";
    /// No enclave of this name.
    ENCLAVE_NOT_FOUND = NotFound, "enclave does not exist";
    /// Create never overwrites.
    ENCLAVE_EXISTS = BadRequest, "enclave already exists";
    /// The root key is not in memory.
    SEALED = Forbidden, "system is sealed";
    /// One at a time.
    ROTATION_UNDER_WAY = Conflict, "the last rotation of this key is still under way";
    /// Imported key material must be 32 bytes.
    INVALID_KEY_SIZE = BadRequest, "invalid key size";
    /// An identity may not change its own rights.
    SELF_ASSIGN = Forbidden, "identity cannot assign policy to itself";
    /// The system admin has no rights in an enclave and gets none.
    ASSIGN_SYSTEM_ADMIN = BadRequest, "cannot assign policy to system admin";
    /// The enclave admin is not bound by policies.
    ASSIGN_ADMIN = BadRequest, "cannot assign policy to admin";
    /// The enclave admin is part of the enclave.
    DELETE_ADMIN = BadRequest, "cannot delete admin";
    /// The system admin is in no enclave.
    DELETE_SYSTEM_ADMIN = BadRequest, "cannot delete system admin";
    /// Roles stay apart.
    ADMIN_IS_SYSTEM_ADMIN = BadRequest, "admin identity cannot system admin";
    /// At least one rule of the contract for an identity was broken.
    IDENTITY_UNKNOWN = BadRequest, "identity is unknown";
    /// The TLS handshake brought no usable certificate.
    NO_CERTIFICATE = BadRequest, "no client certificate is present";
    /// More than one certificate that is not a CA.
    TOO_MANY_CERTIFICATES = BadRequest, "too many client certificates are present";
    /// What a proxy says of its client's certificate is none.
    INVALID_CLIENT_CERTIFICATE = BadRequest, "invalid client certificate";
    /// The body is no JSON of the expected shape.
    INVALID_BODY = BadRequest, "invalid request body";
    /// The body is larger than the route allows.
    BODY_TOO_LARGE = TooLarge, "http: request body too large";
    /// The whole request took longer than the route allows.
    TIMEOUT = Unavailable, "request timeout exceeded";
    /// The route exists for another method.
    WRONG_METHOD = MethodNotAllowed, "Method Not Allowed";
    /// The route does not exist.
    UNKNOWN_ROUTE = NotImplemented, "not implemented";
    /// The server waits for its operator to bootstrap the cluster.
    NOT_INITIALISED = Unavailable, "cluster is not initialised yet";
    /// Bootstrapped before, under another cluster id.
    OTHER_CLUSTER = Conflict, "server already belongs to another cluster";
    /// Disk full; the data plane goes on.
    STORAGE_FULL = StorageFull, "no space left on the volume: the change was not made";
    /// Disk full, found out while the change was on its way.
    STORAGE_FULL_MEANWHILE = StorageFull,
        "no space left on the volume: the change was not confirmed and may still be made";
    /// The audit log takes nothing more, and a change that nobody can note is not made.
    AUDIT_BEHIND = Unavailable, "audit log does not keep up: the change was not made; try again later";
    /// A listing pattern with a byte outside the name rule and `*`.
    INVALID_PATTERN = BadRequest, "invalid argument: pattern contains invalid character";
    /// A listing pattern of more than 80 bytes.
    PATTERN_TOO_LONG = BadRequest, "invalid argument: pattern is too long";
}

impl ApiError {
    /// An error with a text of its own.
    #[must_use]
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: std::borrow::Cow::Owned(message.into()), cause: None }
    }

    /// The same with what the server's log shall say of it and the client shall not hear. Never anything secret.
    #[must_use]
    pub fn because(self, cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(cause.to_string().into()), ..self }
    }

    /// The same, naming the request, so that whoever reads it finds the log's line.
    #[must_use]
    pub fn of_request(self, id: impl std::fmt::Display) -> Self {
        Self { message: format!("{} (request {id})", self.message).into(), ..self }
    }

    /// What the server's log says of it beyond the message.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// Who is to blame.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What the client is told.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The HTTP status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.fault {
            Fault::BadRequest => 400,
            Fault::Forbidden => 403,
            Fault::NotFound => 404,
            Fault::MethodNotAllowed => 405,
            Fault::NotAcceptable => 406,
            Fault::Conflict => 409,
            Fault::TooLarge => 413,
            Fault::Internal => 500,
            Fault::NotImplemented => 501,
            Fault::Unavailable => 503,
            Fault::StorageFull => 507,
        }
    }
}

impl From<super::NameError> for ApiError {
    fn from(error: super::NameError) -> Self {
        Self::new(Fault::BadRequest, error.to_string())
    }
}
