//! Reading request bodies as leniently as KES: field names in any case, unknown fields and what follows the first value
//! ignored, `null` for an object without fields (contract §0).

use std::{
    borrow::Cow,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IntoDeserializer as _, MapAccess, Visitor},
    forward_to_deserialize_any,
};

use super::memory::{Allowance, FREE, Share};
use crate::api::ApiError;

/// A request's body while it is read.
pub(super) enum Body {
    /// From a connection.
    Wire(Wire),
    /// Known beforehand, in tests.
    #[cfg(test)]
    Fixed(Bytes),
    /// Comes later, in tests.
    #[cfg(test)]
    Awaited(tokio::sync::oneshot::Receiver<Bytes>),
}

/// What was read of a body, and where the rest comes from.
pub(super) struct Wire {
    incoming: hyper::body::Incoming,
    /// Bytes that the client announced, if it did.
    announced: Option<u64>,
    /// A body of one piece is not copied.
    first: Bytes,
    all: BytesMut,
}

impl Body {
    pub(super) fn new(incoming: hyper::body::Incoming) -> Self {
        let announced = http_body::Body::size_hint(&incoming).exact();
        Self::Wire(Wire { incoming, announced, first: Bytes::new(), all: BytesMut::new() })
    }

    /// Whether the client announced more than `limit` bytes.
    pub(super) fn is_announced_over(&self, limit: usize) -> bool {
        let announced = match self {
            Self::Wire(wire) => wire.announced.unwrap_or(0),
            #[cfg(test)]
            Self::Fixed(bytes) => bytes.len() as u64,
            #[cfg(test)]
            Self::Awaited(_) => 0,
        };
        announced > limit as u64
    }

    /// The body, if it is small and all of it has arrived. Otherwise what was read is kept for [`Self::read`].
    pub(super) fn arrived(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<Result<Bytes, ApiError>> {
        match self {
            Self::Wire(wire) => loop {
                match ready!(wire.poll_piece(limit, cx))? {
                    Some(data) if wire.len() + data.len() > FREE => {
                        wire.push(data);
                        return Poll::Pending;
                    }
                    Some(data) => wire.push(data),
                    None => return Poll::Ready(Ok(wire.take())),
                }
            },
            #[cfg(test)]
            Self::Fixed(bytes) if bytes.len() > limit => Poll::Ready(Err(ApiError::BODY_TOO_LARGE)),
            #[cfg(test)]
            Self::Fixed(bytes) => Poll::Ready(Ok(std::mem::take(bytes))),
            #[cfg(test)]
            Self::Awaited(_) => Poll::Pending,
        }
    }

    /// Reads all of it, at most `limit` bytes. A small body is not copied; a large one waits for its share of memory.
    pub(super) async fn read(
        self,
        limit: usize,
        allowance: &Allowance,
    ) -> Result<(Bytes, Option<Share>), ApiError> {
        let mut wire = match self {
            Self::Wire(wire) => wire,
            #[cfg(test)]
            Self::Fixed(bytes) if bytes.len() > limit => return Err(ApiError::BODY_TOO_LARGE),
            #[cfg(test)]
            Self::Fixed(bytes) => return Ok((bytes, None)),
            #[cfg(test)]
            Self::Awaited(bytes) => return Ok((bytes.await.unwrap_or_default(), None)),
        };
        // nobody knows beforehand how long a body without an announced length will be
        let expected = wire.announced.map_or(limit, |exact| exact as usize);
        let mut share = None;
        loop {
            if share.is_none() && wire.len() > FREE {
                share = allowance.take(expected).await;
            }
            match poll_fn(|cx| wire.poll_piece(limit, cx)).await? {
                Some(data) => wire.push(data),
                None => return Ok((wire.take(), share)),
            }
        }
    }
}

impl Wire {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    /// The next piece, if with it there are no more than `limit` bytes; nothing at the end.
    fn poll_piece(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ApiError>> {
        use http_body::Body as _;
        while !self.incoming.is_end_stream()
            && let Some(frame) = ready!(Pin::new(&mut self.incoming).poll_frame(cx))
        {
            // the client went away or broke the protocol; nobody reads the answer
            let Ok(data) = frame.map_err(|_| ApiError::INVALID_BODY)?.into_data() else { continue };
            if self.len() + data.len() > limit {
                return Poll::Ready(Err(ApiError::BODY_TOO_LARGE));
            }
            return Poll::Ready(Ok(Some(data)));
        }
        Poll::Ready(Ok(None))
    }

    fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
        } else {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
            self.all.extend_from_slice(&data);
        }
    }

    fn take(&mut self) -> Bytes {
        let all = std::mem::take(&mut self.all);
        if all.is_empty() { std::mem::take(&mut self.first) } else { all.freeze() }
    }
}

/// Parses the first JSON value of `body`.
pub(super) fn parse<'b, T: Deserialize<'b> + Default>(body: &'b [u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    Option::<AnyCase<T>>::deserialize(&mut json)
        .map(|value| value.map(|value| value.0).unwrap_or_default())
        .map_err(|_| ApiError::INVALID_BODY)
}

/// As [`parse`], for what cannot be empty.
pub(super) fn parse_required<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    AnyCase::deserialize(&mut json).map(|value| value.0).map_err(|_| ApiError::INVALID_BODY)
}

/// As [`parse`], where no body at all means no fields.
pub(super) fn parse_or_empty<'b, T: Deserialize<'b> + Default>(body: &'b [u8]) -> Result<T, ApiError> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}

/// A struct read with field names in any case.
#[derive(Default)]
pub(super) struct AnyCase<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for AnyCase<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(Lowered(deserializer)).map(Self)
    }
}

struct Lowered<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Lowered<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(LoweredVisitor(visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct tuple tuple_struct map enum identifier ignored_any
    }
}

struct LoweredVisitor<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for LoweredVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(LoweredMap(map))
    }
}

struct LoweredMap<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for LoweredMap<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(LoweredKey(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

struct LoweredKey<K>(K);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for LoweredKey<K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        let mut key = deserializer.deserialize_str(Text)?;
        if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            key.to_mut().make_ascii_lowercase();
        }
        self.0
            .deserialize(key.into_deserializer())
            .map_err(|error: serde::de::value::Error| D::Error::custom(error))
    }
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
