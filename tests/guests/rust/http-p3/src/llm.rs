//! `/llm/infer?model=M&prompt=P` and `/llm/embed?model=M&text=T&text=U`, of `fermyon:spin/llm@2.0.0`.

use crate::{Query, text};
use spin_sdk::http::{BoxBody, Response, Result};
use spin_sdk::llm::llm::{InferencingParams, generate_embeddings, infer};

pub fn handle(what: &str, query: &Query<'_>) -> Result<Response<BoxBody>> {
    let model = query.decoded("model");
    let answer = match what {
        "infer" => {
            let params = query.get("max-tokens").and_then(|most| most.parse().ok()).map(|max_tokens| InferencingParams {
                max_tokens,
                repeat_penalty: 1.5,
                repeat_penalty_last_n_token_count: 10,
                temperature: 0.25,
                top_k: 5,
                top_p: 0.5,
            });
            infer(&model, &query.decoded("prompt"), params)
                .map(|result| format!("{} {} {}\n", result.usage.prompt_token_count, result.usage.generated_token_count, result.text))
        }
        _ => {
            let texts: Vec<String> = query.decoded("text").split(' ').map(str::to_owned).collect();
            generate_embeddings(&model, &texts)
                .map(|result| format!("{} {:?}\n", result.usage.prompt_token_count, result.embeddings))
        }
    };
    match answer {
        Ok(answer) => text(200, &answer),
        Err(error) => text(502, &format!("{error:?}\n")),
    }
}
