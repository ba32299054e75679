//! `altclip eval retrieval` from files of embeddings, as a table, JSON and a page.

use super::{page, table};
use crate::args::EvalRetrieval;
use crate::failure::Failure;
use crate::files;
use crate::inputs::{self, Input};
use crate::output::Out;
use altclip::npy;
use altclip_eval::{
    Bootstrap, Error, Pairs, RetrievalOptions, RetrievalReport, Rows, Scorer, retrieval,
    retrieval_by_language,
};
use altclip_report::{Code, Report, quote};
use std::path::Path;

/// Longest name of a language.
const MAX_LANGUAGE_BYTES: usize = 40;

/// The files of embeddings and of the index.
pub(super) type Files<'a> = (&'a Path, &'a Path, &'a Path);

pub(super) fn run(
    args: &EvalRetrieval,
    (image_embeddings, text_embeddings, text_image_index): Files<'_>,
) -> Result<(), Failure> {
    let (images, image_width) = npy::read(image_embeddings)?.into_matrix()?;
    let (texts, text_width) = npy::read(text_embeddings)?.into_matrix()?;
    let images = Rows::new("image embeddings", &images, image_width)?;
    let texts = Rows::new("text embeddings", &texts, text_width)?;
    let index = index(text_image_index, images.len())?;
    let pairs = Pairs::new(images, texts, &index)?;
    let scorer = Scorer::new(super::threads(&args.eval.run));
    let options = options(args);
    let report = match &args.languages {
        Some(file) => retrieval_by_language(&scorer, &pairs, &languages(file)?, &options)?,
        None => retrieval(&scorer, &pairs, &options),
    };
    if let Some(dir) = &args.eval.out {
        write(dir, &report)?;
    }
    let mut out = Out::new();
    if args.eval.json {
        out.json(&report)?;
    } else {
        print(&mut out, &report)?;
    }
    out.flush()
}

/// What is counted beside recall.
pub(super) fn options(args: &EvalRetrieval) -> RetrievalOptions {
    RetrievalOptions {
        bootstrap: Bootstrap { resamples: args.bootstrap as usize, seed: args.seed },
        worst: args.worst as usize,
    }
}

/// Writes the figures as JSON and as a page into a new folder.
fn write(dir: &Path, report: &RetrievalReport) -> Result<(), Failure> {
    std::fs::create_dir(dir).map_err(|error| files::cannot_write(dir, &error))?;
    files::write_file(&dir.join("retrieval.json"), false, |mut out| {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)
    })?;
    let page = page::retrieval(report);
    files::write_file(&dir.join("report.html"), false, |out| out.write_all(page.html().as_bytes()))
}

/// The image of each text. What cannot be a row is reported as the row that it would be.
fn index(path: &Path, images: usize) -> Result<Vec<usize>, Failure> {
    let rows = npy::read(path)?.into_list()?;
    let row = |(item, row): (usize, i64)| {
        usize::try_from(row).map_err(|_| Error::OutOfRange {
            what: "text_image_index".into(),
            item,
            found: row.into(),
            limit: images,
        })
    };
    Ok(rows.into_iter().enumerate().map(row).collect::<Result<_, _>>()?)
}

/// The lines of a file, each a short name.
fn languages(path: &Path) -> Result<Vec<String>, Failure> {
    let name = |(line, input): (usize, Input)| match input {
        Input::Text { text: Err(report), .. } => Err(Failure::one(report)),
        Input::Text { shown, .. } | Input::Image { shown, .. } => {
            let is_name = !shown.is_empty() && !shown.chars().any(char::is_control);
            if is_name && shown.len() <= MAX_LANGUAGE_BYTES {
                return Ok(shown);
            }
            Err(Failure::one(
                Report::new(Code::E5021, "eval", "this is no name of a language")
                    .place(format!("{}, line {}", quote(&path.to_string_lossy()), line + 1))
                    .got(quote(&shown))
                    .expected(format!("1 to {MAX_LANGUAGE_BYTES} bytes, such as zh"))
                    .help("write the language of each text on its own line"),
            ))
        }
    };
    inputs::text_file(path)?.into_iter().enumerate().map(name).collect()
}

/// Recall in percent, with the ends of its interval, a line for each direction and part.
pub(super) fn print_parts(
    out: &mut Out,
    parts: &[(String, &RetrievalReport)],
) -> Result<(), Failure> {
    let mut rows = vec![["", "R@1", "R@5", "R@10"].map(str::to_owned).to_vec()];
    for (name, report) in parts {
        let name = if name.is_empty() { String::new() } else { format!("{name} ") };
        add(&mut rows, &name, report);
    }
    table::aligned(out, &rows)
}

/// The same of a report and its languages, and what it was counted of.
pub(super) fn print(out: &mut Out, report: &RetrievalReport) -> Result<(), Failure> {
    let languages = report.languages.iter().map(|(language, part)| (language.clone(), part));
    let parts: Vec<_> = std::iter::once((String::new(), report)).chain(languages).collect();
    print_parts(out, &parts)?;
    let RetrievalReport { images, texts, images_without_caption, ties, .. } = report;
    out.line(format!(
        "{images} images, {texts} texts; median rank {} and {}",
        report.image_retrieval_median_rank, report.text_retrieval_median_rank
    ))?;
    if *images_without_caption > 0 {
        out.line(format!(
            "images without text, which are candidates only: {images_without_caption}"
        ))?;
    }
    if ties.image_retrieval + ties.text_retrieval > 0 {
        out.line(format!(
            "equal similarities decide about {} texts and {} images; the lower row comes first",
            ties.image_retrieval, ties.text_retrieval
        ))?;
    }
    Ok(())
}

fn add(rows: &mut Vec<Vec<String>>, language: &str, report: &RetrievalReport) {
    let cell = |value: f64, interval: Option<[f64; 2]>| match interval {
        Some([low, high]) => {
            format!("{:.1} ({:.1}–{:.1})", 100.0 * value, 100.0 * low, 100.0 * high)
        }
        None => format!("{:.1}", 100.0 * value),
    };
    let intervals = report.intervals.as_ref();
    let directions = [
        ("image", report.image_retrieval_recall, intervals.map(|all| all.image_retrieval_recall)),
        ("text", report.text_retrieval_recall, intervals.map(|all| all.text_retrieval_recall)),
    ];
    for (name, values, ends) in directions {
        let [a, b, c] = std::array::from_fn(|k| cell(values[k], ends.map(|ends| ends[k])));
        rows.push(vec![format!("{language}{name} retrieval"), a, b, c]);
    }
    let mean = cell(report.mean_recall, intervals.map(|all| all.mean_recall));
    rows.push(vec![format!("{language}mean recall"), mean]);
    if let Some(mean) = report.image_retrieval_mean_recall {
        let ends = intervals.and_then(|all| all.image_retrieval_mean_recall);
        let name = format!("{language}mean of image retrieval (MUGE's)");
        rows.push(vec![name, cell(mean, ends)]);
    }
}
