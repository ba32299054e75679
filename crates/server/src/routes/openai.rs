//! `/v1/embeddings` in the four forms that clients send, and `/v1/models`.
//!
//! OpenAI's `input`; infinity's `modality`; Jina's lists of `{"text"}` and `{"image"}`; vLLM's `messages`.

use super::{JSON, json, respond, with_modality};
use crate::app::App;
use crate::call::Call;
use crate::dialect::sentence;
use crate::embed::{self, Embedded, Input, Rows, Wanted};
use crate::fault::Fault;
use crate::json::{Fields, text, wrong};
use crate::picture_source;
use crate::queue::Kind;
use altclip_report::{Code, Report, quote};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the numbers of an answer look like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Floats,
    Base64,
}

pub(super) async fn models(app: Arc<App>, _: Call) -> Result<Response, Fault> {
    Ok(json(&json!({ "object": "list", "data": [described(&app.engine.about().name)] })))
}

fn described(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "altclip" })
}

/// The model by its name, which may have slashes; some clients escape them.
pub(super) async fn model(app: Arc<App>, call: Call) -> Result<Response, Fault> {
    let name = &app.engine.about().name;
    let asked = call.path.strip_prefix("/v1/models/").unwrap_or_default();
    if unescaped(asked) == name.as_bytes() {
        return Ok(json(&described(name)));
    }
    let report = Report::new(Code::E8005, "server", "there is no such model")
        .got(quote(asked))
        .expected(name.clone())
        .help("see /v1/models");
    Err(Fault { param: Some("model".into()), ..Fault::new(StatusCode::NOT_FOUND, report) })
}

/// A part of a path without its escapes; what is none stays.
fn unescaped(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let byte = match (first, behind) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match byte {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    bytes
}

pub(super) async fn embeddings(app: Arc<App>, mut call: Call) -> Result<Response, Fault> {
    let mut fields = call.fields()?;
    let inputs = inputs(&mut fields, app.limits.texts)?;
    let encoding = encoding(&mut fields)?;
    check_width(&mut fields, app.engine.about().width)?;
    let wanted = Wanted {
        normalize: fields.flag("normalized", true)?,
        truncate: truncate(&mut fields)?,
        skip_bad: on_error(&mut fields)?,
    };
    let (inputs, bad) = apart(inputs, wanted.skip_bad)?;
    let modality = Kind::of_inputs(&inputs);
    let rows = match inputs.is_empty() && !bad.is_empty() {
        true => Rows::new(),
        false => embed::embed(&app, &call, inputs, wanted).await?,
    };
    let rows = together(rows, bad);
    Ok(with_modality(respond(JSON, body(&app.engine.about().name, &rows, encoding)), modality))
}

/// An item of a request, or what is wrong with it alone.
type Item = Result<Input, Fault>;
/// Bad items by their places.
type Bad = Vec<(usize, Report)>;

/// The good items, and with their places the bad ones if these are to be skipped.
fn apart(items: Vec<Item>, skip_bad: bool) -> Result<(Vec<Input>, Bad), Fault> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (place, item) in items.into_iter().enumerate() {
        match item {
            Ok(input) => good.push(input),
            Err(fault) if skip_bad => bad.push((place, fault.report)),
            Err(fault) => return Err(fault),
        }
    }
    Ok((good, bad))
}

/// All items in their order.
fn together(rows: Rows, bad: Bad) -> Rows {
    let count = rows.len() + bad.len();
    let (mut rows, mut bad) = (rows.into_iter(), bad.into_iter().peekable());
    let at = |place| match bad.next_if(|(bad, _)| *bad == place) {
        Some((_, report)) => Some(Err(report)),
        None => rows.next(),
    };
    (0..count).filter_map(at).collect()
}

/// The inputs, whichever form they have; no more than `most`.
fn inputs(fields: &mut Fields, most: usize) -> Result<Vec<Item>, Fault> {
    if let Some(messages) = fields.take("messages") {
        return of_messages(messages);
    }
    let as_pictures = match fields.string("modality")?.as_deref() {
        None | Some("text") => false,
        Some("image") => true,
        Some(other) => return Err(Fault::field("modality", other, "text or image")),
    };
    let expected = "a text, a list of texts, or a list of {\"text\"} and {\"image\"}";
    match fields.needed("input", expected)? {
        Value::Array(items) if items.len() > most => {
            let got = format!("{} texts or pictures", items.len());
            Err(Fault::field("input", got, &format!("at most {most}")))
        }
        Value::Array(items) => {
            let named = |(place, item)| one(item, &format!("input[{place}]"), as_pictures);
            Ok(items.into_iter().enumerate().map(named).collect())
        }
        input => Ok(vec![one(input, "input", as_pictures)]),
    }
}

fn one(value: Value, name: &str, as_picture: bool) -> Item {
    match value {
        Value::String(text) if as_picture => picture(&text, name),
        Value::String(text) => Ok(Input::Text(text)),
        Value::Object(_) => {
            let mut fields = Fields::of(value, name)?;
            match (fields.string("text")?, fields.string("image")?) {
                (Some(text), None) => Ok(Input::Text(text)),
                (None, Some(image)) => picture(&image, name),
                _ => Err(Fault::field(name, "an object", "either text or image")),
            }
        }
        // Token ids of another model's tokenizer would give confident nonsense.
        Value::Number(_) | Value::Array(_) => Err(Fault::field(
            name,
            "token ids",
            "text: in LangChain, check_embedding_ctx_length=False",
        )),
        other => Err(wrong(name, &other, "a text")),
    }
}

fn picture(text: &str, name: &str) -> Item {
    picture_source::bytes(text, name).map(Input::Picture)
}

/// The one text or picture of a conversation.
fn of_messages(messages: Value) -> Result<Vec<Item>, Fault> {
    let Value::Array(messages) = messages else {
        return Err(wrong("messages", &messages, "a list of messages"));
    };
    let mut inputs = Vec::new();
    for (place, message) in messages.into_iter().enumerate() {
        let name = format!("messages[{place}]");
        let mut message = Fields::of(message, &name)?;
        match message.needed("content", "a text or a list of parts")? {
            Value::Array(parts) => {
                for part in parts {
                    inputs.extend(part_of_message(part, &format!("{name}.content"))?);
                }
            }
            content => inputs.push(Ok(Input::Text(text(content, &format!("{name}.content"))?))),
        }
    }
    match inputs.len() {
        1 => Ok(inputs),
        count => Err(Fault::field(
            "messages",
            format!("{count} texts and pictures"),
            "one text or one picture: this model does not join them",
        )),
    }
}

fn part_of_message(part: Value, name: &str) -> Result<Option<Item>, Fault> {
    let mut part = Fields::of(part, name)?;
    match part.string("type")?.as_deref() {
        Some("text") => {
            let text = part.string("text")?.unwrap_or_default();
            Ok((!text.is_empty()).then_some(Ok(Input::Text(text))))
        }
        Some("image_url") => {
            let url = match part.needed("image_url", "an object with url")? {
                Value::String(url) => url,
                other => {
                    let mut inner = Fields::of(other, &format!("{name}.image_url"))?;
                    text(inner.needed("url", "a data URI")?, &format!("{name}.image_url.url"))?
                }
            };
            Ok(Some(picture(&url, name)))
        }
        other => Err(Fault::field(
            &format!("{name}.type"),
            other.unwrap_or("nothing"),
            "text or image_url",
        )),
    }
}

/// OpenAI's `encoding_format`, Jina's `embedding_type`.
fn encoding(fields: &mut Fields) -> Result<Encoding, Fault> {
    let format = fields.string("encoding_format")?;
    let kinds = fields.strings("embedding_type")?.unwrap_or_default();
    let kind = match (format, kinds.as_slice()) {
        (Some(format), []) => Some(format),
        (None, [kind]) => Some(kind.clone()),
        (None, []) => None,
        (_, kinds) => {
            return Err(Fault::field("embedding_type", kinds.join(", "), "one of float, base64"));
        }
    };
    match kind.as_deref() {
        None | Some("float") => Ok(Encoding::Floats),
        Some("base64") => Ok(Encoding::Base64),
        Some(other) => Err(Fault::field("encoding_format", other, "float or base64")),
    }
}

/// Rows of this model mean nothing when they are cut.
pub(super) fn check_width(fields: &mut Fields, width: usize) -> Result<(), Fault> {
    match fields.take("dimensions") {
        Some(value) if value.as_u64() != Some(width as u64) => {
            Err(wrong("dimensions", &value, &format!("{width}: this model has no shorter rows")))
        }
        _ => Ok(()),
    }
}

/// vLLM's `truncate_prompt_tokens` is not a flag; ours is.
fn truncate(fields: &mut Fields) -> Result<bool, Fault> {
    match fields.take("truncate") {
        None => Ok(true),
        Some(Value::Bool(flag)) => Ok(flag),
        // Cohere's and NVIDIA's words. Nothing is cut at its start here.
        Some(Value::String(word)) if word.eq_ignore_ascii_case("none") => Ok(false),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("end") => Ok(true),
        Some(other) => Err(wrong("truncate", &other, "true, false, NONE or END")),
    }
}

fn on_error(fields: &mut Fields) -> Result<bool, Fault> {
    match fields.string("on_error")?.as_deref() {
        None | Some("fail") => Ok(false),
        Some("skip") => Ok(true),
        Some(other) => Err(Fault::field("on_error", other, "fail or skip")),
    }
}

/// The answer, written row by row: it is too long to be built twice.
fn body(model: &str, rows: &Rows, encoding: Encoding) -> Vec<u8> {
    let mut body = br#"{"object":"list","data":["#.to_vec();
    let mut tokens = 0;
    let good = rows.iter().enumerate().filter_map(|(index, row)| Some((index, row.as_ref().ok()?)));
    for (written, (index, embedded)) in good.enumerate() {
        if written > 0 {
            body.push(b',');
        }
        tokens += embedded.tokens;
        write_item(&mut body, index, embedded, encoding);
    }
    let errors: Vec<Value> = rows
        .iter()
        .enumerate()
        .filter_map(|(index, row)| Some((index, row.as_ref().err()?)))
        .map(|(index, report)| {
            json!({ "index": index, "code": report.code.as_str(), "message": sentence(report) })
        })
        .collect();
    let model = Value::from(model);
    body.extend(format!("],\"model\":{model},").bytes());
    if !errors.is_empty() {
        body.extend(format!("\"errors\":{},", Value::Array(errors)).bytes());
    }
    body.extend(
        format!("\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}").bytes(),
    );
    body
}

fn write_item(body: &mut Vec<u8>, index: usize, embedded: &Embedded, encoding: Encoding) {
    body.extend(format!("{{\"object\":\"embedding\",\"index\":{index},").bytes());
    if embedded.is_truncated() {
        let total = embedded.tokens_total;
        body.extend(format!("\"truncated\":true,\"tokens_total\":{total},").bytes());
    }
    body.extend(b"\"embedding\":");
    match encoding {
        Encoding::Floats => embedded.row.write_json(body),
        // Base64 needs no escapes.
        Encoding::Base64 => body.extend(format!("\"{}\"", embedded.row.base64()).bytes()),
    }
    body.push(b'}');
}
