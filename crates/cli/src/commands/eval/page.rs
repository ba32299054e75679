//! The pages of `altclip eval … --out DIR` and of `altclip eval compare --html`.

use super::compare::Compared;
use super::consistency::figures;
use super::retrieval::Part;
use crate::thumbnail;
use altclip::image::{DecodeOptions, read_file};
use altclip_data::Picture as Stored;
use altclip_eval::{
    Classification, ConsistencyReport, Direction, K, Record, RetrievalReport, WorstQuery,
};
use altclip_page::{
    Axis, Bar, BarChart, Cell, Heatmap, KeyFigure, Mark, Page, Picture, Sheet, Table, Tile,
};

/// More classes make no readable matrix.
const MATRIX: usize = 100;

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
    let all: Vec<_> = parts_of(report).collect();
    page.section("Recall").add(&table(&all)).add(&chart(&all));
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
fn parts_of(report: &RetrievalReport) -> impl Iterator<Item = (&str, &RetrievalReport)> {
    let languages = report.languages.iter().map(|(name, part)| (name.as_str(), part));
    std::iter::once(("all", report)).chain(languages)
}

fn table(parts: &[(&str, &RetrievalReport)]) -> Table {
    let mut head = vec!["texts".to_owned()];
    for way in ["T2I", "I2T"] {
        head.extend(K.map(|k| format!("{way} R@{k}")));
    }
    head.push("MR".into());
    let mut table = Table::new(&head);
    table.caption("In percent; T2I from text to image, I2T from image to text");
    for (name, part) in parts {
        let values = part.image_retrieval_recall.iter().chain(&part.text_retrieval_recall);
        let cells = values.chain([&part.mean_recall]).map(|value| Cell::number(100.0 * value, 1));
        table.row(std::iter::once(Cell::text(*name)).chain(cells));
    }
    table
}

fn chart(parts: &[(&str, &RetrievalReport)]) -> BarChart {
    let axis = Axis::from_zero("R@1").percent();
    let mut chart = BarChart::new("R@1", axis, ["text to image", "image to text"]);
    for (name, part) in parts {
        let intervals = part.intervals.as_ref();
        let image = intervals.map(|intervals| intervals.image_retrieval_recall[0]);
        let text = intervals.map(|intervals| intervals.text_retrieval_recall[0]);
        chart.group(
            *name,
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

/// What MUGE ranks by, where texts fit several images.
fn muge(page: &mut Page, name: &str, report: &RetrievalReport) {
    let Some(mean) = report.image_retrieval_mean_recall else { return };
    let ends = report.intervals.as_ref().and_then(|all| all.image_retrieval_mean_recall);
    let ends = ends.map_or(String::new(), |ends| format!(" ({})", between(ends)));
    page.note(&format!(
        "{name}: texts fit several images, and any of them is a hit. The mean of the three figures from text to \
         image, which MUGE ranks by, is {}{ends}.",
        percent(mean)
    ));
}

fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

fn between([low, high]: [f64; 2]) -> String {
    format!("95 %: {:.1} to {:.1}", 100.0 * low, 100.0 * high)
}

/// The parts of one or more sets: recall by language, and the worst queries with their pictures.
pub(super) fn parts(parts: &[Part]) -> Page {
    let mut page = Page::new("Retrieval");
    page.paragraph("How many texts find their image, and images one of their texts, among the first 1, 5 and 10.");
    let names: Vec<String> = parts.iter().map(Part::name).collect();
    let all: Vec<(&str, &RetrievalReport)> =
        names.iter().map(String::as_str).zip(parts.iter().map(|part| &part.report)).collect();
    if let Some(part) = parts.first() {
        let mean =
            parts.iter().map(|part| part.report.mean_recall).sum::<f64>() / parts.len() as f64;
        page.figures(&[
            KeyFigure::new("Mean recall", percent(mean)).note("mean over sets and languages"),
            KeyFigure::new("Images", part.report.images.to_string()).note(part.name()),
            KeyFigure::new("Texts", part.report.texts.to_string()).note(part.name()),
        ]);
    }
    page.section("Recall").add(&table(&all)).add(&chart(&all));
    if let Some(intervals) = parts.iter().find_map(|part| part.report.intervals.as_ref()) {
        page.note(&format!(
            "95 % intervals by drawing images anew {} times, each with its texts (seed {}).",
            intervals.bootstrap.resamples, intervals.bootstrap.seed
        ));
    }
    parts.iter().for_each(|part| muge(&mut page, &part.name(), &part.report));
    for part in parts.iter().filter(|part| !part.report.worst.is_empty()) {
        page.section(&format!("Worst queries: {}", part.name()));
        for query in &part.report.worst {
            worst_query(&mut page, part, query);
        }
    }
    page
}

/// A query, what it should find and what it found.
fn worst_query(page: &mut Page, part: &Part, query: &WorstQuery) {
    let names = &part.names;
    let mut sheet = Sheet::new();
    let mut add = |row: usize, caption: &str, note: String, mark: Option<Mark>| {
        let Some(picture) = names.pictures.get(row).and_then(|&n| shown(part, n)) else { return };
        let tile = Tile::new(picture, caption).note(note);
        sheet.tile(match mark {
            Some(mark) => tile.mark(mark),
            None => tile,
        });
    };
    let name = |row: usize| names.pictures.get(row).map_or("", |&n| names.set.picture_name(n));
    match query.direction {
        Direction::ImageRetrieval => {
            let Some((text, image)) = names.texts.get(query.query) else { return };
            page.heading(&format!("«{text}» finds its picture at place {}", query.rank));
            add(*image, name(*image), "its picture".into(), Some(Mark::Right));
            for hit in &query.found {
                add(hit.row, name(hit.row), format!("found, {:.3}", hit.score), Some(Mark::Wrong));
            }
            page.add(&sheet);
        }
        Direction::TextRetrieval => {
            page.heading(&format!("{} finds its text at place {}", name(query.query), query.rank));
            add(query.query, name(query.query), "the query".into(), None);
            page.add(&sheet);
            let mut table = Table::new(["found first", "cosine"]);
            for hit in &query.found {
                let text = names.texts.get(hit.row).map_or("", |(text, _)| text.as_str());
                table.row([Cell::text(text), Cell::number(f64::from(hit.score), 3)]);
            }
            page.add(&table);
        }
    }
}

/// A thumbnail of a picture of a set, where it can be decoded.
fn shown(part: &Part, n: usize) -> Option<Picture> {
    let options = DecodeOptions::default();
    let bytes = match part.names.set.picture(n).ok()? {
        Stored::File(path) => read_file(&path, &options).ok()?,
        Stored::Bytes(bytes) => bytes,
    };
    thumbnail::of(&bytes, part.names.set.picture_name(n), &options)
}

/// Accuracy, recall of each class, and what is taken for what.
pub(super) fn classification(record: &Record, found: &Classification, names: &[String]) -> Page {
    let title =
        if record.task == "linear_probe" { "Linear probe" } else { "Zero-shot classification" };
    let mut page = Page::new(title);
    let [dataset, language] = [&record.dataset, &record.language];
    page.paragraph(&format!("{} on {dataset}, prompts in {language}.", record.pretrained));
    let figure = |name: &str, key: &str| {
        KeyFigure::new(name, record.metric(key).map_or("–".into(), percent))
    };
    let ends = record
        .more
        .get("acc1_interval")
        .and_then(|ends| Some([ends.get(0)?.as_f64()?, ends.get(1)?.as_f64()?]));
    let acc1 = figure("Accuracy", "acc1");
    page.figures(&[
        match ends {
            Some(ends) => acc1.note(between(ends)),
            None => acc1,
        },
        figure("In the first five", "acc5"),
        figure("Mean recall of the classes", "mean_per_class_recall"),
    ]);
    let recalls = found.recalls();
    if names.len() <= MATRIX {
        let axis = Axis::from_zero("recall").percent();
        let mut chart = BarChart::new("Recall of each class", axis, ["recall"]);
        for (name, recall) in names.iter().zip(&recalls) {
            chart.group(name, [Bar { value: recall.unwrap_or(f64::NAN), interval: None }]);
        }
        let counts = found.confusion_matrix();
        let matrix = Heatmap::new("What is taken for what", ("class", "given"), names, &counts);
        page.section("Classes").add(&chart).add(&matrix);
    } else {
        let mut order: Vec<(usize, f64)> =
            recalls.iter().enumerate().filter_map(|(n, recall)| Some((n, (*recall)?))).collect();
        order.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut table = Table::new(["class", "recall, %"]);
        table.caption("The classes that are found least");
        for (class, recall) in order.into_iter().take(MATRIX) {
            let name = names.get(class).map_or("", String::as_str);
            table.row([Cell::text(name), Cell::number(100.0 * recall, 1)]);
        }
        page.section("Classes").add(&table);
    }
    page
}

/// How far two languages agree, and the queries that agree least.
pub(super) fn consistency(
    record: &Record,
    report: &ConsistencyReport,
    first: &[String],
    second: &[String],
) -> Page {
    let mut page = Page::new("Consistency of two languages");
    page.paragraph(&format!(
        "{} on {}: {} queries in {}.",
        record.pretrained, record.dataset, report.queries, record.language
    ));
    let mut table = Table::new(["figure", "mean", "from", "to"]);
    table.caption("With 95 % intervals");
    let ends = report.intervals.unwrap_or([[f64::NAN; 2]; 5]);
    for ((name, value), [low, high]) in figures(report).into_iter().zip(ends) {
        let cells = [value, low, high].map(|value| Cell::number(value, 4));
        table.row(std::iter::once(Cell::text(name)).chain(cells));
    }
    page.section("Figures").add(&table);
    let mut table = Table::new(["query", "translation", "rank-biased overlap", "cosine"]);
    for pair in &report.worst {
        let text =
            |texts: &[String]| Cell::text(texts.get(pair.query).cloned().unwrap_or_default());
        let figures = [pair.rank_biased_overlap, pair.cosine].map(|value| Cell::number(value, 3));
        table.row([text(first), text(second)].into_iter().chain(figures));
    }
    page.section("Least alike").add(&table);
    page
}

/// The figures of two runs side by side, a section for each task.
pub(super) fn compare(found: &[Compared<'_>], [a, b]: [String; 2]) -> Page {
    let mut page = Page::new("Two evaluations");
    page.paragraph(&format!("A is {a}, B is {b}."));
    let apart = found.iter().filter(|figure| figure.are_apart() == Some(true)).count();
    page.figures(&[
        KeyFigure::new("Figures in both", found.len().to_string()),
        KeyFigure::new("Told apart", apart.to_string())
            .note("95 % intervals without a common part"),
    ]);
    for of_task in found.chunk_by(|one, next| one.of.task == next.of.task) {
        let mut table = Table::new(["dataset", "figure", "A", "B", "B - A", "95 % intervals"]);
        table.caption("In percent");
        let axis = Axis::from_zero("share").percent();
        let mut chart = BarChart::new("The figures with an interval", axis, ["A", "B"]);
        for figure in of_task {
            let of = format!("{} {}", figure.of.dataset, figure.of.language);
            let [a, b] = figure.values.map(|value| Cell::number(100.0 * value, 2));
            let told = match figure.are_apart() {
                Some(true) => "apart",
                Some(false) => "overlap",
                None => "–",
            };
            let difference = Cell::value(format!("{:+.2}", 100.0 * figure.difference()));
            if figure.are_apart().is_some() {
                let bar = |n: usize| Bar { value: figure.values[n], interval: figure.intervals[n] };
                chart.group(format!("{of} {}", figure.name), [bar(0), bar(1)]);
            }
            let name = Cell::text(figure.name);
            table.row([Cell::text(of), name, a, b, difference, Cell::text(told)]);
        }
        let has_intervals = of_task.iter().any(|figure| figure.are_apart().is_some());
        let section = page.section(
            &of_task.first().map_or("", |figure| figure.of.task.as_str()).replace('_', " "),
        );
        section.add(&table);
        if has_intervals {
            section.add(&chart);
        }
    }
    page
}
