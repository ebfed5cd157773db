//! Which differences are accepted, and why: `differences.yaml`.
//!
//! ```yaml
//! - peer: v0.22.3                 # or v0.23.0, or contract: what `contract.yaml` expects
//!   requests: ["encrypt *"]       # ids; `*` is any text
//!   status: [200, 403]            # theirs, ours
//!   message: ["", "not *"]        # one line for each aspect that may differ
//!   because: encrypt is authorised here
//! ```
//! Where the status differs only it and the message are looked at. Every aspect that differs needs an entry, and every part of an entry has to be needed: what no longer occurs is an error.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::answer::Answer;

#[derive(serde::Deserialize)]
struct Entry {
    peer: String,
    requests: Vec<String>,
    because: String,
    #[serde(flatten)]
    aspects: BTreeMap<String, (Text, Text)>,
}

/// Text that YAML may take for a number.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Text {
    Number(u64),
    Text(String),
}

impl Text {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// One entry, and which of its parts were needed.
struct Rule {
    file: &'static str,
    peer: String,
    because: String,
    requests: Vec<(String, Cell<bool>)>,
    /// Aspect, theirs, ours.
    aspects: Vec<(String, String, String, Cell<bool>)>,
}

/// All accepted differences.
pub(crate) struct Differences(Vec<Rule>);

impl Differences {
    pub(crate) fn load() -> Self {
        Self(rules("differences.yaml"))
    }

    /// Those aspects in which `ours` differs from `theirs` though no entry says so, as lines of a report.
    pub(crate) fn unlisted(
        &self,
        peer: &str,
        request: &str,
        theirs: &Answer,
        ours: &Answer,
    ) -> Option<String> {
        let mut report = String::new();
        // with another status everything else is another; the message says what it is about
        let follows = |aspect: &str| aspect != "status" && aspect != "message";
        let is_other = theirs.get("status") != ours.get("status");
        let aspects: BTreeSet<_> =
            theirs.keys().chain(ours.keys()).filter(|a| !is_other || !follows(a)).collect();
        for aspect in aspects {
            let text = |answer: &Answer| answer.get(aspect).cloned().unwrap_or_default();
            let (theirs, ours) = (text(theirs), text(ours));
            if theirs != ours && !self.accept(peer, request, aspect, &theirs, &ours) {
                let _ = writeln!(report, "    {aspect}: [{theirs:?}, {ours:?}]");
            }
        }
        (!report.is_empty()).then(|| format!("  {request} ({peer})\n{report}"))
    }

    fn accept(&self, peer: &str, request: &str, aspect: &str, theirs: &str, ours: &str) -> bool {
        let mut accepted = false;
        for rule in self.0.iter().filter(|rule| rule.peer == peer) {
            let named = rule.requests.iter().filter(|(pattern, _)| glob(pattern, request));
            let said = rule
                .aspects
                .iter()
                .filter(|(name, t, o, _)| name == aspect && glob(t, theirs) && glob(o, ours));
            for (_, _, _, used) in said {
                for (_, matched) in named.clone() {
                    used.set(true);
                    matched.set(true);
                    accepted = true;
                }
            }
        }
        accepted
    }

    /// Parts of entries that nothing needed, as lines of a report.
    pub(crate) fn stale(&self) -> Vec<String> {
        let mut stale = Vec::new();
        for Rule { file, peer, because, requests, aspects } in &self.0 {
            for (pattern, _) in requests.iter().filter(|(_, used)| !used.get()) {
                stale.push(format!("  {file}: {peer} '{because}': no difference in '{pattern}'"));
            }
            for (name, theirs, ours, _) in aspects.iter().filter(|(.., used)| !used.get()) {
                stale.push(format!("  {file}: {peer} '{because}': no {name}: [{theirs:?}, {ours:?}]"));
            }
        }
        stale
    }
}

fn rules(file: &'static str) -> Vec<Rule> {
    let entries: Vec<Entry> = serde_saphyr::from_str(&fs::read_to_string(path(file)).unwrap())
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    let rule = |Entry { peer, requests, because, aspects }| Rule {
        file,
        peer,
        because,
        requests: requests.into_iter().map(|pattern| (pattern, Cell::new(false))).collect(),
        aspects: aspects
            .into_iter()
            .map(|(name, (theirs, ours))| (name, theirs.text(), ours.text(), Cell::new(false)))
            .collect(),
    };
    entries.into_iter().map(rule).collect()
}

/// What the contract expects of requests that neither peer knows.
#[derive(serde::Deserialize)]
struct Expectation {
    requests: Vec<String>,
    #[serde(flatten)]
    aspects: BTreeMap<String, Text>,
}

/// A request, and whether it was asked.
type Asked = (String, Cell<bool>);

/// `contract.yaml`: requests, and the aspects of their answers that the contract says.
pub(crate) struct Contract(Vec<(Vec<Asked>, Answer)>);

impl Contract {
    pub(crate) fn load() -> Self {
        let entries: Vec<Expectation> =
            serde_saphyr::from_str(&fs::read_to_string(path("contract.yaml")).unwrap())
                .unwrap_or_else(|error| panic!("contract.yaml: {error}"));
        let one = |Expectation { requests, aspects }: Expectation| {
            let aspects = aspects.into_iter().map(|(name, text)| (&*name.leak(), text.text())).collect();
            (requests.into_iter().map(|pattern| (pattern, Cell::new(false))).collect(), aspects)
        };
        Self(entries.into_iter().map(one).collect())
    }

    /// What the contract says of `request`: the first entry that names it.
    pub(crate) fn expected(&self, request: &str) -> Option<&Answer> {
        self.0.iter().find_map(|(patterns, answer)| {
            let (_, used) = patterns.iter().find(|(pattern, _)| glob(pattern, request))?;
            used.set(true);
            Some(answer)
        })
    }

    /// Patterns that name no request.
    pub(crate) fn stale(&self) -> impl Iterator<Item = String> {
        let patterns = self.0.iter().flat_map(|(patterns, _)| patterns).filter(|(_, used)| !used.get());
        patterns.map(|(pattern, _)| format!("  contract.yaml: no request is called '{pattern}'"))
    }
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire").join(file)
}

/// Whether `text` is as `pattern` says, in which `*` is any text.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
