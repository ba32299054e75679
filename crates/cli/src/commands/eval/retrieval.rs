//! `altclip eval retrieval --model --dataset`: a model on pictures with captions, a result for each language.

use super::compared::{self, Pictures};
use super::embedder::Embedder;
use super::results::Context;
use super::{arrays, page, say_notices, set_options, table, threads, verdict};
use crate::args::EvalRetrieval;
use crate::failure::{Failure, Reporter};
use crate::model;
use crate::output::Out;
use altclip_data::retrieval::{RetrievalSet, SetSpec};
use altclip_eval::{Direction, Record, RetrievalReport, Scorer};
use altclip_report::{Code, Diagnose as _, Report};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A language of a set, with its figures.
pub(super) struct Part {
    pub(super) dataset: String,
    pub(super) language: String,
    pub(super) report: RetrievalReport,
    pub(super) names: Arc<Names>,
}

/// What the rows of a report are.
pub(super) struct Names {
    pub(super) set: Arc<RetrievalSet>,
    /// The picture of each image row.
    pub(super) pictures: Vec<usize>,
    /// The text of each text row, and its image row.
    pub(super) texts: Vec<(String, usize)>,
}

impl Part {
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.dataset, self.language)
    }
}

pub(super) fn run(args: &EvalRetrieval, reporter: Reporter) -> Result<(), Failure> {
    if args.eval.name.is_some() && args.dataset.len() > 1 {
        return Err(Failure::one(
            Report::new(Code::E1001, "usage", "one name for several datasets")
                .place("--name")
                .got(format!("{} datasets", args.dataset.len()))
                .expected("one --dataset")
                .help("evaluate them one after the other"),
        ));
    }
    let mut options = set_options(&args.eval, args.images.as_ref(), args.language.as_ref());
    options.clean = args.clean_captions;
    // All are opened first: a file that is missing is said before anything is computed.
    let open = |spec: &SetSpec| Ok(Arc::new(RetrievalSet::open(spec, &options)?));
    let sets = args.dataset.iter().map(open).collect::<Result<Vec<_>, Failure>>()?;
    for set in &sets {
        say_notices(set.notices(), reporter);
        let bad: Vec<Report> = set.faults().iter().map(|fault| fault.report()).collect();
        verdict(&bad, set.captions().len() + bad.len(), &args.eval)?;
    }
    let model = model::load(&args.eval.run, reporter)?;
    let mut embedder = Embedder::new(&model, args.eval.run.no_cache, reporter);
    let scorer = Scorer::new(threads(&args.eval.run));
    let context = Context { model: &model, eval: &args.eval, task: "zeroshot_retrieval" };
    let (mut parts, mut records) = (Vec::new(), Vec::new());
    for set in sets {
        let found = languages(&set, args, &mut embedder, &scorer)?;
        for part in found {
            records.push(record(&context, &part, &embedder)?);
            parts.push(part);
        }
    }
    let mut out = Out::new();
    let done = context.hand_out(&records, || page::parts(&parts), &mut out)?;
    if !done {
        if parts.len() == 1 {
            parts.iter().try_for_each(|part| arrays::print(&mut out, &part.report))?;
        } else {
            let rows: Vec<_> = parts.iter().map(|part| (part.name(), &part.report)).collect();
            arrays::print_parts(&mut out, &rows)?;
        }
    }
    if args.table {
        for (part, record) in parts.iter().zip(&records) {
            table::of_retrieval(&mut out, part, record, reporter)?;
        }
    }
    out.flush()
}

/// Embeds a set and counts each of its languages, with the images that the language speaks of.
fn languages(
    set: &Arc<RetrievalSet>,
    args: &EvalRetrieval,
    embedder: &mut Embedder<'_>,
    scorer: &Scorer,
) -> Result<Vec<Part>, Failure> {
    let read = Arc::clone(set);
    let (pictures, kept, unusable) =
        Pictures::embed(embedder, set.len(), Arc::new(move |n| read.picture(n)))?;
    let mut bad: Vec<Report> = set.faults().iter().map(|fault| fault.report()).collect();
    bad.extend(unusable);
    verdict(&bad, set.len() + set.captions().len() + set.faults().len(), &args.eval)?;
    let mut row_of = vec![None; set.len()];
    kept.iter().enumerate().for_each(|(row, &picture)| row_of[picture] = Some(row));
    let mut by_language: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let (mut texts, mut fitting) = (Vec::new(), Vec::new());
    for caption in set.captions() {
        let pictures = std::iter::once(&caption.picture).chain(&caption.also);
        let rows: Vec<usize> = pictures.filter_map(|&picture| row_of[picture]).collect();
        if let Some(&first) = rows.first() {
            by_language.entry(&caption.language).or_default().push(texts.len());
            texts.push((caption.text.clone(), first));
            fitting.push(rows);
        }
    }
    let words: Vec<&str> = texts.iter().map(|(text, _)| text.as_str()).collect();
    let mut compared = pictures.with_texts(embedder, &words)?;
    // MUGE's pictures without a query are candidates of its one language.
    let all = set.captions().iter().any(|caption| !caption.also.is_empty());
    let rows = kept.len();
    let names = Arc::new(Names { set: Arc::clone(set), pictures: kept, texts });
    let mut parts = Vec::new();
    for (language, captions) in by_language {
        let mut used: Vec<usize> = match all {
            true => (0..rows).collect(),
            false => captions.iter().flat_map(|&n| fitting[n].clone()).collect(),
        };
        used.sort_unstable();
        used.dedup();
        let place = |row: &usize| used.binary_search(row).unwrap_or_default();
        let of_caption = |(text, &n): (usize, &usize)| {
            fitting[n].iter().map(move |row| (text, row)).collect::<Vec<_>>()
        };
        let pairs = captions.iter().enumerate().flat_map(of_caption);
        let pairs = pairs.map(|(text, row)| (text, place(row))).collect();
        let part = compared::Part { images: &used, texts: &captions, pairs };
        let report = compared.retrieval(embedder, scorer, part, &arrays::options(args))?;
        let language = if language.is_empty() { "und" } else { language };
        parts.push(Part {
            dataset: args.eval.name.clone().unwrap_or_else(|| set.name().to_owned()),
            language: language.to_owned(),
            report,
            names: Arc::clone(&names),
        });
    }
    Ok(parts)
}

/// A part as CLIP_benchmark writes it, and all else that was found beside it.
fn record(context: &Context<'_>, part: &Part, embedder: &Embedder<'_>) -> Result<Record, Failure> {
    let report = serde_json::to_value(&part.report);
    let Ok(Value::Object(mut more)) = report else { return Err(Failure::Status(70)) };
    let is_metric = |name: &&String| name.contains("recall");
    let metrics: Map<String, Value> = more
        .iter()
        .filter(|(name, _)| is_metric(name))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let worst: Vec<Value> = part
        .report
        .worst
        .iter()
        .map(|query| {
            let text = |row: usize| part.names.texts.get(row).map(|(text, _)| text.as_str());
            let picture =
                |row: usize| part.names.pictures.get(row).map(|&n| part.names.set.picture_name(n));
            let is_text = query.direction == Direction::ImageRetrieval;
            let found = query.found.iter().map(|hit| {
                let found = if is_text { picture(hit.row) } else { text(hit.row) };
                json!({ "found": found, "score": hit.score })
            });
            json!({
                "direction": query.direction,
                "query": if is_text { text(query.query) } else { picture(query.query) },
                "rank": query.rank,
                "found": found.collect::<Vec<_>>(),
            })
        })
        .collect();
    more.insert("worst".into(), worst.into());
    Ok(context.record(&part.dataset, &part.language, metrics, more, embedder.work))
}
