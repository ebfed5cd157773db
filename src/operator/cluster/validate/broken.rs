//! Collects every rule that a spec breaks, so that a person corrects all of them at once.

use super::field::invalid;
use crate::operator::rule::Rule;

/// Rules that are broken, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Broken(Vec<Rule>);

impl Broken {
    /// Notes the refusal of `field`.
    pub(super) fn refuse(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push(invalid(field, problem));
    }

    /// The value of a step, or its refusal noted. Who goes on without the value must not need it for a further rule, else
    /// one mistake is told twice.
    pub(super) fn keep<T>(&mut self, step: Result<T, Rule>) -> Option<T> {
        step.map_err(|rule| self.0.push(rule)).ok()
    }

    /// All of them, if there is one.
    pub(super) fn into_rules(self) -> Vec<Rule> {
        self.0
    }
}
