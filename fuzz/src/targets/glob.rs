//! Go's `path.Match`, written a second time and in another way: as a table over all positions.

/// One element of a pattern.
enum Element {
    One(char),
    Any,
    Run,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// Whether the whole of `path` matches `pattern`; `None` when the pattern is malformed.
pub(super) fn matches(pattern: &str, path: &str) -> Option<bool> {
    let elements = parse(&mut pattern.chars().collect::<Vec<_>>().into_iter().peekable())?;
    let path: Vec<char> = path.chars().collect();
    // reachable[i]: the elements so far can match exactly the first i characters
    let mut reachable = vec![false; path.len() + 1];
    reachable[0] = true;
    for element in &elements {
        let mut next = vec![false; path.len() + 1];
        for (at, from) in reachable.iter().enumerate() {
            if !from {
                continue;
            }
            match element {
                Element::Run => {
                    next[at] = true;
                    for (steps, _) in path[at..].iter().take_while(|c| **c != '/').enumerate() {
                        next[at + steps + 1] = true;
                    }
                }
                one => {
                    if path.get(at).is_some_and(|c| one.takes(*c)) {
                        next[at + 1] = true;
                    }
                }
            }
        }
        reachable = next;
    }
    reachable.last().copied()
}

/// Whether `pattern` has a class that takes a slash. Go gives each `*` but the last the shortest run with which what follows
/// it fits, and never comes back to it; that finds every match as long as slashes can only meet slashes. Where a class takes
/// one, Go finds fewer than this table.
pub(super) fn meets_slash(pattern: &str) -> bool {
    let elements = parse(&mut pattern.chars().collect::<Vec<_>>().into_iter().peekable()).unwrap_or_default();
    elements.iter().any(|element| matches!(element, Element::Class { .. }) && element.takes('/'))
}

impl Element {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::One(one) => *one == c,
            Self::Any => c != '/',
            Self::Run => false,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| *low <= c && c <= *high) != *negated
            }
        }
    }
}

type Chars = std::iter::Peekable<std::vec::IntoIter<char>>;

fn parse(chars: &mut Chars) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    while let Some(c) = chars.next() {
        elements.push(match c {
            '*' => Element::Run,
            '?' => Element::Any,
            '\\' => Element::One(chars.next()?),
            '[' => class(chars)?,
            c => Element::One(c),
        });
    }
    Some(elements)
}

fn class(chars: &mut Chars) -> Option<Element> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Element::Class { negated, ranges });
        }
        let low = bound(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { bound(chars)? } else { low };
        ranges.push((low, high));
    }
}

/// One end of a range: `-` and `]` only behind a backslash.
fn bound(chars: &mut Chars) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}
