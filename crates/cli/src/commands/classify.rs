//! `altclip classify`: which label fits a picture.

use super::{Tally, each_picture, progress};
use crate::args::Classify;
use crate::failure::{Failure, Reporter};
use crate::inputs::Input;
use crate::output::{Out, bad_row, bar, columns, pad};
use crate::{inputs, model};
use altclip::{Embeddings, Label, Model, Similarity, Templates};
use altclip_report::{Diagnose, Report, quote};
use serde::Serialize;

const BAR_WIDTH: usize = 30;

#[derive(Serialize)]
struct Row<'a> {
    input: &'a str,
    labels: Vec<Cell<'a>>,
}

#[derive(Serialize)]
struct Cell<'a> {
    label: &'a str,
    logit: f32,
    probability: f32,
}

pub(crate) fn run(args: &Classify, reporter: Reporter) -> Result<(), Failure> {
    let model = model::load(&args.run, reporter)?;
    let templates = Templates::new(args.template.iter().cloned());
    let images: Vec<_> = args.images.iter().flat_map(|path| inputs::images(path)).collect();
    let (mut out, mut tally) = (Out::new(), Tally::default());
    if model.similarity() == Similarity::TokenWise {
        let bar = progress(images.len(), reporter);
        for input in &images {
            let cells = by_tokens(&model, input, args, &templates);
            show(&mut out, &mut tally, args, input.shown(), cells)?;
            bar.inc(1);
            out.flush()?;
        }
        bar.finish_and_clear();
        return tally.verdict(args.max_bad);
    }
    let labels = model.label_embeddings(&args.label, &templates)?;
    let bar = progress(images.len(), reporter);
    each_picture(&model, &images, true, |input, result, more| {
        let cells = result.and_then(|row| labels_of(&model, row, &labels));
        show(&mut out, &mut tally, args, input.shown(), cells)?;
        bar.inc(1);
        if more { Ok(()) } else { out.flush() }
    })?;
    bar.finish_and_clear();
    tally.verdict(args.max_bad)
}

/// The labels of a picture whose tokens are compared with the tokens of each text.
fn by_tokens(
    model: &Model,
    input: &Input,
    args: &Classify,
    templates: &Templates,
) -> Result<Vec<Label>, Report> {
    let Input::Image { path, .. } = input else { return Ok(Vec::new()) };
    let path = path.as_ref().map_err(Clone::clone)?;
    let classify = || {
        let image = model.open_image(path)?;
        model.zero_shot(&[image], &args.label, templates)
    };
    Ok(classify().map_err(|error| error.report())?.row(0).to_vec())
}

/// The row of a picture, or what is wrong with it.
fn show(
    out: &mut Out,
    tally: &mut Tally,
    args: &Classify,
    input: &str,
    cells: Result<Vec<Label>, Report>,
) -> Result<(), Failure> {
    match cells {
        Ok(cells) => {
            tally.good();
            print(out, args, input, &cells)
        }
        Err(report) => {
            tally.bad(&report);
            match args.json {
                true => out.json(&bad_row("image", input, &report)),
                false => out.line(format!("{}\n  {report}", quote(input))),
            }
        }
    }
}

fn labels_of(model: &Model, row: Vec<f32>, labels: &Embeddings) -> Result<Vec<Label>, Report> {
    let classify = || model.classify_embeds(&Embeddings::new(labels.width(), row)?, labels);
    Ok(classify().map_err(|error| error.report())?.row(0).to_vec())
}

fn print<'a>(
    out: &mut Out,
    args: &'a Classify,
    input: &str,
    cells: &[Label],
) -> Result<(), Failure> {
    let named = args.label.iter().zip(cells);
    if args.json {
        let cell = |(label, cell): (&'a String, &Label)| Cell {
            label,
            logit: cell.logit,
            probability: cell.probability,
        };
        return out.json(&Row { input, labels: named.map(cell).collect() });
    }
    let width = args.label.iter().map(|label| columns(label)).max().unwrap_or(0);
    let mut best_first: Vec<_> = named.collect();
    best_first.sort_by(|a, b| b.1.probability.total_cmp(&a.1.probability));
    out.line(input)?;
    for (label, cell) in best_first {
        let percent = 100.0 * cell.probability;
        out.line(format!(
            "  {}  {} {percent:5.1} %",
            pad(label, width),
            pad(&bar(cell.probability, BAR_WIDTH), BAR_WIDTH)
        ))?;
    }
    Ok(())
}
