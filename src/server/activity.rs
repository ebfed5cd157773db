//! What a connection is doing, seen from below: bytes that come, requests that are answered, headers that are not complete.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// What a connection is doing, for its watch.
pub(super) struct Activity {
    start: Instant,
    requests: AtomicUsize,
    /// Milliseconds from start to the end of the last request.
    ended: AtomicU64,
    /// Over HTTP/2, the header that is not complete: its number, or 0.
    header: AtomicU64,
    /// Over HTTP/1.1, whether anything came since then.
    came: AtomicBool,
}

pub(super) enum Look {
    /// A header of this number began and is not complete.
    Header(u64),
    /// Requests are being answered.
    Busy,
    /// Nothing of the two.
    Idle,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            requests: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            header: AtomicU64::new(0),
            came: AtomicBool::new(false),
        }
    }

    pub(super) fn look(&self) -> Look {
        match self.header.load(Relaxed) {
            0 if self.requests.load(Relaxed) > 0 => Look::Busy,
            0 if self.came.load(Relaxed) => Look::Header(0),
            0 => Look::Idle,
            number => Look::Header(number),
        }
    }

    pub(super) fn idle_for(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.ended.load(Relaxed)))
    }

    #[cfg(test)]
    pub(super) fn begin_header(&self, number: u64) {
        self.header.store(number, Relaxed);
    }
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Activity>);

impl Busy {
    pub(super) fn new(activity: &Arc<Activity>) -> Self {
        activity.requests.fetch_add(1, Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended.store(now, Relaxed);
        self.0.came.store(false, Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// A stream that notes which headers begin and are complete in what is read from it.
pub(super) struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
    headers: Headers,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>, is_http2: bool) -> Self {
        let headers = if is_http2 { Headers::Frames(Frames::new()) } else { Headers::BetweenRequests };
        Self { inner, activity, headers }
    }
}

/// How to see that a header is not complete.
enum Headers {
    /// Over HTTP/1.1: whatever comes while no request is being answered.
    BetweenRequests,
    /// Over HTTP/2.
    Frames(Frames),
}

/// Where the beginnings of HTTP/2 frames are (RFC 9113 §4.1), as far as the length of header blocks depends on it (§4.3).
struct Frames {
    /// Bytes of the frame that are still to come; at first those of the preface, which counts as a header.
    left: usize,
    head: [u8; 9],
    /// Bytes of `head` that have come.
    have: usize,
    /// Whether the frame is a part of a header.
    is_header: bool,
    /// Whether more frames of the header follow.
    goes_on: bool,
    number: u64,
}

impl Frames {
    const PREFACE: usize = 24;
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    const END_HEADERS: u8 = 4;

    fn new() -> Self {
        Self { left: Self::PREFACE, head: [0; 9], have: 0, is_header: true, goes_on: false, number: 1 }
    }

    /// The number of the header that is not complete after `bytes`, or 0.
    fn read(&mut self, mut bytes: &[u8]) -> u64 {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (self.head.len() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.head.len() {
                let [a, b, c, kind, flags, ..] = self.head;
                self.have = 0;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                self.is_header = matches!(kind, Self::HEADERS | Self::CONTINUATION);
                // any other frame within a header is an error, for which the connection ends
                self.goes_on = self.is_header && flags & Self::END_HEADERS == 0;
                self.number += u64::from(kind == Self::HEADERS);
            }
        }
        let is_open = self.goes_on || (self.is_header && self.left > 0);
        if is_open { self.number } else { 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, out);
        let read = &out.filled()[before..];
        if !read.is_empty() {
            let Self { activity, headers, .. } = &mut *self;
            match headers {
                Headers::BetweenRequests => activity.came.store(true, Relaxed),
                Headers::Frames(frames) => activity.header.store(frames.read(read), Relaxed),
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of `length` bytes.
    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], vec![7; length.into()].as_slice()].concat()
    }

    #[test]
    fn a_header_is_open_from_its_first_frame_to_the_end_of_its_last_however_the_bytes_come() {
        let (headers, end, more) = (Frames::HEADERS, Frames::END_HEADERS, Frames::CONTINUATION);
        let settings = frame(4, 0, 12);
        let whole = [
            (vec![1; 23], 1),
            (vec![1; 1], 0),
            (settings, 0),
            (frame(headers, end, 40), 0),
            (frame(0, 1, 200), 0),
            (frame(headers, 0, 40), 3),
            (frame(more, 0, 0), 3),
            (frame(more, 0, 40), 3),
            (frame(more, end, 3), 0),
            (frame(headers, end, 40)[..30].to_vec(), 4),
            (vec![7; 18], 4),
            (vec![7; 1], 0),
            (frame(headers, end, 0), 0),
            (frame(6, 1, 8), 0),
            (frame(headers, 0, 0), 6),
        ];
        let (mut at_once, mut by_bytes) = (Frames::new(), Frames::new());
        for (step, (bytes, expected)) in whole.iter().enumerate() {
            assert_eq!(at_once.read(bytes), *expected, "step {step}");
            let last = bytes.iter().map(|byte| by_bytes.read(&[*byte])).last();
            assert_eq!(last, Some(*expected), "step {step}, byte by byte");
        }
        let all: Vec<u8> = whole.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        assert_eq!(Frames::new().read(&all), 6);
    }
}
