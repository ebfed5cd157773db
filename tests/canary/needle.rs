//! Secrets to search for, in every encoding that a careless line could have.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Bytes that must not be anywhere, each in all its encodings.
#[derive(Default)]
pub(crate) struct Needles(Vec<(&'static str, Vec<u8>)>);

impl Needles {
    pub(crate) fn of(secret: &[u8]) -> Self {
        let mut needles = Self::default();
        needles.add(secret);
        needles
    }

    pub(crate) fn add(&mut self, secret: &[u8]) {
        let Self(all) = self;
        all.push(("raw", secret.to_vec()));
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        all.push(("upper-case hex", hex.to_uppercase().into_bytes()));
        all.push(("hex", hex.into_bytes()));
        // wherever it begins within what was encoded; without the digits at its ends that also depend on others
        for offset in 0..3 {
            let shifted = [&[0; 2][..offset], secret].concat();
            let whole = STANDARD.encode(&shifted[..shifted.len() / 3 * 3]);
            let own = whole.as_bytes()[(offset * 8).div_ceil(6)..].to_vec();
            let url: Vec<_> = own
                .iter()
                .map(|byte| match byte {
                    b'+' => b'-',
                    b'/' => b'_',
                    byte => *byte,
                })
                .collect();
            if url != own {
                all.push(("base64url", url));
            }
            all.push(("base64", own));
        }
        let numbers: Vec<_> = secret.iter().map(ToString::to_string).collect();
        all.push(("numbers", numbers.join(", ").into_bytes()));
        all.push(("numbers", numbers.join(",").into_bytes()));
        let escaped = serde_json::to_string(&String::from_utf8_lossy(secret)).unwrap();
        if escaped.contains('\\') && std::str::from_utf8(secret).is_ok() {
            all.push(("JSON", escaped.trim_matches('"').as_bytes().to_vec()));
        }
    }

    pub(crate) fn are_in(&self, haystack: &[u8]) -> bool {
        self.found(haystack).is_some()
    }

    pub(crate) fn assert_not_in(&self, place: &str, haystack: &[u8]) {
        if let Some((encoding, at)) = self.found(haystack) {
            let around = &haystack[at.saturating_sub(200)..(at + 200).min(haystack.len())];
            panic!("{place} holds a secret as {encoding}: …{}…", String::from_utf8_lossy(around));
        }
    }

    fn found(&self, haystack: &[u8]) -> Option<(&'static str, usize)> {
        self.0.iter().find_map(|(encoding, needle)| {
            let first = needle[0];
            let mut from = 0;
            while let Some(next) = haystack[from..].iter().position(|byte| *byte == first) {
                let at = from + next;
                if haystack[at..].starts_with(needle) {
                    return Some((*encoding, at));
                }
                from = at + 1;
            }
            None
        })
    }
}

#[test]
fn a_needle_is_found_in_every_encoding_and_at_every_offset() {
    let needles = Needles::of(b"canary-secret-bytes");
    for text in [
        "…canary-secret-bytes…".to_owned(),
        "63616e6172792d7365637265742d6279746573".into(),
        "63616E6172792D7365637265742D6279746573".into(),
        format!("{:?}", b"canary-secret-bytes"),
        STANDARD.encode("canary-secret-bytes"),
        STANDARD.encode("xcanary-secret-bytesy"),
        STANDARD.encode("xxcanary-secret-bytesyy"),
        STANDARD.encode("xxxcanary-secret-bytesyyy"),
    ] {
        assert!(needles.are_in(text.as_bytes()), "{text}");
    }
    assert!(!needles.are_in(b"canary-secret-byte"));
}
