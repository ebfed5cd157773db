//! Durations as Go writes them, e.g. `720h` or `1h30m`, and days.

use std::time::Duration;

/// Parses for clap.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("'{text}' is no duration such as '720h', '1h30m' or '90d'");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit = match unit {
            "d" => Duration::from_secs(86_400),
            "h" => Duration::from_secs(3_600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return Err(invalid()),
        };
        let number: u32 = number.parse().map_err(|_| invalid())?;
        let part = unit.checked_mul(number).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = tail;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(total) }
}

/// Writes whole seconds the way Go does: `1h2m3s`.
pub(super) fn show(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_and_days_are_read() {
        for (text, seconds) in
            [("720h", 2_592_000), ("1h30m", 5400), ("90d", 7_776_000), ("0", 0), ("10s", 10)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "h", "12", "1y", "-1h", "99999999999h", "4294967295d 1h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!((show(7), show(62), show(3723)), ("7s".into(), "1m2s".into(), "1h2m3s".into()));
    }
}
