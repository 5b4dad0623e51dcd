//! Spin's `llm`: language models behind an HTTP server that whoever runs the application names (`[llm_compute]` of the
//! runtime configuration).
//!
//! Promise: a component reaches the models of its `ai_models` and no others. The server is asked by way of the component's HTTP
//! client, so connections are counted, blocked networks stay blocked, and the guest's deadline ends a call.
//!
//! Absent on purpose: models in this process.

mod interface;
mod legacy;
mod remote;

use manifest::runtime_config::LlmCompute;

use super::{Grants, Outbound, RuntimeContext, limits::Held};
pub(super) use interface::INTERFACES;

/// How a text is to be made. The default is Spin's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Parameters {
    pub(super) max_tokens: u32,
    pub(super) repeat_penalty: f32,
    pub(super) repeat_penalty_last_n_token_count: u32,
    pub(super) temperature: f32,
    pub(super) top_k: u32,
    pub(super) top_p: f32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            max_tokens: 100,
            repeat_penalty: 1.1,
            repeat_penalty_last_n_token_count: 64,
            temperature: 0.8,
            top_k: 40,
            top_p: 0.9,
        }
    }
}

/// A text that a model made, and how many tokens it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inference {
    pub(super) text: String,
    pub(super) prompt_tokens: u32,
    pub(super) generated_tokens: u32,
}

/// Vectors of texts, in their order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Embeddings {
    pub(super) vectors: Vec<Vec<f32>>,
    pub(super) prompt_tokens: u32,
}

/// Why there is no answer. The position is the interface's number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LlmError {
    /// The server has no such model.
    #[error("the model is not supported")]
    ModelNotSupported,
    /// There is no server, or it failed.
    #[error("{0}")]
    Runtime(String),
    /// What the guest asked for cannot be.
    #[error("{0}")]
    Input(String),
}

/// Has `model` go on with `prompt`.
async fn infer(outbound: &Outbound, model: &str, prompt: &str, parameters: Parameters) -> Result<Inference, LlmError> {
    let server = permitted(outbound.grants(), model)?;
    let _held = hold(outbound, prompt.len())?;
    remote::infer(outbound, server, model, prompt, parameters).await
}

/// Has `model` make vectors of `texts`.
async fn embed(outbound: &Outbound, model: &str, texts: &[String]) -> Result<Embeddings, LlmError> {
    let server = permitted(outbound.grants(), model)?;
    let _held = hold(outbound, texts.iter().map(|text| text.len().saturating_add(size_of::<String>())).sum())?;
    remote::embed(outbound, server, model, texts).await
}

/// Counts a question of `size` bytes, which is here twice: as the guest has it, and as the server is told.
fn hold(outbound: &Outbound, size: usize) -> Result<Held, LlmError> {
    let mut held = outbound.grants().network.memory().hold();
    held.add(size.saturating_mul(2)).map_err(|error| LlmError::Runtime(error.to_string()))?;
    Ok(held)
}

/// The server, if the component may use `model`.
fn permitted<'a>(grants: &'a Grants, model: &str) -> Result<&'a LlmCompute, LlmError> {
    if !grants.ai_models.iter().any(|known| known == model) {
        let shown: String = model.chars().take(NAME_SHOWN).collect();
        return Err(LlmError::Input(format!(
            "the component may not use the model `{shown}`: add it to the component's ai_models in spin.toml"
        )));
    }
    let none =
        || LlmError::Runtime("there is no server for models: set llm_compute in the runtime configuration".to_owned());
    grants.llm.as_ref().ok_or_else(none)
}

/// How much of a wrong name an error repeats, in characters.
const NAME_SHOWN: usize = 100;

/// Defines the interfaces for components.
pub(super) fn link_components(linker: &mut wasmtime::component::Linker<RuntimeContext>) -> wasmtime::Result<()> {
    interface::link(linker)
}

/// Defines the import for core modules.
pub(super) fn link_modules(linker: &mut wasmtime::Linker<RuntimeContext>) -> wasmtime::Result<()> {
    legacy::link(linker)
}
