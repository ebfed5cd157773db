//! What every field of a spec is read with: names, sizes, lists without doubles, and the refusal that names the field.

use std::collections::BTreeSet;

use super::broken::Broken;
use crate::{api::NameError, operator::rule::Rule};

/// Items with their path; those whose key an earlier one has are refused and left out.
pub(super) fn unique<'a, T>(
    items: &'a [T],
    field: &str,
    key: impl Fn(&T) -> String,
    broken: &mut Broken,
) -> Vec<(String, &'a T)> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let (field, key) = (format!("{field}[{index}]"), key(item));
        if seen.contains(&key) {
            broken.refuse(&field, format!("{key} is there twice"));
        } else {
            seen.insert(key);
            kept.push((field, item));
        }
    }
    kept
}

/// A name, or what is wrong with it.
pub(super) fn named<T>(field: &str, parsed: Result<T, NameError>) -> Result<T, Rule> {
    parsed.map_err(|error| {
        let problem = match error {
            NameError::Empty => "a name must not be empty",
            NameError::TooLong => "a name has 80 characters at most",
            _ => "a name consists of 0-9, A-Z, a-z, '-' and '_'",
        };
        invalid(field, problem)
    })
}

/// The refusal of `field`.
pub(super) fn invalid(field: &str, problem: impl Into<String>) -> Rule {
    Rule::InvalidSpec { field: field.into(), problem: problem.into() }
}

/// Whether `text` is a DNS label.
pub(crate) fn is_label(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || c == '-')
}

/// Whether `text` can be the name of a Service.
pub(super) fn is_service_name(text: &str) -> bool {
    is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Whether `text` can be the name of most objects.
pub(super) fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Whether `text` is a size above nothing.
pub(super) fn is_quantity(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    digits.parse::<f64>().is_ok_and(|size| size > 0.0)
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && ["", "Ki", "Mi", "Gi", "Ti", "k", "M", "G", "T"].contains(&unit)
}
