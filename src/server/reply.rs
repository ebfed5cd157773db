//! What a handler answers, and how that and every refusal become HTTP.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use serde::Serialize;

use super::{
    backlog::Counted,
    memory::{Allowance, Share},
};
use crate::api::ApiError;

/// The type of listings, on which clients choose their parser.
const LINES: &str = "application/x-ndjson";

/// A successful answer.
pub(super) enum Reply {
    /// 200 and nothing else.
    Empty,
    /// One JSON value.
    Json(Vec<u8>),
    /// One JSON value per line; perhaps none.
    Lines(Vec<u8>),
    /// The same in pages, each of which is made, and takes its share of memory, when the client has read those before.
    Pages(Vec<u8>, Pages),
    /// Lines as they come, perhaps without end.
    Stream(Parts),
    /// Metrics in the Prometheus text format.
    Metrics(String),
}

/// The pages after the first.
pub(super) type Pages = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// An answer in parts.
pub(super) type Parts = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of a response.
pub(super) enum Outgoing {
    /// It is known; nearly every one is.
    Whole(Whole),
    /// It is made as fast as the client reads.
    Parts {
        parts: Parts,
        /// What must not be dropped before its end.
        held: Option<Box<dyn Send>>,
    },
}

/// A body that is known, and what it holds until it has left.
#[derive(Default)]
pub(super) struct Whole {
    bytes: Vec<u8>,
    share: Option<Share>,
    counted: Option<Counted>,
}

impl Whole {
    fn new(bytes: Vec<u8>, share: Option<Share>) -> Self {
        let share = share.and_then(|share| share.for_answer(bytes.len()));
        Self { bytes, share, counted: None }
    }
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Whole> for Bytes {
    fn from(whole: Whole) -> Self {
        match whole {
            Whole { bytes, share: None, counted: None } => bytes.into(),
            whole => Self::from_owner(whole),
        }
    }
}

/// `response`, which drops `busy` at the end of its body, at once when that is known already, and `counted` when its last
/// byte has left or is given up.
pub(super) fn until_taken(
    mut response: Response<Outgoing>,
    busy: impl Send + 'static,
    mut counted: Option<Counted>,
) -> Response<Outgoing> {
    match response.body_mut() {
        Outgoing::Parts { parts: _, held } => *held = Some(Box::new((busy, counted))),
        Outgoing::Whole(whole) => {
            if let Some(counted) = &mut counted {
                counted.answered(if whole.share.is_some() { 0 } else { whole.bytes.len() });
            }
            if !whole.bytes.is_empty() {
                whole.counted = counted;
            } else if counted.is_some() {
                // of an answer without a body the header is what waits, and this one of it is written last and not kept
                let zero = Bytes::from_owner(Whole { bytes: b"0".to_vec(), share: None, counted });
                if let Ok(zero) = HeaderValue::from_maybe_shared(zero) {
                    response.headers_mut().insert(header::CONTENT_LENGTH, zero);
                }
            }
        }
    }
    response
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) if whole.bytes.is_empty() => Poll::Ready(None),
            Self::Whole(whole) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(whole).into())))),
            Self::Parts { parts, held } => {
                let polled = parts.as_mut().poll_next(cx);
                if matches!(polled, Poll::Ready(None)) {
                    *held = None;
                }
                polled.map(|part| part.map(|part| Ok(Frame::data(part))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.bytes.is_empty(),
            Self::Parts { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => SizeHint::with_exact(whole.bytes.len() as u64),
            Self::Parts { .. } => SizeHint::default(),
        }
    }
}

impl Reply {
    /// `value` as JSON, with a newline.
    pub(super) fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        let mut out = Vec::with_capacity(256);
        append(value, &mut out)?;
        Ok(Self::Json(out))
    }

    /// Each of `values` as a line of JSON.
    pub(super) fn lines<T: Serialize>(values: impl IntoIterator<Item = T>) -> Result<Self, ApiError> {
        page(values).map(Self::Lines)
    }

    /// The bytes of an answer that is known.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty | Self::Stream(_) => Bytes::new(),
            Self::Json(body) | Self::Lines(body) | Self::Pages(body, _) => body.into(),
            Self::Metrics(text) => text.into(),
        }
    }

    /// An object whose fields are bytes: the answers of the data plane, written without detours.
    pub(super) fn bytes<const N: usize>(fields: [(&str, &[u8]); N]) -> Self {
        let mut out = Vec::with_capacity(
            fields.iter().map(|(name, bytes)| name.len() + bytes.len() * 4 / 3 + 12).sum(),
        );
        append_bytes(fields, &mut out);
        out.push(b'\n');
        Self::Json(out)
    }

    /// An array of objects with one field of bytes each.
    pub(super) fn bytes_array<B: AsRef<[u8]>>(name: &str, items: impl IntoIterator<Item = B>) -> Self {
        let mut out = vec![b'['];
        for item in items {
            if out.len() > 1 {
                out.push(b',');
            }
            append_bytes([(name, item.as_ref())], &mut out);
        }
        out.extend_from_slice(b"]\n");
        Self::Json(out)
    }

    /// The response. Its body holds `share` until it has left; each page after the first takes one like it.
    pub(super) fn into_http(self, share: Option<Share>, allowance: &Allowance) -> Response<Outgoing> {
        let (kind, body) = match self {
            Self::Empty => return empty(),
            Self::Json(body) => ("application/json", body),
            Self::Lines(body) => (LINES, body),
            Self::Pages(first, rest) => {
                let size = share.as_ref().map_or(0, Share::bytes);
                let first = stream::once(std::future::ready(attach(share, first)));
                let rest =
                    stream::unfold((rest, allowance.clone()), move |(mut rest, allowance)| async move {
                        let share = allowance.take(size).await;
                        rest.next().map(|page| (attach(share, page), (rest, allowance)))
                    });
                return Self::Stream(Box::pin(first.chain(rest))).into_http(None, allowance);
            }
            Self::Stream(parts) => {
                let mut response = Response::new(Outgoing::Parts { parts, held: None });
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
                return response;
            }
            Self::Metrics(text) => ("text/plain; version=0.0.4; charset=utf-8", text.into_bytes()),
        };
        let mut response = Response::new(Outgoing::Whole(Whole::new(body, share)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

/// `body`, which holds as much of `share` as it needs.
fn attach(share: Option<Share>, body: Vec<u8>) -> Bytes {
    Whole::new(body, share).into()
}

fn empty() -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::Whole(Whole::default()));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// The response for `error`: its status and `{"message":"…"}`.
pub(super) fn refusal(error: &ApiError) -> Response<Outgoing> {
    let mut body = Vec::with_capacity(96);
    body.extend_from_slice(br#"{"message":"#);
    // neither the writer nor a string can fail
    let _ = serde_json::to_writer(&mut body, error.message());
    body.push(b'}');
    let mut response = Response::new(Outgoing::Whole(Whole::new(escape(body), None)));
    *response.status_mut() =
        StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The response that leads to `location`.
pub(super) fn redirect(location: &str) -> Response<Outgoing> {
    let mut response = empty();
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    // escaped, so always a header's text
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Each of `values` as a line of JSON.
pub(super) fn page<T: Serialize>(values: impl IntoIterator<Item = T>) -> Result<Vec<u8>, ApiError> {
    let mut out = Vec::new();
    values.into_iter().try_for_each(|value| append(&value, &mut out))?;
    Ok(out)
}

/// The page that ends a listing which failed halfway.
pub(super) fn last_page(error: &ApiError) -> Vec<u8> {
    // a map of two strings cannot fail
    page([std::collections::BTreeMap::from([("error", error.message())])]).unwrap_or_default()
}

fn append(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), ApiError> {
    let start = out.len();
    serde_json::to_writer(&mut *out, value).map_err(|error| {
        ApiError::new(crate::api::Fault::Internal, format!("failed to write the answer: {error}"))
    })?;
    if out[start..].iter().any(|byte| matches!(byte, b'<' | b'>' | b'&')) {
        let tail = escape(out.split_off(start));
        out.extend_from_slice(&tail);
    }
    out.push(b'\n');
    Ok(())
}

fn append_bytes<const N: usize>(fields: [(&str, &[u8]); N], out: &mut Vec<u8>) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    out.push(b'{');
    for (index, (name, bytes)) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":\"");
        let start = out.len();
        out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        // the space is exactly what padded base64 takes
        let _ = STANDARD.encode_slice(bytes, &mut out[start..]);
        out.push(b'"');
    }
    out.push(b'}');
}

/// `<`, `>` and `&` as Go writes them. In JSON they only occur inside strings.
fn escape(json: Vec<u8>) -> Vec<u8> {
    if !json.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&')) {
        return json;
    }
    let mut out = Vec::with_capacity(json.len() + 30);
    for byte in json {
        match byte {
            b'<' => out.extend_from_slice(b"\\u003c"),
            b'>' => out.extend_from_slice(b"\\u003e"),
            b'&' => out.extend_from_slice(b"\\u0026"),
            byte => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Fault, message};

    fn allowance() -> Allowance {
        super::super::memory::Memory::new().allowance()
    }

    fn body(reply: Reply) -> String {
        String::from_utf8(reply.into_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_refusal_is_escaped_json() {
        use http_body_util::BodyExt as _;
        let response = refusal(&ApiError::new(Fault::BadRequest, "bad \"<name>\""));
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, r#"{"message":"bad \"\u003cname\u003e\""}"#);
    }

    #[test]
    fn bytes_are_written_as_serde_would() {
        for length in [0, 1, 2, 3, 32, 76] {
            let data = message::DataKey {
                plaintext: vec![1; length].into(),
                ciphertext: vec![255; length + 1].into(),
            };
            let fast = Reply::bytes([
                ("plaintext", data.plaintext.as_ref()),
                ("ciphertext", data.ciphertext.as_ref()),
            ]);
            assert_eq!(body(fast), serde_json::to_string(&data).unwrap() + "\n");
        }
        assert_eq!(
            body(Reply::bytes_array("plaintext", [b"a".as_slice(), b""])),
            "[{\"plaintext\":\"YQ==\"},{\"plaintext\":\"\"}]\n"
        );
        assert_eq!(body(Reply::bytes_array("plaintext", [[0; 0]; 0])), "[]\n");
    }

    fn held_by(reply: Reply, guard: &std::sync::Arc<()>) -> Outgoing {
        until_taken(reply.into_http(None, &allowance()), std::sync::Arc::clone(guard), None).into_body()
    }

    #[tokio::test]
    async fn what_an_answer_is_counted_with_is_given_back_when_it_was_taken_or_dropped() {
        use http_body_util::BodyExt as _;
        let held = crate::server::backlog::Held::default();
        for reply in [Reply::Json(vec![b'1'; 100]), Reply::Empty, Reply::Lines(vec![])] {
            let response = until_taken(reply.into_http(None, &allowance()), (), Some(held.request(0)));
            let (head, body) = response.into_parts();
            let collected = body.collect().await.unwrap().to_bytes();
            assert!(!held.is_empty(), "it is there");
            if collected.is_empty() {
                assert_eq!(head.headers["content-length"], "0");
            }
            drop((head, collected));
            assert!(held.is_empty());
        }
    }

    #[tokio::test]
    async fn a_body_in_parts_holds_its_guard_to_its_end_and_a_whole_one_does_not() {
        use http_body_util::BodyExt as _;
        let guard = std::sync::Arc::new(());
        let held = || std::sync::Arc::strong_count(&guard) > 1;
        let _whole = held_by(Reply::Empty, &guard);
        assert!(!held());
        let parts = Reply::Stream(Box::pin(futures::stream::iter([Bytes::from("a\n"), Bytes::from("b\n")])));
        let mut body = held_by(parts, &guard);
        for part in ["a\n", "b\n"] {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), part);
            assert!(held());
        }
        assert!(body.frame().await.is_none() && !held());
        let abandoned = held_by(Reply::Stream(Box::pin(futures::stream::pending())), &guard);
        assert!(held());
        drop(abandoned);
        assert!(!held());
    }

    #[test]
    fn lines_end_with_a_newline_each_and_none_are_none() {
        assert_eq!(body(Reply::lines(["a", "<b>"]).unwrap()), "\"a\"\n\"\\u003cb\\u003e\"\n");
        assert_eq!(body(Reply::lines::<u8>([]).unwrap()), "");
    }
}
