//! What can be asked for, and in which scope. Every action is a type without values.

/// Who may ask for an action at all.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scope {
    /// Whoever completed the TLS handshake.
    Public,
    /// Any identity that is known in the enclave; its policy is not consulted.
    Caller,
    /// The enclave's admin, and identities whose policy allows the path.
    Enclave,
    /// The system admin and nobody else.
    System,
}

/// A kind of request, as a type.
pub trait Action {
    /// Name in audit records and metrics, e.g. `CreateKey`.
    const NAME: &'static str;
    /// Who may ask for it.
    const SCOPE: Scope;
}

macro_rules! actions {
    ($($scope:ident { $($(#[$doc:meta])* $name:ident,)* })*) => {
        $($(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub enum $name {}
            impl Action for $name {
                const NAME: &'static str = stringify!($name);
                const SCOPE: Scope = Scope::$scope;
            }
        )*)*
    };
}

actions! {
    Public {
        /// Read the release of the server.
        Version,
    }
    Caller {
        /// Read one's own role and policy.
        DescribeSelf,
    }
    Enclave {
        /// Create a key with random material.
        CreateKey,
        /// Create a key with given material.
        ImportKey,
        /// Read a key's id, algorithm and origin.
        DescribeKey,
        /// List keys.
        ListKeys,
        /// Delete a key with all its versions.
        DeleteKey,
        /// Get a new data key in clear and encrypted.
        GenerateKey,
        /// Encrypt a text.
        EncryptKey,
        /// Decrypt a text.
        DecryptKey,
        /// Decrypt up to 1000 texts.
        BulkDecrypt,
        /// Authenticate a text.
        Hmac,
        /// Keep a secret.
        CreateSecret,
        /// Read a secret's value.
        ReadSecret,
        /// Read a secret's origin.
        DescribeSecret,
        /// List secrets.
        ListSecrets,
        /// Delete a secret.
        DeleteSecret,
        /// Create or replace a policy.
        WritePolicy,
        /// Read a policy's patterns.
        ReadPolicy,
        /// Read a policy's origin.
        DescribePolicy,
        /// Give an identity a policy.
        AssignPolicy,
        /// List policies.
        ListPolicies,
        /// Delete a policy; identities that have it are refused from then on.
        DeletePolicy,
        /// Read an identity's policy and origin.
        DescribeIdentity,
        /// List identities.
        ListIdentities,
        /// Take an identity's policy away.
        DeleteIdentity,
        /// Read the server's state.
        Status,
        /// Read metrics.
        Metrics,
        /// Read the table of routes.
        Api,
        /// Ask whether the server is ready.
        Ready,
        /// Follow what is asked of the enclave.
        AuditLog,
        /// Follow what fails within the enclave.
        ErrorLog,
    }
    System {
        /// Create an enclave.
        CreateEnclave,
        /// Read an enclave's origin.
        DescribeEnclave,
        /// List enclaves.
        ListEnclaves,
        /// Delete an enclave with all that is in it.
        DeleteEnclave,
        /// Give a fresh server its cluster id and root key.
        Bootstrap,
        /// Read the cluster's state.
        DescribeCluster,
        /// Forget the root key.
        Seal,
        /// Give an enclave's records a new key.
        RotateEnclave,
        /// Make a new root key.
        RotateRoot,
        /// See which versions of root and enclave keys there are.
        DescribeRotation,
    }
}
