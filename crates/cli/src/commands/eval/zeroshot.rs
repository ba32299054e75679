//! `altclip eval zeroshot`: pictures take the class whose prompts are nearest.

use super::compared::Tokens;
use super::embedder::{self, Embedder};
use super::prompts::Entries;
use super::results::Context;
use super::{embed, labelled, named, page, prompts, say_notices, table, threads, verdict};
use crate::args::EvalZeroshot;
use crate::failure::{Failure, Reporter};
use crate::model;
use crate::output::Out;
use altclip::{Similarity, Templates};
use altclip_data::{Dataset as _, LabelledPictures};
use altclip_eval::{
    Classification, Rows, Scorer, classifier, wilson, zeroshot, zeroshot_token_wise,
};
use altclip_report::{Code, Report, quote};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Up to so many classes the whole confusion matrix is in the result.
const MATRIX: usize = 100;
/// Pairs of classes that are listed otherwise.
const LISTED: usize = 100;

pub(super) fn run(args: &EvalZeroshot, reporter: Reporter) -> Result<(), Failure> {
    let dataset = named(&args.eval, &args.dataset);
    let wanted = |entries| prompts::Wanted {
        name: args.prompts.as_deref(),
        dataset: &dataset,
        language: &args.language,
        entries,
    };
    // How many classes there must be is known once the folders were listed; shards need the names first.
    let read = |count| {
        let names = wanted(Entries::Names(count));
        args.classnames.as_ref().map(|path| prompts::read(path, &names))
    };
    let needed = || labelled(&args.dataset, &args.eval.split, None);
    let (data, names, is_counted) = match needed() {
        Ok(data) => {
            let names = read(Some(data.class_names().len())).transpose()?;
            (data, names, true)
        }
        Err(failure) => {
            let Some(names) = read(None).transpose()? else { return Err(failure) };
            (labelled(&args.dataset, &args.eval.split, Some(names.clone()))?, Some(names), false)
        }
    };
    let names =
        names.unwrap_or_else(|| data.class_names().iter().map(ToString::to_string).collect());
    let templates = match &args.templates {
        Some(path) => prompts::read(path, &wanted(Entries::Templates))?,
        None => {
            let templates = data.templates().unwrap_or_default();
            if !templates.is_empty() {
                let shown =
                    format!("the templates of {}", quote(&args.dataset.path.to_string_lossy()));
                prompts::check(templates, Entries::Templates, &shown, "line")?;
            }
            templates.to_vec()
        }
    };
    let model = model::load(&args.eval.run, reporter)?;
    let mut embedder = Embedder::new(&model, args.eval.run.no_cache, reporter);
    let prompts = Templates::new(templates.clone());
    let captions: Vec<String> = names.iter().flat_map(|name| prompts.captions(name)).collect();
    let found = if model.similarity() == Similarity::TokenWise {
        token_wise(&data, &mut embedder, args, (&captions, names.len()), reporter)?
    } else {
        let texts = embedder.texts(&captions)?;
        let texts = Rows::new("prompt embeddings", &texts, embedder.width())?;
        let classes = classifier(&texts, names.len())?;
        let classes = Rows::new("class embeddings", &classes, embedder.width())?;
        let (images, labels) = embed(&data, &mut embedder, &args.eval, reporter)?;
        let rows = Rows::new("image embeddings", &images.rows, embedder.width())?;
        zeroshot(&Scorer::new(threads(&args.eval.run)), &rows, &classes, &labels)?
    };
    if !is_counted {
        warn_of_names_too_many(&names, &found, reporter);
    }
    let context = Context { model: &model, eval: &args.eval, task: "zeroshot_classification" };
    let more = [("templates".to_owned(), json!(templates.len().max(1)))];
    let table = args.table.then_some(reporter);
    show(&context, &found, &names, (&dataset, &args.language), more, &embedder, table)
}

/// Shards without names of their own do not say how many classes there are: names behind the highest label may be too
/// many.
fn warn_of_names_too_many(names: &[String], found: &Classification, reporter: Reporter) {
    let used = found.recalls().iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    if used < names.len() {
        let message = "there are more class names than labels";
        let report = Report::new(Code::W5013, "dataset", message)
            .place("--classnames")
            .got(format!("{} names, and no label above {}", names.len(), used.saturating_sub(1)))
            .help("if that is all of the dataset, check the names and their order");
        reporter.warn(&[report]);
    }
}

/// By a model that compares token by token: probabilities, of which the mean over the templates counts.
fn token_wise(
    data: &Arc<LabelledPictures>,
    embedder: &mut Embedder<'_>,
    args: &EvalZeroshot,
    (captions, classes): (&[String], usize),
    reporter: Reporter,
) -> Result<Classification, Failure> {
    say_notices(data.notices(), reporter);
    let (model, width) = (embedder.model, embedder.width());
    let words: Vec<&str> = captions.iter().map(String::as_str).collect();
    let texts = Tokens::new(&mut embedder.kept_texts(&words)?, model)?;
    let texts = texts.rows("prompts", width)?;
    let per_class = captions.len() / classes.max(1);
    let of_template = |template: usize| {
        let texts_of_template: Vec<usize> =
            (0..classes).map(|class| class * per_class + template).collect();
        texts.select(&texts_of_template)
    };
    let templates = (0..per_class).map(of_template).collect::<Result<Vec<_>, _>>()?;
    let (len, source, classes_of) = embedder::labels(data);
    let mut images = embedder.kept_pictures(len, &source)?;
    verdict(&images.bad, len, &args.eval)?;
    let labels = classes_of(&images.kept);
    let images = Tokens::new(&mut images, model)?;
    let (images, scale) = (images.rows("pictures", width)?, model.opened().scale()?);
    let scorer = Scorer::new(threads(&args.eval.run));
    Ok(zeroshot_token_wise(&scorer, &images, &templates, scale, &labels)?)
}

/// The figures of a classification on stdout and in files; the published ones too, if they are asked for.
pub(super) fn show(
    context: &Context<'_>,
    found: &Classification,
    names: &[String],
    (dataset, language): (&str, &str),
    more: impl IntoIterator<Item = (String, Value)>,
    embedder: &Embedder<'_>,
    table: Option<Reporter>,
) -> Result<(), Failure> {
    let report = found.report()?;
    let interval = wilson(report.acc1, report.samples);
    let metrics = Map::from_iter([
        ("acc1".to_owned(), json!(report.acc1)),
        ("acc5".to_owned(), json!(report.acc5)),
        ("mean_per_class_recall".to_owned(), json!(report.mean_per_class_recall)),
    ]);
    let mut rest = Map::from_iter(more);
    rest.insert("samples".into(), json!(report.samples));
    rest.insert("classes".into(), json!(report.classes));
    rest.insert("classes_without_sample".into(), json!(report.classes_without_sample));
    rest.insert("acc1_interval".into(), json!(interval));
    rest.insert("recall_per_class".into(), json!(found.recalls()));
    rest.insert("classnames".into(), json!(names));
    if names.len() <= MATRIX {
        let matrix = found.confusion_matrix();
        let matrix: Vec<&[u64]> = matrix.chunks(names.len().max(1)).collect();
        rest.insert("confusion_matrix".into(), json!(matrix));
    } else {
        rest.insert("most_confused".into(), json!(confused(found, names)));
    }
    let record = context.record(dataset, language, metrics, rest, embedder.work);
    let mut out = Out::new();
    let shown = || page::classification(&record, found, names);
    if !context.hand_out(std::slice::from_ref(&record), shown, &mut out)? {
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        let [low, high] = interval.map(percent);
        out.line(format!("acc1                   {} ({low}–{high})", percent(report.acc1)))?;
        if let Some(acc5) = report.acc5 {
            out.line(format!("acc5                   {}", percent(acc5)))?;
        }
        out.line(format!("mean per class recall  {}", percent(report.mean_per_class_recall)))?;
        out.line(format!("{} pictures, {} classes", report.samples, report.classes))?;
    }
    if let Some(reporter) = table {
        table::of_figures(&mut out, (dataset, language), &record, &[], reporter)?;
    }
    out.flush()
}

/// What is most often taken for something else.
fn confused(found: &Classification, names: &[String]) -> Vec<Value> {
    let mut pairs: Vec<_> = found.confusion().filter(|(class, given, _)| class != given).collect();
    pairs.sort_by_key(|&(.., samples)| std::cmp::Reverse(samples));
    pairs.truncate(LISTED);
    let pair = |(class, given, samples): (usize, usize, u64)| json!({ "class": names.get(class), "given": names.get(given), "samples": samples });
    pairs.into_iter().map(pair).collect()
}
