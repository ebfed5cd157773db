//! The three layouts in which KES ever wrote a ciphertext (contract §6.3): read all, write two.
//!
//! ```text
//! raw          sealed ‖ IV (16) ‖ nonce (12)                                          KES ≥ 2024-02-29
//! MessagePack  0x95 str algorithm, str key id, bin IV, bin nonce, bin sealed          v0.19.2 … 2024-01-11
//! JSON         {"aead":…,"id":…,"iv":…,"nonce":…,"bytes":…}, base64                   ≤ v0.19.1
//! ```
//! A raw ciphertext may by chance begin like one of the others. Parsing is therefore strict, to the last byte, and
//! whatever does not parse is raw.

use std::borrow::Cow;

use super::{
    algorithm::Algorithm,
    cipher::{NONCE, SALT, TAG},
};

/// How new ciphertexts are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Layout {
    /// 44 bytes longer than the plaintext; read by KES 2024-02-29 and later.
    #[default]
    Raw,
    /// 103 or 104 bytes longer than a short plaintext; read by every KES from v0.19.2 on.
    MessagePack,
}

/// A ciphertext taken apart; `sealed` includes the tag.
pub(super) struct Parts<'c> {
    /// What the ciphertext says of itself; raw ones say nothing.
    pub(super) claim: Option<Claim<'c>>,
    pub(super) iv: [u8; SALT],
    pub(super) nonce: [u8; NONCE],
    pub(super) sealed: Cow<'c, [u8]>,
}

pub(super) struct Claim<'c> {
    pub(super) algorithm: Algorithm,
    /// Empty when the writer left it out.
    pub(super) key_id: Cow<'c, str>,
}

impl<'c> Parts<'c> {
    /// Takes `ciphertext` apart; `None` when it is too short to be one.
    pub(super) fn parse(ciphertext: &'c [u8]) -> Option<Self> {
        let tagged = match ciphertext.first()? {
            0x95 => message_pack(ciphertext),
            b'{' => json(ciphertext),
            _ => None,
        };
        tagged.or_else(|| raw(ciphertext)).filter(|parts| parts.sealed.len() >= TAG)
    }
}

fn raw(ciphertext: &[u8]) -> Option<Parts<'_>> {
    let (rest, nonce) = ciphertext.split_last_chunk::<NONCE>()?;
    let (sealed, iv) = rest.split_last_chunk::<SALT>()?;
    Some(Parts { claim: None, iv: *iv, nonce: *nonce, sealed: sealed.into() })
}

fn message_pack(ciphertext: &[u8]) -> Option<Parts<'_>> {
    let mut rest = ciphertext.strip_prefix(&[0x95])?;
    let algorithm = Algorithm::from_message_pack_name(text(&mut rest)?)?;
    let key_id = std::str::from_utf8(text(&mut rest)?).ok()?.into();
    let iv = bytes(&mut rest)?.try_into().ok()?;
    let nonce = bytes(&mut rest)?.try_into().ok()?;
    let sealed = bytes(&mut rest)?.into();
    rest.is_empty().then_some(Parts { claim: Some(Claim { algorithm, key_id }), iv, nonce, sealed })
}

/// A MessagePack `str` of any width.
fn text<'c>(rest: &mut &'c [u8]) -> Option<&'c [u8]> {
    let length = match take(rest, 1)?[0] {
        fix @ 0xa0..=0xbf => usize::from(fix & 0x1f),
        0xd9 => number(rest, 1)?,
        0xda => number(rest, 2)?,
        0xdb => number(rest, 4)?,
        _ => return None,
    };
    take(rest, length)
}

/// A MessagePack `bin` of any width.
fn bytes<'c>(rest: &mut &'c [u8]) -> Option<&'c [u8]> {
    let length = match take(rest, 1)?[0] {
        0xc4 => number(rest, 1)?,
        0xc5 => number(rest, 2)?,
        0xc6 => number(rest, 4)?,
        _ => return None,
    };
    take(rest, length)
}

fn number(rest: &mut &[u8], width: usize) -> Option<usize> {
    Some(take(rest, width)?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)))
}

fn take<'c>(rest: &mut &'c [u8], n: usize) -> Option<&'c [u8]> {
    let (head, tail) = rest.split_at_checked(n)?;
    *rest = tail;
    Some(head)
}

fn json(ciphertext: &[u8]) -> Option<Parts<'_>> {
    use crate::api::message::Base64;

    #[derive(serde::Deserialize)]
    struct Json {
        aead: String,
        #[serde(default)]
        id: String,
        iv: Base64,
        nonce: Base64,
        bytes: Base64,
    }
    let mut json: Json = serde_json::from_slice(ciphertext).ok()?;
    Some(Parts {
        claim: Some(Claim { algorithm: Algorithm::from_json_name(&json.aead)?, key_id: json.id.into() }),
        iv: json.iv.as_ref().try_into().ok()?,
        nonce: json.nonce.as_ref().try_into().ok()?,
        sealed: std::mem::take(&mut json.bytes.0).into(),
    })
}

/// The bytes before `sealed` in `layout`.
pub(super) fn write_head(
    layout: Layout,
    algorithm: Algorithm,
    key_id: &str,
    iv: &[u8; SALT],
    nonce: &[u8; NONCE],
    sealed: usize,
    out: &mut Vec<u8>,
) {
    match layout {
        Layout::Raw => out.reserve_exact(sealed + SALT + NONCE),
        Layout::MessagePack => {
            let name = algorithm.name().as_bytes();
            out.reserve_exact(1 + 1 + name.len() + 2 + key_id.len() + 2 + SALT + 2 + NONCE + 5 + sealed);
            out.push(0x95);
            // both names are shorter than 32 bytes and the id is 32 characters
            out.push(0xa0 | name.len() as u8);
            out.extend_from_slice(name);
            out.extend_from_slice(&[0xd9, key_id.len() as u8]);
            out.extend_from_slice(key_id.as_bytes());
            out.extend_from_slice(&[0xc4, SALT as u8]);
            out.extend_from_slice(iv);
            out.extend_from_slice(&[0xc4, NONCE as u8]);
            out.extend_from_slice(nonce);
            match sealed {
                0..=0xff => out.extend_from_slice(&[0xc4, sealed as u8]),
                0x100..=0xffff => {
                    out.push(0xc5);
                    out.extend_from_slice(&(sealed as u16).to_be_bytes());
                }
                _ => {
                    out.push(0xc6);
                    out.extend_from_slice(&(sealed as u32).to_be_bytes());
                }
            }
        }
    }
}

/// The bytes after `sealed` in `layout`.
pub(super) fn write_tail(layout: Layout, iv: &[u8; SALT], nonce: &[u8; NONCE], out: &mut Vec<u8>) {
    if layout == Layout::Raw {
        out.extend_from_slice(iv);
        out.extend_from_slice(nonce);
    }
}
