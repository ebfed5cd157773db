//! Listings in both shapes: a JSON object per line (KES v0.22.3 and we), or one object with names only (later KES).

use bytes::Bytes;
use http::{Method, header};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Client, Error,
    call::{Scope, path},
};
use crate::api::{ApiError, Fault};

/// A line of a listing may say that the rest failed.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    error: String,
}

/// The shape of later KES.
#[derive(Deserialize)]
struct Names {
    #[serde(default, alias = "identities")]
    names: Option<Vec<String>>,
}

impl Client {
    /// Everything below `prefix` whose name matches `pattern`; an empty one means all.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        scope: Scope,
        prefix: &str,
        pattern: &str,
        from_name: impl Fn(String) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let pattern = if pattern.is_empty() { "*" } else { pattern };
        let answer = self.send(Method::GET, scope, &path(prefix, pattern), Bytes::new()).await?;
        let kind = answer.headers().get(header::CONTENT_TYPE).map_or(&b""[..], http::HeaderValue::as_bytes);
        if kind.starts_with(b"application/json") {
            let listing: Names =
                serde_json::from_slice(answer.body()).map_err(|_| self.protocol("unexpected listing"))?;
            let entries = listing.names.unwrap_or_default().into_iter().map(from_name);
            return entries
                .collect::<Option<_>>()
                .ok_or_else(|| self.protocol("a listed name breaks the name rule"));
        }
        let lines = answer.body().split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        lines.map(|line| parse_line(line, &self.connector().endpoint.text)).collect()
    }
}

/// One line of a listing, or the failure that it tells of.
pub(super) fn parse_line<T: DeserializeOwned>(line: &[u8], endpoint: &str) -> Result<T, Error> {
    match serde_json::from_slice::<Failure>(line) {
        Ok(failure) if !failure.error.is_empty() => Err(Error::Api(ApiError::new(
            Fault::Internal,
            format!("listing is incomplete: {}", failure.error),
        ))),
        _ => serde_json::from_slice(line).map_err(|_| Error::Protocol {
            endpoint: endpoint.into(),
            reason: "unexpected line in a listing".into(),
        }),
    }
}

/// What Go sends for "no time", and what an entry without one gets.
pub(super) fn zero_time() -> Timestamp {
    // seconds from 1970 back to the year 1
    Timestamp::from_second(-62_135_596_800).unwrap_or_default()
}
