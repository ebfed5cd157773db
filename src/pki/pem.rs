//! PEM text (RFC 7468): a thin layer over `rustls-pki-types` that says which file is at fault.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject},
};
use zeroize::Zeroizing;

use super::{
    Error,
    encrypted::{self, Password},
};

/// All certificates in `text`, in order; at least one.
pub(super) fn certificates(text: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(what, &error))?;
    if chain.is_empty() {
        return Err(Error::NoPem { what: what.into(), expected: "CERTIFICATE" });
    }
    Ok(chain)
}

/// The first private key in `text`, which may be under a password.
pub(super) fn private_key(
    text: &[u8],
    what: &str,
    password: Option<&Password>,
) -> Result<PrivateKeyDer<'static>, Error> {
    let marker = b"BEGIN ENCRYPTED PRIVATE KEY";
    match (encrypted::is_encrypted(text), password) {
        (true, Some(password)) => {
            let der = encrypted::decrypt(text, password, what)?;
            // a wrong password may leave what looks like padding, but no key
            return PrivateKeyDer::try_from(der.to_vec()).map_err(|_| Error::Password { what: what.into() });
        }
        (true, None) => return Err(Error::Encrypted { what: what.into() }),
        (false, _) if text.windows(marker.len()).any(|window| window == marker) => {
            return Err(Error::Encrypted { what: what.into() });
        }
        (false, _) => {}
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        PemError::NoItemsFound => Error::NoPem { what: what.into(), expected: "PRIVATE KEY" },
        error => malformed(what, &error),
    })
}

/// A PKCS#8 key as one `PRIVATE KEY` block.
pub(super) fn encode_private_key(pkcs8: &[u8]) -> Zeroizing<String> {
    const LINE: usize = 64;
    let body = Zeroizing::new(STANDARD.encode(pkcs8));
    // one allocation of the final size: growing would leave copies of the key behind
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / LINE + 64));
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

fn malformed(what: &str, error: &PemError) -> Error {
    // the error of the library may quote its input, which may be a key
    let reason = match error {
        PemError::MissingSectionEnd { .. } => "the PEM block has no end line",
        PemError::IllegalSectionStart { .. } => "the PEM block has a broken first line",
        PemError::Base64Decode(_) => "the PEM block is no valid base64",
        _ => "the PEM text is broken",
    };
    Error::Malformed { what: what.into(), reason: reason.into() }
}
