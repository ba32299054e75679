//! The routes of Hugging Face's text-embeddings-inference: `/embed`, `/similarity`, `/info`, `/health`.

use super::openai::check_width;
use super::{JSON, json, places_cut, respond, with_cut, with_modality, write_rows, written};
use crate::app::App;
use crate::call::Call;
use crate::embed::{self, Embedded, Input, Wanted, embeddings};
use crate::fault::Fault;
use crate::json::{Fields, text, wrong};
use crate::queue::Kind;
use crate::row::cosine;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn embed(app: Arc<App>, mut call: Call) -> Result<Response, Fault> {
    let mut fields = call.fields()?;
    let inputs = match fields.needed("inputs", "a text or a list of texts")? {
        Value::Array(items) => items
            .into_iter()
            .enumerate()
            .map(|(place, item)| Ok(Input::Text(text_of(item, &format!("inputs[{place}]"))?)))
            .collect::<Result<Vec<_>, Fault>>()?,
        input => vec![Input::Text(text_of(input, "inputs")?)],
    };
    check_width(&mut fields, app.engine.about().width)?;
    let normalize = fields.flag("normalize", true)?;
    let truncate = fields.flag("truncate", true)?;
    let wanted = Wanted { normalize, truncate, skip_bad: false };
    let rows = embed::rows(&app, &call, inputs, wanted).await?;
    Ok(told(respond(JSON, write_rows(rows.iter())), &rows))
}

fn text_of(value: Value, name: &str) -> Result<String, Fault> {
    match value {
        Value::Number(_) | Value::Array(_) => Err(wrong(name, &value, "a text, not token ids")),
        value => text(value, name),
    }
}

pub(super) async fn similarity(app: Arc<App>, mut call: Call) -> Result<Response, Fault> {
    let mut fields = call.fields()?;
    let inputs = fields.needed("inputs", "source_sentence and sentences")?;
    let mut inputs = Fields::of(inputs, "inputs")?;
    let source = inputs.needed("source_sentence", "a text")?;
    let source = text(source, "inputs.source_sentence")?;
    let sentences = inputs.strings("sentences")?.unwrap_or_default();
    if sentences.is_empty() {
        return Err(Fault::field("inputs.sentences", "nothing", "at least one text"));
    }
    let mut parameters = match fields.object("parameters")? {
        Some(parameters) => parameters,
        None => Fields::of(json!({}), "parameters")?,
    };
    let truncate = parameters.flag("truncate", true)?;
    let wanted = Wanted { truncate, ..Wanted::default() };
    let texts = std::iter::once(source).chain(sentences).map(Input::Text).collect();
    let rows = embed::rows(&app, &call, texts, wanted).await?;
    let (source, sentences) = rows.split_first().ok_or_else(Fault::lost)?;
    let source = embeddings(&app, std::slice::from_ref(source))?;
    // Sums of finite products of normalised rows.
    let mut cosines = source.cosines(&embeddings(&app, sentences)?)?;
    cosines.iter_mut().for_each(|x| *x = cosine(*x));
    Ok(told(written(&cosines)?, &rows))
}

/// Texts' rows, and which texts were cut.
fn told(response: Response, rows: &[Embedded]) -> Response {
    with_modality(with_cut(response, places_cut(rows)), Kind::Text.name())
}

pub(super) async fn info(app: Arc<App>, _: Call) -> Result<Response, Fault> {
    let (about, limits) = (app.engine.about(), &app.limits);
    Ok(json(&json!({
        "model_id": about.name,
        "model_sha": null,
        "model_dtype": match about.precision.as_str() {
            "f32" => "float32",
            "bf16" => "bfloat16",
            other => other,
        },
        "model_type": { "embedding": { "pooling": "cls" } },
        "max_concurrent_requests": limits.connections,
        "max_input_length": about.max_length,
        "max_batch_tokens": limits.batch_tokens,
        "max_batch_requests": null,
        "max_client_batch_size": limits.texts,
        "auto_truncate": true,
        "tokenization_workers": app.threads,
        "version": env!("CARGO_PKG_VERSION"),
        "sha": null,
        "docker_label": null,
        "languages": about.languages,
        "embedding_size": about.width,
        "index": app.catalog.is_some(),
    })))
}

pub(super) async fn health(app: Arc<App>, _: Call) -> Result<Response, Fault> {
    app.ready().await?;
    Ok(respond("text/plain", ""))
}
