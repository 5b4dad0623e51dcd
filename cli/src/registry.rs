//! Where packages of component registries come from: the flags that every command has that loads a directory.

use std::path::PathBuf;

use clap::Args;
use sources::registry::RegistrySettings;

/// Which registry, and where its credentials are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Component registries")]
pub(crate) struct RegistryArgs {
    /// The registry of packages that name none [default: what wkg's config.toml says]
    #[arg(long, env = "SPINDLE_DEFAULT_REGISTRY", value_name = "HOST")]
    default_registry: Option<String>,
    #[arg(long = "docker-config", env = "DOCKER_CONFIG", hide = true)]
    docker_config: Option<PathBuf>,
    #[arg(long = "registry-config-home", env = "XDG_CONFIG_HOME", hide = true)]
    config_home: Option<PathBuf>,
    #[arg(long = "registry-home", env = "HOME", hide = true)]
    user_home: Option<PathBuf>,
}

impl RegistryArgs {
    /// The settings: credentials from docker's configuration, and everything else from wkg's.
    pub(crate) fn settings(&self) -> RegistrySettings {
        let absolute = |path: &Option<PathBuf>| path.clone().filter(|path| path.is_absolute());
        let home = absolute(&self.user_home);
        let config = absolute(&self.config_home).or_else(|| home.as_ref().map(|home| home.join(".config")));
        let docker = absolute(&self.docker_config).or_else(|| home.map(|home| home.join(".docker")));
        RegistrySettings {
            default_registry: self.default_registry.clone(),
            wasm_pkg_config: config.map(|dir| dir.join("wasm-pkg/config.toml")),
            docker_config: docker.map(|dir| dir.join("config.json")),
        }
    }
}
