//! Reading request bodies as leniently as KES: field names in any case, unknown fields and what follows the first value
//! ignored, `null` for an object without fields (contract §0).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::Deserialize;

use super::memory::{Allowance, FREE, Share};
use crate::api::{AnyCase, ApiError};

/// How much of a body that nobody read is read and forgotten, so that its connection can be used again. Go does so with
/// 256 KiB, and waits for the rest before it hangs up; whoever sends up to four times of what a route takes shall hear
/// that it is too large, instead of being reset.
const LEFTOVER: u64 = 4 << 20;
/// For how long it may keep the answer waiting.
const LEFTOVER_TIME: Duration = Duration::from_secs(1);

/// A request's body, before and while it is read.
pub(super) enum Body {
    /// From a connection.
    Wire(hyper::body::Incoming),
    /// Known beforehand, in tests.
    #[cfg(test)]
    Fixed(Bytes),
    /// Comes later, in tests.
    #[cfg(test)]
    Awaited(tokio::sync::oneshot::Receiver<Bytes>),
}

impl Body {
    /// Whether the client announced more than `limit` bytes.
    pub(super) fn is_announced_over(&self, limit: usize) -> bool {
        use http_body::Body as _;
        let announced = match self {
            Self::Wire(incoming) => incoming.size_hint().lower(),
            #[cfg(test)]
            Self::Fixed(bytes) => bytes.len() as u64,
            #[cfg(test)]
            Self::Awaited(_) => 0,
        };
        announced > limit as u64
    }

    /// Reads all of it, at most `limit` bytes. A small body is not copied; a large one waits for its share of memory.
    pub(super) async fn read(
        &mut self,
        limit: usize,
        allowance: &Allowance,
    ) -> Result<(Bytes, Option<Share>), ApiError> {
        let incoming = match self {
            Self::Wire(incoming) => incoming,
            #[cfg(test)]
            Self::Fixed(bytes) if bytes.len() > limit => return Err(ApiError::BODY_TOO_LARGE),
            #[cfg(test)]
            Self::Fixed(bytes) => return Ok((std::mem::take(bytes), None)),
            #[cfg(test)]
            Self::Awaited(bytes) => return Ok((bytes.await.unwrap_or_default(), None)),
        };
        // nobody knows beforehand how long a body without an announced length will be
        let expected = http_body::Body::size_hint(&incoming).exact().map_or(limit, |exact| exact as usize);
        let mut share = None;
        let mut small = allowance.small.count(0);
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            // the client went away or broke the protocol; nobody reads the answer
            let Ok(data) = frame.map_err(|_| ApiError::INVALID_BODY)?.into_data() else { continue };
            if first.len() + all.len() + data.len() > limit {
                return Err(ApiError::BODY_TOO_LARGE);
            }
            if share.is_none() {
                small.add(data.len());
                if first.len() + all.len() + data.len() > FREE {
                    share = allowance.take(expected).await;
                    small = allowance.small.count(0);
                }
            }
            if first.is_empty() && all.is_empty() {
                first = data;
            } else {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&data);
            }
        }
        Ok((if all.is_empty() { first } else { all.freeze() }, share))
    }

    /// Reads and forgets what was not read. False when that would be too much: then an HTTP/1.1 connection ends with the
    /// answer, since what follows could not be told from the rest of the body.
    pub(super) async fn finish(&mut self) -> bool {
        use http_body::Body as _;
        if self.is_announced_over(LEFTOVER as usize) {
            return false;
        }
        let incoming = match self {
            Self::Wire(incoming) if !incoming.is_end_stream() => incoming,
            _ => return true,
        };
        let rest = async {
            let mut left = LEFTOVER;
            while let Some(Ok(frame)) = incoming.frame().await {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(length) {
                    Some(less) => left = less,
                    None => return false,
                }
            }
            true
        };
        tokio::time::timeout(LEFTOVER_TIME, rest).await.unwrap_or(false)
    }
}

/// Parses the first JSON value of `body`.
pub(super) fn parse<'b, T: Deserialize<'b> + Default>(body: &'b [u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    Option::<AnyCase<T>>::deserialize(&mut json)
        .map(|value| value.map(|value| value.0).unwrap_or_default())
        .map_err(|_| ApiError::INVALID_BODY)
}

/// As [`parse`], for what has fields that must be there.
pub(super) fn parse_required<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    AnyCase::deserialize(&mut json).map(|value| value.0).map_err(|error| named(&error))
}

/// A name that is none is told as such, as for a name in the path; what else is wrong with a body is told in one way.
fn named(error: &serde_json::Error) -> ApiError {
    use crate::api::NameError::{Empty, InvalidCharacter, TooLong};
    let text = error.to_string();
    let name =
        [Empty, TooLong, InvalidCharacter].into_iter().find(|name| text.starts_with(&name.to_string()));
    name.map_or(ApiError::INVALID_BODY, ApiError::from)
}

/// As [`parse`], where no body at all means no fields.
pub(super) fn parse_or_empty<'b, T: Deserialize<'b> + Default>(body: &'b [u8]) -> Result<T, ApiError> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::message::{Decrypt, GenerateKey, ImportKey, Policy};

    #[test]
    fn field_names_match_in_any_case_and_only_the_first_value_is_read() {
        let policy: Policy = parse(br#"{"Allow":["a"],"DENY":null,"Info":{"name":""}} trailing"#).unwrap();
        assert_eq!((policy.allow.len(), policy.deny.len()), (1, 0));
        let decrypt: Decrypt = parse(br#"{"CipherText":"YQ==","context":null,"version":7}{"#).unwrap();
        assert_eq!(decrypt.ciphertext.as_ref(), b"a");
        let import: ImportKey = parse(br#"{"\u004bey":"YQ==","Cipher":"AES256"}"#).unwrap();
        assert_eq!((import.key.as_ref(), &*import.cipher), (&b"a"[..], "AES256"));
        let bulk: Vec<AnyCase<Decrypt>> = parse(br#"[{"Ciphertext":"YQ=="},{}]"#).unwrap();
        assert_eq!(bulk[0].0.ciphertext.as_ref(), b"a");
    }

    #[test]
    fn null_is_an_object_without_fields_and_other_shapes_are_refused() {
        assert!(parse::<GenerateKey>(b"null").unwrap().context.is_empty());
        for bad in [&b""[..], b"[]", b"7", b"{", b"{\"context\":7}", b"{\"context\":\"?\"}", b"\xff"] {
            assert_eq!(parse::<GenerateKey>(bad).err(), Some(ApiError::INVALID_BODY), "{bad:?}");
        }
        assert!(parse_or_empty::<GenerateKey>(b"").is_ok());
    }
}
