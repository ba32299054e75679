//! `altclip embed`: texts and pictures to vectors, in the order in which they were typed.

use super::{Tally, dump, each_picture, next_row, progress};
use crate::args::{Embed, Format};
use crate::failure::{Failure, Reporter};
use crate::inputs::{self, Input};
use crate::output::{Out, bad_row};
use crate::{files, model};
use altclip::{Model, Texts};
use altclip_report::{Code, Report, quote};
use serde::Serialize;

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
    if !args.shards.is_empty() {
        return super::embed_shards::run(args, reporter);
    }
    let inputs = collect(args, given)?;
    if let (Format::Npy, Some(out)) = (args.format, &args.out)
        && out.symlink_metadata().is_ok()
    {
        return Err(files::exists(out));
    }
    let model = model::load(&args.run, reporter)?;
    let mut tally = Tally::default();
    let mut sink = match (args.format, &args.out) {
        (Format::Npy, Some(out)) => Sink::Dump(dump::Dump::new(out, &model, args)?),
        _ => Sink::Rows { out: Out::new(), json: args.json },
    };
    let bar = progress(inputs.len(), reporter);
    let mut put = |input: &Input, result: Result<Embedded, Report>, more: bool| {
        match &result {
            Ok(_) => tally.good(),
            Err(report) => tally.bad(report),
        }
        if let Ok(Embedded { tokens_total: Some(total), .. }) = &result {
            reporter.warn(&[truncated(input, *total, args.run.max_length)]);
        }
        sink.put(input, result)?;
        bar.inc(1);
        if more { Ok(()) } else { sink.flush() }
    };
    for run in inputs.chunk_by(|a, b| a.kind() == b.kind()) {
        embed(&model, run, !args.no_normalize, &mut put)?;
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

/// Embeds inputs of one kind, in order. What is wrong with one of them is its own affair.
fn embed(
    model: &Model,
    inputs: &[Input],
    normalize: bool,
    put: &mut impl FnMut(&Input, Result<Embedded, Report>, bool) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if let Some(Input::Image { .. }) = inputs.first() {
        return each_picture(model, inputs, normalize, |input, result, more| {
            put(input, result.map(|vector| Embedded { vector, tokens_total: None }), more)
        });
    }
    let texts: Vec<String> = inputs.iter().filter_map(Input::text).cloned().collect();
    let mut rows = model.texts(texts.into_iter(), normalize);
    for input in inputs {
        let result = match input {
            Input::Text { text: Err(report), .. } => Err(report.clone()),
            _ => next_row(&mut rows)
                .map(|row| Embedded { vector: row.vector, tokens_total: row.truncated_from }),
        };
        put(input, result, Texts::is_ready(&rows))?;
    }
    Ok(())
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
