//! Spin's `llm`, with a server of models in this process.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use manifest::runtime_config::{LlmApi, LlmCompute, Secret};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{App, guest, legacy_with};

/// A server that answers everything alike, and keeps what it was asked: path, authorization, body.
struct Models {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, String, Value)>>>,
    _tasks: JoinSet<()>,
}

impl Models {
    async fn answering(status: u16, answer: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let (kept, mut tasks) = (Arc::clone(&asked), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, answer) = (Arc::clone(&kept), answer.to_string());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (kept, answer) = (Arc::clone(&kept), answer.clone());
                    async move {
                        let path = request.uri().path().to_owned();
                        let token = request.headers()["authorization"].to_str().unwrap().to_owned();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        kept.lock().unwrap().push((path, token, serde_json::from_slice(&body).unwrap()));
                        let response = Response::builder().status(status).body(Full::new(Bytes::from(answer)));
                        Ok::<_, Infallible>(response.unwrap())
                    }
                });
                connections.spawn(async move {
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _closed = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    /// The answer to a guest that asks for `path` and may use the model `m`, and what the server was asked for it.
    async fn ask(&self, api: LlmApi, path: &str) -> (String, Vec<(String, String, Value)>) {
        let reply = self.computing(app(), api).serve().await.get(path).await;
        (reply.text().to_owned(), self.asked())
    }

    /// The app with this server for its models.
    fn computing(&self, app: App, api: LlmApi) -> App {
        let compute = LlmCompute { url: format!("http://{}", self.address), auth_token: Secret::new("token"), api };
        app.runtime_config(|config| config.llm_compute = Some(compute))
    }

    fn asked(&self) -> Vec<(String, String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

/// A core module of Spin 1 that asks the model `m` with its request's body. It answers with the text or the error's, and with a
/// status that tells the tokens or the error's kind.
fn module() -> App {
    let import = r#"(import "llm" "infer"
            (func $infer (param i32 i32 i32 i32 i32 i32 f32 i32 f32 i32 f32 i32)))
        (data (i32.const 600) "m")"#;
    let handler = r"
        (call $infer (i32.const 600) (i32.const 1) (local.get $body) (local.get $body_len)
            (i32.const 1) (i32.const 7) (f32.const 1.5) (i32.const 10) (f32.const 0.25) (i32.const 5) (f32.const 0.5)
            (i32.const 2000))
        (if (i32.load8_u (i32.const 2000))
            (then
                (i32.store16 (i32.const 1000) (i32.add (i32.const 500) (i32.load8_u (i32.const 2004))))
                (i64.store (i32.const 1020) (i64.load (i32.const 2008))))
            (else
                (i32.store16 (i32.const 1000) (i32.add (i32.const 200)
                    (i32.add (i32.mul (i32.const 10) (i32.load (i32.const 2012))) (i32.load (i32.const 2016)))))
                (i64.store (i32.const 1020) (i64.load (i32.const 2004)))))
        (i32.const 1000)";
    may_use_m(App::of(&legacy_with(import, handler)))
}

/// The same, which asks for the vector of its request's body and answers with the bytes of it.
fn embedding_module() -> App {
    let import = r#"(import "llm" "generate-embeddings" (func $embed (param i32 i32 i32 i32 i32)))
        (data (i32.const 600) "m")"#;
    let handler = r"(local $vector i32)
        (i32.store (i32.const 700) (local.get $body))
        (i32.store (i32.const 704) (local.get $body_len))
        (call $embed (i32.const 600) (i32.const 1) (i32.const 700) (i32.const 1) (i32.const 2000))
        (if (i32.load8_u (i32.const 2000)) (then unreachable))
        (local.set $vector (i32.load (i32.const 2004)))
        (i32.store16 (i32.const 1000) (i32.add (i32.const 200) (i32.load (i32.const 2012))))
        (i32.store (i32.const 1020) (i32.load (local.get $vector)))
        (i32.store (i32.const 1024) (i32.mul (i32.const 4) (i32.load offset=4 (local.get $vector))))
        (i32.const 1000)";
    may_use_m(App::of(&legacy_with(import, handler)))
}

fn may_use_m(mut app: App) -> App {
    app.main().ai_models.push("m".to_owned());
    app
}

fn app() -> App {
    may_use_m(App::of(&guest("http-p3")))
}

#[tokio::test]
async fn spin_s_own_servers_are_asked_as_spin_asks_them() {
    let models =
        Models::answering(200, json!({"text": "well", "usage": {"promptTokenCount": 3, "generatedTokenCount": 1}}))
            .await;
    let (answer, asked) = models.ask(LlmApi::Spin, "/llm/infer?model=m&prompt=All+is&max-tokens=7").await;
    assert_eq!(answer, "3 1 well\n");
    let options = json!({
        "maxTokens": 7, "repeatPenalty": 1.5, "repeatPenaltyLastNTokenCount": 10, "temperature": 0.25, "topK": 5, "topP": 0.5
    });
    let question = json!({"model": "m", "prompt": "All is", "options": options});
    assert_eq!(asked, [("/infer".to_owned(), "bearer token".to_owned(), question)]);
    let models =
        Models::answering(200, json!({"embeddings": [[0.5, 1.0], [2.0]], "usage": {"promptTokenCount": 2}})).await;
    let (answer, asked) = models.ask(LlmApi::Spin, "/llm/embed?model=m&text=a+b").await;
    assert_eq!(answer, "2 [[0.5, 1.0], [2.0]]\n");
    assert_eq!((asked[0].0.as_str(), &asked[0].2), ("/embed", &json!({"model": "m", "input": ["a", "b"]})));
}

#[tokio::test]
async fn servers_of_open_ai_s_api_are_asked_for_chats_and_embeddings() {
    let answer = json!({
        "choices": [{"message": {"role": "assistant", "content": "well"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    });
    let models = Models::answering(200, answer).await;
    let (answer, asked) = models.ask(LlmApi::OpenAi, "/llm/infer?model=m&prompt=All").await;
    assert_eq!(answer, "3 1 well\n");
    let (path, token, question) = &asked[0];
    assert_eq!((path.as_str(), token.as_str()), ("/v1/chat/completions", "bearer token"));
    assert_eq!(question["messages"], json!([{"role": "user", "content": "All"}]));
    assert_eq!((&question["model"], &question["max_completion_tokens"]), (&json!("m"), &json!(100)));
    let answer = json!({"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 2}});
    let models = Models::answering(200, answer).await;
    let (answer, _) = models.ask(LlmApi::OpenAi, "/llm/embed?model=m&text=a+b").await;
    assert_eq!(answer, "2 [[1.0], [2.0]]\n");
}

#[tokio::test]
async fn only_models_of_the_manifest_are_asked_for_and_failures_are_told() {
    let models = Models::answering(200, json!({"text": "x"})).await;
    let (answer, asked) = models.ask(LlmApi::Spin, "/llm/infer?model=other&prompt=x").await;
    assert!(answer.starts_with("Error::InvalidInput") && answer.contains("`other`"), "{answer}");
    assert_eq!(asked, []);
    let nobody = app().serve().await.get("/llm/infer?model=m&prompt=x").await;
    assert!(
        nobody.text().starts_with("Error::RuntimeError") && nobody.text().contains("llm_compute"),
        "{}",
        nobody.text()
    );
    let broken = Models::answering(500, json!({"error": {"message": "out of memory"}})).await;
    let (answer, _) = broken.ask(LlmApi::OpenAi, "/llm/infer?model=m&prompt=x").await;
    assert!(answer.contains("out of memory"), "{answer}");
    let unknown = Models::answering(404, json!({"error": {"message": "no", "code": "model_not_found"}})).await;
    let (answer, _) = unknown.ask(LlmApi::OpenAi, "/llm/infer?model=m&prompt=x").await;
    assert_eq!(answer, "Error::ModelNotSupported\n");
}

#[tokio::test]
async fn core_modules_of_spin_1_find_answers_at_the_offsets_of_the_canonical_abi() {
    let usage = json!({"promptTokenCount": 3, "generatedTokenCount": 1});
    let models = Models::answering(200, json!({"text": "well", "usage": usage})).await;
    let served = models.computing(module(), LlmApi::Spin).serve().await;
    let reply = served.send_body(Request::post("/"), "All is").await;
    assert_eq!((reply.status, reply.text()), (231, "well"));
    let options = &models.asked()[0].2["options"];
    assert_eq!((&options["maxTokens"], &options["topK"], &options["topP"]), (&json!(7), &json!(5), &json!(0.5)));
    let models = Models::answering(200, json!({"embeddings": [[0.5, 1.0]], "usage": {"promptTokenCount": 2}})).await;
    let served = models.computing(embedding_module(), LlmApi::Spin).serve().await;
    let reply = served.send_body(Request::post("/"), "a b").await;
    assert_eq!((reply.status, &reply.body[..]), (202, &[0.5_f32.to_le_bytes(), 1.0_f32.to_le_bytes()].concat()[..]));
    let nobody = module().serve().await.send_body(Request::post("/"), "All is").await;
    assert_eq!(nobody.status, 501);
    assert!(nobody.text().contains("llm_compute"), "{}", nobody.text());
}
