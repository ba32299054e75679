//! What a task found, as records: on stdout, and in a folder with their table and a page.

use super::embedder::Work;
use super::model_names;
use crate::args::EvalRun;
use crate::failure::Failure;
use crate::files;
use crate::output::Out;
use altclip::Model;
use altclip_eval::{Record, csv};
use altclip_page::{Cell, Page, Table};
use serde_json::{Map, Value, json};

/// One model at one task.
pub(super) struct Context<'a> {
    pub(super) model: &'a Model,
    pub(super) eval: &'a EvalRun,
    pub(super) task: &'static str,
}

impl Context<'_> {
    /// A record; the figures stand also beside CLIP_benchmark's keys, with whatever `more` has.
    pub(super) fn record(
        &self,
        dataset: &str,
        language: &str,
        metrics: Map<String, Value>,
        more: impl IntoIterator<Item = (String, Value)>,
        work: Work,
    ) -> Record {
        let (model, pretrained) = model_names(self.model, &self.eval.run);
        let mut all = metrics.clone();
        all.extend(more);
        all.insert("machine".into(), machine(self.model, work));
        Record {
            dataset: dataset.to_owned(),
            model,
            pretrained,
            task: self.task.to_owned(),
            metrics,
            language: language.to_owned(),
            more: all,
        }
    }

    /// Writes `--out` and, with `--json`, stdout; whether stdout is done with.
    pub(super) fn hand_out(
        &self,
        records: &[Record],
        page: impl FnOnce() -> Page,
        out: &mut Out,
    ) -> Result<bool, Failure> {
        if let Some(dir) = &self.eval.out {
            std::fs::create_dir(dir).map_err(|error| files::cannot_write(dir, &error))?;
            for record in records {
                files::write_file(&dir.join(record.file_name()), true, |mut out| {
                    serde_json::to_writer_pretty(&mut out, record)?;
                    writeln!(out)
                })?;
            }
            files::write_file(&dir.join("results.csv"), false, |out| {
                out.write_all(csv(records).as_bytes())
            })?;
            let mut page = page();
            if let Some(record) = records.first() {
                page.section("This machine").add(&machine_table(record));
            }
            files::write_file(&dir.join("report.html"), false, |out| {
                out.write_all(page.html().as_bytes())
            })?;
        }
        if self.eval.json {
            for record in records {
                out.json(record)?;
            }
        }
        Ok(self.eval.json)
    }
}

/// What the figures of speed and memory were measured on.
fn machine(model: &Model, work: Work) -> Value {
    let backend = model.backend();
    let rate = |count: usize, seconds: f64| (count > 0).then(|| count as f64 / seconds.max(1e-9));
    json!({
        "cpu": cpu(),
        "threads": backend.threads(),
        "isa": backend.isa().name(),
        "precision": backend.precision().name(),
        "peak_memory_bytes": peak_memory(),
        "pictures_per_second": rate(work.pictures_computed, work.picture_seconds.as_secs_f64()),
        "texts_per_second": rate(work.texts_computed, work.text_seconds.as_secs_f64()),
        "work": work,
    })
}

/// The name of the processor, where the system says it.
fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The most memory that this process had, in bytes, where the system says it.
fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn machine_table(record: &Record) -> Table {
    let mut table = Table::new(["what", "measured"]);
    let machine = record.more.get("machine").cloned().unwrap_or_default();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        value if value.is_u64() => value.to_string(),
        value => value.as_f64().map_or_else(|| value.to_string(), |number| format!("{number:.1}")),
    };
    for (key, name) in [
        ("cpu", "processor"),
        ("threads", "threads"),
        ("isa", "instructions"),
        ("precision", "precision"),
        ("pictures_per_second", "pictures a second, reading and decoding included"),
        ("texts_per_second", "texts a second"),
    ] {
        table.row([Cell::text(name), Cell::text(text(&machine[key]))]);
    }
    let memory = machine["peak_memory_bytes"].as_u64().map(|bytes| (bytes >> 20).to_string());
    table.row([Cell::text("most memory, MiB"), Cell::text(memory.unwrap_or("–".to_owned()))]);
    let cached = text(&machine["work"]["from_cache"]);
    table.row([Cell::text("rows from the cache"), Cell::text(cached)]);
    table
}
