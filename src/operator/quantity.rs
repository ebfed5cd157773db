//! Kubernetes quantities: `1Gi` and `1024Mi` are the same, and so are `1` and `1000m`. Pure.

/// Billionths of one, the smallest part that Kubernetes knows.
const NANO: u128 = 1_000_000_000;

/// A quantity in billionths, rounded down; nothing for what is none.
pub(crate) fn nano(text: &str) -> Option<u128> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u128 = match &text[digits.len()..] {
        "n" => 1,
        "u" => 1000,
        "m" => 1000_u128.pow(2),
        "" => NANO,
        "k" => NANO * 1000,
        "M" => NANO * 1000_u128.pow(2),
        "G" => NANO * 1000_u128.pow(3),
        "T" => NANO * 1000_u128.pow(4),
        "P" => NANO * 1000_u128.pow(5),
        "Ki" => NANO << 10,
        "Mi" => NANO << 20,
        "Gi" => NANO << 30,
        "Ti" => NANO << 40,
        "Pi" => NANO << 50,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.parse::<u128>().ok()?.checked_mul(unit)?;
    let parts = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    whole.checked_add(parts.checked_mul(unit)? / scale)
}

/// A quantity in whole units, rounded down; 0 for what is none.
pub(crate) fn units(text: &str) -> u128 {
    nano(text).unwrap_or_default() / NANO
}

/// Whether both are quantities, and the same.
pub(crate) fn are_same(one: &str, other: &str) -> bool {
    nano(one).is_some_and(|amount| nano(other) == Some(amount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_bytes() {
        for (text, expected) in [
            ("1Gi", 1 << 30),
            ("1024Mi", 1 << 30),
            ("1.5Ki", 1536),
            ("2k", 2000),
            ("7", 7),
            ("x", 0),
            ("", 0),
        ] {
            assert_eq!(units(text), expected, "{text}");
        }
    }

    #[test]
    fn two_spellings_of_one_amount_are_the_same() {
        for (one, other, same) in [
            ("1000m", "1", true),
            ("0.5", "500m", true),
            ("1Gi", "1024Mi", true),
            ("1G", "1Gi", false),
            ("100m", "100", false),
            ("x", "x", false),
        ] {
            assert_eq!(are_same(one, other), same, "{one} {other}");
        }
    }
}
