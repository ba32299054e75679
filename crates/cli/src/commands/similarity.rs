//! `altclip similarity`: cosines between pictures and texts, or between texts.

use super::each_picture;
use crate::args::Similarity;
use crate::failure::{Failure, Reporter};
use crate::output::{Out, columns, pad};
use crate::{inputs, model};
use altclip::Embeddings;
use serde_json::json;

pub(crate) fn run(args: &Similarity, reporter: Reporter) -> Result<(), Failure> {
    let model = model::load(&args.run, reporter)?;
    let texts = model.encode_text(&args.text)?;
    let images: Vec<_> = args.image.iter().flat_map(|path| inputs::images(path)).collect();
    let (kind, names, rows) = if images.is_empty() {
        ("text", args.text.clone(), texts.clone())
    } else {
        let mut numbers = Vec::new();
        each_picture(&model, &images, true, |_, row, _| {
            numbers.extend(row.map_err(Failure::one)?);
            Ok(())
        })?;
        let names = images.iter().map(|image| image.shown().to_owned()).collect();
        ("image", names, Embeddings::new(texts.width(), numbers)?)
    };
    let cosines = rows.cosines(&texts)?;
    let scale = model.opened().scale()?;
    let mut out = Out::new();
    if !args.json {
        print(&mut out, &names, &args.text, &cosines)?;
        return out.flush();
    }
    for (name, cosines) in names.iter().zip(cosines.chunks_exact(args.text.len())) {
        for (text, cosine) in args.text.iter().zip(cosines) {
            out.json(&json!({ "kind": kind, "input": name, "text": text, "cosine": cosine, "logit": scale * cosine }))?;
        }
    }
    out.flush()
}

/// A table: pictures (or texts) down, texts across.
fn print(out: &mut Out, rows: &[String], texts: &[String], cosines: &[f32]) -> Result<(), Failure> {
    let name_width = rows.iter().map(|name| columns(name)).max().unwrap_or(0);
    let widths: Vec<usize> = texts.iter().map(|text| columns(text).max(6)).collect();
    let head: Vec<String> =
        texts.iter().zip(&widths).map(|(text, &width)| pad(text, width)).collect();
    out.line(format!("{}  {}", pad("", name_width), head.join("  ")).trim_end())?;
    for (name, cosines) in rows.iter().zip(cosines.chunks_exact(texts.len())) {
        let cells =
            cosines.iter().zip(&widths).map(|(cosine, &width)| pad(&format!("{cosine:.4}"), width));
        let line = format!("{}  {}", pad(name, name_width), cells.collect::<Vec<_>>().join("  "));
        out.line(line.trim_end())?;
    }
    Ok(())
}
