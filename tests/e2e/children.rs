//! Somebody edits or deletes what the operator has made: it is put right, and nothing of anybody else's is touched.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    cluster::{SYSTEM, condition},
    command, expect,
    prober::{client, get},
    until,
};

use crate::{PATIENCE, World, with_replicas, world};

/// Waits until an object is as it was, apart from what the API server counts.
async fn put_right(world: &World, what: &[&str], before: &Value, fields: &[&str]) -> Result<Value> {
    until(&format!("{what:?} is put right"), PATIENCE, || async {
        let now = world.cluster.get(what).await?;
        let wrong = fields.iter().find(|field| now.pointer(field) != before.pointer(field));
        expect(wrong.is_none(), || format!("{wrong:?}: {now:#}"))?;
        Ok(now)
    })
    .await
}

#[tokio::test]
async fn children_that_are_edited_or_deleted_are_put_right() -> Result<()> {
    let world = world().await?;
    let (cluster, namespace, client) = (&world.cluster, "e2e-children", client()?);
    cluster.namespace(namespace).await?;
    world.deploy(namespace, "edited", "1.0.0", 2).await?;
    world.settled(namespace, "edited", 2).await?;
    let slice = ["-n", namespace, "endpointslice", "edited-ipv4"];
    let service = ["-n", namespace, "service", "edited"];
    let (slice_before, service_before) = (cluster.get(&slice).await?, cluster.get(&service).await?);
    let of_slice = ["/endpoints", "/ports", "/addressType", "/metadata/labels", "/metadata/ownerReferences"]
        .map(|field| if field == "/metadata/ownerReferences" { "/metadata/ownerReferences/0/uid" } else { field });
    let of_service = ["/spec/ports", "/spec/type", "/spec/externalName", "/metadata/ownerReferences/0/uid"];
    let patch = async |what: [&str; 4], kind: &str, patch: &str| {
        let [_, _, resource, name] = what;
        cluster.kubectl(&["-n", namespace, "patch", resource, name, "--type", kind, "-p", patch]).await.map(drop)
    };

    // Endpoints of somebody else, none at all, another port; labels and owners that are gone; everything gone.
    for wrong in [
        r#"[{"op": "replace", "path": "/endpoints/0/addresses/0", "value": "10.9.9.9"}]"#,
        r#"[{"op": "replace", "path": "/endpoints", "value": []}]"#,
        r#"[{"op": "replace", "path": "/endpoints/0/conditions", "value": {"ready": false}}]"#,
        r#"[{"op": "remove", "path": "/endpoints/0/targetRef"}]"#,
        r#"[{"op": "replace", "path": "/ports/0/port", "value": 1}]"#,
        r#"[{"op": "add", "path": "/endpoints/-", "value": {"addresses": ["10.9.9.9"]}}]"#,
        r#"[{"op": "replace", "path": "/ports/0/name", "value": "web"}]"#,
        r#"[{"op": "replace", "path": "/ports/0/protocol", "value": "UDP"}]"#,
        r#"[{"op": "add", "path": "/ports/-", "value": {"name": "web", "port": 1}}]"#,
        r#"[{"op": "replace", "path": "/metadata/labels/kubernetes.io~1service-name", "value": "other"}]"#,
        r#"[{"op": "remove", "path": "/metadata/labels/kubernetes.io~1service-name"}]"#,
        r#"[{"op": "remove", "path": "/metadata/labels"}]"#,
        r#"[{"op": "remove", "path": "/metadata/ownerReferences"}]"#,
    ] {
        patch(slice, "json", wrong).await?;
        put_right(world, &slice, &slice_before, &of_slice).await?;
    }
    for wrong in [
        r#"[{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 1}]"#,
        r#"[{"op": "replace", "path": "/spec/ports", "value": [{"name": "web", "port": 8080}]}]"#,
        r#"[{"op": "replace", "path": "/spec/ports/0/protocol", "value": "UDP"}]"#,
        r#"[{"op": "replace", "path": "/spec/ports/0/appProtocol", "value": "https"}]"#,
        r#"[{"op": "replace", "path": "/spec/type", "value": "ExternalName"}, {"op": "add", "path": "/spec/externalName", "value": "elsewhere.example"}]"#,
        r#"[{"op": "remove", "path": "/metadata/ownerReferences"}]"#,
    ] {
        patch(service, "json", wrong).await?;
        put_right(world, &service, &service_before, &of_service).await?;
    }
    // A selector would have Kubernetes's own controller send the app's callers elsewhere.
    patch(service, "merge", r#"{"spec": {"selector": {"app": "other"}}}"#).await?;
    until("no selector", PATIENCE, || async {
        let now = cluster.get(&service).await?;
        expect(now.pointer("/spec/selector").is_none_or(Value::is_null), || format!("{:#}", now["spec"]))
    })
    .await?;
    // One too many, which says that it is the app's.
    let mut another = slice_before.clone();
    another["metadata"]["name"] = "edited-ipv4-2".into();
    another["endpoints"][0]["addresses"][0] = "10.9.9.9".into();
    for field in ["resourceVersion", "uid", "managedFields"] {
        another["metadata"].as_object_mut().context("no metadata")?.remove(field);
    }
    command::succeed("kubectl", &["create", "-f", "-"], &another.to_string()).await?;
    until("the slice that is too many is gone", PATIENCE, || async {
        let found = cluster.endpoints(namespace, "edited").await?;
        expect(found.iter().all(|endpoint| endpoint.address != "10.9.9.9"), || format!("{found:?}"))
    })
    .await?;
    cluster.kubectl(&["-n", namespace, "delete", "endpointslice,service", "-l", "spindle.dev/app=edited"]).await?;
    put_right(world, &slice, &slice_before, &of_slice).await?;
    put_right(world, &service, &service_before, &of_service).await?;
    let url = format!("{}/v", cluster.service_url(namespace, "edited").await?);
    until(&url, PATIENCE, || async {
        let (status, body) = get(&client, &url, None).await?;
        expect((status, body.trim()) == (200, "1.0.0"), || format!("{status} {body}"))
    })
    .await?;
    world.ready(namespace, "edited", "1.0.0").await.map(drop)
}

#[tokio::test]
async fn a_slice_or_service_of_somebody_else_stays_theirs_and_status_says_what_to_do() -> Result<()> {
    let world = world().await?;
    let (cluster, namespace) = (&world.cluster, "e2e-others-children");
    cluster.namespace(namespace).await?;
    let theirs = format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: sliced-ipv4, namespace: {namespace}, labels: {{ kubernetes.io/service-name: theirs }} }}
addressType: IPv4
endpoints: [{{ addresses: [10.9.9.9] }}]
ports: [{{ name: http, port: 8080 }}]
"
    );
    cluster.apply(&theirs).await?;
    cluster.kubectl(&["-n", namespace, "create", "service", "clusterip", "served", "--tcp=80:8080"]).await?;
    let slice = ["-n", namespace, "endpointslice", "sliced-ipv4"];
    let service = ["-n", namespace, "service", "served"];
    let (slice_before, service_before) = (cluster.get(&slice).await?, cluster.get(&service).await?);
    for (app, words) in [("sliced", "EndpointSlice sliced-ipv4"), ("served", "served")] {
        let id = world.publish(app, "1.0.0").await?;
        cluster.apply(&with_replicas(namespace, app, &id, 2)).await?;
        let object = cluster.wait(namespace, app, "RoutesProgrammed", "False", PATIENCE).await?;
        let object = until(words, PATIENCE, || async {
            let object = cluster.get(&["-n", namespace, "spinapp", app]).await?;
            let said = condition(&object, "RoutesProgrammed").context("no RoutesProgrammed")?;
            let message = said["message"].as_str().unwrap_or_default();
            expect(message.contains(words) && message.to_lowercase().contains("delete"), || said.to_string())?;
            Ok(object)
        })
        .await
        .with_context(|| format!("{:#}", object["status"]))?;
        expect(condition(&object, "Ready").is_some_and(|ready| ready["status"] == "False"), || format!("{object:#}"))?;
    }
    let (slice_after, service_after) = (cluster.get(&slice).await?, cluster.get(&service).await?);
    expect(slice_before == slice_after && service_before == service_after, || {
        format!("{slice_after:#} {service_after:#}")
    })?;

    // Their owner gives the names up: the apps take them within their retries.
    cluster.kubectl(&["-n", namespace, "delete", "endpointslice/sliced-ipv4", "service/served"]).await?;
    for app in ["sliced", "served"] {
        cluster.wait(namespace, app, "Ready", "True", PATIENCE).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_app_whose_children_were_orphaned_takes_them_back() -> Result<()> {
    let world = world().await?;
    let (cluster, namespace) = (&world.cluster, "e2e-orphans");
    cluster.namespace(namespace).await?;
    world.deploy(namespace, "orphaned", "1.0.0", 1).await?;
    let address = cluster.service_url(namespace, "orphaned").await?;
    cluster.kubectl(&["-n", namespace, "delete", "spinapp", "orphaned", "--cascade=orphan"]).await?;
    world.deploy(namespace, "orphaned", "2.0.0", 1).await?;
    let now = cluster.service_url(namespace, "orphaned").await?;
    expect(now == address, || format!("the Service was made anew: {address} became {now}"))
}

#[tokio::test]
async fn the_lease_and_the_certificates_come_back_and_nothing_crashes() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    let namespace = "e2e-lease";
    cluster.namespace(namespace).await?;
    let traffic = world.called(namespace, "steady", 2).await?;
    let authority = ["-n", SYSTEM, "secret", "spindle-ca"];
    let runtime = ["-n", SYSTEM, "secret", "spindle-runtime-tls"];
    let before = (cluster.get(&authority).await?, cluster.get(&runtime).await?, world.restarts().await?);

    cluster.kubectl(&["-n", SYSTEM, "delete", "lease", "spindle-operator"]).await?;
    until("somebody leads", PATIENCE, || async { cluster.leader().await?.context("nobody leads") }).await?;
    let stolen = r#"{"spec": {"holderIdentity": "somebody-else", "leaseDurationSeconds": 3600, "renewTime": null}}"#;
    cluster.kubectl(&["-n", SYSTEM, "patch", "lease", "spindle-operator", "--type=merge", "-p", stolen]).await?;
    cluster.kubectl(&["-n", SYSTEM, "delete", "lease", "spindle-operator"]).await?;
    until("somebody leads again", PATIENCE, || async { cluster.leader().await?.context("nobody leads") }).await?;

    cluster.kubectl(&["-n", SYSTEM, "delete", "secret", "spindle-ca"]).await?;
    put_right(world, &authority, &before.0, &["/data"]).await?;
    let nonsense = r#"{"data": {"tls.crt": "bm9uc2Vuc2U=", "ca.crt": ""}}"#;
    cluster.kubectl(&["-n", SYSTEM, "patch", "secret", "spindle-runtime-tls", "--type=merge", "-p", nonsense]).await?;
    put_right(world, &runtime, &before.1, &["/data/ca.crt"]).await?;
    cluster
        .kubectl(&["-n", SYSTEM, "patch", "secret", "spindle-ca", "--type=merge", "-p", r#"{"data": null}"#])
        .await?;
    put_right(world, &authority, &before.0, &["/data"]).await?;

    world.deploy(namespace, "steady", "2.0.0", 2).await?;
    let after = world.restarts().await?;
    expect(after == before.2, || format!("something crashed: {:?} to {after:?}", before.2))?;
    traffic.lost_nothing("lease and certificates deleted and edited").await.map(drop)
}

#[tokio::test]
async fn an_app_that_is_applied_before_what_it_names_waits_and_says_for_what() -> Result<()> {
    let world = world().await?;
    let (cluster, namespace) = (&world.cluster, "e2e-order");
    cluster.namespace(namespace).await?;
    let id = world.publish("ordered", "1.0.0").await?;
    let app = with_replicas(namespace, "ordered", &id, 1).replace(
        "replicas: 1",
        "replicas: 1
  variables:
    - { name: token, valueFrom: { secretKeyRef: { name: first, key: token } } }
    - { name: motd, valueFrom: { configMapKeyRef: { name: second, key: motd } } }",
    );
    cluster.apply(&app).await?;
    let waits_for = async |words: [&str; 2]| {
        until(&format!("a word of {words:?}"), PATIENCE, || async {
            let app = cluster.get(&["-n", namespace, "spinapp", "ordered"]).await?;
            let said = condition(&app, "Resolved").context("no Resolved")?;
            let message = said["message"].as_str().unwrap_or_default();
            let told = said["status"] == "False" && words.iter().all(|word| message.contains(word));
            expect(told, || said.to_string())
        })
        .await
    };
    waits_for(["Secret", "first"]).await?;
    cluster.kubectl(&["-n", namespace, "create", "secret", "generic", "first", "--from-literal=other=1"]).await?;
    waits_for(["first", "token"]).await?;
    cluster.kubectl(&["-n", namespace, "patch", "secret", "first", "-p", r#"{"stringData": {"token": "x"}}"#]).await?;
    waits_for(["ConfigMap", "second"]).await?;
    cluster.kubectl(&["-n", namespace, "create", "configmap", "second", "--from-literal=motd=hello"]).await?;
    world.ready(namespace, "ordered", "1.0.0").await.map(drop)
}
