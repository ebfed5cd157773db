//! openraft's own test-suite for storage, over our log and state machine.

use std::sync::Arc;

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use super::{
    log::Log,
    state::{Observer, StateMachine},
    types::TypeConfig,
};
use crate::store::{Change, Outcome, Records};

struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _change: &Change, _outcome: Outcome) {}
}

struct Builder;

impl StoreBuilder<TypeConfig, Log, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&dir.path().join("log.redb")).unwrap();
        let records = Records::open(&dir.path().join("records")).unwrap();
        Ok((dir, log, StateMachine::open(records, Arc::new(Nobody)).unwrap()))
    }
}

#[tokio::test]
async fn log_and_state_machine_keep_the_contract_of_openraft() {
    Suite::test_all(Builder).await.unwrap();
}
