//! Flags of `spin up` that mean something which Spindle does not do. None is ignored: each is refused, with what to do.

use clap::Args;

/// The flags, known so that their refusal can say why.
#[derive(Debug, Args)]
pub(super) struct RefusedArgs {
    #[arg(hide = true, value_name = "SOURCE")]
    unnamed: Option<String>,
    #[arg(long, hide = true, value_name = "REFERENCE")]
    from_registry: Option<String>,
    #[arg(long, hide = true, value_name = "COUNT")]
    max_instance_reuse_count: Option<String>,
    #[arg(long, hide = true, value_name = "COUNT")]
    max_instance_concurrent_reuse_count: Option<String>,
    #[arg(long, hide = true, env = "SPIN_HTTP_IDLE_INSTANCE_TIMEOUT_SECS", value_name = "DURATION")]
    idle_instance_timeout: Option<String>,
    #[arg(long, hide = true)]
    experimental_wasi_otel: bool,
    #[arg(long, hide = true, value_name = "FEATURE")]
    experimental_wasm_feature: Vec<String>,
}

/// Spin's experimental features of wasm, all of which guests have anyway.
const FEATURES: [&str; 4] = ["gc", "reference-types", "exceptions", "function-references"];
/// Why instances are not reused.
const FRESH: &str = "every request gets a fresh instance here, so that nothing leaks from one request to the next";

impl RefusedArgs {
    /// Refuses whatever was given, all at once.
    ///
    /// # Errors
    /// When any was given whose meaning differs from what happens anyway.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let reasons: Vec<String> = self.reasons().collect();
        anyhow::ensure!(reasons.is_empty(), "{}", reasons.join("\n"));
        Ok(())
    }

    fn reasons(&self) -> impl Iterator<Item = String> {
        let unnamed = self.unnamed.as_ref();
        let unnamed = unnamed.map(|source| format!("{source}: to name the application, write --from {source}"));
        let registry = self.from_registry.is_some().then(|| {
            "--from-registry: OCI registries are not supported yet: publish the application to a Bindle server \
             (`spindle bindle push`) and use --bindle, or name its spin.toml with --from"
                .to_owned()
        });
        let reuse = [
            ("--max-instance-reuse-count", &self.max_instance_reuse_count),
            ("--max-instance-concurrent-reuse-count", &self.max_instance_concurrent_reuse_count),
        ]
        .into_iter()
        .filter(|(_, value)| value.as_ref().is_some_and(|value| value != "1"))
        .map(|(flag, _)| format!("{flag}: {FRESH}: leave it out, or set it to 1"));
        let idle = self.idle_instance_timeout.is_some();
        let idle = idle.then(|| {
            format!("--idle-instance-timeout ($SPIN_HTTP_IDLE_INSTANCE_TIMEOUT_SECS): {FRESH}, and none is ever idle: leave it out")
        });
        let otel = self.experimental_wasi_otel.then(|| {
            "--experimental-wasi-otel: wasi:otel is not provided: leave it out; what guests print is kept".to_owned()
        });
        let mut features = self.experimental_wasm_feature.iter();
        let features = features.find(|feature| !FEATURES.contains(&feature.as_str())).map(|feature| {
            format!(
                "--experimental-wasm-feature {feature}: the features of wasm are those that runtimes on a cluster have, \
                 among them {}: leave it out",
                FEATURES.join(", ")
            )
        });
        unnamed.into_iter().chain(registry).chain(reuse).chain(idle).chain(otel).chain(features)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        refused: RefusedArgs,
    }

    fn refusal(args: &[&str]) -> String {
        let parsed = Only::try_parse_from(std::iter::once(&"up").chain(args)).unwrap();
        parsed.refused.check().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_happens_anyway_is_not_refused() {
        assert_eq!(refusal(&["--max-instance-reuse-count", "1", "--max-instance-concurrent-reuse-count", "1"]), "");
        let features = FEATURES.map(|feature| ["--experimental-wasm-feature", feature]);
        assert_eq!(refusal(features.as_flattened()), "");
        assert_eq!(refusal(&[]), "");
    }

    #[test]
    fn each_refused_flag_is_named_with_what_to_do() {
        let text = refusal(&[
            "--from-registry",
            "ghcr.io/a/b:1",
            "--idle-instance-timeout",
            "3s",
            "--max-instance-reuse-count",
            "1..8",
            "--experimental-wasm-feature",
            "stack-switching",
        ]);
        for part in [
            "--from-registry: ",
            "use --bindle",
            "--idle-instance-timeout",
            "--max-instance-reuse-count: ",
            "set it to 1",
            "--experimental-wasm-feature stack-switching: ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.lines().count(), 4);
    }
}
