//! The core import `llm` of Spin 1's SDKs: `infer` and `generate-embeddings`, in the canonical layout of `fermyon:spin/llm`.
//!
//! `infer` takes model and prompt (pointer, length), then the parameters (tag, six values), then where the result goes, 20 bytes: u8
//! tag at 0. 0: text: pointer at 4, length at 8; tokens of the prompt at 12, of the text at 16. 1 (error): u8 kind at 4, text:
//! pointer at 8, length at 12. `generate-embeddings` takes the model, texts (pointer, count), and where 16 bytes go: tag at 0; vectors:
//! pointer at 4, count at 8; tokens at 12; error as above.

use wasmtime::{Caller, Linker};

use super::{LlmError, Parameters, RuntimeContext, embed, infer};
use crate::host::guest_memory::{GuestHeap, GuestMemory, MemoryError};

const MODULE: &str = "llm";
const INFERENCE_SIZE: u32 = 20;
const EMBEDDINGS_SIZE: u32 = 16;
/// A text in a list: pointer and length.
const TEXT_SIZE: u32 = 8;

type Infer = (u32, u32, u32, u32, u32, u32, f32, u32, f32, u32, f32, u32);
type Embed = (u32, u32, u32, u32, u32);

/// Defines both.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "infer", |caller, arguments: Infer| Box::new(infer_for(caller, arguments)))?;
    linker.func_wrap_async(MODULE, "generate-embeddings", |caller, arguments: Embed| {
        Box::new(embed_for(caller, arguments))
    })?;
    Ok(())
}

async fn infer_for(mut caller: Caller<'_, RuntimeContext>, arguments: Infer) -> wasmtime::Result<()> {
    let (model, model_size, prompt, prompt_size, tag, max_tokens, penalty, penalty_last, temperature, top_k, top_p, at) =
        arguments;
    let heap = GuestHeap::of(&mut caller)?;
    let memory = GuestMemory(heap.memory.data(&caller));
    memory.slice("result", at, INFERENCE_SIZE.into())?;
    let (model, prompt) = (
        text(memory.slice("model", model, model_size.into())?)?,
        text(memory.slice("prompt", prompt, prompt_size.into())?)?,
    );
    let parameters = match tag {
        0 => Parameters::default(),
        1 => Parameters {
            max_tokens,
            repeat_penalty: penalty,
            repeat_penalty_last_n_token_count: penalty_last,
            temperature,
            top_k,
            top_p,
        },
        tag => return Err(MemoryError::Tag { what: "parameters", tag }.into()),
    };
    let words = match infer(&caller.data_mut().outbound, &model, &prompt, parameters).await {
        Ok(inference) => {
            let (text, size) = heap.give(&mut caller, inference.text.as_bytes(), 1).await?;
            [0, text, size, inference.prompt_tokens, inference.generated_tokens]
        }
        Err(error) => {
            let (kind, text, size) = give_error(&heap, &mut caller, &error).await?;
            [1, kind, text, size, 0]
        }
    };
    heap.write_words(&mut caller, "result", at, &words)
}

async fn embed_for(mut caller: Caller<'_, RuntimeContext>, arguments: Embed) -> wasmtime::Result<()> {
    let (model, model_size, texts, count, at) = arguments;
    let heap = GuestHeap::of(&mut caller)?;
    let memory = GuestMemory(heap.memory.data(&caller));
    memory.slice("result", at, EMBEDDINGS_SIZE.into())?;
    let model = text(memory.slice("model", model, model_size.into())?)?;
    let limit = caller.data().grants().buffered_body;
    let Some(texts) = read_texts(memory, texts, count, limit)? else {
        let error = LlmError::Input(format!("the texts have more than {limit} bytes"));
        let (kind, text, size) = give_error(&heap, &mut caller, &error).await?;
        return heap.write_words(&mut caller, "result", at, &[1, kind, text, size]);
    };
    let words = match embed(&caller.data_mut().outbound, &model, &texts).await {
        Ok(embeddings) => {
            let mut list = Vec::new();
            for vector in &embeddings.vectors {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                let (at, _) = heap.give(&mut caller, &bytes, 4).await?;
                list.extend_from_slice(&at.to_le_bytes());
                list.extend_from_slice(&u32::try_from(vector.len())?.to_le_bytes());
            }
            let (list, _) = heap.give(&mut caller, &list, 4).await?;
            [0, list, u32::try_from(embeddings.vectors.len())?, embeddings.prompt_tokens]
        }
        Err(error) => {
            let (kind, text, size) = give_error(&heap, &mut caller, &error).await?;
            [1, kind, text, size]
        }
    };
    heap.write_words(&mut caller, "result", at, &words)
}

/// Copies a list of texts, unless it has more than `limit` bytes: a list may name the same bytes many times.
fn read_texts(memory: GuestMemory<'_>, list: u32, count: u32, limit: usize) -> wasmtime::Result<Option<Vec<String>>> {
    memory.slice("list of texts", list, u64::from(count) * u64::from(TEXT_SIZE))?;
    let (mut texts, mut size) = (Vec::new(), 0);
    for index in 0..count {
        let element = list + index * TEXT_SIZE;
        let (at, length) = (memory.u32("text", element, 0)?, memory.u32("text", element, 4)?);
        let bytes = memory.slice("text", at, length.into())?;
        size += bytes.len() + size_of::<String>();
        if size > limit {
            return Ok(None);
        }
        texts.push(text(bytes)?);
    }
    Ok(Some(texts))
}

fn text(bytes: &[u8]) -> wasmtime::Result<String> {
    Ok(std::str::from_utf8(bytes)
        .map_err(|_| wasmtime::format_err!("the guest gave a text that is not UTF-8"))?
        .to_owned())
}

/// The error's kind, and its text in the guest's memory.
async fn give_error(
    heap: &GuestHeap,
    caller: &mut Caller<'_, RuntimeContext>,
    error: &LlmError,
) -> wasmtime::Result<(u32, u32, u32)> {
    let (kind, message) = match error {
        LlmError::ModelNotSupported => return Ok((0, 0, 0)),
        LlmError::Runtime(message) => (1, message),
        LlmError::Input(message) => (2, message),
    };
    let (at, size) = heap.give(caller, message.as_bytes(), 1).await?;
    Ok((kind, at, size))
}
