//! `kubectl spindle`: what an app does on its cluster, why, and how to go back. The same binary as `spindle`, installed under
//! the name `kubectl-spindle`.
//!
//! Promise: everything is read from Kubernetes with the caller's own rights; nothing talks to operator or runtimes. Only
//! `rollback` writes, and only the app's spec.

mod app;
mod explain;
mod logs;
mod port_forward;
mod rollback;
mod runtimes;
mod status;
mod table;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::output;

/// Look at Spin applications on Kubernetes, and go back to what they were
#[derive(Debug, Parser)]
#[command(
    name = "kubectl spindle",
    bin_name = "kubectl spindle",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Flags {
    #[command(flatten)]
    place: PlaceArgs,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// The namespace of the app [default: the context's]
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// The context of the kubeconfig file to use [default: the current one]
    #[arg(long, global = true, value_name = "CONTEXT")]
    context: Option<String>,

    /// The kubeconfig file [default: $KUBECONFIG, else ~/.kube/config, else the pod's service account]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how apps are: revisions, replicas, conditions
    Status(status::StatusArgs),
    /// Say in sentences whether an app is ready, and why not
    Explain(AppArgs),
    /// Show what an app's guests print
    Logs(logs::LogsArgs),
    /// Forward a local port to an app
    PortForward(port_forward::PortForwardArgs),
    /// List the revisions that one can go back to
    History(AppArgs),
    /// Go back to an earlier revision
    Rollback(rollback::RollbackArgs),
    /// Show the runtimes, and how many apps each serves
    Runtimes,
}

#[derive(Debug, Args)]
struct AppArgs {
    /// The name of the SpinApp
    #[arg(value_name = "APP", value_parser = app::name)]
    app: String,
}

/// Where to look.
#[derive(Clone)]
struct Place {
    client: Client,
    namespace: String,
}

impl Place {
    async fn of(args: PlaceArgs) -> anyhow::Result<Self> {
        // Two TLS back ends may be compiled in; this is the one that the workspace uses.
        let _chosen_before = rustls::crypto::ring::default_provider().install_default();
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = match (&args.kubeconfig, &args.context) {
            (Some(file), _) => {
                let read = Kubeconfig::read_from(file)
                    .with_context(|| format!("cannot use {} (--kubeconfig)", file.display()))?;
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .context("the kubeconfig file leads to no cluster")?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options)
                .await
                .context("the kubeconfig file leads to no cluster (--context)")?,
            (None, None) => {
                Config::infer().await.context("no cluster is configured: set KUBECONFIG, or --kubeconfig")?
            }
        };
        let namespace = args.namespace.filter(|name| !name.is_empty());
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("the cluster's configuration cannot be used")?;
        Ok(Self { client, namespace })
    }
}

/// Does what the flags say.
pub(crate) async fn run(flags: Flags) -> anyhow::Result<()> {
    let place = Place::of(flags.place).await?;
    // What is said of it is said once, and for people.
    carry_out(place, flags.command).await.map_err(|error| anyhow::Error::msg(output::told(&error)))
}

async fn carry_out(place: Place, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Status(args) => status::run(&place, args).await,
        Command::Explain(args) => explain::run(&place, &args.app).await,
        Command::Logs(args) => logs::run(place, args).await,
        Command::PortForward(args) => port_forward::run(place, args).await,
        Command::History(args) => rollback::list(&place, &args.app).await,
        Command::Rollback(args) => rollback::run(&place, args).await,
        Command::Runtimes => runtimes::run(&place).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_and_flag_is_explained() {
        let guide = include_str!("../../docs/guide/kubectl.md");
        let command = Flags::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            for flag in sub.get_arguments() {
                assert!(flag.get_help().is_some(), "{} {}", sub.get_name(), flag.get_id());
                let names = [
                    flag.get_long().map(|long| format!("--{long}")),
                    flag.get_short().map(|short| format!("-{short}")),
                ];
                let mut names = names.into_iter().flatten().peekable();
                let is_told = names.peek().is_none() || names.any(|name| guide.contains(&name));
                assert!(is_told, "{} {} is not in docs/guide/kubectl.md", sub.get_name(), flag.get_id());
            }
        }
    }
}
