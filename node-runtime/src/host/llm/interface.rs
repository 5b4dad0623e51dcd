//! `fermyon:spin/llm@2.0.0`, and the same without a version for components of Spin 1.

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::{Embeddings, Inference, LlmError, Parameters, RuntimeContext, embed, infer};

/// The interfaces' names.
pub(in crate::host) const INTERFACES: [&str; 2] = ["fermyon:spin/llm@2.0.0", "fermyon:spin/llm"];

/// `inferencing-params`.
#[derive(Clone, Copy, ComponentType, Lift)]
#[component(record)]
struct InferencingParams {
    #[component(name = "max-tokens")]
    max_tokens: u32,
    #[component(name = "repeat-penalty")]
    repeat_penalty: f32,
    #[component(name = "repeat-penalty-last-n-token-count")]
    repeat_penalty_last_n_token_count: u32,
    temperature: f32,
    #[component(name = "top-k")]
    top_k: u32,
    #[component(name = "top-p")]
    top_p: f32,
}

/// `inferencing-usage`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct InferencingUsage {
    #[component(name = "prompt-token-count")]
    prompt_token_count: u32,
    #[component(name = "generated-token-count")]
    generated_token_count: u32,
}

/// `inferencing-result`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct InferencingResult {
    text: String,
    usage: InferencingUsage,
}

/// `embeddings-usage`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct EmbeddingsUsage {
    #[component(name = "prompt-token-count")]
    prompt_token_count: u32,
}

/// `embeddings-result`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct EmbeddingsResult {
    embeddings: Vec<Vec<f32>>,
    usage: EmbeddingsUsage,
}

/// `error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "model-not-supported")]
    ModelNotSupported,
    #[component(name = "runtime-error")]
    Runtime(String),
    #[component(name = "invalid-input")]
    Input(String),
}

type Infer = (String, String, Option<InferencingParams>);
type Embed = (String, Vec<String>);

/// Defines both.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    for interface in INTERFACES {
        let mut instance = linker.instance(interface)?;
        instance.func_wrap_async("infer", |mut store, (model, prompt, params): Infer| {
            Box::new(async move {
                let parameters = params.map(Parameters::from).unwrap_or_default();
                let answer = infer(&store.data_mut().outbound, &model, &prompt, parameters).await;
                Ok((answer.map(InferencingResult::from).map_err(Error::from),))
            })
        })?;
        instance.func_wrap_async("generate-embeddings", |mut store, (model, texts): Embed| {
            Box::new(async move {
                let answer = embed(&store.data_mut().outbound, &model, &texts).await;
                Ok((answer.map(EmbeddingsResult::from).map_err(Error::from),))
            })
        })?;
    }
    Ok(())
}

impl From<InferencingParams> for Parameters {
    fn from(params: InferencingParams) -> Self {
        let InferencingParams {
            max_tokens,
            repeat_penalty,
            repeat_penalty_last_n_token_count,
            temperature,
            top_k,
            top_p,
        } = params;
        Self { max_tokens, repeat_penalty, repeat_penalty_last_n_token_count, temperature, top_k, top_p }
    }
}

impl From<Inference> for InferencingResult {
    fn from(inference: Inference) -> Self {
        let Inference { text, prompt_tokens, generated_tokens } = inference;
        let usage = InferencingUsage { prompt_token_count: prompt_tokens, generated_token_count: generated_tokens };
        Self { text, usage }
    }
}

impl From<Embeddings> for EmbeddingsResult {
    fn from(embeddings: Embeddings) -> Self {
        let usage = EmbeddingsUsage { prompt_token_count: embeddings.prompt_tokens };
        Self { embeddings: embeddings.vectors, usage }
    }
}

impl From<LlmError> for Error {
    fn from(error: LlmError) -> Self {
        match error {
            LlmError::ModelNotSupported => Self::ModelNotSupported,
            LlmError::Runtime(message) => Self::Runtime(message),
            LlmError::Input(message) => Self::Input(message),
        }
    }
}
