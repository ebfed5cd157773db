//! Ed25519 private keys as RFC 8032 seeds, and their PKCS#8 form (RFC 8410 §7, version 1: what Go writes and every
//! reader accepts).

use rcgen::{KeyPair, PKCS_ED25519};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::Error;
use crate::world::Random;

pub(super) const SEED_LEN: usize = 32;

/// Everything of a PKCS#8 Ed25519 key that comes before its seed.
const PKCS8_PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// An Ed25519 private key.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Seed([u8; SEED_LEN]);

impl Seed {
    /// Takes a key from `random`.
    pub(super) fn generate(random: &impl Random) -> Self {
        let mut seed = Self([0; SEED_LEN]);
        random.fill(&mut seed.0);
        seed
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// Reads a PKCS#8 key; `None` if it is of another kind.
    pub(super) fn from_pkcs8(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let PrivateKeyDer::Pkcs8(pkcs8) = der else { return None };
        let bytes = pkcs8.secret_pkcs8_der();
        // version 2 differs in the outer length, the version and an appended public key only
        let (head, tail) = (bytes.get(..PKCS8_PREFIX.len())?, bytes.get(PKCS8_PREFIX.len()..)?);
        let same = head.len() == PKCS8_PREFIX.len() && head[0] == 0x30 && head[5..] == PKCS8_PREFIX[5..];
        if !same {
            return None;
        }
        Self::from_bytes(tail.get(..SEED_LEN)?)
    }

    pub(super) fn as_bytes(&self) -> &[u8; SEED_LEN] {
        &self.0
    }

    pub(super) fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + SEED_LEN));
        der.extend_from_slice(&PKCS8_PREFIX);
        der.extend_from_slice(&self.0);
        der
    }

    pub(super) fn key_pair(&self) -> Result<KeyPair, Error> {
        let der = self.to_pkcs8();
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_slice()), &PKCS_ED25519)
            .map_err(Error::crypto("load an Ed25519 key"))
    }
}
