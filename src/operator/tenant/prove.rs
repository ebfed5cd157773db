//! Proves the key service the way MinIO will use it: with the very certificate, by the very name, on the very key.

use crate::{
    api::{EnclaveName, KeyName},
    client,
    operator::{
        cluster::keyring::{self},
        key_service::Address,
    },
};
use k8s_openapi::api::core::v1::Secret;

const CONTEXT: &[u8] = b"kes-operator proof";

/// Which step of the proof failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to read the tenant's certificate: {0}")]
    Certificate(#[source] keyring::Error),
    #[error("failed to {step}: {source}")]
    Call { step: &'static str, source: client::Error },
    #[error("what was decrypted is not what was generated")]
    Mismatch,
}

/// Generates a data key, decrypts it and compares; also describes the key, as MinIO does every ten seconds.
pub(crate) async fn prove(address: &Address, secret: &Secret, key: &KeyName) -> Result<(), Error> {
    let call = |step| move |source| Error::Call { step, source };
    let identity = keyring::client(secret).map_err(Error::Certificate)?;
    let client = address.client(identity, Some(&EnclaveName::default_enclave())).map_err(call("connect"))?;
    let generated = client.generate(key, CONTEXT).await.map_err(call("generate a data key"))?;
    let opened = client
        .decrypt(key, generated.ciphertext.as_ref(), CONTEXT)
        .await
        .map_err(call("decrypt the data key"))?;
    client.describe_key(key).await.map_err(call("describe the key"))?;
    // both are ours and were just made: an early end of the comparison tells nobody anything
    if opened.as_ref() == generated.plaintext.as_ref() { Ok(()) } else { Err(Error::Mismatch) }
}

#[cfg(test)]
#[path = "prove_tests.rs"]
mod tests;
