//! The types that openraft is instantiated with.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::store::{Change, Outcome};

openraft::declare_raft_types!(
    /// Changes in, outcomes out.
    pub(crate) TypeConfig:
        D = Changes,
        R = Outcomes,
        NodeId = u64,
        Node = Member,
);

/// How a member is reached.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Member {
    /// `host:port` of its peer address; empty for a cluster of one.
    pub address: String,
}

/// The changes of one entry, in order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Changes(pub(crate) Vec<Change>);

/// One outcome for each change of the entry.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Outcomes(pub(crate) Vec<Outcome>);

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changes", self.0.len())
    }
}

pub(super) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(super) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(super) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(super) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(super) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
