//! `spindle bindle push`: a bundle onto a server.
//!
//! A push that was cut off is continued by the next one, as long as the content is the same.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use manifest::{Content, bindle_layout::Invoice};
use sources::bindle::{BindleClient, SourceError};
use tokio::task::JoinSet;

use super::{
    ServerArgs, SignArgs, note,
    publication::{Ready, WhatArgs},
    say,
};

/// How many parcels are uploaded at a time.
const AT_ONCE: usize = 8;

/// The arguments of `bindle push`.
#[derive(Debug, Args)]
pub(super) struct PushArgs {
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    sign: SignArgs,
}

/// Does it.
pub(super) async fn run(args: PushArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let mut ready = Ready::new(&args.what).await?;
    let missing = match client.existing(&ready.id).await? {
        Some(existing) => {
            check_same(&client, &ready, &existing)?;
            client.missing(&ready.id).await?
        }
        None => {
            sign(&client, &mut ready, &args.sign).await?;
            client.create(&ready.id, &ready.invoice).await.map_err(|error| explain(error, &ready))?
        }
    };
    let parcels = ready.parcels().into_iter().map(|(content, name)| (content, name.to_owned()));
    let parcels: Vec<_> = parcels.filter(|(content, _)| missing.contains(&content.digest)).collect();
    if parcels.is_empty() {
        note("the server has all parcels already");
    }
    upload(&args.server.uploader()?, Arc::new(ready), parcels).await
}

/// Signs, unless the server is one that knows no creators.
async fn sign(client: &BindleClient, ready: &mut Ready, args: &SignArgs) -> anyhow::Result<()> {
    if args.unsigned {
        return Ok(());
    }
    if client.host_keys().await?.is_none() {
        note("the server has no keys, so it is older than Bindle 0.9: not signing");
        return Ok(());
    }
    ready.sign(args)
}

/// The server's own words about signatures are for its developers.
fn explain(error: SourceError, ready: &Ready) -> anyhow::Error {
    let signatures = matches!(&error, SourceError::Refused { message, .. } if message.contains("signature"));
    let error = anyhow::Error::new(error);
    if !signatures {
        error
    } else if ready.invoice.signature.is_empty() {
        error.context("the server takes only what is signed: push without --unsigned")
    } else {
        error.context(
            "the server does not trust who signed this: add what `spindle bindle keys export` prints to its keyring",
        )
    }
}

/// Bundles never change, so what is there must be what would be pushed.
fn check_same(client: &BindleClient, ready: &Ready, existing: &Invoice) -> anyhow::Result<()> {
    let id = &ready.id;
    let server = client.server();
    let other = "publish under another version, or with --buildinfo";
    anyhow::ensure!(existing.yanked != Some(true), "{id} has been yanked at {server}: {other}");
    let same = existing.bindle == ready.invoice.bindle
        && existing.parcel == ready.invoice.parcel
        && existing.group == ready.invoice.group;
    anyhow::ensure!(same, "{id} already exists at {server}, with other content: {other}");
    note(&format!("{id} is at {server} already, with the same content"));
    Ok(())
}

async fn upload(client: &BindleClient, ready: Arc<Ready>, parcels: Vec<(Content, String)>) -> anyhow::Result<()> {
    let total = parcels.len();
    let mut running = JoinSet::new();
    for (number, (content, name)) in (1..).zip(parcels) {
        if running.len() >= AT_ONCE {
            next(&mut running).await?;
        }
        note(&format!("uploading {number}/{total}: {name} ({} bytes)", content.size));
        let (client, ready) = (client.clone(), Arc::clone(&ready));
        running.spawn(async move {
            let path = ready.path(&content)?;
            client.upload(&ready.id, &content, &path).await.with_context(|| format!("cannot upload {name}"))
        });
    }
    while !running.is_empty() {
        next(&mut running).await?;
    }
    let left = client.missing(&ready.id).await?;
    anyhow::ensure!(left.is_empty(), "the server still misses {} parcels of {}: push again", left.len(), ready.id);
    say(&format!("pushed: {}", ready.id))
}

async fn next(running: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    running.join_next().await.transpose()?.transpose().map(|_done| ())
}
