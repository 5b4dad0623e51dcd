//! What the server holds, and what happens to it.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Seen;

/// What a request gets.
pub(super) enum Answer {
    Object(StatusCode, Value),
    Refused(u16, String),
}

/// What a request is about.
#[derive(Debug)]
pub(super) struct Target {
    /// `/api/v1`, `/apis/apps/v1`.
    group: String,
    namespace: Option<String>,
    resource: String,
    name: Option<String>,
    status: bool,
    query: BTreeMap<String, String>,
    metadata_only: bool,
}

/// Everything, by path; paths are those of the objects themselves.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<String, Value>,
    /// What was applied last, by path and whether it was the status.
    applied: BTreeMap<(String, bool), Value>,
    /// The owners that each object had when it was made otherwise: they stay when others are applied.
    made: BTreeMap<String, Vec<Value>>,
    history: Vec<Change>,
    version: u64,
    oldest: u64,
    uids: u64,
    /// A field that no status may have.
    pub(super) unknown: Option<&'static str>,
}

#[derive(Debug)]
struct Change {
    version: u64,
    path: String,
    kind: &'static str,
    object: Value,
}

/// Runs a watch in the background; it ends with its client.
#[expect(clippy::disallowed_methods, reason = "it ends when its client goes away")]
pub(super) fn watch_task(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

impl Target {
    /// `None` for paths that are of no object.
    pub(super) fn parse(seen: &Seen) -> Option<Self> {
        let parts: Vec<&str> = seen.path.trim_matches('/').split('/').collect();
        let length = match *parts.first()? {
            "api" => 2,
            "apis" => 3,
            _ => return None,
        };
        let (group, rest) = parts.split_at_checked(length)?;
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let query = seen.query.split('&').filter_map(|pair| pair.split_once('='));
        Some(Self {
            group: format!("/{}", group.join("/")),
            namespace,
            resource: (*rest.first()?).to_owned(),
            name: rest.get(1).map(|name| (*name).to_owned()),
            status: rest.get(2) == Some(&"status"),
            query: query.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            metadata_only: seen.accept.contains("as=PartialObjectMetadata"),
        })
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.query.get(name)?.parse().ok()
    }

    fn collection(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{}/namespaces/{namespace}/{}", self.group, self.resource),
            None => format!("{}/{}", self.group, self.resource),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.collection())
    }

    fn has(&self, path: &str, object: &Value) -> bool {
        self.is_about(path) && self.selects(object)
    }

    fn is_about(&self, path: &str) -> bool {
        path.rsplit_once('/').is_some_and(|(collection, _)| match &self.namespace {
            Some(_) => collection == self.collection(),
            None => {
                collection.starts_with(&format!("{}/", self.group))
                    && collection.ends_with(&format!("/{}", self.resource))
            }
        })
    }

    fn selects(&self, object: &Value) -> bool {
        let labels = self.query.get("labelSelector").into_iter().flat_map(|selector| selector.split(','));
        let fields = self.query.get("fieldSelector").into_iter().flat_map(|selector| selector.split(','));
        labels.filter_map(|pair| pair.split_once('=')).all(|(key, value)| object["metadata"]["labels"][key] == value)
            && fields.filter_map(|pair| pair.split_once('=')).all(|(_, value)| object["metadata"]["name"] == value)
    }

    fn show(&self, object: &Value) -> Value {
        if self.metadata_only {
            json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"] })
        } else {
            object.clone()
        }
    }
}

impl Store {
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.objects.get(path).cloned()
    }

    pub(super) fn all(&self, resource: &str) -> Vec<Value> {
        let of = |path: &str| path.rsplit('/').nth(1) == Some(resource);
        self.objects.iter().filter(|(path, _)| of(path)).map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn all_about(&self, resource: &str, name: &str) -> Vec<Value> {
        let of = |path: &str| {
            path.rsplit_once('/')
                .is_some_and(|(of, last)| last.starts_with(name) && of.ends_with(&format!("/{resource}")))
        };
        self.objects.iter().filter(|(path, _)| of(path)).map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn states(&self, path: &str) -> Vec<Value> {
        self.history.iter().filter(|change| change.path == path).map(|change| change.object.clone()).collect()
    }

    pub(super) fn compact(&mut self) {
        self.history.clear();
        self.version += 1;
        self.oldest = self.version;
    }

    pub(super) fn put(&mut self, path: &str, mut object: Value) {
        let known = self.objects.get(path);
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let generation = known.map_or(Some(0), |known| known["metadata"]["generation"].as_u64()).unwrap_or_default();
        let differs = known.is_none_or(|known| known["spec"] != object["spec"]);
        let (kind, uid) = match known {
            Some(known) => ("MODIFIED", known["metadata"]["uid"].clone()),
            None => ("ADDED", object["metadata"]["uid"].clone()),
        };
        let uid = if uid.is_string() { uid } else { self.next_uid() };
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["uid"] = uid;
        metadata["resourceVersion"] = json!(self.version.to_string());
        metadata["generation"] = json!(generation + u64::from(differs));
        metadata["managedFields"] = json!([{ "manager": "somebody", "operation": "Apply", "fieldsType": "FieldsV1" }]);
        self.objects.insert(path.to_owned(), object.clone());
        self.history.push(Change { version: self.version, path: path.to_owned(), kind, object });
    }

    pub(super) fn delete(&mut self, path: &str) {
        if let Some(mut object) = self.objects.remove(path) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.applied.retain(|(applied, _), _| applied != path);
            self.made.remove(path);
            self.history.push(Change { version: self.version, path: path.to_owned(), kind: "DELETED", object });
        }
    }

    fn next_uid(&mut self) -> Value {
        self.uids += 1;
        json!(format!("uid-{}", self.uids))
    }

    pub(super) fn answer(&mut self, method: &Method, target: &Target, body: &[u8]) -> Answer {
        match (method, &target.name) {
            (&Method::GET, None) => self.list(target),
            (&Method::GET, Some(name)) => match self.objects.get(&target.path(name)) {
                Some(object) => Answer::Object(StatusCode::OK, target.show(object)),
                None => not_found(name),
            },
            (&Method::DELETE, Some(name)) => self.delete_as_known(&target.path(name), name, body),
            (&Method::POST, None) => self.create(target, body),
            (&Method::PUT, Some(name)) => self.replace(&target.path(name), name, body),
            (&Method::PATCH, Some(name)) if target.query.contains_key("force") => {
                self.apply(&target.path(name), name, target.status, body)
            }
            (&Method::PATCH, Some(name)) => self.patch(&target.path(name), name, body),
            _ => Answer::Refused(405, "MethodNotAllowed".to_owned()),
        }
    }

    /// One page: `limit` objects after the one that `continue` names.
    fn list(&self, target: &Target) -> Answer {
        let after = target.query.get("continue").map(String::as_str).unwrap_or_default();
        let limit = target.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let mut found = self.objects.iter().filter(|(path, object)| path.as_str() > after && target.has(path, object));
        let page: Vec<(&String, &Value)> = found.by_ref().take(limit).collect();
        let next = found.next().and_then(|_| page.last()).map(|(path, _)| path.as_str());
        let items: Vec<Value> = page.iter().map(|(_, object)| target.show(object)).collect();
        let metadata = json!({ "resourceVersion": self.version.to_string(), "continue": next });
        Answer::Object(
            StatusCode::OK,
            json!({ "apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items }),
        )
    }

    fn create(&mut self, target: &Target, body: &[u8]) -> Answer {
        let object: Value = serde_json::from_slice(body).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let path = target.path(&name);
        if self.objects.contains_key(&path) {
            return Answer::Refused(409, "AlreadyExists".to_owned());
        }
        self.made.insert(path.clone(), owners(&object));
        self.put(&path, object);
        Answer::Object(StatusCode::CREATED, self.objects[&path].clone())
    }

    /// Deletes what is as the preconditions have it.
    fn delete_as_known(&mut self, path: &str, name: &str, body: &[u8]) -> Answer {
        let Some(object) = self.objects.get(path).cloned() else { return not_found(name) };
        let options: Value = serde_json::from_slice(body).unwrap_or_default();
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if wanted.is_string() && *wanted != object["metadata"][field] {
                return Answer::Refused(409, format!("Precondition failed: {field} in precondition: {wanted}"));
            }
        }
        self.delete(path);
        Answer::Object(StatusCode::OK, object)
    }

    fn replace(&mut self, path: &str, name: &str, body: &[u8]) -> Answer {
        let object: Value = serde_json::from_slice(body).unwrap();
        match self.objects.get(path) {
            // A real server makes what it is to replace, for Leases, unless the one that is meant has a uid.
            None if !path.contains("/leases/") => return not_found(name),
            None if object["metadata"]["uid"].is_string() => return Answer::Refused(409, "Conflict".to_owned()),
            Some(known) if known["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] => {
                return Answer::Refused(409, "Conflict".to_owned());
            }
            None | Some(_) => {}
        }
        self.put(path, object);
        Answer::Object(StatusCode::OK, self.objects[path].clone())
    }

    /// A JSON merge patch.
    fn patch(&mut self, path: &str, name: &str, body: &[u8]) -> Answer {
        let patch: Value = serde_json::from_slice(body).unwrap();
        let Some(mut after) = self.objects.get(path).cloned() else { return not_found(name) };
        if patch["metadata"]["uid"].is_string() && patch["metadata"]["uid"] != after["metadata"]["uid"] {
            return Answer::Refused(409, "Precondition failed: UID in precondition".to_owned());
        }
        if patch["metadata"]["ownerReferences"].is_array() {
            self.made.remove(path);
        }
        merge(&mut after, &Value::Null, &patch);
        self.put(path, after);
        Answer::Object(StatusCode::OK, self.objects[path].clone())
    }

    /// Server-side apply for the one manager that there is: what it applied before and applies no more goes.
    fn apply(&mut self, path: &str, name: &str, status: bool, body: &[u8]) -> Answer {
        let mut patch: Value = serde_json::from_slice(body).unwrap();
        if let (Some(unknown), Some(fields)) = (self.unknown, patch.get_mut("status").and_then(Value::as_object_mut)) {
            fields.remove(unknown);
        }
        let known = self.objects.get(path);
        let uid = &patch["metadata"]["uid"];
        match known {
            None if status => return not_found(name),
            None if uid.is_string() => return Answer::Refused(409, format!("uid mismatch: there is no {name}")),
            Some(known) if uid.is_string() && *uid != known["metadata"]["uid"] => {
                return Answer::Refused(409, format!("Precondition failed: UID in precondition: {uid}"));
            }
            _ => {}
        }
        let before = known.cloned().unwrap_or_else(|| json!({}));
        let applied = owners(&patch);
        let stays = |owner: &Value| applied.iter().all(|other| other["uid"] != owner["uid"]);
        if self.made.get(path).into_iter().flatten().any(stays) {
            return Answer::Refused(422, "Only one reference can have Controller set to true".to_owned());
        }
        let last = self.applied.insert((path.to_owned(), status), patch.clone()).unwrap_or_default();
        let mut after = before.clone();
        merge(&mut after, &last, &patch);
        if after == before {
            return Answer::Object(StatusCode::OK, before);
        }
        self.put(path, after);
        Answer::Object(StatusCode::OK, self.objects[path].clone())
    }

    /// The events that `target` has not seen, the version that it has seen then, and whether it is told to go away.
    pub(super) fn events(&self, target: &Target, since: u64) -> (Vec<String>, u64, bool) {
        if since < self.oldest {
            let gone = json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old resource version" });
            return (vec![format!("{}\n", json!({ "type": "ERROR", "object": gone }))], since, true);
        }
        let first = self.history.partition_point(|change| change.version <= since);
        let lines = (first..self.history.len()).filter_map(|at| self.told(target, at));
        let line = |(kind, object)| format!("{}\n", json!({ "type": kind, "object": object }));
        (lines.map(line).collect(), self.version, false)
    }

    /// What `target` is told of the change number `at`: also that an object is not among those any more that it selects.
    fn told(&self, target: &Target, at: usize) -> Option<(&'static str, Value)> {
        let change = self.history.get(at).filter(|change| target.is_about(&change.path))?;
        if target.selects(&change.object) {
            return Some((change.kind, target.show(&change.object)));
        }
        let before = self.history[..at].iter().rev().find(|before| before.path == change.path)?;
        let mut gone = before.object.clone();
        gone["metadata"]["resourceVersion"] = change.object["metadata"]["resourceVersion"].clone();
        (change.kind == "MODIFIED" && target.selects(&before.object)).then(|| ("DELETED", target.show(&gone)))
    }

    pub(super) fn bookmark(&self, target: &Target) -> String {
        let object = json!({
            "apiVersion": "v1", "kind": target.resource, "metadata": { "resourceVersion": self.version.to_string() },
        });
        format!("{}\n", json!({ "type": "BOOKMARK", "object": object }))
    }
}

fn owners(object: &Value) -> Vec<Value> {
    object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default()
}

fn not_found(name: &str) -> Answer {
    Answer::Refused(404, format!("{name} not found"))
}

/// Puts `patch` into `object`, without what was in `last` and is in `patch` no more. Lists are replaced.
fn merge(object: &mut Value, last: &Value, patch: &Value) {
    let (Some(wanted), true) = (patch.as_object(), object.is_object()) else {
        *object = patch.clone();
        return;
    };
    let fields = object.as_object_mut().unwrap();
    let none = Map::new();
    for key in last.as_object().unwrap_or(&none).keys() {
        if !wanted.contains_key(key) {
            fields.remove(key);
        }
    }
    for (key, value) in wanted {
        match fields.get_mut(key) {
            Some(known) => merge(known, &last[key], value),
            None => drop(fields.insert(key.clone(), value.clone())),
        }
    }
}
