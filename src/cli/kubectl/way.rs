//! The way from here to a key service: a port-forward, and the admins' certificates from their Secrets. Nothing of it is
//! written to a disk.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};
use tokio::runtime::Handle;

use super::{
    forward,
    place::{Place, names},
};
use crate::{
    api::{API_PORT, EnclaveName},
    cli::{
        connect::{self, Pem, Way},
        failure::Failure,
        kubernetes,
    },
    crd::KesCluster,
    operator,
};

/// Opens the way for the verb that follows.
pub(super) async fn open(place: &Place) -> Result<(), Failure> {
    let (client, cluster) = place.find().await?;
    connect::through(lead(&client, &cluster).await?);
    Ok(())
}

/// Finds everything that a client needs.
pub(super) async fn lead(client: &Client, cluster: &KesCluster) -> Result<Way, Failure> {
    let (namespace, name) = names(cluster);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pod = server(&pods, &name).await?;
    let connect_to = forward::open(pods, pod, API_PORT).await.map_err(|error| {
        Failure::new(format!("failed to open a local port: {error}"), "Close some programs and try again.")
    })?;
    let endpoint = format!("https://{name}.{namespace}.svc:{API_PORT}");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let here = Handle::current();
    let find = move |enclave: Option<&EnclaveName>| {
        // a client is made without waiting; the runtime has other threads for what goes on meanwhile
        tokio::task::block_in_place(|| here.block_on(admin(&secrets, &name, enclave)))
    };
    Ok(Way { endpoint, connect_to, admin: Box::new(find) })
}

/// A pod of the key service that is ready.
async fn server(pods: &Api<Pod>, cluster: &str) -> Result<String, Failure> {
    let which = ListParams::default().labels(&operator::pod_selector(cluster));
    let found = pods.list(&which).await;
    let found = found.map_err(|error| kubernetes::failed("list the key service's pods", &error))?;
    let is_ready = |pod: &&Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        pod.metadata.deletion_timestamp.is_none()
            && conditions.into_iter().any(|found| found.type_ == "Ready" && found.status == "True")
    };
    found.iter().find(is_ready).map(ResourceExt::name_any).ok_or_else(|| {
        Failure::new(
            format!("no pod of KesCluster {cluster} is ready"),
            "'kubectl kes status' shows what is waited for.",
        )
    })
}

/// The certificate of the admin of an enclave, else of the system.
async fn admin(secrets: &Api<Secret>, cluster: &str, enclave: Option<&EnclaveName>) -> Result<Pem, Failure> {
    let name = match enclave {
        None => operator::system_admin_secret(cluster),
        Some(enclave) => operator::enclave_admin_secret(cluster, enclave),
    };
    let step = format!("read Secret {name} with the admin's certificate");
    let secret = match (secrets.get(&name).await, enclave) {
        (Err(kube::Error::Api(status)), Some(enclave)) if status.code == 404 => {
            return Err(Failure::new(
                format!("no Secret holds the admin of enclave {enclave}: {name} is not there"),
                "The operator keeps the admins of the enclaves that the KesCluster's spec names; 'kubectl kes status' shows \
                 whether one is lost.",
            ));
        }
        (found, _) => found.map_err(|error| kubernetes::failed(&step, &error))?,
    };
    let mut data = secret.data.unwrap_or_default();
    let mut take = |key: &str| {
        data.remove(key).map(|bytes| bytes.0).ok_or_else(|| {
            Failure::new(
                format!("Secret {name} has no '{key}'"),
                "It was changed: restore it from a backup; the operator tells about it in the KesCluster's conditions.",
            )
        })
    };
    Ok(Pem {
        certificate: take("tls.crt")?,
        key: zeroize::Zeroizing::new(take("tls.key")?),
        authority: take("ca.crt")?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server with one ready pod, that answers `code` for every Secret, and the Secrets that it was asked for.
    fn api(code: u16) -> (Client, Arc<Mutex<Vec<String>>>) {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                let path = request.uri().path().to_owned();
                let (code, answer) = match path.split_once("/secrets/") {
                    Some((_, name)) => {
                        seen.lock().unwrap().push(name.to_owned());
                        (
                            code,
                            json!({"kind": "Status", "status": "Failure", "code": code, "reason": "Refused", "message": "no"}),
                        )
                    }
                    None => (
                        200,
                        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [
                        {"metadata": {"name": "vault-0"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}]}),
                    ),
                };
                let body = Body::from(answer.to_string().into_bytes());
                send.send_response(Response::builder().status(code).body(body).unwrap());
            }
        });
        (Client::new(service, "keys"), asked)
    }

    fn cluster() -> KesCluster {
        serde_saphyr::from_str(
            "{apiVersion: kes-operator.io/v1alpha1, kind: KesCluster, metadata: {name: vault, namespace: keys}, \
             spec: {enclaves: [{name: default}, {name: second}]}}",
        )
        .unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn only_the_secret_of_the_admin_who_calls_is_read() {
        for (enclave, secret) in
            [(Some("second"), "vault-enclave-second-admin"), (None, "vault-system-admin")]
        {
            let (client, asked) = api(404);
            let way = lead(&client, &cluster()).await.ok().unwrap();
            assert!(asked.lock().unwrap().is_empty(), "nothing is read before somebody calls");
            let enclave = enclave.map(|name| EnclaveName::new(name).unwrap());
            assert!(way.client(enclave.as_ref()).is_err());
            assert_eq!(*asked.lock().unwrap(), [secret]);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_secret_that_may_not_be_read_and_one_that_is_gone_are_told_apart() {
        let default = EnclaveName::default_enclave();
        for (code, words) in [
            (404, "no Secret holds the admin of enclave default"),
            (403, "failed to read Secret vault-enclave-default-admin"),
        ] {
            let (client, _) = api(code);
            let way = lead(&client, &cluster()).await.ok().unwrap();
            let failure = way.client(Some(&default)).err().unwrap().to_string();
            assert!(failure.contains(words), "{code}: {failure}");
        }
    }
}
