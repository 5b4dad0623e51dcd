//! What all the other tests leave to look at: everything that the installation has asked of the API server.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    cluster::SYSTEM,
    expect,
    fleet::{OPERATORS, RUNTIMES},
};

use crate::world;

/// What the API server's own log says of one request.
struct Asked {
    user: String,
    verb: String,
    resource: String,
    group: String,
    name: String,
    /// Whether the ServiceAccount lacked a permission.
    forbidden: bool,
    /// Whether it has made something.
    created: bool,
}

fn asked(line: &str) -> Option<Asked> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (resource, part) = (text("/objectRef/resource"), text("/objectRef/subresource"));
    Some(Asked {
        user: text("/user/username"),
        verb: text("/verb"),
        resource: if part.is_empty() { resource } else { format!("{resource}/{part}") },
        group: text("/objectRef/apiGroup"),
        name: text("/objectRef/name"),
        forbidden: text("/annotations/authorization.k8s.io~1decision") == "forbid",
        created: event.pointer("/responseStatus/code") == Some(&Value::from(201)),
    })
}

/// Every request of the installation's ServiceAccounts, from the API server's audit log.
fn all_asked(world: &crate::World) -> Result<Vec<Asked>> {
    let file = world.cluster.logs.join("audit.log");
    let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    let account = format!("system:serviceaccount:{SYSTEM}:");
    Ok(text.lines().filter_map(asked).filter(|asked| asked.user.starts_with(&account)).collect())
}

#[tokio::test]
async fn permissions_were_enough_for_everything_and_all_of_them_were_needed() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    let all = all_asked(world)?;
    let forbidden: Vec<String> = all
        .iter()
        .filter(|asked| asked.forbidden)
        .map(|asked| format!("{} {} {}.{} {}", asked.user, asked.verb, asked.resource, asked.group, asked.name))
        .collect();
    expect(forbidden.is_empty(), || forbidden.join("\n"))?;
    for selector in [OPERATORS, RUNTIMES] {
        let log = cluster.logs(selector).await?;
        let lines: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("forbidden")).collect();
        expect(lines.is_empty(), || lines.join("\n"))?;
    }
    let runtimes: BTreeSet<&str> =
        all.iter().map(|asked| asked.user.as_str()).filter(|user| !user.ends_with(":spindle-operator")).collect();
    expect(runtimes.is_empty(), || format!("others than the operator have asked: {runtimes:?}"))?;

    // What server-side apply makes takes the permission to create as well.
    let verbs = |asked: &Asked| [Some(asked.verb.clone()), asked.created.then(|| "create".to_owned())];
    let uses = |asked: &Asked| {
        let verbs = verbs(asked).into_iter().flatten();
        verbs.map(|verb| (asked.group.clone(), asked.resource.clone(), verb)).collect::<Vec<_>>()
    };
    let used: BTreeSet<(String, String, String)> = all.iter().flat_map(uses).collect();
    let roles = [
        cluster.get(&["clusterrole", &format!("{SYSTEM}-spindle-operator")]).await?,
        cluster.get(&["-n", SYSTEM, "role", "spindle-operator"]).await?,
    ];
    let mut unused = Vec::new();
    for rule in roles.iter().filter_map(|role| role["rules"].as_array()).flatten() {
        let words = |field: &str| -> Vec<String> {
            rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        for (group, resource) in words("apiGroups")
            .iter()
            .flat_map(|group| words("resources").into_iter().map(move |resource| (group.clone(), resource)))
        {
            expect(group != "*" && resource != "*", || format!("{rule}"))?;
            // Asked for by OpenShift alone.
            if resource == "endpointslices/restricted" {
                continue;
            }
            for verb in words("verbs") {
                expect(verb != "*", || format!("{rule}"))?;
                if !used.contains(&(group.clone(), resource.clone(), verb.clone())) {
                    unused.push(format!("{verb} {resource}.{group}"));
                }
            }
        }
    }
    expect(unused.is_empty(), || format!("never needed: {unused:?}"))
}
