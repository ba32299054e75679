//! `/classify`: which label fits a picture. Our form, and that of the Hugging Face task.

use super::{places_cut, with_cut, with_modality, written};
use crate::app::App;
use crate::call::Call;
use crate::embed::{self, Input, Wanted, embeddings};
use crate::fault::Fault;
use crate::json::{Fields, text};
use crate::picture_source;
use crate::row::Row;
use altclip::{Classified, Embeddings, Templates};
use altclip_report::quote;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// What our form has; that of the task may have more.
const FIELDS: [&str; 3] = ["image", "labels", "templates"];

/// What is asked, whichever form it had.
struct Question {
    picture: Vec<u8>,
    labels: Vec<String>,
    templates: Vec<String>,
    /// The answer has the form of the task: a list.
    is_task: bool,
}

#[derive(Serialize)]
struct Labels {
    labels: Vec<Scored>,
}

#[derive(Serialize)]
struct Scored {
    label: String,
    score: f32,
}

pub(super) async fn classify(app: Arc<App>, mut call: Call) -> Result<Response, Fault> {
    call.only(&[])?;
    let question = Question::read(call.fields()?)?;
    let Question { picture, labels, templates, is_task } = question;
    let templates = Templates::new(templates);
    let captions: Vec<Vec<String>> = labels.iter().map(|label| templates.captions(label)).collect();
    let per_label = captions.first().map_or(1, Vec::len);
    let mut inputs = vec![Input::Picture(picture)];
    inputs.extend(captions.into_iter().flatten().map(Input::Text));
    let rows = embed::rows(&app, &call, inputs, Wanted::default()).await?;
    let (picture, captions) = rows.split_first().ok_or_else(Fault::lost)?;
    let picture = embeddings(&app, std::slice::from_ref(picture))?;
    // Captions of one label stand together.
    let mut cut: Vec<usize> = places_cut(captions).map(|place| place / per_label.max(1)).collect();
    cut.dedup();
    let mut of_labels = embeddings(&app, captions)?;
    if per_label > 1 {
        let means = of_labels.means(per_label)?;
        of_labels =
            Embeddings::new(means.width(), app.engine.normalize(means.as_slice().to_vec())?)?;
    }
    let cosines = picture.cosines(&of_labels)?;
    let classified = Classified::from_cosines(labels.len(), app.engine.scale(), &cosines);
    let cells = classified.rows().next().unwrap_or_default();
    let scores = cells.iter().map(|cell| cell.probability);
    let mut scored: Vec<Scored> =
        labels.into_iter().zip(scores).map(|(label, score)| Scored { label, score }).collect();
    // Finite rows and a finite scale: checked once more, because nothing else may leave.
    Row::new(scored.iter().map(|scored| scored.score).collect())?;
    scored.sort_by(|a, b| b.score.total_cmp(&a.score));
    let answer = match is_task {
        true => written(&scored)?,
        false => written(&Labels { labels: scored })?,
    };
    Ok(with_modality(with_cut(answer, cut), "mixed"))
}

/// A template without a place for the label is a slip of whoever wrote it.
fn check_templates(templates: &[String], name: &str) -> Result<(), Fault> {
    let has_place = |template: &&String| template.contains("{}") || template.contains("{c}");
    match templates.iter().find(|template| !has_place(template)) {
        Some(template) => {
            Err(Fault::field(name, quote(template), "{} where the label goes: a photo of a {}"))
        }
        None => Ok(()),
    }
}

impl Question {
    fn read(mut fields: Fields) -> Result<Self, Fault> {
        let Some(inputs) = fields.take("inputs") else {
            let image = fields.needed("image", "a picture as base64 or as a data URI")?;
            let labels = fields.strings("labels")?.unwrap_or_default();
            let templates = fields.strings("templates")?.unwrap_or_default();
            fields.none_left(&FIELDS)?;
            check_templates(&templates, "templates")?;
            return Self::new((image, "image"), (labels, "labels"), templates, false);
        };
        let mut parameters = match fields.object("parameters")? {
            Some(parameters) => parameters,
            None => return Err(Fault::field("parameters", "nothing", "candidate_labels")),
        };
        let image = match inputs {
            Value::Object(_) => {
                Fields::of(inputs, "inputs")?.needed("image", "a picture as base64")?
            }
            inputs => inputs,
        };
        let labels = parameters.strings("candidate_labels")?.unwrap_or_default();
        let template = parameters.string("hypothesis_template")?;
        let templates: Vec<String> = template.into_iter().collect();
        check_templates(&templates, "parameters.hypothesis_template")?;
        let labels = (labels, "parameters.candidate_labels");
        Self::new((image, "inputs"), labels, templates, true)
    }

    fn new(
        (image, image_name): (Value, &str),
        (labels, labels_name): (Vec<String>, &str),
        templates: Vec<String>,
        is_task: bool,
    ) -> Result<Self, Fault> {
        if labels.is_empty() {
            return Err(Fault::field(labels_name, "nothing", "at least one label"));
        }
        let picture = picture_source::bytes(&text(image, image_name)?, image_name)?;
        Ok(Self { picture, labels, templates, is_task })
    }
}
