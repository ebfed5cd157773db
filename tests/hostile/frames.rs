//! HTTP/2 by hand (RFC 9113): what no library would send.

use tokio::io::{AsyncRead, AsyncReadExt as _};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// RFC 9113 §7.
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// The beginning of every connection, with settings (RFC 9113 §6.5.2).
pub(crate) fn hello(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()
}

/// The header block of a request, without indexing (RFC 7541 §6.2.2).
pub(crate) fn block(method: &str, path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    // names by their index in the static table: :method, :path, :authority; 0x87 is ":scheme: https"
    for (name, value) in [(2, method), (4, path), (1, "localhost")] {
        out.push(name);
        out.push(u8::try_from(value.len()).unwrap());
        assert!(value.len() < 127);
        out.extend_from_slice(value.as_bytes());
    }
    out.push(0x87);
    out
}

/// A whole request without a body.
pub(crate) fn request(stream: u32, method: &str, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(method, path))
}

pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The next frame; `None` when the connection has ended.
pub(crate) async fn read(connection: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, _, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    connection.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
}

/// What ended a connection.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// GOAWAY with this code.
    GoAway(u32),
    /// Without a word.
    Closed,
}

/// Reads until the server ends the connection, and returns its reason and how many streams it answered or refused.
pub(crate) async fn until_end(connection: &mut (impl AsyncRead + Unpin)) -> (End, u32) {
    let mut streams = 0;
    while let Some(frame) = read(connection).await {
        match frame.kind {
            GOAWAY => {
                let code = frame.payload[4..8].try_into().map(u32::from_be_bytes).unwrap();
                return (End::GoAway(code), streams);
            }
            HEADERS | RST_STREAM => streams = streams.max(frame.stream),
            _ => {}
        }
    }
    (End::Closed, streams)
}
