//! `altclip index`: made, kept up to date, checked, exported.

use super::{Tally, progress};
use crate::args::{
    Index as Args, IndexAdd, IndexDuplicates, IndexExport, IndexHubs, IndexImport, IndexPath,
    IndexRead, IndexRemove, IndexRepair, IndexTask, IndexUpdate, MaxBad, Precision, RunArgs,
    threads,
};
use crate::failure::{Failure, Reporter};
use crate::host;
use crate::output::{Out, bad_row};
use crate::{files, model};
use altclip::image::DecodeOptions;
use altclip::{LoadOptions, Model};
use altclip_durable::RealFs;
use altclip_report::{Code, Report, escape, quote};
use altclip_search::{
    Background, Emptied, Error, Hit, Index, Lost, Plan, Repair, Searcher, Settings, Told,
};
use clap::ValueEnum as _;
use serde_json::json;
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

pub(crate) fn run(args: &Args, reporter: Reporter) -> Result<(), Failure> {
    match &args.task {
        IndexTask::Add(args) => add(args, reporter),
        IndexTask::Update(args) => update(args, reporter),
        IndexTask::Remove(args) => remove(args, reporter),
        IndexTask::Status(args) => status(args),
        IndexTask::Verify(args) => verify(args),
        IndexTask::Repair(args) => repair(args),
        IndexTask::Export(args) => export(args),
        IndexTask::Import(args) => import(args, reporter),
        IndexTask::Duplicates(args) => duplicates(args),
        IndexTask::Hubs(args) => hubs(args, reporter),
    }
}

/// Opens an index to search it.
pub(super) fn open(at: &IndexPath) -> Result<Index, Failure> {
    Ok(Index::open(Arc::new(RealFs), &at.index)?)
}

/// A model that is loaded once it is asked for.
pub(super) struct Wanted<'a> {
    run: RunArgs,
    reporter: Reporter,
    name: String,
    path: PathBuf,
    loaded: &'a OnceCell<Model>,
}

impl<'a> Wanted<'a> {
    /// The model of `run`, else the one that an index names, in its precision; pictures are decoded as the
    /// index says, and as `run` says beside it, which [`Wanted::check`] compares.
    pub(super) fn new(
        run: &RunArgs,
        index: Option<&Settings>,
        reporter: Reporter,
        loaded: &'a OnceCell<Model>,
    ) -> Result<Self, Failure> {
        let mut run = run.clone();
        if let Some(settings) = index {
            if run.model.model.is_none() {
                run.model.model = Some(PathBuf::from(&settings.model));
            }
            if run.precision.is_none() {
                run.precision = precision(settings);
            }
            let mut options = LoadOptions::default();
            altclip_search::decode_as(settings, &mut options);
            run.pictures.exif_orient |= options.decode.apply_exif_orientation;
            if options.decode.alpha == altclip::image::Alpha::CompositeWhite {
                run.pictures.alpha = crate::args::Alpha::Composite;
            }
        }
        let path = model::folder(&run.model)?;
        let named = run.model.model.clone().unwrap_or_default();
        // A folder is named so that it is found from anywhere, an id of the hub stays one.
        let name = if named.exists() { absolute(&named)? } else { named };
        Ok(Self { run, reporter, name: name.to_string_lossy().into_owned(), path, loaded })
    }

    pub(super) fn model(&self) -> Result<&'a Model, Failure> {
        if let Some(model) = self.loaded.get() {
            return Ok(model);
        }
        let model = model::load(&self.run, self.reporter)?;
        Ok(self.loaded.get_or_init(|| model))
    }

    pub(super) fn decode(&self) -> DecodeOptions {
        model::decode_options(&self.run.pictures)
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let precision = self.model()?.precision().to_string();
        Ok(Settings::of(&self.path, &self.name, self.model()?, &precision)?)
    }

    /// The settings of an index, with where its model lies now.
    ///
    /// Where the files of the model are untouched it is not loaded.
    pub(super) fn check(&self, index: &Index) -> Result<Settings, Failure> {
        index.settings().check_decode(&self.decode(), index.dir())?;
        if index.settings().is_at(&self.path)? {
            return Ok(index.settings().clone());
        }
        Ok(index.settings().check(&self.path, &self.name, self.model()?, index.dir())?)
    }
}

/// A path as an index keeps it. An index is used from other folders than the one in which it was made, and
/// two ways to write a path are one picture.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let given = std::path::absolute(path).map_err(|error| Failure::one(unusable(path, &error)))?;
    let plain = altclip_search::plain(&given);
    let looks_elsewhere = given.components().any(|part| part == Component::ParentDir);
    match given.canonicalize() {
        // Behind a link `..` leads to another folder than it looks.
        Ok(real) if looks_elsewhere && plain.canonicalize().ok().as_ref() != Some(&real) => {
            Ok(real)
        }
        _ => Ok(plain),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Report {
    Report::new(Code::E4201, "input", format!("the path cannot be used: {error}"))
        .place(quote(&path.to_string_lossy()))
        .expected("a picture or a folder")
        .help("check the path; is its disk mounted?")
}

/// What an index was computed in.
fn precision(settings: &Settings) -> Option<Precision> {
    Precision::from_str(&settings.precision, true).ok()
}

/// Vectors of two precisions are not put into one index.
fn check_precision(run: &RunArgs, index: &Index) -> Result<(), Failure> {
    match run.precision.and_then(|precision| precision.to_possible_value()) {
        Some(asked) => Ok(index.settings().check_precision(asked.get_name(), index.dir())?),
        None => Ok(()),
    }
}

/// Refuses to make an index anew without the folders that it had.
fn require_folders(roots: &[String]) -> Result<(), Failure> {
    let mut reports = Vec::new();
    for root in roots {
        let entries = match std::fs::metadata(root) {
            Ok(about) if !about.is_dir() => continue,
            about => about.and_then(|_| std::fs::read_dir(root)),
        };
        let error = match entries.map(|mut entries| entries.next().is_some()) {
            Ok(true) => continue,
            Ok(false) => "an empty folder".to_owned(),
            Err(error) => error.to_string(),
        };
        let report =
            Report::new(Code::E4201, "index", "a folder of the index cannot be read again");
        reports.push(report.place(quote(root)).got(error).expected("its pictures").help(
            "mount its disk; or take it out of the index first: altclip index remove FOLDER",
        ));
    }
    if reports.is_empty() { Ok(()) } else { Err(Failure::Reports(reports)) }
}

/// Refuses an index made anew that lacks pictures which were not deleted: their files cannot be read, or the
/// folder above them is empty, as a mount point is.
fn require_pictures(
    known: &BTreeMap<String, Vec<String>>,
    index: &Index,
    max_bad: MaxBad,
) -> Result<(), Failure> {
    let mut found = HashSet::new();
    index.store().entries(&mut |entry| {
        found.insert(entry.picture.path);
    })?;
    let forgotten = |path: &Path| {
        index.settings().forgotten.iter().any(|forgotten| path.starts_with(forgotten))
    };
    let is_lost = |path: &Path| {
        let above = path.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok());
        let entries = above.map(std::fs::read_dir);
        path.symlink_metadata().is_ok()
            || !entries.is_some_and(|entries| entries.is_ok_and(|mut all| all.next().is_some()))
    };
    let gone = known.keys().filter(|path| !found.contains(*path));
    let lost: Vec<&String> =
        gone.filter(|path| !forgotten(Path::new(path)) && is_lost(Path::new(path))).collect();
    match lost.first() {
        Some(first) if !max_bad.allows(lost.len() as u64, known.len() as u64) => {
            let what = "pictures of the index cannot be read again; it stays as it was";
            let report = Report::new(Code::E4201, "index", what)
                .place(quote(first))
                .got(format!("{} of {} pictures", lost.len(), known.len()))
                .expected("all that were not deleted")
                .help("mount their disk or mend the files; --max-bad goes on without so many");
            Err(Failure::one(report))
        }
        _ => Ok(()),
    }
}

fn add(args: &IndexAdd, reporter: Reporter) -> Result<(), Failure> {
    let loaded = OnceCell::new();
    let vfs = Arc::new(RealFs);
    let dir = &args.at.index;
    let (mut paths, mut missing) = (Vec::new(), Vec::new());
    for given in &args.paths {
        let path = absolute(given)?;
        match path.metadata() {
            Ok(_) => paths.push(path),
            Err(error) => {
                missing.push((path.to_string_lossy().into_owned(), unusable(&path, &error)))
            }
        }
    }
    if paths.is_empty() && !missing.is_empty() {
        return Err(Failure::Reports(missing.into_iter().map(|(_, report)| report).collect()));
    }
    let opened = match Index::open_to_write(vfs.clone(), dir) {
        Err(Error::NoIndex { .. }) if !dir.join("CURRENT").exists() => None,
        // A rebuild is the way out of damage and of versions that this one does not read.
        Err(Error::Damaged { .. } | Error::Lost { .. } | Error::NoIndex { .. }) if args.rebuild => {
            None
        }
        index => Some(index?),
    };
    let roots = |old: &[String]| {
        let mut roots = old.to_vec();
        for path in paths.iter().filter_map(|path| path.to_str()) {
            if !roots.iter().any(|root| root == path) {
                roots.push(path.to_owned());
            }
        }
        roots
    };
    let mut known = BTreeMap::new();
    let mut index = match opened {
        opened if args.rebuild => {
            if let Some(old) = &opened {
                old.store().rows(&mut |_, picture, _| {
                    known.insert(picture.path, picture.tags);
                })?;
            }
            let old = opened.map(|index| index.settings().clone());
            if let Some(old) = &old {
                require_folders(&old.roots)?;
            }
            let had = old.as_ref().map(|old| old.roots.clone());
            let roots = roots(&had.unwrap_or_else(|| altclip_search::roots(&*vfs, dir)));
            if roots.is_empty() {
                return Err(Failure::one(
                    Report::new(Code::E1001, "usage", "which folders the index had cannot be read")
                        .place(quote(&dir.to_string_lossy()))
                        .help("name the folders: altclip index add DIR --rebuild"),
                ));
            }
            let mut run = args.run.clone();
            let mut forgotten = old.as_ref().map(|old| old.forgotten.clone()).unwrap_or_default();
            forgotten.retain(|path| !paths.iter().any(|given| given == Path::new(path)));
            run.precision = run.precision.or(old.as_ref().and_then(precision));
            let wanted = Wanted::new(&run, None, reporter, &loaded)?;
            let settings = Settings { roots, forgotten, ..wanted.settings()? };
            match dir.exists() {
                true => Index::rebuild(vfs, dir, settings)?,
                false => Index::create(vfs, dir, settings)?,
            }
        }
        Some(mut index) => {
            check_precision(&args.run, &index)?;
            let wanted = Wanted::new(&args.run, Some(index.settings()), reporter, &loaded)?;
            let mut settings = wanted.check(&index)?;
            let given = model::decode_options(&args.run.pictures);
            if args.run.pictures.exif_orient || given.alpha != altclip::image::Alpha::Drop {
                settings.check_decode(&given, dir)?;
            }
            settings.roots = roots(&settings.roots);
            // What is named anew is looked at again.
            settings.forgotten.retain(|path| !settings.roots.contains(path));
            index.set(settings)?;
            index
        }
        None => {
            let wanted = Wanted::new(&args.run, None, reporter, &loaded)?;
            let settings = Settings { roots: roots(&[]), ..wanted.settings()? };
            Index::create(vfs, dir, settings)?
        }
    };
    let wanted = Wanted::new(&args.run, Some(index.settings()), reporter, &loaded)?;
    let looked: Vec<PathBuf> = match args.rebuild {
        true => index.settings().roots.iter().map(PathBuf::from).collect(),
        false => paths,
    };
    let work = Work { json: args.at.json, max_bad: args.max_bad, reporter, tags: &args.tag };
    let mut plan = Plan::new(&index, &looked)?;
    plan.faults.splice(0..0, missing);
    plan.take_tags(&known);
    // A rebuilt index does not count before it is complete, so nothing is said before.
    let (tally, late) = work.bring_up(&mut index, plan, &wanted, args.rebuild)?;
    if args.rebuild {
        require_pictures(&known, &index, args.max_bad)?;
        index = index.publish()?;
        let mut out = Out::new();
        late.iter().try_for_each(|line| out.json(line))?;
        out.flush()?;
    }
    work.finish(index, &wanted, tally)
}

fn update(args: &IndexUpdate, reporter: Reporter) -> Result<(), Failure> {
    let loaded = OnceCell::new();
    let mut index = Index::open_to_write(Arc::new(RealFs), &args.at.index)?;
    check_precision(&args.run, &index)?;
    let wanted = Wanted::new(&args.run, Some(index.settings()), reporter, &loaded)?;
    let settings = wanted.check(&index)?;
    index.set(settings)?;
    let roots: Vec<PathBuf> = index.settings().roots.iter().map(PathBuf::from).collect();
    let work = Work { json: args.at.json, max_bad: args.max_bad, reporter, tags: &[] };
    let emptied = if args.forget_empty { Emptied::Forgotten } else { Emptied::Kept };
    let plan = Plan::with(&index, &roots, emptied)?;
    let (tally, _) = work.bring_up(&mut index, plan, &wanted, false)?;
    work.finish(index, &wanted, tally)
}

/// How an index is brought up to date.
struct Work<'a> {
    json: bool,
    max_bad: MaxBad,
    reporter: Reporter,
    tags: &'a [String],
}

impl Work<'_> {
    fn bring_up(
        &self,
        index: &mut Index,
        plan: Plan,
        wanted: &Wanted<'_>,
        late: bool,
    ) -> Result<(Tally, Vec<serde_json::Value>), Failure> {
        self.reporter.warn(&index.take_notices());
        if plan.left_out > 0 {
            let left_out = plan.left_out;
            self.reporter.say(&format!("{left_out} files are no pictures by their names"));
        }
        let unchanged = plan.unchanged;
        let bar = progress(plan.look.len(), self.reporter);
        let (mut out, mut tally, mut lines) = (Out::new(), Tally::default(), Vec::new());
        let (mut indexed, mut reused, mut removed) = (0u64, 0u64, 0u64);
        let decode = wanted.decode();
        let mut tell = |path: &str, told: Told| {
            host::check()?;
            let line = match &told {
                Told::Refused(report) if report.code == Code::W7013 => {
                    self.reporter.warn(std::slice::from_ref(report));
                    return Ok(());
                }
                Told::Refused(report) => {
                    tally.bad(report);
                    if !self.json {
                        out.line(format!("{}  {report}", quote(path)))?;
                    }
                    bad_row("image", path, report)
                }
                Told::Removed => {
                    removed += 1;
                    json!({ "path": path, "removed": true })
                }
                told => {
                    tally.good();
                    let is_new = *told == Told::Indexed;
                    if is_new {
                        indexed += 1
                    } else {
                        reused += 1
                    }
                    json!({ "path": path, "ack": true })
                }
            };
            bar.inc(1);
            if late {
                lines.push(line);
            } else if self.json {
                out.json(&line)?;
                out.flush()?;
            }
            Ok(())
        };
        altclip_search::apply(index, plan, self.tags, &decode, || wanted.model(), &mut tell)?;
        bar.finish_and_clear();
        if !self.json {
            lines.clear();
            let images = index.head().images;
            out.line(format!(
                "{indexed} indexed, {reused} known by their contents, {unchanged} unchanged, {removed} removed; {images} in the index"
            ))?;
        }
        out.flush()?;
        Ok((tally, lines))
    }

    /// Makes what the first search needs, and decides.
    fn finish(&self, mut index: Index, wanted: &Wanted<'_>, tally: Tally) -> Result<(), Failure> {
        index.flat()?;
        Background::of_index(&index, &RealFs, || wanted.model())?;
        self.reporter.warn(&index.take_notices());
        tally.verdict(self.max_bad)
    }
}

fn remove(args: &IndexRemove, reporter: Reporter) -> Result<(), Failure> {
    let mut index = Index::open_to_write(Arc::new(RealFs), &args.at.index)?;
    reporter.warn(&index.take_notices());
    let (mut gone, mut forgotten) = (Vec::new(), Vec::new());
    let mut settings = index.settings().clone();
    for path in &args.paths {
        let path = absolute(path)?;
        let before = (gone.len(), settings.roots.len());
        index.store().entries(&mut |entry| {
            if Path::new(&entry.picture.path).starts_with(&path) {
                gone.push(entry.picture.path);
            }
        })?;
        settings.roots.retain(|root| !Path::new(root).starts_with(&path));
        if (gone.len(), settings.roots.len()) == before {
            return Err(Error::Unknown { path: path.to_string_lossy().into_owned() }.into());
        }
        forgotten.extend(path.to_str().map(str::to_owned));
    }
    // Or the next update would find them again.
    settings.forgotten.extend(forgotten);
    let is_below =
        |path: &String| settings.roots.iter().any(|root| Path::new(path).starts_with(root));
    let forgotten = settings.forgotten.iter().filter(|path| is_below(path)).cloned().collect();
    settings.forgotten = forgotten;
    settings.forgotten.sort_unstable();
    settings.forgotten.dedup();
    gone.sort_unstable();
    gone.dedup();
    index.forget(&gone, settings)?;
    let mut out = Out::new();
    for path in &gone {
        if args.at.json {
            out.json(&json!({ "path": path, "removed": true }))?;
        }
    }
    if !args.at.json {
        out.line(format!("{} pictures forgotten; {} left", gone.len(), index.head().images))?;
    }
    out.flush()
}

fn status(args: &IndexRead) -> Result<(), Failure> {
    let index = open(&args.at)?;
    let (settings, head) = (index.settings(), index.head());
    let mut out = Out::new();
    if args.at.json {
        out.json(&json!({
            "images": index.store().images()?,
            "model": settings.model,
            "fingerprint": settings.fingerprint,
            "precision": settings.precision,
            "width": settings.width,
            "folders": settings.roots,
            "forgotten": settings.forgotten,
            "acknowledged": head.sequence,
        }))?;
    } else {
        out.line(format!("{} pictures", index.store().images()?))?;
        out.line(format!("model {} ({})", escape(&settings.model), settings.precision))?;
        out.line(format!("fingerprint {}", settings.fingerprint))?;
        settings.roots.iter().try_for_each(|root| out.line(format!("folder {}", escape(root))))?;
        settings
            .forgotten
            .iter()
            .try_for_each(|path| out.line(format!("without {}", escape(path))))?;
    }
    out.flush()
}

fn verify(args: &IndexRead) -> Result<(), Failure> {
    let checked = open(&args.at).and_then(|index| {
        let found = index.verify()?;
        let images = index.head().images;
        if found.is_empty() { Ok(images) } else { Err(Failure::Reports(found)) }
    });
    let mut out = Out::new();
    match (&checked, args.at.json) {
        (Ok(images), true) => out.json(&json!({ "ok": true, "images": images }))?,
        (Ok(images), false) => out.line(format!("{images} pictures, every checksum fits"))?,
        (Err(Failure::Reports(reports)), true) => {
            let problems: Vec<_> = reports.iter().map(crate::failure::as_json).collect();
            out.json(&json!({ "ok": false, "problems": problems }))?;
        }
        (Err(_), _) => {}
    }
    out.flush()?;
    checked.map(|_| ())
}

fn repair(args: &IndexRepair) -> Result<(), Failure> {
    let found = altclip_search::repair(Arc::new(RealFs), &args.at.index, args.accept_loss)?;
    let mut out = Out::new();
    let lost = found.lost.len() as u64 + found.gone;
    for Lost { id, path } in &found.lost {
        match (args.at.json, path) {
            (true, path) => out.json(&json!({ "id": id, "path": path, "lost": true }))?,
            (false, Some(path)) => out.line(format!("lost: row {id}, {}", quote(path)))?,
            (false, None) => out.line(format!("lost: row {id}, its path cannot be read"))?,
        }
    }
    let Repair { kept, gone, commits, was_damaged, is_repaired, .. } = found;
    if args.at.json {
        out.json(&json!({
            "kept": kept, "lost": lost, "commits_lost": commits, "repaired": is_repaired,
        }))?;
    } else if !was_damaged {
        out.line(format!("{kept} pictures, nothing is damaged"))?;
    } else {
        if gone > 0 {
            out.line(format!("lost: {gone} pictures of which nothing is left"))?;
        }
        if commits > 0 {
            out.line(format!("lost: the last {commits} acknowledged commits"))?;
        }
        let kept_now = if is_repaired { "kept" } else { "can be kept" };
        out.line(format!("{kept} pictures {kept_now}, {lost} lost"))?;
    }
    out.flush()?;
    if was_damaged && !is_repaired {
        let what = "pictures that were acknowledged are lost; nothing was changed";
        return Err(Failure::one(
            Report::new(Code::E7001, "index", what)
                .place(quote(&args.at.index.to_string_lossy()))
                .got(format!("{kept} whole pictures, {lost} lost"))
                .help("restore a backup, or keep what is whole with --accept-loss"),
        ));
    }
    Ok(())
}

fn export(args: &IndexExport) -> Result<(), Failure> {
    let index = open(&args.at)?;
    if args.out.symlink_metadata().is_ok() {
        return Err(files::exists(&args.out));
    }
    let rows = altclip_search::export(&index, &RealFs, &args.out)?;
    let mut out = Out::new();
    match args.at.json {
        true => out.json(&json!({ "rows": rows, "out": args.out.to_string_lossy() }))?,
        false => out.line(format!("{rows} rows"))?,
    }
    out.flush()
}

fn import(args: &IndexImport, reporter: Reporter) -> Result<(), Failure> {
    let loaded = OnceCell::new();
    let vfs = Arc::new(RealFs);
    let mut index = match Index::open_to_write(vfs.clone(), &args.at.index) {
        Err(Error::NoIndex { .. }) => {
            let wanted = Wanted::new(&args.run, None, reporter, &loaded)?;
            Index::create(vfs, &args.at.index, wanted.settings()?)?
        }
        index => {
            let index = index?;
            Wanted::new(&args.run, Some(index.settings()), reporter, &loaded)?.check(&index)?;
            index
        }
    };
    let mut out = Out::new();
    let mut rows = 0u64;
    altclip_search::import(&mut index, &args.dump, &mut |path| {
        rows += 1;
        if args.at.json { out.json(&json!({ "path": path, "ack": true })) } else { Ok(()) }
    })?;
    if !args.at.json {
        out.line(format!("{rows} pictures; {} in the index", index.head().images))?;
    }
    out.flush()?;
    index.flat()?;
    Ok(())
}

fn duplicates(args: &IndexDuplicates) -> Result<(), Failure> {
    let mut index = open(&args.at)?;
    let flat = index.flat()?;
    let pool = altclip_kernels::Pool::new(LoadOptions::default().threads);
    let searcher = Searcher::new(&flat, &pool);
    let mut out = Out::new();
    for group in searcher.duplicates(args.threshold as f32) {
        let mut paths = Vec::new();
        for row in group {
            let picture = flat.id(row).map(|id| index.store().picture(id)).transpose()?.flatten();
            paths.extend(picture.map(|picture| picture.path));
        }
        if args.at.json {
            out.json(&json!({ "paths": paths }))?;
        } else {
            paths.iter().try_for_each(|path| out.line(escape(path)))?;
            out.line("")?;
        }
    }
    out.flush()
}

fn hubs(args: &IndexHubs, reporter: Reporter) -> Result<(), Failure> {
    let mut index = open(&args.at)?;
    let loaded = OnceCell::new();
    let wanted = Wanted::new(&args.run, Some(index.settings()), reporter, &loaded)?;
    wanted.check(&index)?;
    let flat = index.flat()?;
    reporter.warn(&index.take_notices());
    let background = Background::of_index(&index, &RealFs, || wanted.model())?;
    let pool = altclip_kernels::Pool::new(threads(args.run.threads));
    let mut out = Out::new();
    for Hit { row, score } in
        altclip_search::hubs(&Searcher::new(&flat, &pool), &background, args.threshold as f32)
    {
        let picture = flat.id(row).map(|id| index.store().picture(id)).transpose()?.flatten();
        let Some(picture) = picture else { continue };
        match args.at.json {
            true => out.json(&json!({ "path": picture.path, "deviations": score }))?,
            false => out.line(format!("{score:.1}  {}", escape(&picture.path)))?,
        }
    }
    out.flush()
}
