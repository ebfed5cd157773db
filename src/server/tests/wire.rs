//! Endless answers on real connections, with the real client.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    api::{KeyName, message::Generation},
    audit::AuditLog,
    client::{Client, Config, Trust},
    crypto::{Layout, seal},
    pki::{ClientIdentity, SelfSigned, Usage, self_signed, self_signed_client},
    server::{Access, Options, Server, metrics},
    service::{
        CACHED_KEYS, Service, Setup,
        bootstrap::{self, EnclavePlan, Plan},
    },
    world::System,
};

const PATIENCE: Duration = Duration::from_secs(10);

struct Wire {
    address: std::net::SocketAddr,
    audit: AuditLog,
    admin: (String, String),
    directory: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Wire {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("unseal"), "dzbJd+OH71qeASPi7FUrNu7LKHhLl06Ylpu0V8gfBPg=").unwrap();
        let pair = self_signed(&SelfSigned {
            common_name: "server".into(),
            dns: vec!["localhost".into()],
            ip: vec![],
            validity: Duration::from_secs(3600),
            usage: Usage::Server,
        })
        .unwrap();
        std::fs::write(at("public.crt"), &pair.certificate).unwrap();
        std::fs::write(at("private.key"), pair.key.as_bytes()).unwrap();
        let admin = self_signed_client("admin", Duration::from_secs(3600)).unwrap();
        let admin = (admin.certificate, (*admin.key).to_string());
        let identity = identity(&admin).identity().clone();

        let seal = Arc::new(seal::File::new(at("unseal")));
        let dir = at("data");
        let plan = Plan {
            cluster_id: None,
            system_admin: "system".parse().unwrap(),
            settings: serde_json::Value::Null,
            enclaves: vec![EnclavePlan {
                name: "default".parse().unwrap(),
                admin: identity,
                policies: vec![],
            }],
        };
        bootstrap::init(&dir, seal.clone(), plan).await.unwrap();
        let (clock, random) = (Arc::new(System), Arc::new(System));
        let setup = Setup {
            dir,
            seal,
            previous_seal: None,
            await_bootstrap: None,
            layout: Layout::Raw,
            cached_keys: CACHED_KEYS,
            clock,
            random,
        };
        let (stop, shutdown) = oneshot::channel();
        let audit = AuditLog::none();
        let options = Options {
            address: "127.0.0.1:0".parse().unwrap(),
            health: None,
            certificate: at("public.crt"),
            key: at("private.key"),
            password: None,
            service: Service::open(setup).await.unwrap(),
            audit: audit.clone(),
            metrics: metrics(),
            memory_locked: false,
            generation: Generation::default(),
            access: Access::default(),
            shutdown: Box::pin(async move {
                let _ = shutdown.await;
            }),
        };
        let server = Server::bind(options).await.unwrap();
        let address = server.address().unwrap();
        Self { address, audit, admin, directory, stop, ended: tokio::spawn(server.serve()) }
    }

    fn client(&self) -> Client {
        Client::new(Config {
            endpoint: format!("https://localhost:{}", self.address.port()),
            connect_to: Some(self.address),
            identity: identity(&self.admin),
            trust: Trust::Pem(std::fs::read(self.directory.path().join("public.crt")).unwrap()),
            enclave: None,
            timeout: PATIENCE,
        })
        .unwrap()
    }
}

fn identity((certificate, key): &(String, String)) -> ClientIdentity {
    ClientIdentity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
}

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_comes_line_by_line_and_its_end_is_noticed_on_both_sides() {
    let server = Wire::new().await;
    let client = server.client();
    let mut log = client.audit_log().await.unwrap();
    for n in 0..3 {
        client.create_key(&name(&format!("key-{n}"))).await.unwrap();
        let event = tokio::time::timeout(PATIENCE, log.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(event.request.path, format!("/v1/key/create/key-{n}"));
        assert_eq!((&*event.action, &*event.decision, event.response.code), ("CreateKey", "allow", 200));
    }
    drop((log, client));
    let noticed = async {
        while server.audit.feed().is_followed() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.expect("the server notices that the reader left");

    let mut log = server.client().error_log().await.unwrap();
    server.stop.send(()).unwrap();
    let began = std::time::Instant::now();
    assert!(tokio::time::timeout(PATIENCE, log.next()).await.unwrap().unwrap().is_none());
    server.ended.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "no stream holds up a server that stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_listing_is_streamed_to_its_end() {
    let server = Wire::new().await;
    let client = server.client();
    let names: Vec<_> = (0..600).map(|n| name(&format!("key-{n:03}"))).collect();
    for result in futures::future::join_all(names.iter().map(|name| client.create_key(name))).await {
        result.unwrap();
    }
    let listed: Vec<_> = client.list_keys("*").await.unwrap().into_iter().map(|key| key.name).collect();
    assert_eq!(listed, names);
    let mut lines = client.stream_keys("key-5").await.unwrap();
    let mut count = 0;
    while let Some(key) = lines.next().await.unwrap() {
        assert!(key.name.as_str().starts_with("key-5"));
        count += 1;
    }
    assert_eq!(count, 100);
}
