//! `altclip eval consistency`: whether a query and its translation find the same pictures.

use super::embedder::{Embedder, Source};
use super::results::Context;
use super::{page, say_notices, set_options, threads, verdict};
use crate::args::EvalConsistency;
use crate::failure::{Failure, Reporter};
use crate::inputs::{self, Input};
use crate::model;
use crate::output::Out;
use altclip_data::retrieval::RetrievalSet;
use altclip_eval::{Bootstrap, ConsistencyOptions, ConsistencyReport, Rows, Scorer, consistency};
use altclip_report::{Code, Diagnose as _, Report, quote};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn run(args: &EvalConsistency, reporter: Reporter) -> Result<(), Failure> {
    let [first, second] = queries(&args.queries, [&args.language_a, &args.language_b])?;
    let (dataset, len, source) = candidates(args, reporter)?;
    let model = model::load(&args.eval.run, reporter)?;
    let mut embedder = Embedder::new(&model, args.eval.run.no_cache, reporter);
    let scorer = Scorer::new(threads(&args.eval.run));
    let images = embedder.pictures(len, source)?;
    verdict(&images.bad, len, &args.eval)?;
    let (a, b) = (embedder.texts(&first)?, embedder.texts(&second)?);
    let width = embedder.width();
    let (a, b) = (Rows::new(&args.language_a, &a, width)?, Rows::new(&args.language_b, &b, width)?);
    let images = Rows::new("image embeddings", &images.rows, width)?;
    let options = ConsistencyOptions {
        depth: args.depth as usize,
        bootstrap: Bootstrap::default(),
        worst: args.worst as usize,
    };
    let report = consistency(&scorer, (&a, &b), &images, &options)?;
    let worst: Vec<Value> = report
        .worst
        .iter()
        .map(|pair| {
            json!({
                "a": first.get(pair.query),
                "b": second.get(pair.query),
                "overlap": pair.overlap,
                "rank_biased_overlap": pair.rank_biased_overlap,
                "cosine": pair.cosine,
            })
        })
        .collect();
    let metrics = figures(&report).map(|(name, value)| (name.to_owned(), json!(value)));
    let metrics = Map::from_iter(metrics);
    let ends = report.intervals.into_iter().flatten();
    let intervals = figures(&report).into_iter().zip(ends);
    let intervals = intervals.map(|((name, _), ends)| (name.to_owned(), json!(ends))).collect();
    let more = [
        ("queries".to_owned(), json!(report.queries)),
        ("images".to_owned(), json!(images.len())),
        ("intervals".to_owned(), Value::Object(intervals)),
        ("worst".to_owned(), json!(worst)),
    ];
    let context = Context { model: &model, eval: &args.eval, task: "consistency" };
    let language = format!("{}-{}", args.language_a, args.language_b);
    let dataset = args.eval.name.clone().unwrap_or(dataset);
    let record = context.record(&dataset, &language, metrics, more, embedder.work);
    let mut out = Out::new();
    let shown = || page::consistency(&record, &report, &first, &second);
    if !context.hand_out(std::slice::from_ref(&record), shown, &mut out)? {
        let ends = report.intervals.unwrap_or([[f64::NAN; 2]; 5]);
        for ((name, value), [low, high]) in figures(&report).into_iter().zip(ends) {
            out.line(format!("{name:<20} {value:.4} ({low:.4}–{high:.4})"))?;
        }
        out.line(format!("{} queries, {} images; least alike:", report.queries, images.len()))?;
        for pair in &report.worst {
            let [a, b] = [&first[pair.query], &second[pair.query]];
            out.line(format!("  {:.3}  {a} | {b}", pair.rank_biased_overlap))?;
        }
    }
    out.flush()
}

/// The figures with their names, in the order of the intervals.
pub(super) fn figures(report: &ConsistencyReport) -> [(&'static str, f64); 5] {
    let [one, five, ten] = report.overlap;
    [
        ("overlap@1", one),
        ("overlap@5", five),
        ("overlap@10", ten),
        ("rank_biased_overlap", report.rank_biased_overlap),
        ("cosine", report.cosine),
    ]
}

/// The pictures that are searched: their name, their number, and how one is read.
fn candidates(
    args: &EvalConsistency,
    reporter: Reporter,
) -> Result<(String, usize, Source), Failure> {
    if let Some(spec) = &args.dataset {
        let options = set_options(&args.eval, args.images.as_ref(), None);
        let set = Arc::new(RetrievalSet::open(spec, &options)?);
        say_notices(set.notices(), reporter);
        let bad: Vec<Report> = set.faults().iter().map(|fault| fault.report()).collect();
        verdict(&bad, set.captions().len() + bad.len(), &args.eval)?;
        let (name, len) = (set.name().to_owned(), set.len());
        return Ok((name, len, Arc::new(move |n| set.picture(n))));
    }
    let folder = args.images.clone().unwrap_or_default();
    let path = |input: Input| match input {
        Input::Image { path, .. } => path.map_err(Failure::one),
        Input::Text { text, .. } => text.map(PathBuf::from).map_err(Failure::one),
    };
    let paths = inputs::images(&folder).into_iter().map(path).collect::<Result<Vec<_>, _>>()?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let len = paths.len();
    Ok((name, len, Arc::new(move |n| Ok(altclip_data::Picture::File(paths[n].clone())))))
}

/// The two columns of the file.
fn queries(path: &Path, languages: [&String; 2]) -> Result<[Vec<String>; 2], Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::one(
            Report::new(Code::E4201, "input", format!("the queries cannot be read: {error}"))
                .place(quote(&path.to_string_lossy()))
                .expected("a UTF-8 file with two columns and a tab between")
                .help("check the path after --queries"),
        )
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut columns = [0, 1];
    let [mut first, mut second] = [Vec::new(), Vec::new()];
    for (n, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
        let of = |language: &String| cells.iter().position(|cell| cell == language);
        if n == 0
            && let (Some(a), Some(b)) = (of(languages[0]), of(languages[1]))
        {
            columns = [a, b];
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        match columns.map(|column| cells.get(column).filter(|cell| !cell.is_empty())) {
            [Some(a), Some(b)] => {
                first.push((*a).to_owned());
                second.push((*b).to_owned());
            }
            _ => {
                return Err(Failure::one(
                    Report::new(Code::E5004, "dataset", "a line lacks one of the two queries")
                        .place(format!("{}, line {}", quote(&path.to_string_lossy()), n + 1))
                        .got(format!("{} columns", cells.len()))
                        .expected("a query, a tab and its translation")
                        .help("correct the line"),
                ));
            }
        }
    }
    Ok([first, second])
}
