//! `altclip doctor --accuracy`: how far bf16 and int8 are from f32, on the user's own pictures.
//!
//! For each precision: the cosine of every embedding with its f32 form, mean and worst, and how often
//! a picture's nearest sentence stays the same.

use crate::inputs::{self, Input};
use altclip::image::Rgb;
use altclip::tensor::Precision;
use altclip::{Embeddings, Model, samples};
use altclip_report::{Code, Diagnose, Report};
use serde_json::{Value, json};
use std::path::Path;

/// Pictures that are compared at most.
const PICTURES: usize = 256;

/// What one precision gives.
pub(super) struct Accuracy {
    pub(super) precision: Precision,
    text: Cosines,
    image: Option<Cosines>,
    /// Share of pictures whose nearest sentence is that of f32.
    top1: Option<f64>,
}

struct Cosines {
    mean: f64,
    worst: f64,
    count: usize,
}

impl Cosines {
    fn of(found: &Embeddings, exact: &Embeddings) -> Self {
        let cosine = |(a, b): (&[f32], &[f32])| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let cosines: Vec<f64> = found.rows().zip(exact.rows()).map(cosine).collect();
        let count = cosines.len();
        Self {
            mean: cosines.iter().sum::<f64>() / count.max(1) as f64,
            worst: cosines.iter().copied().fold(f64::INFINITY, f64::min),
            count,
        }
    }

    fn as_json(&self) -> Value {
        json!({ "mean_cosine": self.mean, "worst_cosine": self.worst, "count": self.count })
    }
}

impl Accuracy {
    pub(super) fn as_json(&self) -> Value {
        json!({
            "precision": self.precision.name(),
            "text": self.text.as_json(),
            "image": self.image.as_ref().map(Cosines::as_json),
            "top1_agreement": self.top1,
        })
    }

    pub(super) fn shown(&self) -> String {
        let cosines = |name: &str, cosines: &Cosines| {
            let Cosines { mean, worst, count } = cosines;
            format!("{name}: cosine {mean:.6}, worst {worst:.6} of {count}")
        };
        let mut parts = vec![cosines("texts", &self.text)];
        parts.extend(self.image.as_ref().map(|image| cosines("pictures", image)));
        parts.extend(self.top1.map(|top1| format!("same nearest sentence {:.1} %", 100.0 * top1)));
        format!("{:<4}  {}", self.precision.name(), parts.join("; "))
    }
}

/// Compares bf16 and int8 with f32, which only a model folder has. Pictures that cannot be decoded are left out.
pub(super) fn compare(
    mut model: Model,
    images: Option<&Path>,
) -> Result<Vec<Accuracy>, Vec<Report>> {
    let reports = |error: altclip::Error| error.reports();
    if let Some(info) = model.opened().checkpoint().packed_info() {
        let message = "a packed model file has one precision, and nothing to compare it with";
        return Err(vec![
            Report::new(Code::E2109, "doctor", message)
                .got(info.precision.clone())
                .expected("the weights in f32")
                .help("name the model folder that the file was made from: --model DIR"),
        ]);
    }
    model.freeze(Precision::F32).map_err(reports)?;
    let pictures = match (images, model.opened().config().vision) {
        (_, None) => Vec::new(),
        // Others than those that the precisions were set up on.
        (None, Some(_)) => samples::pictures(100..108),
        (Some(path), Some(_)) => decodable(&model, path),
    };
    let exact = embed(&model, &pictures).map_err(reports)?;
    let mut rows = Vec::new();
    for precision in [Precision::Bf16, Precision::Int8] {
        model.freeze(precision).map_err(reports)?;
        let found = embed(&model, &pictures).map_err(reports)?;
        let top1 = |both: &Both| -> Result<Option<Vec<usize>>, altclip::Error> {
            let Some(images) = &both.image else { return Ok(None) };
            Ok(Some(images.cosines(&both.text)?.chunks(both.text.len()).map(largest).collect()))
        };
        let (before, after) = (top1(&exact).map_err(reports)?, top1(&found).map_err(reports)?);
        let agreement = before.zip(after).map(|(before, after)| {
            let same = before.iter().zip(&after).filter(|(a, b)| a == b).count();
            same as f64 / before.len().max(1) as f64
        });
        rows.push(Accuracy {
            precision,
            text: Cosines::of(&found.text, &exact.text),
            image: found.image.as_ref().zip(exact.image.as_ref()).map(|(a, b)| Cosines::of(a, b)),
            top1: agreement,
        });
    }
    Ok(rows)
}

fn decodable(model: &Model, path: &Path) -> Vec<Rgb> {
    let paths = inputs::images(path).into_iter().filter_map(|input| match input {
        Input::Image { path, .. } => path.ok(),
        Input::Text { .. } => None,
    });
    paths.filter_map(|path| model.open_image(&path).ok()).take(PICTURES).collect()
}

struct Both {
    text: Embeddings,
    image: Option<Embeddings>,
}

fn embed(model: &Model, pictures: &[Rgb]) -> Result<Both, altclip::Error> {
    let image = (!pictures.is_empty()).then(|| model.encode_image(pictures)).transpose()?;
    Ok(Both { text: model.encode_text(&samples::OTHER_SENTENCES)?, image })
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or_default()
}
