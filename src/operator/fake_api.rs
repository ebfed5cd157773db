//! An API server in memory, for tests: enough of get, list, create, apply, merge patch and status to run whole passes,
//! and a record of every write.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

/// Objects by path.
#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    writes: Vec<String>,
    reads: usize,
    events: Vec<Value>,
    version: u64,
    refuse_writes: bool,
    refusals: Vec<Refusal>,
    watched: BTreeSet<String>,
    unknown: Option<&'static str>,
    meddler: Option<Meddler>,
    lossy: Option<&'static str>,
    service_address: Option<IpAddr>,
}

/// Requests of a method whose path ends so are answered with a code.
type Refusal = (Method, String, u16);

/// What somebody else does to an object right before its status is written.
type Meddler = fn(&mut Value);

impl FakeApi {
    /// A client that talks to it.
    pub(crate) fn client(&self) -> kube::Client {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let api = self.clone();
        tokio::spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (status, answer) =
                    api.answer(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default(), &body);
                let answer = Body::from(answer.to_string().into_bytes());
                send.send_response(Response::builder().status(status).body(answer).unwrap());
            }
        });
        kube::Client::new(service, "default")
    }

    /// Puts an object there, as a user would.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut state = self.0.lock().unwrap();
        let object = state.stamp(object);
        state.objects.insert(path.into(), object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    pub(crate) fn remove(&self, path: &str) {
        self.0.lock().unwrap().objects.remove(path);
    }

    /// Right before the next status is written somebody else changes the object.
    pub(crate) fn meddle(&self, meddler: Meddler) {
        self.0.lock().unwrap().meddler = Some(meddler);
    }

    /// From now on every write is answered with 500, or none is.
    pub(crate) fn refuse_writes(&self, refuse: bool) {
        self.0.lock().unwrap().refuse_writes = refuse;
    }

    /// From now on requests with `method` to paths that end in `path` are answered with `code`; with 0 no more.
    pub(crate) fn refuse(&self, method: Method, path: &str, code: u16) {
        let mut state = self.0.lock().unwrap();
        state.refusals.retain(|(known, end, _)| (known, end.as_str()) != (&method, path));
        if code != 0 {
            state.refusals.push((method, path.into(), code));
        }
    }

    /// From now on changes of what ends in `path` are made, and their answers are lost.
    pub(crate) fn lose_answers(&self, path: &'static str) {
        self.0.lock().unwrap().lossy = Some(path);
    }

    /// From now on Services that are made get this address.
    pub(crate) fn serve_at(&self, address: IpAddr) {
        self.0.lock().unwrap().service_address = Some(address);
    }

    /// Lists that were asked for with our label, by path.
    pub(crate) fn watched(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().watched.clone()
    }

    /// Events so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.0.lock().unwrap().events.clone()
    }

    /// From now on the schema of every object has no such field in its spec.
    pub(crate) fn forget_field(&self, field: &'static str) {
        self.0.lock().unwrap().unknown = Some(field);
    }

    /// Every object by its path, and every event.
    pub(crate) fn everything(&self) -> Vec<(String, Value)> {
        let state = self.0.lock().unwrap();
        let events = state.events.iter().map(|event| ("an event".to_owned(), event.clone()));
        state.objects.clone().into_iter().chain(events).collect()
    }

    /// Every write since the last call.
    pub(crate) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().writes)
    }

    /// How often something was read since the last call.
    pub(crate) fn reads(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().reads)
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        let mut state = self.0.lock().unwrap();
        let refused = |(known, end, _): &&Refusal| known == method && path.ends_with(end.as_str());
        if let Some((_, _, code)) = state.refusals.iter().find(refused) {
            return refusal(*code, "Refused");
        }
        if *method == Method::GET {
            state.reads += 1;
            if query.contains("managed-by") {
                state.watched.insert(path.into());
            }
            return state.read(path, query);
        }
        if state.refuse_writes {
            return refusal(500, "InternalError");
        }
        let dry_run = query.contains("dryRun=All");
        if !dry_run {
            let parameters: Value = serde_json::from_slice(body).unwrap_or_default();
            // what becomes of the dependents decides about an outage
            let dependents = parameters["propagationPolicy"].as_str().filter(|_| *method == Method::DELETE);
            let dependents = dependents.map(|what| format!(" {what}")).unwrap_or_default();
            state.writes.push(format!("{method} {path}{dependents}"));
        }
        if *method == Method::DELETE {
            return match state.objects.remove(path) {
                Some(object) => (200, object),
                None => refusal(404, "NotFound"),
            };
        }
        // no pass reads an event
        if path.contains("/events.k8s.io/") {
            let event: Value = serde_json::from_slice(body).unwrap();
            state.events.push(event.clone());
            return (201, event);
        }
        let body: Value = serde_json::from_slice(body).unwrap();
        if *method == Method::POST {
            let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
            if state.objects.contains_key(&path) {
                // it changes nothing, and is how one asks whether the name is free
                state.writes.pop();
                state.reads += 1;
                return refusal(409, "AlreadyExists");
            }
            return (201, state.store(path, body));
        }
        let target = path.trim_end_matches("/status").to_owned();
        if path.ends_with("/status")
            && let Some(meddler) = state.meddler.take()
            && let Some(mut object) = state.objects.get(&target).cloned()
        {
            meddler(&mut object);
            state.store(target.clone(), object);
        }
        let found = state.objects.get(&target).cloned();
        let version = &body["metadata"]["resourceVersion"];
        if let Some(found) = &found
            && !version.is_null()
            && *version != found["metadata"]["resourceVersion"]
        {
            return refusal(409, "Conflict");
        }
        let mut object = found.unwrap_or_else(|| json!({}));
        if path.ends_with("/status") && *method == Method::PATCH {
            merge(&mut object["status"], &body["status"]);
        } else if path.ends_with("/status") {
            object["status"] = body["status"].clone();
        } else if *method == Method::PUT {
            // what a PUT does not decide
            let (status, uid) = (object["status"].take(), object["metadata"]["uid"].take());
            object = body;
            object["status"] = status;
            object["metadata"]["uid"] = uid;
        } else {
            merge(&mut object, &body);
        }
        if let (Some(unknown), Some(spec)) = (state.unknown, object["spec"].as_object_mut()) {
            spec.remove(unknown);
        }
        if dry_run {
            return (200, object);
        }
        let is_lost = state.lossy.is_some_and(|path| target.ends_with(path));
        let stored = state.store(target, object);
        if is_lost { refusal(500, "InternalError") } else { (200, stored) }
    }
}

impl State {
    fn read(&self, path: &str, query: &str) -> (u16, Value) {
        if let Some(object) = self.objects.get(path) {
            return (200, object.clone());
        }
        let is_list = path.rsplit('/').next().is_some_and(|last| last.ends_with('s') && !last.contains('-'));
        if !is_list || query.is_empty() && path.contains("minio.min.io") {
            return refusal(404, "NotFound");
        }
        let selector: Vec<(String, String)> = query
            .split('&')
            .filter_map(|part| part.strip_prefix("labelSelector="))
            .flat_map(|text| {
                text.replace("%3D", "=")
                    .replace("%2C", ",")
                    .replace("%2F", "/")
                    .split(',')
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .filter_map(|pair| {
                pair.split_once('=').map(|(label, value)| (label.to_owned(), value.to_owned()))
            })
            .collect();
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(known, _)| known.rsplit_once('/').is_some_and(|(parent, _)| parent == path))
            .map(|(_, object)| object.clone())
            .filter(|object| {
                selector.iter().all(|(label, value)| object["metadata"]["labels"][label] == value.as_str())
            })
            .collect();
        (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}))
    }

    fn store(&mut self, path: String, object: Value) -> Value {
        let mut object = self.stamp(object);
        if let Some(address) = self.service_address
            && object["kind"] == "Service"
            && object["spec"]["clusterIP"].is_null()
        {
            object["spec"]["clusterIP"] = json!(address);
        }
        self.objects.insert(path, object.clone());
        object
    }

    fn stamp(&mut self, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object
    }
}

/// RFC 7396; near enough to server-side apply for objects of one manager.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn refusal(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code}),
    )
}
