//! `altclip eval compare`: the figures of two runs beside each other, and whether they are told apart.

use super::{page, table};
use crate::args::EvalCompare;
use crate::failure::Failure;
use crate::files;
use crate::output::Out;
use altclip_eval::Record;
use altclip_report::{Code, Report, quote};
use serde_json::json;
use std::path::Path;

/// One figure of both runs.
pub(super) struct Compared<'a> {
    pub(super) of: &'a Record,
    pub(super) name: &'a str,
    pub(super) values: [f64; 2],
    pub(super) intervals: [Option<[f64; 2]>; 2],
}

impl Compared<'_> {
    pub(super) fn difference(&self) -> f64 {
        self.values[1] - self.values[0]
    }

    /// Whether the intervals, where there are two, have nothing in common.
    pub(super) fn are_apart(&self) -> Option<bool> {
        let [a, b] = self.intervals;
        a.zip(b).map(|(a, b)| a[1] < b[0] || b[1] < a[0])
    }
}

pub(super) fn run(args: &EvalCompare) -> Result<(), Failure> {
    if let Some(page) = args.html.as_ref().filter(|page| page.symlink_metadata().is_ok()) {
        return Err(files::exists(page));
    }
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let found = compared(&before, &after);
    if found.is_empty() {
        return Err(Failure::one(
            Report::new(Code::E5021, "eval", "the two runs have no result in common")
                .place(format!("{} and {}", shown(&args.before), shown(&args.after)))
                .expected("the same dataset, language and task in both")
                .help("evaluate both models on the same data"),
        ));
    }
    if let Some(path) = &args.html {
        let names = [&args.before, &args.after].map(|path| path.to_string_lossy().into_owned());
        let page = page::compare(&found, names);
        files::write_file(path, false, |out| out.write_all(page.html().as_bytes()))?;
    }
    let mut out = Out::new();
    let mut lines = vec![["", "A", "B", "B - A", ""].map(str::to_owned).to_vec()];
    for figure in &found {
        let (of, [a, b], difference) = (figure.of, figure.values, figure.difference());
        if args.json {
            out.json(&json!({
                "dataset": of.dataset, "language": of.language, "task": of.task, "metric": figure.name,
                "a": a, "b": b, "difference": difference, "intervals_apart": figure.are_apart(),
            }))?;
            continue;
        }
        let mark = if figure.are_apart() == Some(true) { "intervals apart" } else { "" };
        lines.push(vec![
            format!("{} {} {}", of.dataset, of.language, figure.name),
            format!("{:.2}", 100.0 * a),
            format!("{:.2}", 100.0 * b),
            format!("{:+.2}", 100.0 * difference),
            mark.to_owned(),
        ]);
    }
    if !args.json {
        table::aligned(&mut out, &lines)?;
    }
    out.flush()
}

/// The figures that both runs have, in the order of the first.
fn compared<'a>(before: &'a [Record], after: &[Record]) -> Vec<Compared<'a>> {
    let mut found = Vec::new();
    for a in before {
        let same =
            |b: &&Record| b.dataset == a.dataset && b.language == a.language && b.task == a.task;
        let Some(b) = after.iter().find(same) else { continue };
        for name in a.metrics.keys() {
            let (Some(old), Some(new)) = (a.metric(name), b.metric(name)) else { continue };
            let intervals = [interval(a, name), interval(b, name)];
            found.push(Compared { of: a, name, values: [old, new], intervals });
        }
    }
    found
}

/// The 95 % interval of a figure, if it was found.
fn interval(record: &Record, name: &str) -> Option<[f64; 2]> {
    let of_figure = record.more.get("intervals").and_then(|all| all.get(name));
    let of_acc1 = record.more.get("acc1_interval").filter(|_| name == "acc1");
    let ends = of_figure.or(of_acc1)?.as_array()?;
    Some([ends.first()?.as_f64()?, ends.get(1)?.as_f64()?])
}

fn shown(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// The records of a JSON file, one object or one a line, or of all such files of a folder.
pub(super) fn read(path: &Path) -> Result<Vec<Record>, Failure> {
    let wrong = |path: &Path, what: String| {
        Failure::one(
            Report::new(Code::E5021, "eval", "this is no result of an evaluation")
                .place(shown(path))
                .got(what)
                .expected("an object with dataset, model, pretrained, task, metrics and language")
                .help("name a file that eval wrote with --out, or what --json printed"),
        )
    };
    let mut files = Vec::new();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| wrong(path, error.to_string()))?;
        files.extend(entries.flatten().map(|entry| entry.path()));
        files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let mut records = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failure::one(
                Report::new(Code::E4201, "input", format!("the result cannot be read: {error}"))
                    .place(shown(file))
                    .expected("a JSON file")
                    .help("check the path"),
            )
        })?;
        for record in serde_json::Deserializer::from_str(&text).into_iter() {
            records.push(record.map_err(|error| wrong(file, error.to_string()))?);
        }
    }
    if records.is_empty() { Err(wrong(path, "nothing".into())) } else { Ok(records) }
}
