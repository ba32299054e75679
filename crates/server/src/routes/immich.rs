//! immich's machine learning: `POST /predict` with a form, for its CLIP search, and `GET /ping`.

use super::{JSON, places_cut, respond, with_cut, with_modality};
use crate::app::App;
use crate::call::Call;
use crate::embed::{self, Input, Wanted};
use crate::fault::Fault;
use crate::json::{Fields, parse};
use crate::queue::Kind;
use altclip_report::{Code, Report, quote};
use axum::http::{StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyDataStream, Full};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Most parts of a form.
const PARTS: usize = 8;

pub(super) async fn ping(_: Arc<App>, _: Call) -> Result<Response, Fault> {
    Ok(respond("text/plain", "pong"))
}

pub(super) async fn predict(app: Arc<App>, mut call: Call) -> Result<Response, Fault> {
    let Form { entries, image, text } = Form::read(&mut call).await?;
    let is_picture = check_entries(&entries)?;
    let size = image.as_deref().and_then(altclip_search::metadata::dimensions);
    let input = match (is_picture, image, text) {
        (true, Some(image), _) => Input::Picture(image.to_vec()),
        (false, _, Some(text)) => Input::Text(text),
        (true, None, _) => return Err(Fault::field("image", "nothing", "a picture")),
        (false, _, None) => return Err(Fault::field("text", "nothing", "a text")),
    };
    let modality = if is_picture { Kind::Picture } else { Kind::Text };
    let rows = embed::rows(&app, &call, vec![input], Wanted::default()).await?;
    let embedded = rows.first().ok_or_else(Fault::lost)?;
    // The client hands it to its database as it is: a text.
    let mut numbers = Vec::new();
    embedded.row.write_json(&mut numbers);
    let mut body = Map::new();
    body.insert("clip".into(), String::from_utf8_lossy(&numbers).into());
    if let Some((width, height)) = size {
        body.insert("imageHeight".into(), json!(height));
        body.insert("imageWidth".into(), json!(width));
    }
    let answer = with_cut(respond(JSON, Value::Object(body).to_string()), places_cut(&rows));
    Ok(with_modality(answer, modality.name()))
}

/// Whether a picture is asked about, by `{"clip": {"visual": …}}` or `{"clip": {"textual": …}}`.
fn check_entries(entries: &str) -> Result<bool, Fault> {
    let expected = "clip, with visual or textual";
    if entries.is_empty() {
        return Err(Fault::field("entries", "nothing", expected));
    }
    let mut tasks = Fields::of(parse(entries.as_bytes())?, "entries")?;
    let mut clip = match tasks.object("clip")? {
        Some(clip) => clip,
        None => return Err(Fault::field("entries", quote(entries), expected)),
    };
    match (clip.take("visual").is_some(), clip.take("textual").is_some()) {
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        _ => Err(Fault::field("entries.clip", quote(entries), expected)),
    }
}

#[derive(Default)]
struct Form {
    entries: String,
    image: Option<Bytes>,
    text: Option<String>,
}

impl Form {
    async fn read(call: &mut Call) -> Result<Self, Fault> {
        let fault = |what: String| {
            let report = Report::new(Code::E8001, "request", "the body is not a valid form")
                .got(quote(&what))
                .expected("multipart/form-data with entries, and image or text")
                .help("see /docs");
            Fault::new(StatusCode::BAD_REQUEST, report)
        };
        let media = call.headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
        let boundary = multer::parse_boundary(media.unwrap_or_default());
        let boundary = boundary.map_err(|error| fault(error.to_string()))?;
        // It is in memory already, within the limit of a body.
        let stream = BodyDataStream::new(Full::new(std::mem::take(&mut call.body)));
        let mut parts = multer::Multipart::new(stream, boundary);
        let mut form = Self::default();
        for _ in 0..PARTS {
            let part = parts.next_field().await.map_err(|error| fault(error.to_string()))?;
            let Some(part) = part else { break };
            let name = part.name().unwrap_or_default().to_owned();
            let bytes = part.bytes().await.map_err(|error| fault(error.to_string()))?;
            let text = |bytes: Bytes| {
                String::from_utf8(bytes.to_vec()).map_err(|_| fault("it is not UTF-8".into()))
            };
            match name.as_str() {
                "entries" => form.entries = text(bytes)?,
                "text" => form.text = Some(text(bytes)?),
                "image" => form.image = Some(bytes),
                _ => {}
            }
        }
        Ok(form)
    }
}
