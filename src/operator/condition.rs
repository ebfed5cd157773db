//! Sets conditions so that their times move only when their status does, and their order never.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition says, without its times.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Statement {
    pub(crate) kind: &'static str,
    pub(crate) holds: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Longest message: events take 1 kB, and conditions shall say the same.
const MAX_MESSAGE: usize = 1000;

/// The conditions after `statements`: in their order, each with the time of its last change.
pub(crate) fn set(
    old: &[Condition],
    statements: Vec<Statement>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions: Vec<Condition> = Vec::with_capacity(statements.len());
    for Statement { kind, holds, reason, message } in statements {
        let status = if holds { "True" } else { "False" };
        let last_transition_time = old
            .iter()
            .find(|condition| condition.type_ == kind && condition.status == status)
            .map_or(Time(now), |condition| condition.last_transition_time.clone());
        conditions.push(Condition {
            last_transition_time,
            message: cut(message),
            observed_generation: generation,
            reason,
            status: status.into(),
            type_: kind.into(),
        });
    }
    conditions
}

/// `text` cut to what an event can hold.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(holds: bool, reason: &str) -> Vec<Statement> {
        vec![Statement { kind: "Ready", holds, reason: reason.into(), message: String::new() }]
    }

    #[test]
    fn the_time_of_a_condition_moves_only_with_its_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = set(&[], ready(false, "A"), Some(1), at(10));
        let second = set(&first, ready(false, "B"), Some(2), at(20));
        let third = set(&second, ready(true, "C"), Some(2), at(30));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("B", Some(2)));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let text = cut("ä".repeat(2000));
        assert!(text.len() <= 1000 && text.ends_with("ä…"));
    }
}
