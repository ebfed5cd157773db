//! Patterns of paths with the meaning of Go's `path.Match`, which KES v0.22.3 policies have (contract §3.2).
//!
//! | Pattern | Matches |
//! |---|---|
//! | `*` | any run of characters without `/`, also none |
//! | `?` | one character other than `/` |
//! | `[a-z]`, `[^a-z]` | one character in, or not in, the ranges; also `/` |
//! | `\c` | the character `c` |
//! | other | itself |
//!
//! A pattern matches the whole path or nothing. The difference from Go: a malformed pattern is an error when it is
//! parsed, where Go, and so KES, lets it silently never match, also in a deny list.
//!
//! Later KES knows only a `*` at the end, which matches any rest, also beyond `/`; all else is literal. A policy asks for
//! that meaning explicitly ([`Matching::Prefix`]), and then a `*` elsewhere is an error, where KES lets it silently never
//! match.

use crate::api::message::Matching;

/// A parsed pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern(Form);

/// The two forms that nearly all policies use are compared without a loop over tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Form {
    /// No wildcard.
    Exact(Box<str>),
    /// One `*`, at the end.
    Prefix(Box<str>),
    /// One `*`, at the end, that also matches `/`.
    Rest(Box<str>),
    Glob(Box<[Token]>),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Literal(Box<str>),
    AnyOne,
    AnyRun,
    Class { negated: bool, ranges: Box<[(char, char)]> },
}

/// Where and why a pattern is malformed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("pattern '{pattern}' is malformed at byte {position}: {flaw}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// Bytes before the flaw.
    pub position: usize,
    /// What is wrong there.
    pub flaw: Flaw,
}

/// What can be wrong with a pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// `[` without its `]`.
    #[error("'[' is never closed")]
    OpenClass,
    /// `[]` or `[^]`.
    #[error("'[]' holds no character; write '\\]' for the bracket itself")]
    EmptyClass,
    /// `[-a]`, `[a-]` or `[a-b-c]`.
    #[error("'-' stands where a character must be; write '\\-' for the hyphen itself")]
    LooseHyphen,
    /// A `\` with nothing after it.
    #[error("'\\' escapes nothing")]
    LooseEscape,
    /// A `*` before the end of a prefix pattern.
    #[error("'*' is only allowed at the end of a pattern that matches by prefix")]
    InnerStar,
}

impl Pattern {
    /// Parses `text`, which means what `matching` says.
    ///
    /// # Errors
    /// The first flaw and its position.
    pub fn parse(text: &str, matching: Matching) -> Result<Self, PatternError> {
        match matching {
            Matching::Glob => Self::glob(text),
            Matching::Prefix => Self::prefix(text),
        }
        .map_err(|(position, flaw)| PatternError { pattern: text.into(), position, flaw })
    }

    fn prefix(text: &str) -> Parsed<Self> {
        let (literal, is_open) = text.strip_suffix('*').map_or((text, false), |literal| (literal, true));
        if let Some(position) = literal.find('*') {
            return Err((position, Flaw::InnerStar));
        }
        Ok(Self(if is_open { Form::Rest(literal.into()) } else { Form::Exact(literal.into()) }))
    }

    fn glob(text: &str) -> Parsed<Self> {
        let tokens = Parser { text, at: 0 }.tokens()?;
        Ok(Self(match &*tokens {
            [] => Form::Exact("".into()),
            [Token::Literal(text)] => Form::Exact(text.clone()),
            [Token::AnyRun] => Form::Prefix("".into()),
            [Token::Literal(text), Token::AnyRun] => Form::Prefix(text.clone()),
            _ => Form::Glob(tokens.into()),
        }))
    }

    /// Whether the whole of `path` matches. Takes time in the product of both lengths at worst; does not allocate.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match &self.0 {
            Form::Exact(text) => **text == *path,
            Form::Rest(text) => path.starts_with(&**text),
            Form::Prefix(text) => path.strip_prefix(&**text).is_some_and(|rest| !rest.contains('/')),
            Form::Glob(tokens) => matches(tokens, path),
        }
    }
}

/// Leftmost matching with one point of return: a later `*` makes earlier ones final, as in Go.
fn matches(tokens: &[Token], path: &str) -> bool {
    let (mut token, mut rest) = (0, path);
    let mut retry: Option<(usize, &str)> = None;
    loop {
        match tokens.get(token) {
            Some(Token::AnyRun) => {
                token += 1;
                retry = Some((token, rest));
                continue;
            }
            Some(one) => {
                if let Some(after) = one.strip(rest) {
                    (token, rest) = (token + 1, after);
                    continue;
                }
            }
            None if rest.is_empty() => return true,
            None => {}
        }
        // the last run takes one character more, unless that is a slash
        let Some((after_run, from)) = retry else { return false };
        let mut chars = from.chars();
        match chars.next() {
            None | Some('/') => return false,
            Some(_) => {}
        }
        (token, rest) = (after_run, chars.as_str());
        retry = Some((token, rest));
    }
}

impl Token {
    /// `path` after what this token matches; [`Token::AnyRun`] matches nothing here.
    fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut chars = path.chars();
        match self {
            Self::Literal(text) => path.strip_prefix(&**text),
            Self::AnyOne => chars.next().filter(|c| *c != '/').map(|_| chars.as_str()),
            Self::Class { negated, ranges } => chars
                .next()
                .filter(|c| ranges.iter().any(|(low, high)| (low..=high).contains(&c)) != *negated)
                .map(|_| chars.as_str()),
            Self::AnyRun => Some(path),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

type Parsed<T> = Result<T, (usize, Flaw)>;

impl Parser<'_> {
    fn tokens(mut self) -> Parsed<Vec<Token>> {
        let mut tokens = Vec::new();
        let mut literal = String::new();
        while let Some(c) = self.next() {
            let token = match c {
                '*' => Token::AnyRun,
                '?' => Token::AnyOne,
                '[' => self.class()?,
                '\\' => {
                    literal.push(self.next().ok_or((self.at - 1, Flaw::LooseEscape))?);
                    continue;
                }
                c => {
                    literal.push(c);
                    continue;
                }
            };
            if !literal.is_empty() {
                tokens.push(Token::Literal(std::mem::take(&mut literal).into()));
            }
            // a run of stars is one star
            if token != Token::AnyRun || tokens.last() != Some(&Token::AnyRun) {
                tokens.push(token);
            }
        }
        if !literal.is_empty() {
            tokens.push(Token::Literal(literal.into()));
        }
        Ok(tokens)
    }

    fn class(&mut self) -> Parsed<Token> {
        let open = self.at - 1;
        let negated = self.skip('^');
        let mut ranges = Vec::new();
        while ranges.is_empty() || !self.skip(']') {
            let low = self.class_char(open)?;
            let high = if self.skip('-') { self.class_char(open)? } else { low };
            ranges.push((low, high));
        }
        Ok(Token::Class { negated, ranges: ranges.into() })
    }

    fn class_char(&mut self, open: usize) -> Parsed<char> {
        let at = self.at;
        match self.next().ok_or((open, Flaw::OpenClass))? {
            '-' => Err((at, Flaw::LooseHyphen)),
            ']' if self.text[..at].ends_with('-') => Err((at - 1, Flaw::LooseHyphen)),
            ']' => Err((open, Flaw::EmptyClass)),
            '\\' => self.next().ok_or((at, Flaw::LooseEscape)),
            c => Ok(c),
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.text[self.at..].chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip(&mut self, c: char) -> bool {
        let found = self.text[self.at..].starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Result<Pattern, PatternError> {
        Pattern::parse(text, Matching::Glob)
    }

    #[test]
    fn a_prefix_pattern_means_what_it_means_to_later_kes() {
        let prefix = |text| Pattern::parse(text, Matching::Prefix);
        for (pattern, path, want) in [
            ("/v1/*", "/v1/status", true),
            ("/v1/*", "/v1/key/describe/x", true),
            ("/v1/*", "/v1/", true),
            ("/v1/*", "/v2/", false),
            ("/v1/key/create/my-*", "/v1/key/create/my-", true),
            ("/v1/key/create/my-*", "/v1/key/create/your-", false),
            ("*", "/anything/at/all", true),
            ("/v1/status", "/v1/status", true),
            ("/v1/status", "/v1/status/", false),
            ("/v1/statu?", "/v1/status", false),
            ("/v1/[s]tatus", "/v1/status", false),
            ("", "/v1/status", false),
        ] {
            assert_eq!(prefix(pattern).unwrap().matches(path), want, "{pattern:?} on {path:?}");
        }
        for (pattern, position) in [("/v1/*/x", 4), ("**", 0), ("/v1/key/*/*", 8)] {
            let error = prefix(pattern).unwrap_err();
            assert_eq!((error.position, error.flaw), (position, Flaw::InnerStar), "{pattern}");
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_to_go() {
        for (pattern, path, want) in [
            // literals
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("", "", true),
            ("", "a", false),
            ("]-^", "]-^", true),
            // runs stay within one element
            ("*", "abc", true),
            ("*", "", true),
            ("*", "a/b", false),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("a***c", "abbc", true),
            ("*x", "xxx", true),
            ("*ab", "aaab", true),
            // one character
            ("a?b", "axb", true),
            ("a?b", "ab", false),
            ("a?b", "a/b", false),
            ("a?b", "a☺b", true),
            ("a???b", "a☺b", false),
            // classes
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a[^a]b", "a☺b", true),
            ("a[^a][^a][^a]b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[a-c-]", "", false),
            ("a[^b]c", "a/c", true),
            ("a[/]c", "a/c", true),
            ("[z-a]", "m", false),
            // an earlier run is final once what follows it fits, also where a class could have met the slash later
            ("a*[^b]*", "axx/c", false),
            ("a*[^b]c", "axx/c", true),
            ("[*]", "*", true),
            ("[*]", "a", false),
            ("[[]*]", "[abc]", true),
            ("[?]", "?", true),
            // escapes
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a\\\\b", "a\\b", true),
            ("\\a", "a", true),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "-", true),
            ("[\\-x]", "a", false),
            // what policies really hold
            ("/v1/*", "/v1/status", true),
            ("/v1/*", "/v1/key/describe/x", false),
            ("/v1/key/*/app-?", "/v1/key/create/app-1", true),
            ("/v1/key/*/app-?", "/v1/key/create/app-12", false),
            ("/v1/key/[cg]*/app-*", "/v1/key/generate/app-12", true),
            ("/v1/key/describe/app-1", "/v1/key/describe/app-1 ", false),
        ] {
            if pattern == "[a-c-]" {
                assert!(glob(pattern).is_err());
                continue;
            }
            assert_eq!(glob(pattern).unwrap().matches(path), want, "{pattern:?} on {path:?}");
        }
    }

    #[test]
    fn a_malformed_pattern_is_refused_with_its_position() {
        for (pattern, position, flaw) in [
            ("[", 0, Flaw::OpenClass),
            ("[^", 0, Flaw::OpenClass),
            ("ab[c", 2, Flaw::OpenClass),
            ("a[b-", 1, Flaw::OpenClass),
            ("[^bc", 0, Flaw::OpenClass),
            ("[]a]", 0, Flaw::EmptyClass),
            ("x[]", 1, Flaw::EmptyClass),
            ("[^]a]", 0, Flaw::EmptyClass),
            ("[-]", 1, Flaw::LooseHyphen),
            ("[-x]", 1, Flaw::LooseHyphen),
            ("[x-]", 2, Flaw::LooseHyphen),
            ("[a-b-c]", 4, Flaw::LooseHyphen),
            ("/v1/key/☺[x-]", 13, Flaw::LooseHyphen),
            ("a\\", 1, Flaw::LooseEscape),
            ("[\\", 1, Flaw::LooseEscape),
            ("*a[", 2, Flaw::OpenClass),
        ] {
            let error = glob(pattern).unwrap_err();
            assert_eq!((error.position, error.flaw), (position, flaw), "{pattern:?}");
        }
        assert_eq!(
            glob("/v1/[").unwrap_err().to_string(),
            "pattern '/v1/[' is malformed at byte 4: '[' is never closed"
        );
    }

    #[test]
    fn common_patterns_take_the_fast_forms() {
        for (pattern, fast) in
            [("/v1/status", true), ("/v1/key/create/*", true), ("*", true), ("/v1/*/x", false)]
        {
            assert_eq!(!matches!(glob(pattern).unwrap().0, Form::Glob(_)), fast, "{pattern}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_the_product_of_lengths() {
        let pattern = glob(&("*a".repeat(40) + "b")).unwrap();
        assert!(!pattern.matches(&"a".repeat(4000)));
    }
}
