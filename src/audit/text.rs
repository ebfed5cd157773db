//! Numbers, times and strings of an audit line, appended without `fmt`.

use std::{cell::Cell, io::Write as _, net::IpAddr};

use jiff::Timestamp;

/// Bytes of a time to the second: `2026-01-02T03:04:05`.
const SECONDS: usize = 19;

thread_local! {
    /// The last second that this thread wrote, and its text.
    static SECOND: Cell<(i64, [u8; SECONDS])> = const { Cell::new((i64::MIN, [0; SECONDS])) };
}

/// RFC 3339 in UTC with as many digits of the second as it has, as [`Timestamp`] is shown.
pub(super) fn time(out: &mut Vec<u8>, time: Timestamp) {
    let second = time.as_second();
    // before the epoch there are negative parts of seconds
    let Ok(mut nanos) = u32::try_from(time.subsec_nanosecond()) else { return drop(write!(out, "{time}")) };
    let (mut known, mut text) = SECOND.get();
    if known != second {
        let shown = Timestamp::from_second(second).map(|second| second.to_string()).unwrap_or_default();
        // before the epoch the text is another one
        match shown.as_bytes().split_first_chunk() {
            Some((start, b"Z")) if second >= 0 => (known, text) = (second, *start),
            _ => return drop(write!(out, "{time}")),
        }
        SECOND.set((known, text));
    }
    out.extend_from_slice(&text);
    if nanos > 0 {
        let mut digits = [0; 9];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (nanos % 10) as u8;
            nanos /= 10;
        }
        let length = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        out.push(b'.');
        out.extend_from_slice(&digits[..length]);
    }
    out.push(b'Z');
}

/// An address as it is shown.
pub(super) fn ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                number(out, octet.into());
            }
        }
        // writing to a vector does not fail
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

/// A number in decimal.
pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// A number in 16 hex digits.
pub(super) fn hex(out: &mut Vec<u8>, number: u64) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in number.to_be_bytes() {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// A JSON string with its quotes and escapes.
pub(super) fn json(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // neither the writer nor a string can fail
        let _ = serde_json::to_writer(out, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_they_are_shown() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05.5Z",
            "2026-01-02T03:04:05.000000006Z",
            "2026-01-02T03:04:05.12345678Z",
            "2026-01-02T03:04:06.999999999Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.5Z",
            "-000001-01-01T00:00:00.25Z",
            "9999-12-30T21:59:59.9Z",
        ] {
            let stamp: Timestamp = text.parse().unwrap();
            // the second time from what the first has noted
            for _ in 0..2 {
                assert_eq!(written(|out| time(out, stamp)), stamp.to_string());
            }
        }
    }

    #[test]
    fn numbers_addresses_and_strings_are_written_as_they_are_shown() {
        for value in [0, 7, 10, 255, 4_294_967_296, u64::MAX] {
            assert_eq!(written(|out| number(out, value)), value.to_string());
            assert_eq!(written(|out| hex(out, value)), format!("{value:016x}"));
        }
        for text in ["127.0.0.1", "10.200.30.4", "::1", "fd00::abcd"] {
            assert_eq!(written(|out| ip(out, text.parse().unwrap())), text);
        }
        for text in ["", "/v1/key/create/my-key", "a\"b", "a\\b", "\n", "\u{7f}", "ä", "<&>"] {
            assert_eq!(written(|out| json(out, text)), serde_json::to_string(text).unwrap());
        }
    }
}
