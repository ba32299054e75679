//! `altclip eval table`: the figures of many runs, a row each, in the form of AltCLIP's README.

use super::{compare, table};
use crate::args::EvalTable;
use crate::failure::Failure;
use crate::output::Out;
use altclip_eval::Record;

/// The columns of a task: their heads, and the figures in them.
const TASKS: [(&str, &[(&str, &str)]); 4] = [
    (
        "zeroshot_retrieval",
        &[
            ("T2I R@1", "image_retrieval_recall@1"),
            ("R@5", "image_retrieval_recall@5"),
            ("R@10", "image_retrieval_recall@10"),
            ("I2T R@1", "text_retrieval_recall@1"),
            ("R@5", "text_retrieval_recall@5"),
            ("R@10", "text_retrieval_recall@10"),
            ("MR", "mean_recall"),
        ],
    ),
    ("zeroshot_classification", CLASSES),
    ("linear_probe", CLASSES),
    (
        "consistency",
        &[
            ("overlap@1", "overlap@1"),
            ("@5", "overlap@5"),
            ("@10", "overlap@10"),
            ("rank-biased", "rank_biased_overlap"),
            ("cosine", "cosine"),
        ],
    ),
];
const CLASSES: &[(&str, &str)] =
    &[("acc1", "acc1"), ("acc5", "acc5"), ("mean per class", "mean_per_class_recall")];

pub(super) fn run(args: &EvalTable) -> Result<(), Failure> {
    let mut records = Vec::new();
    for path in &args.results {
        records.extend(compare::read(path)?);
    }
    let mut out = Out::new();
    for (task, figures) in TASKS {
        let of_task = records.iter().filter(|record| record.task == task);
        let rows: Vec<Vec<String>> = of_task.map(|record| row(record, figures)).collect();
        if !rows.is_empty() {
            let head = ["model", "data", "language"].into_iter();
            let head = head.chain(figures.iter().map(|(head, _)| *head)).map(str::to_owned);
            let lines: Vec<Vec<String>> = std::iter::once(head.collect()).chain(rows).collect();
            if args.markdown {
                markdown(&mut out, &lines)?;
            } else {
                table::aligned(&mut out, &lines)?;
            }
        }
    }
    out.flush()
}

/// A run in percent.
fn row(record: &Record, figures: &[(&str, &str)]) -> Vec<String> {
    let cell = |(_, name): &(&str, &str)| {
        record.metric(name).map_or("–".to_owned(), |share| format!("{:.1}", 100.0 * share))
    };
    let own = [&record.pretrained, &record.dataset, &record.language].map(String::clone);
    own.into_iter().chain(figures.iter().map(cell)).collect()
}

fn markdown(out: &mut Out, lines: &[Vec<String>]) -> Result<(), Failure> {
    for (n, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().map(|cell| cell.replace('|', "\\|")).collect();
        out.line(format!("| {} |", cells.join(" | ")))?;
        if n == 0 {
            out.line(format!("|{}", "---|".repeat(line.len())))?;
        }
    }
    Ok(())
}
