//! Listings of what is on the volume, page by page from the ordered index, so that one of millions costs no more memory
//! than one of hundreds, and its last page no more time than its first.

use std::sync::Arc;

use super::{Error, Service, core::Core};
use crate::{
    api::{ApiError, EnclaveName, message::Matching},
    authz::Pattern,
    crypto::SealingKeys,
    store::{EnclaveId, Kind, RecordKey},
};

/// Most entries of a page.
const PAGE: usize = 256;
/// Most records that are looked at for a page, since a pattern may match few of many.
const LOOKS: usize = 4096;
/// Most bytes of records that are opened for a page; secrets may be large.
const BYTES: usize = 4 << 20;

/// How an entry is made of its record.
pub(super) struct Entries<T> {
    /// The kind of the records.
    pub(super) kind: Kind,
    /// Opens a record.
    pub(super) open: fn(&Core, &SealingKeys, &RecordKey, &[u8]) -> Result<T, Error>,
    /// The entry of a record that does not open: its name.
    pub(super) damaged: fn(&str) -> Option<T>,
}

/// A listing in progress. Entries that are made or removed meanwhile may or may not be in it; no name comes twice.
pub struct Pages<T> {
    service: Service,
    enclave: EnclaveName,
    /// Tells the enclave from a later one of the same name, whose names are none of the caller's business.
    id: EnclaveId,
    filter: Filter,
    after: Option<String>,
    is_over: bool,
    entries: Entries<T>,
}

impl<T> Pages<T> {
    /// Whoever calls has the caller's authorisation.
    pub(super) fn new(
        service: &Service,
        enclave: &EnclaveName,
        pattern: &str,
        entries: Entries<T>,
    ) -> Result<Self, Error> {
        Ok(Self {
            service: service.clone(),
            enclave: enclave.clone(),
            id: service.core()?.view.get(enclave)?.id,
            filter: Filter::parse(pattern)?,
            after: None,
            is_over: false,
            entries,
        })
    }

    /// Whether there is no further page.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next entries, perhaps none though more follow.
    fn page(&mut self, core: &Core) -> Result<Vec<T>, Error> {
        let enclave = core.view.get(&self.enclave)?;
        if enclave.id != self.id {
            return Err(ApiError::ENCLAVE_NOT_FOUND.into());
        }
        let (mut found, mut last) = (Vec::new(), None);
        let (mut looks, mut bytes, mut is_over) = (0, 0, true);
        let visit = |key: RecordKey, sealed: &[u8]| {
            if self.filter.matches(&key.name) {
                bytes += sealed.len();
                found.extend(self.entries.of(core, &enclave.secret, &key, sealed));
            }
            looks += 1;
            last = Some(key.name);
            is_over = found.len() < PAGE && looks < LOOKS && bytes < BYTES;
            is_over
        };
        let (prefix, after) = (self.filter.prefix(), self.after.as_deref());
        core.consensus.records().visit_after(self.entries.kind, enclave.id, prefix, after, visit)?;
        self.is_over = is_over;
        self.after = last;
        Ok(found)
    }
}

impl<T> Entries<T> {
    /// One damaged record must neither hide the others nor be hidden.
    fn of(&self, core: &Core, secret: &SealingKeys, key: &RecordKey, sealed: &[u8]) -> Option<T> {
        let Self { kind: _, open, damaged } = self;
        open(core, secret, key, sealed).map_or_else(
            |error| {
                tracing::error!(%error, "a record does not open; only its name is listed");
                damaged(&key.name)
            },
            Some,
        )
    }
}

impl<T> Iterator for Pages<T> {
    type Item = Result<Vec<T>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let page = self.service.core().and_then(|core: Arc<Core>| self.page(&core));
        self.is_over |= page.is_err();
        Some(page)
    }
}

/// Which names a listing shows.
pub(super) struct Filter {
    text: String,
    pattern: Pattern,
}

impl Filter {
    /// Empty or `*` means all; without `*` it is a prefix.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > crate::api::name::MAX_NAME_LEN {
            return Err(ApiError::PATTERN_TOO_LONG.into());
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*')) {
            return Err(ApiError::INVALID_PATTERN.into());
        }
        let text = if text.contains('*') { text.to_owned() } else { format!("{text}*") };
        let pattern = Pattern::parse(&text, Matching::Glob).map_err(|_| ApiError::INVALID_PATTERN)?;
        Ok(Self { text, pattern })
    }

    pub(super) fn prefix(&self) -> &str {
        self.text.split('*').next().unwrap_or_default()
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        self.pattern.matches(name)
    }
}
