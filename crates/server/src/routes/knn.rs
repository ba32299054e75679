//! clip-retrieval's backend: `/knn-service`, `/indices-list`, `/metadata`, as its client asks them.

use super::search::{catalog, read};
use super::{json, with_cut, with_modality, written};
use crate::app::App;
use crate::call::Call;
use crate::catalog::{Catalog, Near};
use crate::embed::{self, Input, Wanted};
use crate::fault::Fault;
use crate::json::{Fields, wrong};
use crate::picture_source;
use crate::queue::Kind;
use altclip_report::quote;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Results where nothing else is asked for, as clip-retrieval has it.
const NUM_IMAGES: usize = 100;
/// Pictures this near to a better one are the same picture.
const DUPLICATE: f32 = 0.94;
/// The name of our only index.
const INDEX: &str = "index";

#[derive(Serialize)]
struct Shown {
    id: i64,
    url: String,
    image_path: String,
    caption: String,
    similarity: f32,
}

pub(super) async fn nearest(app: Arc<App>, mut call: Call) -> Result<Response, Fault> {
    let catalog = catalog(&app)?;
    let mut fields = call.fields()?;
    check_index(&mut fields)?;
    let count = fields.count("num_images", app.limits.results)?.unwrap_or(NUM_IMAGES);
    let count = count.min(app.limits.results);
    let deduplicate = fields.flag("deduplicate", true)?;
    match fields.string("modality")?.as_deref() {
        None | Some("image") => {}
        Some(other) => return Err(Fault::field("modality", other, "image")),
    }
    let Sought { vector, modality, is_cut } = vector(&app, &call, &mut fields).await?;
    let look = move || -> Result<Vec<Near>, Fault> {
        let near = catalog.nearest(&vector, count)?;
        if deduplicate { distinct(&catalog, near) } else { Ok(near) }
    };
    let near = read(&app, &call, look).await??;
    let shown: Vec<Shown> = near
        .into_iter()
        .map(|Near { id, picture, score }| Shown {
            id,
            url: format!("/picture/{id}"),
            image_path: picture.path,
            caption: picture.tags.join(" "),
            similarity: score,
        })
        .collect();
    Ok(with_modality(with_cut(written(&shown)?, is_cut.then_some(0)), modality))
}

/// What is looked for.
struct Sought {
    vector: Vec<f32>,
    modality: &'static str,
    /// The text was longer than the model takes.
    is_cut: bool,
}

/// What is looked for: the client's own vector, a text, or a picture.
async fn vector(app: &Arc<App>, call: &Call, fields: &mut Fields) -> Result<Sought, Fault> {
    let own = fields.take("embedding_input");
    if let Some(picture) = fields.string("image_url")? {
        // An address is refused; a data URI is the picture itself.
        let picture = picture_source::bytes(&picture, "image_url")?;
        return row(app, call, Input::Picture(picture)).await;
    }
    let (text, picture) = (fields.string("text")?, fields.string("image")?);
    let text = text.filter(|text| !text.trim().is_empty());
    match (own, text, picture) {
        (Some(Value::Array(numbers)), _, _) => {
            let number = |value: &Value| match value.as_f64().map(|x| x as f32) {
                Some(x) if x.is_finite() => Ok(x),
                _ => Err(wrong("embedding_input", value, "finite numbers")),
            };
            let numbers = numbers.iter().map(number).collect::<Result<Vec<_>, _>>()?;
            let length = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
            if !(length.is_finite() && length > 0.0) {
                return Err(Fault::field("embedding_input", "a length of 0", "a vector"));
            }
            let vector = numbers.iter().map(|x| x / length).collect();
            Ok(Sought { vector, modality: "vector", is_cut: false })
        }
        (Some(other), _, _) => Err(wrong("embedding_input", &other, "a list of numbers")),
        (None, Some(text), _) => row(app, call, Input::Text(text)).await,
        (None, None, Some(picture)) => {
            let picture = picture_source::bytes(&picture, "image")?;
            row(app, call, Input::Picture(picture)).await
        }
        (None, None, None) => {
            Err(Fault::field("text", "nothing", "text, image or embedding_input"))
        }
    }
}

async fn row(app: &Arc<App>, call: &Call, input: Input) -> Result<Sought, Fault> {
    let modality = Kind::of_inputs(std::slice::from_ref(&input));
    let rows = embed::rows(app, call, vec![input], Wanted::default()).await?;
    let row = rows.into_iter().next().ok_or_else(Fault::lost)?;
    Ok(Sought { vector: row.row.numbers().to_vec(), modality, is_cut: row.is_truncated() })
}

/// Those that are not nearly the same as a better one.
fn distinct(catalog: &Catalog, near: Vec<Near>) -> Result<Vec<Near>, Fault> {
    let ids: Vec<i64> = near.iter().map(|near| near.id).collect();
    let mut kept: Vec<(Vec<f32>, Near)> = Vec::new();
    for (vector, near) in catalog.vectors(&ids)?.into_iter().zip(near) {
        let same =
            |other: &[f32]| vector.iter().zip(other).map(|(a, b)| a * b).sum::<f32>() > DUPLICATE;
        if !kept.iter().any(|(other, _)| same(other)) {
            kept.push((vector, near));
        }
    }
    Ok(kept.into_iter().map(|(_, near)| near).collect())
}

pub(super) async fn indices(app: Arc<App>, _: Call) -> Result<Response, Fault> {
    catalog(&app)?;
    Ok(json(&json!([INDEX])))
}

pub(super) async fn metadata(app: Arc<App>, mut call: Call) -> Result<Response, Fault> {
    let catalog = catalog(&app)?;
    let mut fields = call.fields()?;
    check_index(&mut fields)?;
    let expected = "a list of ids";
    let ids = match fields.needed("ids", expected)? {
        Value::Array(ids) if ids.len() <= app.limits.results => ids,
        other => return Err(wrong("ids", &other, expected)),
    };
    let number = |id: &Value| id.as_i64().ok_or_else(|| wrong("ids", id, "a whole number"));
    let ids = ids.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let look = move || -> Result<Vec<Value>, Fault> {
        let mut found = Vec::new();
        for id in ids {
            let picture = catalog.picture(id)?;
            found.push(json!({ "id": id, "metadata": {
                "image_path": picture.path,
                "url": format!("/picture/{id}"),
                "caption": picture.tags.join(" "),
                "width": picture.width,
                "height": picture.height,
            }}));
        }
        Ok(found)
    };
    Ok(json(&Value::Array(read(&app, &call, look).await??)))
}

/// Another index would have other pictures in it.
fn check_index(fields: &mut Fields) -> Result<(), Fault> {
    match fields.string("indice_name")?.as_deref() {
        None | Some("" | INDEX) => Ok(()),
        Some(other) => Err(Fault::field(
            "indice_name",
            quote(other),
            &format!("{INDEX}, as /indices-list says"),
        )),
    }
}
