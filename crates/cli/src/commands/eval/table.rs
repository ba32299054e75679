//! Published figures with the measured ones among them.

use super::retrieval::Part;
use crate::failure::{Failure, Reporter};
use crate::output::{Out, columns, pad};
use altclip_eval::{Record, published, published_figures};

/// What a column of a table of single figures is called.
fn name_of(metric: &str) -> &str {
    match metric {
        "text_retrieval_recall@10" => "I2T R@10",
        "image_retrieval_recall@10" => "T2I R@10",
        metric => metric,
    }
}

/// The published rows of a set, and the measured one.
pub(super) fn of_retrieval(
    out: &mut Out,
    part: &Part,
    record: &Record,
    reporter: Reporter,
) -> Result<(), Failure> {
    let rows = published(&part.dataset, &part.language);
    if rows.is_empty() {
        // Where only R@10 is published the measured row shows both ways.
        let also = ["image_retrieval_recall@10"];
        return of_figures(out, (&part.dataset, &part.language), record, &also, reporter);
    }
    let report = &part.report;
    let measured = [report.image_retrieval_recall, report.text_retrieval_recall].concat();
    let measured: Vec<f64> =
        measured.iter().chain([&report.mean_recall]).map(|share| 100.0 * share).collect();
    let head = ["T2I R@1", "R@5", "R@10", "I2T R@1", "R@5", "R@10", "MR"];
    let published = rows.into_iter().map(|row| {
        let figures = [row.image_retrieval_recall, row.text_retrieval_recall].concat();
        let figures: Vec<_> = figures.into_iter().chain([row.mean_recall]).map(Some).collect();
        (row.model, figures, row.is_of(&record.pretrained))
    });
    let measured = measured.into_iter().map(Some).collect();
    print(out, &part.name(), &head, published.collect(), (&record.pretrained, measured))
}

/// The published figures of a set, with the measured ones of the same names, and of `also`.
pub(super) fn of_figures(
    out: &mut Out,
    (dataset, language): (&str, &str),
    record: &Record,
    also: &[&str],
    reporter: Reporter,
) -> Result<(), Failure> {
    let figures = published_figures(dataset, language);
    let Some(metric) = figures.first().map(|figure| figure.metric) else {
        reporter.say(&format!("no published figures for {dataset} {language}"));
        return Ok(());
    };
    let metrics: Vec<&str> = [metric].into_iter().chain(also.iter().copied()).collect();
    let head: Vec<&str> = metrics.iter().map(|metric| name_of(metric)).collect();
    let published = figures.iter().map(|figure| {
        let own = metrics.iter().map(|&m| (m == figure.metric).then_some(figure.percent));
        (figure.model, own.collect(), figure.is_of(&record.pretrained))
    });
    let measured = metrics.iter().map(|name| Some(100.0 * record.metric(name)?)).collect();
    let title = format!("{dataset} {language}");
    print(out, &title, &head, published.collect(), (&record.pretrained, measured))
}

/// Prints rows of a table, behind them the measured one, and how far it is from that of its model.
fn print(
    out: &mut Out,
    title: &str,
    head: &[&str],
    published: Vec<(&str, Vec<Option<f64>>, bool)>,
    (model, measured): (&str, Vec<Option<f64>>),
) -> Result<(), Failure> {
    let cell = |figure: &Option<f64>| figure.map_or("–".to_owned(), |x| format!("{x:.1}"));
    let line = |name: &str, figures: &[Option<f64>]| -> Vec<String> {
        std::iter::once(name.to_owned()).chain(figures.iter().map(cell)).collect()
    };
    let names = std::iter::once("").chain(head.iter().copied());
    let mut lines = vec![names.map(str::to_owned).collect::<Vec<_>>()];
    lines.extend(published.iter().map(|(name, figures, _)| line(name, figures)));
    lines.push(line(&format!("{model} (measured)"), &measured));
    for (name, figures, _) in published.iter().filter(|row| row.2) {
        let apart = measured.iter().zip(figures).map(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => format!("{:+.1}", a - b),
            _ => "–".to_owned(),
        });
        let name = format!("measured - published {name}");
        lines.push(std::iter::once(name).chain(apart).collect());
    }
    out.line(format!("{title}, in percent"))?;
    aligned(out, &lines)
}

/// Prints rows whose cells stand below each other.
pub(super) fn aligned(out: &mut Out, lines: &[Vec<String>]) -> Result<(), Failure> {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| columns(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for line in lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| pad(cell, width)).collect();
        out.line(cells.join("  ").trim_end())?;
    }
    Ok(())
}
