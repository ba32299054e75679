//! The page of `altclip eval retrieval --out DIR`.

use altclip_eval::{Direction, K, RetrievalReport};
use altclip_page::{Axis, Bar, BarChart, Cell, KeyFigure, Page, Table};

/// The figures of a report for people: recall with its intervals, languages, worst queries.
pub(super) fn retrieval(report: &RetrievalReport) -> Page {
    let mut page = Page::new("Retrieval");
    page.paragraph("How many texts find their image, and images one of their texts, among the first 1, 5 and 10.");
    let mean = KeyFigure::new("Mean recall", percent(report.mean_recall));
    let mean = match &report.intervals {
        Some(intervals) => mean.note(between(intervals.mean_recall)),
        None => mean,
    };
    page.figures(&[
        mean,
        KeyFigure::new("Images", report.images.to_string()),
        KeyFigure::new("Texts", report.texts.to_string()),
        KeyFigure::new("Median rank", report.image_retrieval_median_rank.to_string())
            .note("of a text's image"),
        KeyFigure::new("Median rank", report.text_retrieval_median_rank.to_string())
            .note("of an image's first text"),
    ]);
    page.section("Recall").add(&table(report)).add(&chart(report));
    if let Some(intervals) = &report.intervals {
        page.note(&format!(
            "95 % intervals by drawing images anew {} times, each with its texts (seed {}).",
            intervals.bootstrap.resamples, intervals.bootstrap.seed
        ));
    }
    let ties = report.ties.image_retrieval + report.ties.text_retrieval;
    page.note(&format!(
        "Images without text, which are candidates only: {}. Queries whose rank equal similarities decide: {ties}; \
         the lower row comes first.",
        report.images_without_caption
    ));
    if !report.worst.is_empty() {
        page.section("Worst queries").add(&worst(report));
    }
    page
}

/// The report, and that of each language.
fn parts(report: &RetrievalReport) -> impl Iterator<Item = (&str, &RetrievalReport)> {
    let languages = report.languages.iter().map(|(name, part)| (name.as_str(), part));
    std::iter::once(("all", report)).chain(languages)
}

fn table(report: &RetrievalReport) -> Table {
    let mut head = vec!["texts".to_owned()];
    for way in ["text to image", "image to text"] {
        head.extend(K.map(|k| format!("{way} R@{k}")));
    }
    head.push("MR".into());
    let mut table = Table::new(&head);
    table.caption("In percent");
    for (name, part) in parts(report) {
        let values = part.image_retrieval_recall.iter().chain(&part.text_retrieval_recall);
        let cells = values.chain([&part.mean_recall]).map(|value| Cell::number(100.0 * value, 1));
        table.row(std::iter::once(Cell::text(name)).chain(cells));
    }
    table
}

fn chart(report: &RetrievalReport) -> BarChart {
    let axis = Axis::from_zero("R@1").percent();
    let mut chart = BarChart::new("R@1", axis, ["text to image", "image to text"]);
    for (name, part) in parts(report) {
        let intervals = part.intervals.as_ref();
        let image = intervals.map(|intervals| intervals.image_retrieval_recall[0]);
        let text = intervals.map(|intervals| intervals.text_retrieval_recall[0]);
        chart.group(
            name,
            [
                Bar { value: part.image_retrieval_recall[0], interval: image },
                Bar { value: part.text_retrieval_recall[0], interval: text },
            ],
        );
    }
    chart
}

fn worst(report: &RetrievalReport) -> Table {
    let mut table = Table::new(["query", "rank of its match", "found first"]);
    for query in &report.worst {
        let (kind, other) = match query.direction {
            Direction::ImageRetrieval => ("text", "image"),
            Direction::TextRetrieval => ("image", "text"),
        };
        let found: Vec<String> = query
            .found
            .iter()
            .map(|hit| format!("{other} {} ({:.3})", hit.row, hit.score))
            .collect();
        table.row([
            Cell::text(format!("{kind} {}", query.query)),
            Cell::value(query.rank.to_string()),
            Cell::text(found.join(", ")),
        ]);
    }
    table
}

fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

fn between([low, high]: [f64; 2]) -> String {
    format!("95 %: {:.1} to {:.1}", 100.0 * low, 100.0 * high)
}
