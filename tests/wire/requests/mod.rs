//! The one list of requests that goes to every server, in this order.

mod bodies;
mod life;
mod matrix;
mod paths;

use std::collections::BTreeMap;

use crate::{
    http::{Client, Response},
    stage::{Stage, Who},
};

/// One request.
pub(crate) struct Request {
    /// What a difference is listed under.
    pub(crate) id: String,
    pub(crate) who: Who,
    method: &'static str,
    target: String,
    headers: String,
    body: Body,
}

/// How a body goes out. In its text `<name>` is an identity, and `{id}` the ciphertext that request `id` brought.
enum Body {
    None,
    /// With Content-Length.
    Text(String),
    /// Without: chunked, as the SDKs send theirs.
    Chunked(String),
    /// That many blanks and then the text, with Content-Length.
    Padded(usize, &'static str),
    /// Not UTF-8.
    Bytes(&'static [u8]),
}

/// Collects requests; one group after the other.
#[derive(Default)]
struct List(Vec<Request>);

impl List {
    fn push(&mut self, id: impl Into<String>, who: Who, line: &str, body: Body) -> &mut Request {
        let (method, target) = line.split_once(' ').unwrap();
        // the few methods there are; a leaked word each is no matter in a test
        let method = method.to_owned().leak();
        let request =
            Request { id: id.into(), who, method, target: target.to_owned(), headers: String::new(), body };
        self.0.push(request);
        self.0.last_mut().unwrap()
    }

    /// Without a body.
    fn ask(&mut self, id: impl Into<String>, who: Who, line: &str) {
        self.push(id, who, line, Body::None);
    }

    /// With a body, sent as the SDKs do.
    fn tell(&mut self, id: impl Into<String>, who: Who, line: &str, body: impl Into<String>) {
        self.push(id, who, line, Body::Chunked(body.into()));
    }
}

/// 00 01 … 1f.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Understood by both generations of KES.
const IMPORT: &str = r#"{"bytes":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","algorithm":"AES256-GCM_SHA256","key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","cipher":"AES256"}"#;
/// `hello` with context `{}` under [`KEY`], as v0.22.3 wrote it (contract, appendix A).
const SEALED: &str = "lbFBRVMyNTYtR0NNX1NIQTI1NtkgNjMwZGNkMjk2NmM0MzM2NjkxMTI1NDQ4YmJiMjViNGbEEEBBQkNERUZHSElKS0xNTk/EDICBgoOEhYaHiImKi8QVOdrzc7pJxbJaRTVHRwCksuSKpTxe";

/// Every route of either generation, and a body that it takes.
pub(crate) const ROUTES: [(&str, &str); 38] = [
    ("GET /version", ""),
    ("GET /v1/ready", ""),
    ("GET /v1/status", ""),
    ("GET /v1/metrics", ""),
    ("GET /v1/api", ""),
    ("POST /v1/key/create/", ""),
    ("POST /v1/key/import/", IMPORT),
    ("GET /v1/key/describe/", ""),
    ("DELETE /v1/key/delete/", ""),
    ("POST /v1/key/generate/", "{}"),
    ("POST /v1/key/encrypt/", r#"{"plaintext":"aGVsbG8="}"#),
    ("POST /v1/key/decrypt/", r#"{"ciphertext":"<sealed>","context":"e30="}"#),
    ("POST /v1/key/bulk/decrypt/", r#"[{"ciphertext":"<sealed>","context":"e30="}]"#),
    ("PUT /v1/key/hmac/", r#"{"message":"aGVsbG8="}"#),
    ("GET /v1/key/list/", ""),
    ("POST /v1/secret/create/", r#"{"bytes":"aGVsbG8="}"#),
    ("GET /v1/secret/describe/", ""),
    ("GET /v1/secret/read/", ""),
    ("DELETE /v1/secret/delete/", ""),
    ("GET /v1/secret/list/", ""),
    ("GET /v1/policy/describe/", ""),
    ("POST /v1/policy/assign/", r#"{"identity":"app-v"}"#),
    ("GET /v1/policy/read/", ""),
    ("POST /v1/policy/write/", r#"{"allow":["/v1/status"]}"#),
    ("GET /v1/policy/list/", ""),
    ("DELETE /v1/policy/delete/", ""),
    ("GET /v1/identity/describe/", ""),
    ("GET /v1/identity/self/describe", ""),
    ("GET /v1/identity/list/", ""),
    ("DELETE /v1/identity/delete/", ""),
    ("GET /v1/log/error", ""),
    ("GET /v1/log/audit", ""),
    ("POST /v1/enclave/create/", r#"{"admin":"app-a"}"#),
    ("GET /v1/enclave/describe/", ""),
    ("DELETE /v1/enclave/delete/", ""),
    ("GET /v1/enclave/list/", ""),
    ("POST /v1/sys/seal", ""),
    ("GET /v1/nothing", ""),
];

/// `/v1/key/create/` is `key create`.
fn short(path: &str) -> String {
    path.trim_start_matches("/v1").trim_matches('/').replace('/', " ")
}

/// The list.
pub(crate) fn list() -> Vec<Request> {
    let mut list = List::default();
    matrix::fixtures(&mut list);
    matrix::everybody(&mut list);
    paths::methods(&mut list);
    paths::names(&mut list);
    paths::paths(&mut list);
    paths::selectors(&mut list);
    bodies::bodies(&mut list);
    bodies::limits(&mut list);
    life::keys(&mut list);
    life::ciphertexts(&mut list);
    life::listings(&mut list);
    life::policies(&mut list);
    life::patterns(&mut list);
    life::identities(&mut list);
    life::secrets(&mut list);
    life::enclaves(&mut list);
    life::seal(&mut list);
    let mut ids: Vec<_> = list.0.iter().map(|request| &request.id).collect();
    ids.sort_unstable();
    if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        panic!("two requests are called '{}'", twice[0]);
    }
    list.0
}

/// Sends every request of `list` to one server.
pub(crate) fn send(list: &[Request], stage: &Stage, mut client: Client) -> Vec<Response> {
    let mut ciphertexts = BTreeMap::from([("<sealed>".to_owned(), SEALED.to_owned())]);
    ciphertexts
        .extend(stage.identities.iter().map(|(identity, name)| (format!("<{name}>"), identity.clone())));
    let answer = |request: &Request| {
        let fill = |text: &str| {
            let contains = |text: &str| text.contains('<') || text.contains('{');
            let fill = |text: String, (name, value): (&String, &String)| text.replace(name, value);
            if contains(text) { ciphertexts.iter().fold(text.to_owned(), fill) } else { text.to_owned() }
        };
        let (body, chunked) = match &request.body {
            Body::None => (None, false),
            Body::Text(text) => (Some(fill(text).into_bytes()), false),
            Body::Chunked(text) => (Some(fill(text).into_bytes()), true),
            Body::Padded(blanks, text) => {
                (Some([&b" ".repeat(*blanks)[..], text.as_bytes()].concat()), false)
            }
            Body::Bytes(bytes) => (Some(bytes.to_vec()), false),
        };
        let Request { method, target, headers, .. } = request;
        let mut head = format!("{method} {} HTTP/1.1\r\nHost: kes\r\n{headers}", fill(target));
        let body = match body {
            None => Vec::new(),
            Some(body) if chunked && body.is_empty() => {
                head += "Transfer-Encoding: chunked\r\n";
                b"0\r\n\r\n".to_vec()
            }
            Some(body) if chunked => {
                head += "Transfer-Encoding: chunked\r\n";
                [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()
            }
            Some(body) => {
                head += &format!("Content-Length: {}\r\n", body.len());
                body
            }
        };
        head += "\r\n";
        let response = client.send(request.who, &head, &body);
        if let Some(ciphertext) = crate::answer::ciphertext(&response.body) {
            ciphertexts.insert(format!("{{{}}}", request.id), ciphertext);
        }
        response
    };
    list.iter().map(answer).collect()
}
