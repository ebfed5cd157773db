//! Enclaves: made, described and removed by the system admin, who has no rights inside them.

use super::{
    Error, Service,
    listing::Filter,
    record::{EnclaveBody, EnclaveKey},
};
use crate::{
    api::{ApiError, EnclaveName, Identity, message},
    authz::{Authorized, action},
    store::{Change, EnclaveId, Kind, RecordKey},
    world::Random,
};

impl Service {
    /// Makes an enclave with a key of its own and `admin` as its admin.
    ///
    /// # Errors
    /// [`ApiError::ENCLAVE_EXISTS`], [`ApiError::ADMIN_IS_SYSTEM_ADMIN`], or the change could not be made.
    pub async fn create_enclave(
        &self,
        proof: &Authorized<'_, action::CreateEnclave>,
        name: &EnclaveName,
        admin: &Identity,
    ) -> Result<(), Error> {
        let core = self.core()?;
        if *admin == core.system_admin {
            return Err(ApiError::ADMIN_IS_SYSTEM_ADMIN.into());
        }
        let key = RecordKey::of_cluster(Kind::Enclave, name.as_str());
        let body = new_enclave(admin, proof.identity(), core.clock.now(), &*core.random);
        let value = core.sealer().seal_body(&core.root.load(), &key, &body, &*core.random)?;
        let change = Change::CreateEnclave { name: key.name, id: body.id, value };
        core.propose(change, ApiError::ENCLAVE_EXISTS, ApiError::ENCLAVE_NOT_FOUND).await
    }

    /// When and by whom an enclave was made.
    ///
    /// # Errors
    /// [`ApiError::ENCLAVE_NOT_FOUND`].
    pub fn describe_enclave(
        &self,
        _proof: &Authorized<'_, action::DescribeEnclave>,
        name: &EnclaveName,
    ) -> Result<message::EnclaveInfo, Error> {
        self.core()?.view.with(name, |enclave| message::EnclaveInfo {
            name: name.clone(),
            created_at: enclave.created_at,
            created_by: enclave.created_by.to_string(),
        })
    }

    /// Enclaves whose names match `pattern`, by name.
    ///
    /// # Errors
    /// When the pattern is malformed.
    pub fn list_enclaves(
        &self,
        _proof: &Authorized<'_, action::ListEnclaves>,
        pattern: &str,
    ) -> Result<Vec<message::EnclaveInfo>, Error> {
        let filter = Filter::parse(pattern)?;
        let mut found = self.core()?.view.all(|name, enclave| {
            filter.matches(name.as_str()).then(|| message::EnclaveInfo {
                name: name.clone(),
                created_at: enclave.created_at,
                created_by: enclave.created_by.to_string(),
            })
        });
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Removes an enclave with all its keys: nothing encrypted under them can be read again. One that does not exist is
    /// removed already, as in KES.
    ///
    /// # Errors
    /// When the change could not be made.
    pub async fn delete_enclave(
        &self,
        _proof: &Authorized<'_, action::DeleteEnclave>,
        name: &EnclaveName,
    ) -> Result<(), Error> {
        let core = self.core()?;
        let id = match core.view.with(name, |enclave| enclave.id) {
            Err(Error::Refused(refused)) if refused == ApiError::ENCLAVE_NOT_FOUND => return Ok(()),
            found => found?,
        };
        let change = Change::DeleteEnclave { name: name.to_string(), id };
        match core.propose(change, ApiError::ENCLAVE_EXISTS, ApiError::ENCLAVE_NOT_FOUND).await {
            Err(Error::Refused(refused)) if refused == ApiError::ENCLAVE_NOT_FOUND => Ok(()),
            done => done,
        }
    }
}

pub(super) fn new_enclave(
    admin: &Identity,
    by: &Identity,
    now: jiff::Timestamp,
    random: &dyn Random,
) -> EnclaveBody {
    let mut id = [0; 8];
    random.fill(&mut id);
    EnclaveBody {
        id: EnclaveId::from_random(id),
        keys: vec![EnclaveKey::generate(1, random)],
        admin: admin.clone(),
        created_at: now,
        created_by: by.clone(),
    }
}
