//! What was acknowledged survives kill -9 of the real server process, at any moment.
//!
//! `KES_KILL_ROUNDS` sets how often the process is killed (200 unless told; the long run uses 10,000).

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kes::{
    api::{EnclaveName, KeyName, message},
    client::{Client, Config, Trust},
    pki::{self, ClientIdentity},
    service::bootstrap,
};

const UNSEAL: &str = "dzbJd+OH71qeASPi7FUrNu7LKHhLl06Ylpu0V8gfBPg=";
const CREATORS: usize = 16;

struct Server {
    child: Child,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(dir.join("server.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_kes"))
            .args(["server", "--config", "config.yml", "data"])
            .current_dir(dir)
            .env("KES_DURABILITY_UNSEAL_KEY", UNSEAL)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn client(port: u16, identity: &pki::PemPair) -> Client {
    Client::new(Config {
        endpoint: format!("https://127.0.0.1:{port}"),
        connect_to: Some(SocketAddr::from(([127, 0, 0, 1], port))),
        identity: ClientIdentity::from_pem(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap(),
        trust: Trust::Insecure,
        enclave: None,
        timeout: Duration::from_secs(5),
    })
    .unwrap()
}

async fn wait_until_ready(client: &Client, dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = client.status().await {
        if Instant::now() > deadline {
            let log = std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
            panic!("the server does not come back: {error}\n{log}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_key_survives_kill_9_at_any_moment() {
    let rounds: u64 = std::env::var("KES_KILL_ROUNDS").map_or(200, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (port, health) = (free_port(), free_port());
    let admin = pki::self_signed_client("admin", Duration::from_secs(86_400)).unwrap();
    let system = pki::self_signed_client("system", Duration::from_secs(86_400)).unwrap();
    let server = pki::self_signed(&pki::SelfSigned {
        common_name: "server".into(),
        dns: vec![],
        ip: vec!["127.0.0.1".parse().unwrap()],
        validity: Duration::from_secs(86_400),
        usage: pki::Usage::Server,
    })
    .unwrap();
    std::fs::write(dir.path().join("server.crt"), &server.certificate).unwrap();
    std::fs::write(dir.path().join("server.key"), server.key.as_bytes()).unwrap();
    std::fs::write(
        dir.path().join("config.yml"),
        format!(
            "address: 127.0.0.1:{port}\nhealth: 127.0.0.1:{health}\n\
             tls: {{cert: server.crt, key: server.key}}\n\
             unseal: {{environment: {{name: KES_DURABILITY_UNSEAL_KEY}}}}\n"
        ),
    )
    .unwrap();
    std::fs::write(dir.path().join("unseal"), UNSEAL).unwrap();
    let identity = |pair: &pki::PemPair| pki::identity_of_pem(pair.certificate.as_bytes()).unwrap();
    let plan = bootstrap::Plan {
        cluster_id: None,
        system_admin: identity(&system),
        settings: serde_json::Value::Null,
        enclaves: vec![bootstrap::EnclavePlan {
            name: EnclaveName::default_enclave(),
            admin: identity(&admin),
            policies: vec![],
        }],
    };
    let seal = Arc::new(kes::crypto::seal::File::new(dir.path().join("unseal")));
    bootstrap::init(&dir.path().join("data"), seal, plan).await.unwrap();

    let acknowledged: Mutex<Vec<(KeyName, String)>> = Mutex::default();
    let (next, attempts) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut random = 0x2026_1123_u64;
    for round in 0..rounds {
        let server = Server::start(dir.path());
        let client = client(port, &admin);
        wait_until_ready(&client, dir.path()).await;
        check(&client, &acknowledged, round % 20 == 0).await;
        // xorshift: the moment differs every round and repeats from run to run
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let killed = Instant::now() + Duration::from_micros(random % 60_000);
        let creators = (0..CREATORS).map(|_| async {
            while Instant::now() < killed {
                let name = KeyName::new(&format!("key-{}", next.fetch_add(1, Ordering::Relaxed))).unwrap();
                attempts.fetch_add(1, Ordering::Relaxed);
                let done = tokio::time::timeout_at(killed.into(), client.create_key(&name)).await;
                if matches!(done, Ok(Ok(()))) {
                    acknowledged.lock().unwrap().push((name, String::new()));
                }
            }
        });
        futures::future::join_all(creators).await;
        server.kill();
    }
    let server = Server::start(dir.path());
    let client = client(port, &admin);
    wait_until_ready(&client, dir.path()).await;
    check(&client, &acknowledged, true).await;
    // what was not acknowledged is there whole, or not at all
    let listed = client.list_keys("*").await.unwrap();
    let sure = acknowledged.lock().unwrap().len();
    assert!(listed.len() >= sure, "{} keys are there and {sure} were acknowledged", listed.len());
    for key in &listed {
        assert_usable(&client, &key.name).await;
    }
    server.kill();
    println!(
        "{rounds} kills, {} creates tried, {sure} acknowledged, {} there",
        attempts.load(Ordering::Relaxed),
        listed.len()
    );
    assert!(sure as u64 > rounds, "too few creates were acknowledged between the kills to prove anything");
}

/// Every acknowledged key is there with the material it had when it was first seen.
async fn check(client: &Client, acknowledged: &Mutex<Vec<(KeyName, String)>>, all: bool) {
    let known = acknowledged.lock().unwrap().clone();
    let from = if all { 0 } else { known.len().saturating_sub(200) };
    for (index, (name, id)) in known.iter().enumerate().skip(from) {
        let info = client.describe_key(name).await.unwrap_or_else(|e| panic!("{name} was lost: {e}"));
        assert!(id.is_empty() || *id == info.id, "{name} was replaced");
        acknowledged.lock().unwrap()[index].1 = info.id;
    }
}

async fn assert_usable(client: &Client, name: &KeyName) {
    let message::DataKey { plaintext, ciphertext } = client.generate(name, b"{}").await.unwrap();
    let opened = client.decrypt(name, ciphertext.as_ref(), b"{}").await.unwrap();
    assert!(opened == plaintext, "{name} is half there");
}
