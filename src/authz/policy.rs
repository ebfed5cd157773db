//! A policy, compiled once when it is written or loaded, and consulted for every request.

use std::fmt;

use super::pattern::{Pattern, PatternError};
use crate::api::{
    ApiError, Fault,
    message::{self, Matching},
};

/// Patterns of paths that are permitted and refused.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
}

/// One of the two lists of a policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum List {
    /// What is permitted.
    Allow,
    /// What is refused, whatever is permitted.
    Deny,
}

/// The first malformed pattern of a policy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid policy: {list}[{index}]: {error}")]
pub struct PolicyError {
    /// The list that it is in.
    pub list: List,
    /// Its index there, from 0.
    pub index: usize,
    /// What is wrong with it.
    #[source]
    pub error: PatternError,
}

/// What a policy says of a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The allow pattern of this index matches and no deny pattern does.
    Allow(usize),
    /// The deny pattern of this index matches, or (`None`) no pattern matches.
    Deny(Option<usize>),
}

impl Policy {
    /// The policy that permits nothing.
    pub const EMPTY: Self = Self { allow: Vec::new(), deny: Vec::new() };

    /// Compiles a policy as it is stored and sent.
    ///
    /// # Errors
    /// The first malformed pattern; KES accepts those, and lets them never match.
    pub fn compile(policy: &message::Policy) -> Result<Self, PolicyError> {
        let message::Policy { allow, deny, matching } = policy;
        let compile = |list, texts: &[String]| compile(list, texts, *matching);
        Ok(Self { allow: compile(List::Allow, allow)?, deny: compile(List::Deny, deny)? })
    }

    /// Decides about `path`: deny wins over allow, and what is not allowed is denied.
    #[must_use]
    pub fn decide(&self, path: &str) -> Decision {
        let first = |list: &[Pattern]| list.iter().position(|pattern| pattern.matches(path));
        if let Some(index) = first(&self.deny) {
            return Decision::Deny(Some(index));
        }
        first(&self.allow).map_or(Decision::Deny(None), Decision::Allow)
    }
}

fn compile(list: List, texts: &[String], matching: Matching) -> Result<Vec<Pattern>, PolicyError> {
    texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            Pattern::parse(text, matching).map_err(|error| PolicyError { list, index, error })
        })
        .collect()
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

impl From<PolicyError> for ApiError {
    fn from(error: PolicyError) -> Self {
        Self::new(Fault::BadRequest, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> message::Policy {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        message::Policy { allow: texts(allow), deny: texts(deny), matching: Matching::Glob }
    }

    #[test]
    fn deny_wins_and_the_deciding_rule_is_named() {
        let policy = Policy::compile(&policy(
            &["/v1/key/create/*", "/v1/key/*/app-1"],
            &["/v1/key/delete/*", "/v1/key/*/internal"],
        ))
        .unwrap();
        for (path, want) in [
            ("/v1/key/create/x", Decision::Allow(0)),
            ("/v1/key/decrypt/app-1", Decision::Allow(1)),
            ("/v1/key/delete/app-1", Decision::Deny(Some(0))),
            ("/v1/key/create/internal", Decision::Deny(Some(1))),
            ("/v1/status", Decision::Deny(None)),
        ] {
            assert_eq!(policy.decide(path), want, "{path}");
        }
        assert_eq!(Policy::EMPTY.decide("/v1/status"), Decision::Deny(None));
    }

    #[test]
    fn a_policy_that_matches_by_prefix_reaches_beyond_slashes_and_only_then() {
        let globs = policy(&["/v1/*"], &["/v1/key/delete/*"]);
        let prefixes = message::Policy { matching: Matching::Prefix, ..globs.clone() };
        let decide = |policy, path| Policy::compile(policy).unwrap().decide(path);
        assert_eq!(decide(&globs, "/v1/key/create/x"), Decision::Deny(None));
        assert_eq!(decide(&prefixes, "/v1/key/create/x"), Decision::Allow(0));
        assert_eq!(decide(&prefixes, "/v1/key/delete/x"), Decision::Deny(Some(0)));
    }

    #[test]
    fn a_malformed_pattern_is_refused_when_it_is_written() {
        let error = Policy::compile(&policy(&["/v1/*"], &["/v1/status", "/v1/key/["])).unwrap_err();
        assert_eq!(
            ApiError::from(error).message(),
            "invalid policy: deny[1]: pattern '/v1/key/[' is malformed at byte 8: '[' is never closed"
        );
    }
}
