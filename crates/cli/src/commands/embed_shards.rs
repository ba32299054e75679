//! `altclip embed --shards`: each webdataset shard to an array and a table of one dump, in any number of
//! processes beside each other.
//!
//! A shard is complete once its file in `_SUCCESS` is there, which is written last and in one rename. What
//! is complete is not computed again, so the same command goes on after whatever stopped it. A shard that
//! another process works on is left to it.

use super::{Tally, progress};
use crate::args::Embed;
use crate::failure::{Failure, Reporter};
use crate::output::Out;
use crate::{files, model};
use altclip::{Model, npy};
use altclip_data::{Fault, ShardPictures};
use altclip_durable::{Lock, RealFs, Vfs, read, replace};
use altclip_report::{Diagnose as _, Report};
use altclip_search::{Error, Settings};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

const SUCCESS: &str = "_SUCCESS";
const MAX_SUCCESS_BYTES: u64 = 64 << 10;

pub(crate) fn run(args: &Embed, reporter: Reporter) -> Result<(), Failure> {
    let out_dir = args.out.as_deref().unwrap_or(Path::new(""));
    let shards = ShardPictures::shards(&args.shards)?;
    let digits = shards.len().max(1).ilog10() as usize + 1;
    let mut path = out_dir.to_owned();
    for folder in ["", "img_emb", "metadata", SUCCESS] {
        path = if folder.is_empty() { path } else { out_dir.join(folder) };
        std::fs::create_dir_all(&path).map_err(|error| files::cannot_write(&path, &error))?;
    }
    let model = model::load(&args.run, reporter)?;
    let name = args.run.model.model.clone().unwrap_or_default();
    let precision = model.precision().to_string();
    let place = model::folder(&args.run.model)?;
    let settings = Settings::of(&place, &name.to_string_lossy(), &model, &precision)?;
    let (mut out, mut tally) = (Out::new(), Tally::default());
    for (number, shard) in shards.iter().enumerate() {
        if number % args.shard.count != args.shard.number {
            continue;
        }
        let shown = shard.to_string_lossy();
        let done = out_dir.join(SUCCESS).join(format!("{number:0digits$}.json"));
        let bytes = RealFs.metadata(shard).map_or(0, |metadata| metadata.bytes);
        let line = match complete(&done, &settings, bytes)? {
            Some(mut line) => {
                line["skipped"] = true.into();
                line
            }
            None => {
                let part = format!("{number:0digits$}");
                let place = out_dir.join(SUCCESS).join(format!(".{part}.lock"));
                let lock = match Lock::acquire(&place, &format!("process {}", std::process::id())) {
                    Err(altclip_durable::Error::Locked { .. }) => {
                        tell(&mut out, args.json, json!({ "shard": shown, "busy": true }))?;
                        continue;
                    }
                    lock => lock?,
                };
                // Whoever had the lock before may have completed it.
                if let Some(mut line) = complete(&done, &settings, bytes)? {
                    line["skipped"] = true.into();
                    tell(&mut out, args.json, line)?;
                    continue;
                }
                let (rows, bad) = embed(&model, shard, out_dir, &part, args, &mut tally, reporter)?;
                let line = json!({
                    "shard": shown,
                    "bytes": bytes,
                    "rows": rows,
                    "bad": bad,
                    "fingerprint": settings.fingerprint,
                });
                replace(&RealFs, &done, |out| writeln!(out, "{line}"))?;
                // Whoever waits for it finds the shard complete.
                let _ = RealFs.remove_file(&place);
                drop(lock);
                line
            }
        };
        tell(&mut out, args.json, line)?;
    }
    tally.verdict(args.max_bad)
}

/// A line about a shard.
fn tell(out: &mut Out, json: bool, line: Value) -> Result<(), Failure> {
    let shard = line["shard"].as_str().unwrap_or_default();
    match (json, line["busy"] == true) {
        (true, _) => out.json(&line)?,
        (false, true) => out.line(format!("{shard}  another process works on it"))?,
        (false, false) => {
            out.line(format!("{shard}  {} rows, {} bad", line["rows"], line["bad"]))?;
        }
    }
    out.flush()
}

/// What was written of a shard that is complete. One of another model is refused; one that was damaged, or
/// whose shard has another size now, is made again.
fn complete(done: &Path, settings: &Settings, bytes: u64) -> Result<Option<Value>, Failure> {
    let Ok(text) = read(&RealFs, done, MAX_SUCCESS_BYTES) else { return Ok(None) };
    let Ok(line) = serde_json::from_slice::<Value>(&text) else { return Ok(None) };
    let found = line["fingerprint"].as_str().unwrap_or_default();
    if found != settings.fingerprint {
        return Err(Error::OtherModel {
            path: done.to_owned(),
            found: settings.fingerprint.clone(),
            expected: found.to_owned(),
        }
        .into());
    }
    Ok((line["bytes"] == bytes).then_some(line))
}

/// Writes array and table of one shard; gives the number of rows and of bad samples.
fn embed(
    model: &Model,
    shard: &Path,
    out_dir: &Path,
    part: &str,
    args: &Embed,
    tally: &mut Tally,
    reporter: Reporter,
) -> Result<(usize, usize), Failure> {
    let pictures = ShardPictures::open(shard)?;
    let count = pictures.len();
    let bar = progress(usize::try_from(count).unwrap_or(usize::MAX), reporter);
    let named = Arc::new(Mutex::new(VecDeque::new()));
    let sources = {
        let named = Arc::clone(&named);
        (0..count).filter_map(move |number| {
            let (name, bytes) = match pictures.get(number) {
                Ok(found) => (Ok((found.key, found.caption)), Some(found.bytes)),
                Err(fault) => (Err(fault), None),
            };
            named.lock().unwrap_or_else(PoisonError::into_inner).push_back(name);
            bytes.map(altclip::Picture::from)
        })
    };
    let mut options = model.picture_options();
    options.normalize = !args.no_normalize;
    let mut rows = model.pictures(sources, &options)?;
    let (mut numbers, mut keys, mut captions, mut bad) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut refuse = |report: &Report| {
        tally.bad(report);
        reporter.warn(std::slice::from_ref(report));
        bad += 1;
    };
    loop {
        let mut row = rows.next();
        let is_last = row.is_none();
        let next = || named.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(name) = next() {
            bar.inc(1);
            let name: Result<(String, String), Fault> = name;
            match (name, row.take()) {
                (Err(fault), waiting) => {
                    refuse(&fault.report());
                    row = waiting;
                    continue;
                }
                (Ok((key, caption)), Some(Ok(vector))) => {
                    numbers.extend(vector);
                    keys.push(format!("{}/{key}", shard.to_string_lossy()));
                    captions.push(caption);
                }
                (Ok((key, _)), Some(Err(error))) => {
                    let report = error.report();
                    let place = report.place.clone().unwrap_or_default();
                    refuse(&report.place(format!("{key} {place}")));
                }
                (Ok(_), None) => {}
            }
            if !is_last {
                break;
            }
        }
        if is_last {
            break;
        }
    }
    bar.finish_and_clear();
    for _ in &keys {
        tally.good();
    }
    let shape = [keys.len(), model.opened().config().projection_dim];
    let array = out_dir.join(format!("img_emb/img_emb_{part}.npy"));
    replace(&RealFs, &array, |mut out| npy::write_f32(&mut out, &shape, &numbers))?;
    let columns = [
        ("image_path", keys.iter().map(String::as_str).collect()),
        ("caption", captions.iter().map(String::as_str).collect()),
    ];
    let table = altclip_search::table(&columns).map_err(std::io::Error::other);
    let path = out_dir.join(format!("metadata/metadata_{part}.parquet"));
    replace(&RealFs, &path, |out| out.write_all(&table?))?;
    Ok((keys.len(), bad))
}
