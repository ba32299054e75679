//! `altclip embed`: texts and pictures to vectors, in the order in which they were typed.

use super::{Tally, decode, dump};
use crate::args::{Embed, Format};
use crate::failure::{Failure, Reporter};
use crate::inputs::{self, Input};
use crate::output::{Out, bad_row};
use crate::{model, npy};
use altclip::{Embeddings, Model};
use altclip_report::{Code, Diagnose, Report, quote};
use serde::Serialize;

/// Inputs that are read before the model runs: enough to fill its batches, few enough to stay small
/// whatever the pictures' size.
const CHUNK: usize = 16;

#[derive(Serialize)]
struct Row<'a> {
    kind: &'a str,
    input: &'a str,
    embedding: &'a [f32],
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_total: Option<usize>,
}

/// What became of one input.
pub(super) struct Embedded {
    pub(super) vector: Vec<f32>,
    /// Tokens of the whole text, where it was truncated.
    tokens_total: Option<usize>,
}

pub(crate) fn run(
    args: &Embed,
    given: &clap::ArgMatches,
    reporter: Reporter,
) -> Result<(), Failure> {
    let inputs = collect(args, given)?;
    if let (Format::Npy, Some(out)) = (args.format, &args.out)
        && out.symlink_metadata().is_ok()
    {
        return Err(npy::exists(out));
    }
    let model = model::load(&args.run, reporter)?;
    let mut tally = Tally::default();
    let mut sink = match (args.format, &args.out) {
        (Format::Npy, Some(out)) => Sink::Dump(dump::Dump::new(out, &model, args)?),
        _ => Sink::Rows { out: Out::new(), json: args.json },
    };
    let bar = progress(&inputs, reporter);
    for chunk in chunks(&inputs) {
        let results = embed(&model, chunk, !args.no_normalize);
        for (input, result) in chunk.iter().zip(results) {
            match &result {
                Ok(_) => tally.good(),
                Err(report) => tally.bad(report),
            }
            if let Ok(Embedded { tokens_total: Some(total), .. }) = &result {
                reporter.warn(&[truncated(input, *total, args.run.max_length)]);
            }
            sink.put(input, result)?;
        }
        sink.flush()?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    sink.finish(&tally)?;
    tally.verdict(args.max_bad)
}

fn collect(args: &Embed, given: &clap::ArgMatches) -> Result<Vec<Input>, Failure> {
    let mut placed = Vec::new();
    inputs::in_typed_order(
        given,
        "text",
        &args.text,
        |text| Ok(vec![inputs::text(text)]),
        &mut placed,
    )?;
    inputs::in_typed_order(
        given,
        "texts",
        &args.texts,
        |file| inputs::text_file(file),
        &mut placed,
    )?;
    inputs::in_typed_order(
        given,
        "image",
        &args.image,
        |path| Ok(inputs::images(path)),
        &mut placed,
    )?;
    if placed.is_empty() {
        return Err(Failure::one(
            Report::new(Code::E1001, "usage", "there is nothing to embed")
                .place("command line")
                .got("no input")
                .expected("--text, --texts or --image")
                .help("for example: altclip embed --model DIR --text 一只猫"),
        ));
    }
    placed.sort_by_key(|(place, _)| *place);
    Ok(placed.into_iter().flat_map(|(_, inputs)| inputs).collect())
}

/// Runs of inputs of one kind, at most [`CHUNK`] long.
fn chunks(inputs: &[Input]) -> impl Iterator<Item = &[Input]> {
    inputs.chunk_by(|a, b| a.kind() == b.kind()).flat_map(|run| run.chunks(CHUNK))
}

/// Embeds inputs of one kind. What is wrong with one of them is its own affair.
fn embed(model: &Model, inputs: &[Input], normalize: bool) -> Vec<Result<Embedded, Report>> {
    match inputs.first() {
        Some(Input::Image { .. }) => each_or_all(decode(model, inputs), |images| {
            vectors(model, model.image_features(images), normalize)
        })
        .into_iter()
        .map(|result| result.map(|vector| Embedded { vector, tokens_total: None }))
        .collect(),
        _ => embed_texts(model, inputs, normalize),
    }
}

fn embed_texts(model: &Model, inputs: &[Input], normalize: bool) -> Vec<Result<Embedded, Report>> {
    let encode = |input: &Input| match input {
        Input::Text { text: Ok(text), .. } => model.tokenize(text).map_err(|error| error.report()),
        Input::Text { text: Err(report), .. } => Err(report.clone()),
        Input::Image { .. } => unreachable!("chunks are of one kind"),
    };
    let encodings: Vec<_> = inputs.iter().map(encode).collect();
    let totals: Vec<Option<usize>> = (encodings.iter())
        .map(|encoding| encoding.as_ref().ok().filter(|e| e.truncated).map(|e| e.tokens_total))
        .collect();
    let vectors = each_or_all(encodings, |encodings| {
        let ids: Vec<&[u32]> =
            encodings.iter().map(|encoding| encoding.input_ids.as_slice()).collect();
        vectors(model, model.features_of_ids(&ids), normalize)
    });
    let with_total = |(vector, tokens_total): (Result<Vec<f32>, Report>, _)| {
        Ok(Embedded { vector: vector?, tokens_total })
    };
    vectors.into_iter().zip(totals).map(with_total).collect()
}

/// Runs the good items together. If that fails, each runs alone, so that the fault is laid at the
/// right door.
fn each_or_all<T>(
    items: Vec<Result<T, Report>>,
    run: impl Fn(&[T]) -> Result<Vec<Vec<f32>>, altclip::Error>,
) -> Vec<Result<Vec<f32>, Report>> {
    let mut bad = Vec::new();
    let mut good = Vec::new();
    for (nth, item) in items.into_iter().enumerate() {
        match item {
            Ok(item) => good.push(item),
            Err(report) => bad.push((nth, report)),
        }
    }
    let alone = |item| match run(std::slice::from_ref(item)) {
        Ok(mut vectors) => Ok(vectors.remove(0)),
        Err(error) => Err(error.report()),
    };
    let mut results: Vec<_> = match run(&good) {
        Ok(vectors) => vectors.into_iter().map(Ok).collect(),
        Err(_) => good.iter().map(alone).collect(),
    };
    for (nth, report) in bad {
        results.insert(nth, Err(report));
    }
    results
}

fn vectors(
    model: &Model,
    features: Result<Embeddings, altclip::Error>,
    normalize: bool,
) -> Result<Vec<Vec<f32>>, altclip::Error> {
    let features = features?;
    let features = if normalize { model.normalize(&features)? } else { features };
    Ok(features.rows().map(<[f32]>::to_vec).collect())
}

enum Sink {
    Rows { out: Out, json: bool },
    Dump(dump::Dump),
}

impl Sink {
    fn put(&mut self, input: &Input, result: Result<Embedded, Report>) -> Result<(), Failure> {
        let (kind, shown) = (input.kind(), input.shown());
        match (self, result) {
            (Sink::Dump(dump), Ok(embedded)) => dump.put(input, embedded.vector),
            (Sink::Dump(_), Err(_)) => {}
            (Sink::Rows { out, json: true }, Ok(embedded)) => out.json(&Row {
                kind,
                input: shown,
                embedding: &embedded.vector,
                truncated: embedded.tokens_total.map(|_| true),
                tokens_total: embedded.tokens_total,
            })?,
            (Sink::Rows { out, json: true }, Err(report)) => {
                out.json(&bad_row(kind, shown, &report))?
            }
            (Sink::Rows { out, json: false }, Ok(embedded)) => {
                out.line(summary(shown, &embedded.vector))?
            }
            (Sink::Rows { out, json: false }, Err(report)) => {
                out.line(format!("{}  {report}", quote(shown)))?
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Sink::Rows { out, .. } => out.flush(),
            Sink::Dump(_) => Ok(()),
        }
    }

    fn finish(self, tally: &Tally) -> Result<(), Failure> {
        match self {
            Sink::Rows { mut out, .. } => out.flush(),
            Sink::Dump(dump) => dump.write(tally.all - tally.bad),
        }
    }
}

/// A vector as a person wants to see it: its beginning and its size.
fn summary(shown: &str, vector: &[f32]) -> String {
    let head: Vec<String> = vector.iter().take(4).map(|number| format!("{number:+.4}")).collect();
    format!("{}  [{}, …] ({} numbers)", quote(shown), head.join(", "), vector.len())
}

fn truncated(input: &Input, total: usize, limit: u16) -> Report {
    Report::new(Code::W3107, "text", "the text was truncated")
        .place(quote(input.shown()))
        .got(format!("{total} tokens"))
        .expected(format!("at most {limit}"))
        .help("the rest is not part of the vector; --max-length sets the limit")
}

fn progress(inputs: &[Input], reporter: Reporter) -> indicatif::ProgressBar {
    if !reporter.shows_progress() || inputs.len() <= CHUNK {
        return indicatif::ProgressBar::hidden();
    }
    let template = "{bar:30} {pos}/{len} {per_sec} eta {eta}";
    let style = indicatif::ProgressStyle::with_template(template)
        .unwrap_or(indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(inputs.len() as u64).with_style(style)
}
