//! Proxies that speak for their clients, and routes that are open to everybody: the same configuration and the same
//! requests to the releases of KES that have them, and to ours.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    available,
    http::{Client, Response},
    stage::{Program, Stage, Who},
};

const PROXY: &str = "
address: 127.0.0.1:7373
admin: {identity: <admin>}
tls:
  key: server.key
  cert: server.crt
  auth: off
  proxy: {identities: [<other>], header: {cert: X-Tls-Client-Cert}}
policy: <policies>
keystore: {fs: {path: <keystore>}}
log: {audit: off}
";

const OPEN: &str = "
admin: {identity: <admin>}
tls: {key: server.key, cert: server.crt}
policy: <policies>
keystore: {fs: {path: <keystore>}}
log: {audit: off}
api:
  /v1/status: {skip_auth: true, timeout: 3s}
  /v1/metrics: {skip_auth: true}
  /v1/nothing: {skip_auth: true}
";

/// What is asked for, by whom, and with which header lines.
type Forward<'a> = (&'a str, Who, &'a [(&'a str, &'a str)]);

/// What is compared: the status, and the message of a refusal.
fn outcome(response: &Response) -> (u16, String) {
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let message = if response.status == 200 { "" } else { json["message"].as_str().unwrap_or_default() };
    (response.status, message.to_owned())
}

/// Sends a GET for `path` with header lines as `who` to both, on connections of their own, and returns what theirs and ours
/// make of it.
fn both(
    clients: &mut [Client; 2],
    who: Who,
    path: &str,
    headers: &[(&str, &str)],
) -> ((u16, String), (u16, String)) {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n");
    let [theirs, ours] = clients.each_mut().map(|client| outcome(&client.send(who, &head, b"")));
    (theirs, ours)
}

#[test]
fn a_proxy_is_believed_as_v0_22_3_believes_it_and_nobody_else() {
    if !available("proxies beside KES v0.22.3", &["kes"]) {
        return;
    }
    let stage = Stage::new();
    let servers = [Program::Old, Program::Ours].map(|program| stage.start_stateless(program, PROXY));
    let mut clients = servers.each_ref().map(|server| Client::new(stage.path(), server.address));
    let pem = |who: Who| std::fs::read_to_string(stage.path().join(format!("{}.crt", who.name()))).unwrap();
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (app, admin) = (encoded(&pem(Who::App)), encoded(&pem(Who::Admin)));
    let plus = app.replace("%20", "+");
    let key = encoded(&std::fs::read_to_string(stage.path().join("app.key")).unwrap());
    let proxy = encoded(&pem(Who::Other));
    let unknown = encoded(&pem(Who::Unknown));
    let name = "X-Tls-Client-Cert";
    let forwards: [Forward<'_>; 16] = [
        ("direct", Who::App, &[]),
        ("direct, unknown", Who::Unknown, &[]),
        ("unknown claims to be app", Who::Unknown, &[(name, &app)]),
        ("app claims to be admin", Who::Denied, &[(name, &admin)]),
        ("app, with nonsense", Who::App, &[(name, "nonsense")]),
        ("proxy alone", Who::Other, &[]),
        ("proxy for app", Who::Other, &[(name, &app)]),
        ("proxy for app, other case", Who::Other, &[("x-tls-client-cert", &app)]),
        ("proxy for app, plus signs", Who::Other, &[(name, &plus)]),
        ("proxy for admin", Who::Other, &[(name, &admin)]),
        ("proxy for an unknown one", Who::Other, &[(name, &unknown)]),
        ("proxy for itself", Who::Other, &[(name, &proxy)]),
        ("proxy, twice", Who::Other, &[(name, &app), (name, &app)]),
        ("proxy, a key", Who::Other, &[(name, &key)]),
        ("proxy, nonsense", Who::Other, &[(name, "nonsense")]),
        ("proxy, empty", Who::Other, &[(name, "")]),
    ];
    let mut answered = 0;
    for (what, who, headers) in forwards {
        for path in ["/v1/status", "/version", "/v1/key/describe/app", "/v1/identity/self/describe"] {
            let (theirs, ours) = both(&mut clients, who, path, headers);
            assert_eq!(theirs, ours, "{what}: {path}");
            answered += usize::from(ours.0 == 200);
        }
    }
    assert!(answered > 10, "only {answered} requests were answered at all");
    // two differences: v0.22.3 takes the first of several certificates, we take none
    let several = encoded(&(pem(Who::App) + &pem(Who::Admin)));
    let (theirs, ours) = both(&mut clients, Who::Other, "/v1/status", &[(name, &several)]);
    assert_eq!((theirs.0, ours), (200, (400, "invalid client certificate".to_owned())));
    // and whoever a proxy forwards first on a connection lends its rights there to all whom it forwards later
    let on_one_connection = |client: &mut Client| {
        [&admin, &unknown].map(|certificate| {
            let head = format!("GET /v1/status HTTP/1.1\r\nHost: localhost\r\n{name}: {certificate}\r\n\r\n");
            client.send(Who::Other, &head, b"").status
        })
    };
    assert_eq!(clients.each_mut().map(on_one_connection), [[200, 200], [200, 403]]);
}

#[test]
fn routes_are_open_as_in_v0_23_and_keys_never_are() {
    if !available("open routes beside KES v0.23.0", &["kes-0.23"]) {
        return;
    }
    let stage = Stage::new();
    let servers = [Program::New, Program::Ours].map(|program| stage.start_stateless(program, OPEN));
    let mut clients = servers.each_ref().map(|server| Client::new(stage.path(), server.address));
    for who in [Who::Nobody, Who::Unknown, Who::Denied, Who::App, Who::Admin] {
        for path in ["/v1/status", "/v1/metrics", "/version", "/v1/ready", "/v1/api", "/v1/key/describe/app"]
        {
            let (theirs, ours) = both(&mut clients, who, path, &[]);
            // the text for a missing certificate is that of v0.22.3
            assert_eq!(theirs.0, ours.0, "{who:?} {path}: {theirs:?} {ours:?}");
        }
    }
    let head = "GET /v1/api HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for client in &mut clients {
        let routes: serde_json::Value =
            serde_json::from_slice(&client.send(Who::Admin, head, b"").body).unwrap();
        let status = routes.as_array().unwrap().iter().find(|route| route["path"] == "/v1/status").unwrap();
        assert_eq!(status["timeout"], 3);
    }
    // one difference: KES opens what its documentation says cannot be opened
    let everything = OPEN.replace("/v1/nothing", "/v1/key/create/");
    drop(servers);
    let theirs = stage.start_stateless(Program::New, &everything);
    let head = "PUT /v1/key/create/mine HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let made = Client::new(stage.path(), theirs.address).send(Who::Nobody, head, b"");
    assert_eq!(made.status, 200);
    let refusal = stage.refusal_of_stateless(&everything);
    assert!(refusal.contains("route '/v1/key/create/' is never open to everybody"), "{refusal}");
}
