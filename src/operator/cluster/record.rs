//! What must be remembered in the status, written with optimistic locking, and only when it changed.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};

use super::{
    finalizer,
    keyring::{self, Keyring},
    wanted::Wanted,
};
use crate::{
    crd::{
        Bootstrap, BootstrapPhase, EnclaveContents, IssuedSecret, KesCluster, KesClusterStatus, TenantStatus,
    },
    operator::names,
};

/// Attempts at a report while somebody keeps changing the resource.
const REPORTS: u32 = 5;

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Why the record was not read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to read the KesCluster: {0}")]
    Read(#[source] kube::Error),
    #[error("failed to write the status: {0}")]
    Write(#[source] kube::Error),
    #[error("failed to write the finalizer or the annotations: {0}")]
    Metadata(#[source] kube::Error),
}

/// A `KesCluster` as it is at the API server.
pub(crate) struct Record {
    api: Api<KesCluster>,
    cluster: KesCluster,
    /// As it was at the beginning of the pass.
    reported: KesClusterStatus,
}

impl Record {
    /// Reads the cluster; nothing when it is gone, or going without waiting for us.
    pub(crate) async fn read(client: &Client, trigger: &KesCluster) -> Result<Option<Self>, Error> {
        let api: Api<KesCluster> = Api::namespaced(client.clone(), &trigger.namespace().unwrap_or_default());
        let cluster = api.get_opt(&trigger.name_any()).await.map_err(Error::Read)?;
        let stays = |cluster: &KesCluster| {
            cluster.metadata.deletion_timestamp.is_none() || finalizer::is_set(cluster)
        };
        Ok(cluster.filter(stays).map(|cluster| {
            let reported = cluster.status.clone().unwrap_or_default();
            Self { api, cluster: KesCluster { status: Some(reported.clone()), ..cluster }, reported }
        }))
    }

    pub(crate) fn cluster(&self) -> &KesCluster {
        &self.cluster
    }

    /// The status as it stands now.
    pub(crate) fn status(&self) -> &KesClusterStatus {
        self.cluster.status.as_ref().unwrap_or(&self.reported)
    }

    /// The status as it was at the beginning of the pass.
    pub(crate) fn reported(&self) -> &KesClusterStatus {
        &self.reported
    }

    /// Remembers the fingerprint of each Secret that must never be replaced. What was remembered stays, also when
    /// the spec no longer asks for it.
    pub(crate) async fn remember_secrets(&mut self, wanted: &Wanted, ring: &Keyring) -> Result<(), Error> {
        let mut status = self.status().clone();
        for (purpose, secret) in ring.iter().filter(|(purpose, _)| !purpose.is_replaceable()) {
            let name = purpose.secret(&wanted.name);
            if status.secrets.iter().any(|known| known.name == name) {
                continue;
            }
            // one that cannot be read was refused by `plan`
            if let Ok(fingerprint) = keyring::fingerprint(purpose, secret) {
                status.secrets.push(IssuedSecret { name, fingerprint });
            }
        }
        status.secrets.sort();
        self.write(status).await
    }

    /// Notes what a Tenant is about to get. Whoever changed the spec meanwhile may have taken that tenant out of it, and
    /// then nothing is noted, and an error.
    pub(crate) async fn intend(&mut self, tenant: TenantStatus) -> Result<(), Error> {
        let mut status = self.status().clone();
        let same =
            |known: &&mut TenantStatus| (&known.namespace, &known.name) == (&tenant.namespace, &tenant.name);
        match status.tenants.iter_mut().find(same) {
            Some(known) => *known = tenant,
            None => status.tenants.push(tenant),
        }
        self.write(status).await
    }

    /// Whether somebody asked for its deletion, which waits for us.
    pub(crate) fn is_deleting(&self) -> bool {
        self.cluster.metadata.deletion_timestamp.is_some()
    }

    /// Changes the metadata, guarded by the version that was read.
    pub(crate) async fn patch_metadata(&mut self, patch: serde_json::Value) -> Result<(), Error> {
        let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
        let changed = self.api.patch(&self.cluster.name_any(), &params, &Patch::Merge(patch)).await;
        let changed = changed.map_err(Error::Metadata)?;
        // what this pass has put into the status so far was written already
        self.cluster.metadata = changed.metadata;
        Ok(())
    }

    pub(crate) async fn bootstrap_started(&mut self, id: &str) -> Result<(), Error> {
        let record = Bootstrap { cluster_id: id.into(), phase: BootstrapPhase::Started, completed_at: None };
        self.write(KesClusterStatus { bootstrap: Some(record), ..self.status().clone() }).await
    }

    /// Notes what must be there, so that what is not counts as lost.
    pub(crate) async fn expect(&mut self, contents: Vec<EnclaveContents>) -> Result<(), Error> {
        self.write(KesClusterStatus { contents, ..self.status().clone() }).await
    }

    pub(crate) async fn bootstrap_completed(&mut self, id: &str, now: Timestamp) -> Result<(), Error> {
        let record = Bootstrap {
            cluster_id: id.into(),
            phase: BootstrapPhase::Completed,
            completed_at: Some(Time(now)),
        };
        self.write(KesClusterStatus { bootstrap: Some(record), ..self.status().clone() }).await
    }

    /// Writes what a pass came to. Unlike a decision this must not be lost because a person changed the spec or an
    /// annotation meanwhile: it says what was put into Tenants. Only another writer of the status is an error.
    pub(crate) async fn report(&mut self, status: KesClusterStatus) -> Result<(), Error> {
        let mut tries = REPORTS;
        loop {
            let failed = match self.write(status.clone()).await {
                Err(Error::Write(error)) if is_conflict(&error) && tries > 0 => error,
                answer => return answer,
            };
            tries -= 1;
            let Some(live) = self.api.get_opt(&self.cluster.name_any()).await.map_err(Error::Read)? else {
                return Err(Error::Write(failed));
            };
            let same = live.metadata.uid == self.cluster.metadata.uid
                && live.status.clone().unwrap_or_default() == *self.status();
            if !same {
                return Err(Error::Write(failed));
            }
            self.cluster.metadata = live.metadata;
        }
    }

    /// Writes `status` if it differs. A concurrent change is an error, so that nothing is decided on old knowledge.
    pub(crate) async fn write(&mut self, status: KesClusterStatus) -> Result<(), Error> {
        if *self.status() == status {
            return Ok(());
        }
        let wanted = KesCluster { status: Some(status), ..self.cluster.clone() };
        let params = PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() };
        self.cluster = self
            .api
            .replace_status(&self.cluster.name_any(), &params, &wanted)
            .await
            .map_err(Error::Write)?;
        Ok(())
    }
}
