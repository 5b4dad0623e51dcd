//! The servers of `[llm_compute] type = "remote_http"`, in the two APIs that Spin knows.
//!
//! `default` is Spin's own: `POST <url>/infer` with `model`, `prompt` and `options`, and `POST <url>/embed` with `model` and `input`.
//! `open_ai` is chat completions and embeddings below `<url>/v1`.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use manifest::runtime_config::{LlmApi, LlmCompute};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Embeddings, Inference, LlmError, Parameters};
use crate::host::Outbound;

/// How much of what a server says about an error a guest is told, in characters.
const MESSAGE_SHOWN: usize = 1000;

/// Has the server's model go on with `prompt`.
pub(super) async fn infer(
    outbound: &Outbound,
    server: &LlmCompute,
    model: &str,
    prompt: &str,
    parameters: Parameters,
) -> Result<Inference, LlmError> {
    match server.api {
        LlmApi::Spin => {
            let question = SpinInfer { model, prompt, options: parameters.into() };
            let answer: SpinInferred = ask(outbound, server, "infer", &question).await?;
            Ok(Inference {
                text: answer.text,
                prompt_tokens: answer.usage.prompt_token_count,
                generated_tokens: answer.usage.generated_token_count,
            })
        }
        LlmApi::OpenAi => {
            let question = Chat {
                model,
                messages: [ChatMessage { role: "user", content: prompt }],
                max_completion_tokens: parameters.max_tokens,
                frequency_penalty: parameters.repeat_penalty,
            };
            let answer: Chatted = ask(outbound, server, "chat/completions", &question).await?;
            let text = answer.choices.into_iter().next().and_then(|choice| choice.message.content);
            Ok(Inference {
                text: text.unwrap_or_default(),
                prompt_tokens: answer.usage.prompt_tokens,
                generated_tokens: answer.usage.completion_tokens,
            })
        }
    }
}

/// Has the server's model make vectors of `texts`.
pub(super) async fn embed(
    outbound: &Outbound,
    server: &LlmCompute,
    model: &str,
    texts: &[String],
) -> Result<Embeddings, LlmError> {
    let question = Embed { model, input: texts };
    match server.api {
        LlmApi::Spin => {
            let answer: SpinEmbedded = ask(outbound, server, "embed", &question).await?;
            Ok(Embeddings { vectors: answer.embeddings, prompt_tokens: answer.usage.prompt_token_count })
        }
        LlmApi::OpenAi => {
            let mut answer: Embedded = ask(outbound, server, "embeddings", &question).await?;
            answer.data.sort_by_key(|one| one.index);
            let vectors = answer.data.into_iter().map(|one| one.embedding).collect();
            Ok(Embeddings { vectors, prompt_tokens: answer.usage.prompt_tokens })
        }
    }
}

#[derive(Serialize)]
struct SpinInfer<'a> {
    model: &'a str,
    prompt: &'a str,
    options: SpinOptions,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpinOptions {
    max_tokens: u32,
    repeat_penalty: f32,
    repeat_penalty_last_n_token_count: u32,
    temperature: f32,
    top_k: u32,
    top_p: f32,
}

#[derive(Serialize)]
struct Embed<'a> {
    model: &'a str,
    input: &'a [String],
}

#[derive(Deserialize)]
struct SpinInferred {
    text: String,
    #[serde(default)]
    usage: SpinUsage,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SpinUsage {
    prompt_token_count: u32,
    generated_token_count: u32,
}

#[derive(Deserialize)]
struct SpinEmbedded {
    embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    usage: SpinUsage,
}

#[derive(Serialize)]
struct Chat<'a> {
    model: &'a str,
    messages: [ChatMessage<'a>; 1],
    max_completion_tokens: u32,
    frequency_penalty: f32,
}

#[derive(Serialize)]
struct ChatMessage<'a> {
    role: &'a str,
    content: &'a str,
}

#[derive(Deserialize)]
struct Chatted {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
}

#[derive(Deserialize)]
struct Embedded {
    data: Vec<Vector>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
struct Vector {
    #[serde(default)]
    index: u32,
    embedding: Vec<f32>,
}

/// What servers say about an error: OpenAI's form, or a plain text under the same name.
#[derive(Deserialize)]
struct Complaint {
    error: ComplaintText,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ComplaintText {
    Whole {
        message: String,
        #[serde(default)]
        code: Option<serde_json::Value>,
    },
    Text(String),
}

impl From<Parameters> for SpinOptions {
    fn from(parameters: Parameters) -> Self {
        let Parameters { max_tokens, repeat_penalty, repeat_penalty_last_n_token_count, temperature, top_k, top_p } =
            parameters;
        Self { max_tokens, repeat_penalty, repeat_penalty_last_n_token_count, temperature, top_k, top_p }
    }
}

/// The URL of `name`. Where the server's own has a path, that is where its API begins.
fn endpoint(server: &LlmCompute, name: &str) -> String {
    let base = server.url.trim_end_matches('/');
    match server.api {
        LlmApi::OpenAi if !base.ends_with("/v1") => format!("{base}/v1/{name}"),
        LlmApi::Spin | LlmApi::OpenAi => format!("{base}/{name}"),
    }
}

async fn ask<Q: Serialize, A: DeserializeOwned>(
    outbound: &Outbound,
    server: &LlmCompute,
    name: &str,
    question: &Q,
) -> Result<A, LlmError> {
    let failed = |problem: &dyn std::fmt::Display| LlmError::Runtime(format!("POST {name}: {problem}"));
    let body = serde_json::to_vec(question).map_err(|error| failed(&error))?;
    // As Spin writes it; the scheme's case means nothing (RFC 9110, 11.1).
    let token = HeaderValue::try_from(format!("bearer {}", server.auth_token.expose()));
    let mut token = token.map_err(|_| failed(&"auth_token is no text that a header can have"))?;
    token.set_sensitive(true);
    let request = Request::post(endpoint(server, name))
        .header(header::AUTHORIZATION, token)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Bytes::from(body))
        .map_err(|_| failed(&"the URL of llm_compute is none"))?;
    let response = outbound.ask(request).await.map_err(|error| failed(&error))?;
    read(&response).map_err(|error| match error {
        LlmError::Runtime(problem) => failed(&problem),
        other => other,
    })
}

/// What the server answered.
fn read<A: DeserializeOwned>(response: &Response<Bytes>) -> Result<A, LlmError> {
    // Some servers answer 200 and an error.
    let complaint = serde_json::from_slice::<Complaint>(response.body()).ok();
    let status = response.status();
    match complaint.map(|complaint| complaint.error) {
        Some(ComplaintText::Whole { code, .. }) if code.as_ref().is_some_and(|code| code == NO_MODEL) => {
            Err(LlmError::ModelNotSupported)
        }
        Some(ComplaintText::Whole { message, .. } | ComplaintText::Text(message)) => {
            Err(LlmError::Runtime(message.chars().take(MESSAGE_SHOWN).collect()))
        }
        None if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN => {
            Err(LlmError::Runtime(format!("the server refuses the auth_token ({status})")))
        }
        None if !status.is_success() => Err(LlmError::Runtime(format!("the server answered {status}"))),
        None => serde_json::from_slice(response.body())
            .map_err(|error| LlmError::Runtime(format!("the server's answer is not understood: {error}"))),
    }
}

/// OpenAI's code of an error.
const NO_MODEL: &str = "model_not_found";

#[cfg(test)]
mod tests {
    use manifest::runtime_config::Secret;

    use super::*;

    fn endpoint_of(url: &str, api: LlmApi) -> String {
        endpoint(&LlmCompute { url: url.to_owned(), auth_token: Secret::new("t"), api }, "x")
    }

    #[test]
    fn the_api_begins_at_the_server_s_path() {
        assert_eq!(endpoint_of("http://h:1", LlmApi::Spin), "http://h:1/x");
        assert_eq!(endpoint_of("http://h/base/", LlmApi::Spin), "http://h/base/x");
        assert_eq!(endpoint_of("https://h", LlmApi::OpenAi), "https://h/v1/x");
        assert_eq!(endpoint_of("https://h/v1/", LlmApi::OpenAi), "https://h/v1/x");
    }

    fn read_as(status: u16, body: &str) -> Result<f64, LlmError> {
        read(&Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
    }

    #[test]
    fn what_a_server_says_about_an_error_reaches_the_guest() {
        let runtime = |text: &str| Err(LlmError::Runtime(text.to_owned()));
        assert_eq!(read_as(200, "1.5"), Ok(1.5));
        assert_eq!(read_as(200, r#"{"error": {"message": "too long"}}"#), runtime("too long"));
        assert_eq!(read_as(500, r#"{"error": "busy"}"#), runtime("busy"));
        assert_eq!(
            read_as(404, r#"{"error": {"message": "no", "code": "model_not_found"}}"#),
            Err(LlmError::ModelNotSupported)
        );
        assert_eq!(read_as(503, "<html>"), runtime("the server answered 503 Service Unavailable"));
        assert!(matches!(read_as(401, ""), Err(LlmError::Runtime(text)) if text.contains("auth_token")));
        assert!(matches!(read_as(200, "<html>"), Err(LlmError::Runtime(text)) if text.contains("not understood")));
    }
}
