//! One call: build the request, send it, try again where that helps, read the answer.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::Full;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Client, Error, Lines,
    connection::{Broken, Connector},
};
use crate::{
    api::{ApiError, Fault, message::Refusal},
    world::{Random, System},
};

/// How often one call is sent at most.
const ATTEMPTS: u32 = 3;
/// How long a connection may take to come about where there is another server to ask.
const CONNECT: Duration = Duration::from_secs(3);
/// Bounds of the pause between two attempts, in milliseconds: random, so that many clients do not come back at once.
const PAUSE_MS: (u64, u64) = (200, 1000);

/// Whether a call is about one enclave or about the server.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    Enclave,
    Server,
}

impl Client {
    /// A call without a body whose answer is JSON.
    pub(super) async fn get<T: DeserializeOwned>(&self, scope: Scope, path: &str) -> Result<T, Error> {
        let answer = self.send(Method::GET, scope, path, Bytes::new()).await?;
        self.parse(answer.body())
    }

    /// A call with a JSON body whose answer is JSON.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let answer = self.send(Method::POST, Scope::Enclave, path, self.encode(body)?).await?;
        self.parse(answer.body())
    }

    /// A call with a JSON body whose answer is empty.
    pub(super) async fn change(&self, scope: Scope, path: &str, body: &impl Serialize) -> Result<(), Error> {
        self.send(Method::POST, scope, path, self.encode(body)?).await.map(drop)
    }

    /// A call with neither a body nor an answer.
    pub(super) async fn act(&self, method: Method, scope: Scope, path: &str) -> Result<(), Error> {
        self.send(method, scope, path, Bytes::new()).await.map(drop)
    }

    /// Sends until there is an answer that another attempt would not change, or time is up.
    pub(super) async fn send(
        &self,
        method: Method,
        scope: Scope,
        path: &str,
        body: Bytes,
    ) -> Result<http::Response<Bytes>, Error> {
        let attempts = async {
            let (mut attempt, mut away) = (1, 0);
            loop {
                let connector = self.connector();
                let request = self.request(connector, &method, scope, path, body.clone())?;
                let pause = match connector.exchange(request, self.connect_time()).await {
                    Ok(answer) if answer.status() == StatusCode::OK => return Ok(answer),
                    Ok(answer) => {
                        let again = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
                        if !again || attempt == ATTEMPTS {
                            return Err(Error::Api(refusal(&answer)));
                        }
                        pause()
                    }
                    // another attempt meets the same certificate
                    Err(Broken { error: error @ Error::Tls { .. }, .. }) => return Err(error),
                    // somebody else may be there
                    Err(Broken { kept: false, .. }) if away + 1 < self.connectors.len() => {
                        away += 1;
                        self.turn_from(connector);
                        continue;
                    }
                    Err(Broken { error, .. }) if attempt == ATTEMPTS => return Err(error),
                    // the server closed it while it was idle
                    Err(Broken { kept: true, .. }) => Duration::ZERO,
                    Err(Broken { kept: false, .. }) => pause(),
                };
                tokio::time::sleep(pause).await;
                (attempt, away) = (attempt + 1, 0);
            }
        };
        match tokio::time::timeout(self.timeout, attempts).await {
            Ok(result) => result,
            Err(_) => Err(self.too_late()),
        }
    }

    /// Opens an endless answer. The timeout bounds only the wait for its beginning.
    pub(super) async fn open<T: DeserializeOwned>(
        &self,
        scope: Scope,
        path: &str,
    ) -> Result<Lines<T>, Error> {
        let begin = async {
            let mut away = 0;
            loop {
                let connector = self.connector();
                let request = self.request(connector, &Method::GET, scope, path, Bytes::new())?;
                match connector.begin(request, self.connect_time()).await {
                    Ok((_, answer)) if answer.status() == StatusCode::OK => return Ok(answer),
                    Ok((_, answer)) => {
                        let answer = connector.collect(answer).await?;
                        return Err(Error::Api(refusal(&answer)));
                    }
                    Err(Broken { error: error @ Error::Tls { .. }, .. }) => return Err(error),
                    // the server closed it while it was idle
                    Err(Broken { kept: true, .. }) => {}
                    Err(Broken { kept: false, .. }) if away + 1 < self.connectors.len() => {
                        away += 1;
                        self.turn_from(connector);
                    }
                    Err(Broken { kept: false, error }) => return Err(error),
                }
            }
        };
        let answer = tokio::time::timeout(self.timeout, begin).await.map_err(|_| self.too_late())??;
        Ok(Lines::new(answer.into_body(), self.connector().endpoint.text.clone()))
    }

    /// The server that is asked now.
    pub(super) fn connector(&self) -> &Connector {
        &self.connectors[self.current.load(Relaxed) % self.connectors.len()]
    }

    /// From now on the server after `away` is asked, unless another call has turned from it already.
    fn turn_from(&self, away: &Connector) {
        let current = self.current.load(Relaxed);
        if std::ptr::eq(away, &raw const self.connectors[current % self.connectors.len()]) {
            let _ = self.current.compare_exchange(current, current.wrapping_add(1), Relaxed, Relaxed);
        }
    }

    /// How long a connection may take to come about: with one server all the time that there is.
    fn connect_time(&self) -> Duration {
        if self.connectors.len() > 1 { CONNECT.min(self.timeout) } else { self.timeout }
    }

    fn too_late(&self) -> Error {
        Error::Timeout { endpoint: self.connector().endpoint.text.clone(), after: self.timeout }
    }

    /// An answer that is not what the contract promises.
    pub(super) fn protocol(&self, reason: impl Into<String>) -> Error {
        Error::Protocol { endpoint: self.connector().endpoint.text.clone(), reason: reason.into() }
    }

    fn request(
        &self,
        connector: &Connector,
        method: &Method,
        scope: Scope,
        path: &str,
        body: Bytes,
    ) -> Result<http::Request<Full<Bytes>>, Error> {
        let query = match (scope, &self.enclave) {
            (Scope::Enclave, Some(enclave)) => format!("?enclave={enclave}"),
            _ => String::new(),
        };
        let uri = format!("https://{}{path}{query}", connector.endpoint.authority);
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header(header::USER_AGENT, concat!("kes/", env!("CARGO_PKG_VERSION")));
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(body)).map_err(|error| self.protocol(error.to_string()))
    }

    pub(super) fn encode(&self, body: &impl Serialize) -> Result<Bytes, Error> {
        serde_json::to_vec(body).map(Bytes::from).map_err(|error| self.protocol(error.to_string()))
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        // the library's error names line and column, never the content
        serde_json::from_slice(body).map_err(|error| {
            self.protocol(format!("unexpected JSON at line {} column {}", error.line(), error.column()))
        })
    }
}

/// The path of one named thing; the name rule leaves nothing to escape, patterns may.
pub(super) fn path(prefix: &str, name: &str) -> String {
    use std::fmt::Write;
    let mut path = String::with_capacity(prefix.len() + name.len());
    path.push_str(prefix);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_*.~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // writing to a string does not fail
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

fn pause() -> Duration {
    let mut bytes = [0; 2];
    System.fill(&mut bytes);
    let (least, most) = PAUSE_MS;
    Duration::from_millis(least + u64::from(u16::from_le_bytes(bytes)) % (most - least))
}

/// Reads a refusal as the SDKs do: JSON where the type says so, else the text itself.
fn refusal(answer: &http::Response<Bytes>) -> ApiError {
    let json = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let parsed = json.then(|| serde_json::from_slice::<Refusal>(answer.body()).ok()).flatten();
    let message = match parsed {
        Some(refusal) => refusal.message,
        None => String::from_utf8_lossy(answer.body()).trim().to_owned(),
    };
    let status = answer.status();
    let message = match (message.is_empty(), status.as_u16()) {
        // texts of servers before v0.22
        (_, 400) if message == "key does already exist" => return ApiError::KEY_EXISTS,
        (_, 403) if message == "prohibited by policy" => return ApiError::NOT_ALLOWED,
        (true, _) => format!("the server answered {status}"),
        (false, _) => message,
    };
    ApiError::new(fault(status.as_u16()), message)
}

fn fault(status: u16) -> Fault {
    match status {
        403 => Fault::Forbidden,
        404 => Fault::NotFound,
        405 => Fault::MethodNotAllowed,
        406 => Fault::NotAcceptable,
        409 => Fault::Conflict,
        413 => Fault::TooLarge,
        501 => Fault::NotImplemented,
        502..=504 => Fault::Unavailable,
        507 => Fault::StorageFull,
        500.. => Fault::Internal,
        _ => Fault::BadRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, kind: &str, body: &'static str) -> http::Response<Bytes> {
        http::Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, kind)
            .body(Bytes::from_static(body.as_bytes()))
            .unwrap()
    }

    #[test]
    fn a_refusal_equals_the_constant_of_its_status_and_text() {
        let json = "application/json; charset=utf-8";
        let is = |status, body, expected| assert_eq!(refusal(&answer(status, json, body)), expected);
        is(400, r#"{"message":"key already exists"}"#, ApiError::KEY_EXISTS);
        is(400, r#"{"message":"key does already exist"}"#, ApiError::KEY_EXISTS);
        is(404, r#"{"message":"key does not exist"}"#, ApiError::KEY_NOT_FOUND);
        is(403, r#"{"message":"not authorized: insufficient permissions"}"#, ApiError::NOT_ALLOWED);
        assert_eq!(refusal(&answer(501, "text/plain", "not implemented\n")), ApiError::UNKNOWN_ROUTE);
        assert_eq!(refusal(&answer(502, "text/html", "")).message(), "the server answered 502 Bad Gateway");
        assert_ne!(
            refusal(&answer(400, json, r#"{"message":"key does not exist"}"#)),
            ApiError::KEY_NOT_FOUND
        );
    }

    #[test]
    fn a_pattern_cannot_leave_its_path_segment() {
        assert_eq!(path("/v1/key/list/", "my-*"), "/v1/key/list/my-*");
        assert_eq!(path("/v1/key/list/", "../a?b ä"), "/v1/key/list/..%2Fa%3Fb%20%C3%A4");
    }
}
