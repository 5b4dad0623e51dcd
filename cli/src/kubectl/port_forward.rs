//! `kubectl spindle port-forward`: an app's Service has no pods behind its selector, so `kubectl port-forward` cannot follow it.
//! The app's port on a runtime that serves it can be forwarded.

use std::net::SocketAddr;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{Place, app};

#[derive(Debug, Args)]
pub(super) struct PortForwardArgs {
    /// The name of the SpinApp
    #[arg(value_name = "APP", value_parser = app::name)]
    app: String,

    /// The local port; 0 takes a free one. `8080:80` is understood too, as `kubectl port-forward` has it
    #[arg(value_name = "PORT", default_value = "0")]
    port: String,

    /// The local address
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    address: std::net::IpAddr,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what the command is for")]
pub(super) async fn run(place: Place, args: PortForwardArgs) -> anyhow::Result<()> {
    app::get(&place, &args.app).await?;
    let local: SocketAddr = (args.address, local_port(&args.port)?).into();
    // Said now rather than with the first request.
    serving(&place, &args.app).await?;
    let listener = TcpListener::bind(local).await.with_context(|| format!("cannot listen at {local}"))?;
    println!("Forwarding from http://{} to {}", listener.local_addr()?, args.app);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let (place, name) = (place.clone(), args.app.clone());
                connections.spawn(async move {
                    if let Err(error) = forward(&place, &name, stream).await {
                        eprintln!("error: {}", daemon::chain(error.as_ref()));
                    }
                });
            }
            Some(_ended) = connections.join_next() => {}
            stopped = tokio::signal::ctrl_c() => return Ok(stopped?),
        }
    }
}

/// The local part of `8080`, `8080:80` or `:80`.
fn local_port(text: &str) -> anyhow::Result<u16> {
    let (local, remote) = text.split_once(':').map_or((text, None), |(local, remote)| (local, Some(remote)));
    if remote.is_some_and(|remote| remote != "80" && remote != "http") {
        bail!("an app has the one port 80 (`http`), so `{text}` leads nowhere: write `LOCAL` or `LOCAL:80`");
    }
    let local = if local.is_empty() { "0" } else { local };
    local.parse().map_err(|_| anyhow!("`{local}` is no port: use a number from 0 to 65535"))
}

/// A runtime that takes the app's requests now.
async fn serving(place: &Place, name: &str) -> anyhow::Result<app::Serving> {
    let serving = app::serving(place, name).await?;
    serving
        .into_iter()
        .max_by_key(|one| one.ready)
        .ok_or_else(|| anyhow!("no runtime serves {name}: `kubectl spindle explain {name}` says why"))
}

/// One connection, to a runtime that serves the app when it begins.
async fn forward(place: &Place, name: &str, mut local: TcpStream) -> anyhow::Result<()> {
    let runtime = serving(place, name).await?;
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), &runtime.namespace);
    let mut forwarder = pods.portforward(&runtime.pod, &[runtime.port]).await.with_context(|| {
        format!(
            "cannot forward to pod {}/{}: this needs the rights to get and create pods/portforward there",
            runtime.namespace, runtime.pod
        )
    })?;
    let mut remote =
        forwarder.take_stream(runtime.port).ok_or_else(|| anyhow!("the API server forwards another port"))?;
    // Either side may just go away; that is the end, not an error.
    let _ended = copy_bidirectional(&mut local, &mut remote).await;
    drop(remote);
    forwarder.abort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_kubectl_has_them() {
        assert_eq!(local_port("8080").unwrap(), 8080);
        assert_eq!(local_port("8080:80").unwrap(), 8080);
        assert_eq!(local_port(":http").unwrap(), 0);
        assert!(local_port("8080:81").unwrap_err().to_string().contains("one port 80"));
        assert!(local_port("many").unwrap_err().to_string().contains("`many` is no port"));
    }
}
