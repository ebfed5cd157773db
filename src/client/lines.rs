//! An answer that comes line by line, perhaps without end: each line is one JSON value.

use std::marker::PhantomData;

use bytes::{Buf as _, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::{Error, listing::parse_line};

/// Longest line in bytes; a listed name or an event is a thousandth of it.
const MAX_LINE: usize = 1 << 20;

/// The lines of an answer, as they come. Dropping it ends the answer.
pub struct Lines<T> {
    body: Incoming,
    waiting: BytesMut,
    /// Bytes of `waiting` that hold no newline.
    searched: usize,
    endpoint: String,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(super) fn new(body: Incoming, endpoint: String) -> Self {
        Self { body, waiting: BytesMut::new(), searched: 0, endpoint, item: PhantomData }
    }

    /// The next value; `None` when the server ended the answer in good order.
    ///
    /// # Errors
    /// When the connection breaks, the line is no value of this kind, or it says that the rest failed.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(line) = self.line() {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return parse_line(&line, &self.endpoint).map(Some);
            }
            if self.waiting.len() > MAX_LINE {
                return Err(self.protocol("a line without end"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.waiting.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(self.broken(&error)),
                None if self.waiting.trim_ascii().is_empty() => return Ok(None),
                None => {
                    let last = self.waiting.split();
                    self.searched = 0;
                    return parse_line(&last, &self.endpoint).map(Some);
                }
            }
        }
    }

    /// The next whole line, without its newline.
    fn line(&mut self) -> Option<BytesMut> {
        let Some(length) = self.waiting[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.waiting.len();
            return None;
        };
        let line = self.waiting.split_to(self.searched + length);
        self.waiting.advance(1);
        self.searched = 0;
        Some(line)
    }

    fn protocol(&self, reason: &str) -> Error {
        Error::Protocol { endpoint: self.endpoint.clone(), reason: reason.into() }
    }

    fn broken(&self, error: &hyper::Error) -> Error {
        Error::Connect { endpoint: self.endpoint.clone(), source: std::io::Error::other(error.to_string()) }
    }
}
