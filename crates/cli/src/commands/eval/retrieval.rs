//! `altclip eval retrieval --model --dataset`: a model on pictures with captions, a result for each language.

use super::embedder::Embedder;
use super::results::Context;
use super::{arrays, page, say_notices, set_options, threads, verdict};
use crate::args::EvalRetrieval;
use crate::failure::{Failure, Reporter};
use crate::model;
use crate::output::{Out, columns, pad};
use altclip_data::retrieval::{RetrievalSet, SetSpec};
use altclip_eval::{
    Direction, Pairs, Record, RetrievalReport, Rows, Scorer, published, retrieval,
    retrieval_of_many,
};
use altclip_report::{Diagnose as _, Report};
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
            table(&mut out, part, record, reporter)?;
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
    let images = embedder.pictures(set.len(), Arc::new(move |n| read.picture(n)))?;
    let mut bad: Vec<Report> = set.faults().iter().map(|fault| fault.report()).collect();
    bad.extend(images.bad);
    verdict(&bad, set.len() + set.captions().len() + set.faults().len(), &args.eval)?;
    let mut row_of = vec![None; set.len()];
    images.kept.iter().enumerate().for_each(|(row, &picture)| row_of[picture] = Some(row));
    let mut by_language: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let (mut texts, mut pairs) = (Vec::new(), Vec::new());
    for caption in set.captions() {
        let pictures = std::iter::once(&caption.picture).chain(&caption.also);
        let rows: Vec<usize> = pictures.filter_map(|&picture| row_of[picture]).collect();
        if let Some(&first) = rows.first() {
            by_language.entry(&caption.language).or_default().push(texts.len());
            texts.push((caption.text.clone(), first));
            pairs.push(rows);
        }
    }
    let words: Vec<&str> = texts.iter().map(|(text, _)| text.as_str()).collect();
    let text_rows = embedder.texts(&words)?;
    let image_rows = Rows::new("image embeddings", &images.rows, embedder.width())?;
    let text_rows = Rows::new("text embeddings", &text_rows, embedder.width())?;
    let names = Arc::new(Names { set: Arc::clone(set), pictures: images.kept, texts });
    let mut parts = Vec::new();
    for (language, captions) in by_language {
        let mut used: Vec<usize> = captions.iter().flat_map(|&n| pairs[n].clone()).collect();
        used.sort_unstable();
        used.dedup();
        // MUGE's pictures without a query are candidates of its one language.
        if set.captions().iter().any(|caption| !caption.also.is_empty()) {
            used = (0..image_rows.len()).collect();
        }
        let place = |row: &usize| used.binary_search(row).unwrap_or_default();
        let (images, texts) = (image_rows.select(&used)?, text_rows.select(&captions)?);
        let several = captions.iter().any(|&n| pairs[n].len() > 1);
        let report = if several {
            let all = captions.iter().enumerate();
            let all: Vec<(usize, usize)> = all
                .flat_map(|(text, &n)| pairs[n].iter().map(move |row| (text, row)))
                .map(|(text, row)| (text, place(row)))
                .collect();
            retrieval_of_many(scorer, &images, &texts, &all)?
        } else {
            let index: Vec<usize> = captions.iter().map(|&n| place(&names.texts[n].1)).collect();
            retrieval(scorer, &Pairs::new(images, texts, &index)?, &arrays::options(args))
        };
        let language = if language.is_empty() { "und" } else { language };
        parts.push(Part {
            dataset: set.name().to_owned(),
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

/// The published rows of a set, and the measured one.
fn table(out: &mut Out, part: &Part, record: &Record, reporter: Reporter) -> Result<(), Failure> {
    let rows = published(&part.dataset, &part.language);
    if rows.is_empty() {
        reporter.say(&format!("no published figures for {}", part.name()));
        return Ok(());
    }
    let report = &part.report;
    let measured = [report.image_retrieval_recall, report.text_retrieval_recall].concat();
    let measured: Vec<f64> =
        measured.iter().chain([&report.mean_recall]).map(|share| 100.0 * share).collect();
    let head = ["", "T2I R@1", "R@5", "R@10", "I2T R@1", "R@5", "R@10", "MR"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let line = |name: &str, figures: &[f64], sign: bool| {
        let cell =
            |figure: &f64| if sign { format!("{figure:+.1}") } else { format!("{figure:.1}") };
        std::iter::once(name.to_owned()).chain(figures.iter().map(cell)).collect::<Vec<_>>()
    };
    let mut own = None;
    for row in rows {
        let figures = [row.image_retrieval_recall, row.text_retrieval_recall].concat();
        let figures: Vec<f64> = figures.into_iter().chain([row.mean_recall]).collect();
        lines.push(line(row.model, &figures, false));
        if row.is_of(&record.pretrained) {
            own = Some((row.model, figures));
        }
    }
    lines.push(line(&format!("{} (measured)", record.pretrained), &measured, false));
    if let Some((name, figures)) = own {
        let off: Vec<f64> = measured.iter().zip(&figures).map(|(a, b)| a - b).collect();
        lines.push(line(&format!("measured - published {name}"), &off, true));
    }
    let widths: Vec<usize> = (0..head.len())
        .map(|column| lines.iter().map(|line| columns(&line[column])).max().unwrap_or(0))
        .collect();
    out.line(format!("{}, in percent", part.name()))?;
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(c, &width)| pad(c, width)).collect();
        out.line(cells.join("  ").trim_end())?;
    }
    Ok(())
}
