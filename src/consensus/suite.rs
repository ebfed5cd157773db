//! openraft's own test-suite for storage, over our log and state machine.

use std::sync::Arc;

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use tokio::sync::mpsc;

use super::{
    log::Log,
    log_file,
    state::{Observer, StateMachine},
    types::TypeConfig,
};
use crate::store::{Change, Limits, Outcome, Records};

struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _change: &Change, _outcome: Outcome) {}
}

struct Builder;

impl StoreBuilder<TypeConfig, Log, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, path) = (dir.path().join("log.redb"), dir.path().join("records"));
        let records = Records::open(&path, Limits::default()).unwrap();
        let state = StateMachine::open(&path, records, Arc::new(Nobody), mpsc::channel(1).0).unwrap();
        log_file::create(&log).unwrap();
        Ok((dir, Log::open(Arc::new(log_file::File(log)), None).unwrap(), state))
    }
}

#[tokio::test]
async fn log_and_state_machine_keep_the_contract_of_openraft() {
    Suite::test_all(Builder).await.unwrap();
}
