//! Whether log and records belong together: a directory that was put together from two, or of which one half is older
//! than the other, must not start. What the halves lack would be lost without a word.

/// Whose files these are: chosen at random when the directory was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// Id of the cluster.
    pub cluster: String,
    /// Id of the member.
    pub member: u64,
}

impl Owner {
    /// As it is written into both halves.
    pub(super) fn stamp(&self) -> String {
        format!("member {:016x} of cluster {}", self.member, self.cluster)
    }
}

/// Why the halves do not fit.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// One half is from another directory.
    #[error("'{part}' belongs to {found}, but the directory to {wanted}: it was put together from two")]
    Foreign {
        /// File or folder.
        part: &'static str,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// The log holds nothing, not even a vote.
    #[error("the log is empty, but the records hold changes that went through it")]
    LogLost,
    /// The log is older than the records.
    #[error("the log ends with change {last}, but the records hold change {applied}: the log is older")]
    LogBehind {
        /// Index of the last entry.
        last: u64,
        /// Index that the records reflect.
        applied: u64,
    },
    /// The records are older than the log, and what is between was purged.
    #[error(
        "the records end with change {applied}, but the log begins after change {purged}: they are older"
    )]
    RecordsBehind {
        /// Index that the records reflect; 0 for none.
        applied: u64,
        /// Index of the last purged entry.
        purged: u64,
    },
}

/// What both halves say at open.
#[derive(Clone, Debug, Default)]
pub(super) struct Halves {
    pub(super) log_stamp: Option<String>,
    pub(super) records_stamp: Option<String>,
    pub(super) has_voted: bool,
    pub(super) purged: Option<u64>,
    pub(super) last: Option<u64>,
    pub(super) applied: Option<u64>,
}

/// Checks what holds at every moment: entries are applied after they are in the log, and purged after they are in the
/// records. Halves without a stamp are new.
pub(super) fn check(owner: &Owner, halves: &Halves) -> Result<(), Mismatch> {
    let Halves { log_stamp, records_stamp, has_voted, purged, last, applied } = halves;
    let wanted = owner.stamp();
    for (part, stamp) in [(super::LOG_FILE, log_stamp), (super::RECORDS_DIR, records_stamp)] {
        if let Some(found) = stamp.as_ref().filter(|found| **found != wanted) {
            return Err(Mismatch::Foreign { part, found: found.clone(), wanted });
        }
    }
    match (applied, last.max(purged)) {
        (Some(_), None) if !has_voted => return Err(Mismatch::LogLost),
        (Some(applied), last) if Some(applied) > last.as_ref() => {
            return Err(Mismatch::LogBehind { last: last.unwrap_or(0), applied: *applied });
        }
        _ => {}
    }
    match purged {
        Some(purged) if *applied < Some(*purged) => {
            Err(Mismatch::RecordsBehind { applied: applied.unwrap_or(0), purged: *purged })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { cluster: "c1".into(), member: 7 }
    }

    fn whole() -> Halves {
        Halves {
            log_stamp: Some(owner().stamp()),
            records_stamp: Some(owner().stamp()),
            has_voted: true,
            purged: Some(10),
            last: Some(20),
            applied: Some(15),
        }
    }

    #[test]
    fn halves_that_fit_and_new_ones_are_accepted() {
        let fits = |halves: Halves| assert_eq!(check(&owner(), &halves), Ok(()), "{halves:?}");
        fits(whole());
        fits(Halves::default());
        fits(Halves { log_stamp: None, records_stamp: None, ..whole() });
        // everything that the records had is still in the log
        fits(Halves { applied: None, purged: None, ..whole() });
        // a follower that was given a snapshot
        fits(Halves { applied: Some(20), purged: Some(20), last: None, ..whole() });
        // a member that voted and has nothing yet
        fits(Halves { has_voted: true, ..Halves::default() });
    }

    #[test]
    fn halves_of_two_directories_or_two_moments_are_refused() {
        let refused = |halves: Halves, expected: &str| {
            let error = check(&owner(), &halves).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let other = Some(Owner { cluster: "c2".into(), member: 7 }.stamp());
        refused(
            Halves { log_stamp: other.clone(), ..whole() },
            "'log.redb' belongs to member 0000000000000007 of cluster c2",
        );
        refused(Halves { records_stamp: other, ..whole() }, "'records' belongs to");
        refused(Halves { applied: Some(4), ..Halves::default() }, "the log is empty");
        refused(Halves { applied: Some(21), ..whole() }, "the log ends with change 20");
        refused(Halves { applied: Some(9), ..whole() }, "the log begins after change 10");
        refused(Halves { applied: None, ..whole() }, "the records end with change 0");
    }
}
