//! The first member of the fixture's `KesCluster`: the real server, started on what the operator made for it.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use tokio::sync::oneshot;

use super::super::{
    cluster::keyring::{self, CERTIFICATE, PRIVATE_KEY, UNSEAL_KEY},
    fake_api::FakeApi,
};
use crate::{
    api::{API_PORT, message::Generation},
    audit::AuditLog,
    crypto::{Layout, seal},
    server::{Access, Options, Server, metrics},
    service::{Service, Setup},
    world::System,
};

const POD: &str = "/api/v1/namespaces/keys/pods/vault-0";
const SERVICE: &str = "/api/v1/namespaces/keys/services/vault";

/// Serves until it is dropped.
pub(crate) struct Member {
    api: FakeApi,
    address: IpAddr,
    _stop: oneshot::Sender<()>,
    _directory: tempfile::TempDir,
}

impl Member {
    /// Starts it with an empty volume, as Kubernetes would after the first pass: its pod runs and is ready, and its Service
    /// leads there.
    pub(crate) async fn start(api: &FakeApi) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let secret = |name: &str| -> Secret {
            let found = api.get(&format!("/api/v1/namespaces/keys/secrets/{name}"));
            serde_json::from_value(found.unwrap()).unwrap()
        };
        let server = secret("vault-server-tls");
        for name in [CERTIFICATE, PRIVATE_KEY] {
            std::fs::write(at(name), keyring::bytes(&server, name).unwrap()).unwrap();
        }
        std::fs::write(at("unseal"), keyring::bytes(&secret("vault-seal"), UNSEAL_KEY).unwrap()).unwrap();
        let service = Service::open(Setup {
            dir: at("data"),
            seal: Arc::new(seal::File::new(at("unseal"))),
            previous_seal: None,
            await_bootstrap: Some(keyring::client(&secret("vault-system-admin")).unwrap().identity().clone()),
            layout: Layout::Raw,
            cached_keys: 100,
            clock: Arc::new(System),
            random: Arc::new(System),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let options = Options {
            address: (super::address(), API_PORT).into(),
            health: None,
            certificate: at(CERTIFICATE),
            key: at(PRIVATE_KEY),
            password: None,
            service: service.await.unwrap(),
            audit: AuditLog::none(),
            metrics: metrics(),
            memory_locked: false,
            generation: Generation::default(),
            access: Access::default(),
            shutdown: Box::pin(async move { drop(stopped.await) }),
        };
        let server = Server::bind(options).await.unwrap();
        let address = server.address().unwrap().ip();
        tokio::spawn(server.serve());
        let member = Self { api: api.clone(), address, _stop: stop, _directory: directory };
        member.is_ready(true);
        api.serve_at(address);
        member.is_reached_at(address);
        member
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// From now on the kubelet says that its pod is ready, or not.
    pub(crate) fn is_ready(&self, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "vault-0", "namespace": "keys", "uid": "pod"},
            "status": {"podIP": self.address, "conditions": [{"type": "Ready", "status": status}],
                "containerStatuses": [{"name": "kes", "image": "", "imageID": "", "ready": ready, "restartCount": 0,
                    "state": {"running": {}}}]}});
        self.api.put(POD, pod);
    }

    /// From now on clients of its Service reach `address`.
    pub(crate) fn is_reached_at(&self, address: IpAddr) {
        let mut service = self.api.get(SERVICE).unwrap();
        service["spec"]["clusterIP"] = json!(address);
        self.api.put(SERVICE, service);
    }
}
