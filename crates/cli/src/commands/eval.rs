//! `altclip eval retrieval`: recall from files of embeddings, as a table, JSON and a page.

use crate::args::{Eval, EvalRetrieval, EvalTask};
use crate::failure::Failure;
use crate::inputs::{self, Input};
use crate::output::{Out, columns, pad};
use altclip::npy;
use altclip_eval::{
    Bootstrap, Error, K, Pairs, RetrievalOptions, RetrievalReport, Rows, Scorer, retrieval,
    retrieval_by_language,
};
use altclip_report::{Code, Report, quote};
use std::path::Path;

/// Longest name of a language.
const MAX_LANGUAGE_BYTES: usize = 40;

pub(crate) fn run(args: &Eval) -> Result<(), Failure> {
    match &args.task {
        EvalTask::Retrieval(args) => run_retrieval(args),
    }
}

fn run_retrieval(args: &EvalRetrieval) -> Result<(), Failure> {
    let (images, image_width) = npy::read(&args.image_embeddings)?.into_matrix()?;
    let (texts, text_width) = npy::read(&args.text_embeddings)?.into_matrix()?;
    let images = Rows::new("image embeddings", &images, image_width)?;
    let texts = Rows::new("text embeddings", &texts, text_width)?;
    let index = index(&args.text_image_index, images.len())?;
    let pairs = Pairs::new(images, texts, &index)?;
    let threads = args.threads.map_or_else(|| altclip::LoadOptions::default().threads, usize::from);
    let scorer = Scorer::new(threads);
    let options = RetrievalOptions {
        bootstrap: Bootstrap { resamples: args.bootstrap as usize, seed: args.seed },
        worst: args.worst as usize,
    };
    let report = match &args.languages {
        Some(file) => retrieval_by_language(&scorer, &pairs, &languages(file)?, &options)?,
        None => retrieval(&scorer, &pairs, &options),
    };
    let mut out = Out::new();
    if args.json {
        out.json(&report)?;
    } else {
        print(&mut out, &report)?;
    }
    out.flush()
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

/// Recall in percent, with the ends of its interval, a line for each direction and language.
fn print(out: &mut Out, report: &RetrievalReport) -> Result<(), Failure> {
    let mut rows = vec![["".to_owned(), "R@1".into(), "R@5".into(), "R@10".into()]];
    add(&mut rows, "", report);
    for (language, part) in &report.languages {
        add(&mut rows, &format!("{language} "), part);
    }
    let widths: [usize; 1 + K.len()] = std::array::from_fn(|column| {
        rows.iter().map(|row| columns(&row[column])).max().unwrap_or(0)
    });
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| pad(cell, width)).collect();
        out.line(cells.join("  ").trim_end())?;
    }
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

fn add(rows: &mut Vec<[String; 1 + K.len()]>, language: &str, report: &RetrievalReport) {
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
        rows.push([format!("{language}{name} retrieval"), a, b, c]);
    }
    let mean = cell(report.mean_recall, intervals.map(|all| all.mean_recall));
    rows.push([format!("{language}mean recall"), mean, String::new(), String::new()]);
}
