//! The index that the server answers from, and how it follows its folders while that goes on.

use crate::engine::Engine;
use crate::fault::Fault;
use crate::row::{Row, cosine};
use altclip::Model;
use altclip_durable::RealFs;
use altclip_report::{Code, Diagnose as _, Report};
use altclip_search::{
    Answer, Ask, Background, Content, Error, Flat, Hit, Index, Judge, Match, Nulls, Picture, Plan,
    Query, Scan, Searcher, Settings, Told, answer,
};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most pictures whose duplicates are looked for while a client waits.
const DUPLICATES: usize = 20_000;
/// Files of an update whose faults are told.
const MOST_REFUSED: usize = 10;
/// Stands in a query for the picture that came with it.
pub(crate) const UPLOADED: &str = "uploaded";

/// An index that is open to be searched.
pub(crate) struct Catalog {
    dir: PathBuf,
    engine: Arc<dyn Engine>,
    pool: altclip_kernels::Pool,
    opened: Mutex<Opened>,
    update: Mutex<Update>,
}

struct Opened {
    index: Index,
    flat: Arc<Flat>,
    background: Arc<Background>,
    nulls: Arc<Nulls>,
    /// The commit and the generation that these are of.
    sequence: u64,
    generation: String,
}

#[derive(Default)]
struct Update {
    running: Option<Progress>,
    last_error: Option<Report>,
    last: Option<Finished>,
}

/// What an update did, once it is over.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) added: u64,
    pub(crate) removed: u64,
    pub(crate) failed: u64,
    pub(crate) time: Duration,
    /// Names of the first files that cannot be indexed, and why.
    pub(crate) refused: Vec<(String, Report)>,
    /// Why it did not come to its end.
    pub(crate) error: Option<Report>,
}

/// How far an update is.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) added: u64,
    pub(crate) removed: u64,
    pub(crate) failed: u64,
    pub(crate) refused: Vec<(String, Report)>,
    pub(crate) begun: Instant,
}

impl Progress {
    fn new(total: u64, begun: Instant) -> Self {
        Self { done: 0, total, added: 0, removed: 0, failed: 0, refused: Vec::new(), begun }
    }

    fn note(&mut self, path: &str, told: Told) {
        self.done += 1;
        match told {
            Told::Indexed | Told::Reused => self.added += 1,
            Told::Removed => self.removed += 1,
            Told::Refused(report) => {
                self.failed += 1;
                if self.refused.len() < MOST_REFUSED {
                    let name = Path::new(path).file_name().unwrap_or_default();
                    self.refused.push((name.to_string_lossy().into_owned(), report));
                }
            }
            _ => {}
        }
    }

    fn finished(self, error: Option<Report>) -> Finished {
        let Self { added, removed, failed, refused, begun, .. } = self;
        Finished { added, removed, failed, time: begun.elapsed(), refused, error }
    }
}

/// What is told of an index.
pub(crate) struct Status {
    pub(crate) images: u64,
    pub(crate) settings: Settings,
    pub(crate) updating: Option<Progress>,
    pub(crate) last_error: Option<Report>,
    pub(crate) last: Option<Finished>,
}

/// A picture that is near to a vector.
pub(crate) struct Near {
    pub(crate) id: i64,
    pub(crate) picture: Picture,
    pub(crate) score: f32,
}

impl Catalog {
    /// Opens the index of a folder; its vectors must be those of the engine.
    pub(crate) fn open(
        dir: &Path,
        engine: &Arc<dyn Engine>,
        threads: usize,
    ) -> Result<Self, Fault> {
        let opened = open(dir, &**engine)?;
        Ok(Self {
            dir: dir.to_owned(),
            engine: Arc::clone(engine),
            pool: altclip_kernels::Pool::new(threads),
            opened: Mutex::new(opened),
            update: Mutex::default(),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn update(&self) -> MutexGuard<'_, Update> {
        self.update.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is open, or opened anew where somebody changed the index.
    fn fresh(&self) -> Result<MutexGuard<'_, Opened>, Fault> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        // Our own update tells when it is done; until then the state before it is what is searched.
        if self.update().running.is_none()
            && (opened.index.store().sequence()? != opened.sequence
                || generation(&self.dir) != opened.generation)
        {
            let new = open(&self.dir, &*self.engine)?;
            same_model(&opened.index, &new.index)?;
            *opened = new;
        }
        Ok(opened)
    }

    /// Opens the index anew; what was open stays where that fails.
    pub(crate) fn reload(&self) -> Result<(), Fault> {
        let new = open(&self.dir, &*self.engine)?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        same_model(&opened.index, &new.index)?;
        *opened = new;
        Ok(())
    }

    /// Answers a query whose texts and picture have these vectors.
    pub(crate) fn answer(
        &self,
        query: &Query,
        ask: &Ask,
        texts: &BTreeMap<String, Row>,
        picture: Option<&Row>,
    ) -> Result<Answer, Fault> {
        let opened = self.fresh()?;
        let searcher = Searcher::new(&opened.flat, &self.pool);
        let judge =
            Judge::new(&searcher, &opened.background, self.engine.scale()).keeping(&opened.nulls);
        let mut encode = |content: &Content| -> Result<Vec<f32>, Fault> {
            let row = match content {
                Content::Text(text) => texts.get(text),
                Content::Picture(_) => picture,
            };
            Ok(row.ok_or_else(Fault::lost)?.numbers().to_vec())
        };
        let mut found = answer(&opened.index, &searcher, &judge, query, ask, &mut encode)?;
        found.matches.iter_mut().for_each(|found| found.score = cosine(found.score));
        let is_finite =
            |found: &Match| found.score.is_finite() && found.probability.is_none_or(f32::is_finite);
        match found.matches.iter().all(is_finite) {
            true => Ok(found),
            false => Err(not_finite()),
        }
    }

    /// The pictures nearest to a vector.
    pub(crate) fn nearest(&self, vector: &[f32], count: usize) -> Result<Vec<Near>, Fault> {
        let opened = self.fresh()?;
        if vector.len() != opened.flat.width() {
            let expected = format!("{} numbers", opened.flat.width());
            let got = format!("{} numbers", vector.len());
            return Err(Fault::field("embedding_input", got, &expected));
        }
        let hits = Searcher::new(&opened.flat, &self.pool).nearest(vector, count, None, Scan::Auto);
        let mut near = Vec::new();
        for Hit { row, score } in hits {
            if !score.is_finite() {
                return Err(not_finite());
            }
            let Some(id) = opened.flat.id(row) else { continue };
            let Some(picture) = opened.index.store().picture(id)? else { continue };
            near.push(Near { id, picture, score: cosine(score) });
        }
        Ok(near)
    }

    /// The vectors of pictures, where they are still there.
    pub(crate) fn vectors(&self, ids: &[i64]) -> Result<Vec<Vec<f32>>, Fault> {
        let opened = self.fresh()?;
        let vector = |&id: &i64| opened.flat.row_of(id).map(|row| opened.flat.vector(row));
        Ok(ids.iter().map(|id| vector(id).unwrap_or_default()).collect())
    }

    /// The picture of an id.
    pub(crate) fn picture(&self, id: i64) -> Result<Picture, Fault> {
        let found = self.fresh()?.index.store().picture(id)?;
        found.ok_or_else(|| {
            let report = Report::new(Code::E7005, "index", "the index holds no picture there")
                .place(format!("id {id}"))
                .help("ids are those of /search");
            report.into()
        })
    }

    /// The pictures that were added last, the newest first.
    pub(crate) fn newest(&self, count: usize) -> Result<Vec<(i64, String)>, Fault> {
        let opened = self.fresh()?;
        let rows = (0..opened.flat.len()).rev();
        let mut newest = Vec::new();
        for id in rows.filter_map(|row| opened.flat.id(row)) {
            if newest.len() >= count {
                break;
            }
            let picture = opened.index.store().picture(id)?;
            newest.extend(picture.map(|picture| (id, picture.path)));
        }
        Ok(newest)
    }

    /// Groups of pictures that are nearly the same.
    pub(crate) fn duplicates(&self, threshold: f32) -> Result<Vec<Vec<(i64, String)>>, Fault> {
        let flat = Arc::clone(&self.fresh()?.flat);
        if flat.len() > DUPLICATES {
            let report = Report::new(Code::E8004, "index", "the index is too large for this")
                .got(format!("{} pictures", flat.len()))
                .expected(format!("at most {DUPLICATES}"))
                .help("run altclip index duplicates");
            return Err(report.into());
        }
        // Without the lock: searching goes on.
        let groups = Searcher::new(&flat, &self.pool).duplicates(threshold);
        let opened = self.fresh()?;
        let mut named = Vec::new();
        for group in groups {
            let mut pictures = Vec::new();
            for id in group.into_iter().filter_map(|row| flat.id(row)) {
                let picture = opened.index.store().picture(id)?;
                pictures.extend(picture.map(|picture| (id, picture.path)));
            }
            named.push(pictures);
        }
        Ok(named)
    }

    pub(crate) fn status(&self) -> Result<Status, Fault> {
        let (updating, last_error, last) = {
            let update = self.update();
            (update.running.clone(), update.last_error.clone(), update.last.clone())
        };
        let opened = self.fresh()?;
        let images = opened.index.store().images()?;
        Ok(Status { images, settings: opened.index.settings().clone(), updating, last_error, last })
    }

    /// Number of vectors that are searched.
    pub(crate) fn vectors_count(&self) -> usize {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).flat.len()
    }

    /// Looks through the folders of the index in a thread of its own; `ended` is told what it did.
    pub(crate) fn begin_update(
        self: &Arc<Self>,
        ended: impl FnOnce(&Finished) + Send + 'static,
    ) -> Result<(), Fault> {
        let mut update = self.update();
        if update.running.is_some() {
            let report = Report::new(Code::E7008, "index", "the index is being updated already")
                .help("see /index");
            return Err(report.into());
        }
        let begun = Instant::now();
        let catalog = Arc::clone(self);
        let work = move || {
            let caught =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| catalog.follow(begun)));
            let error = match caught {
                Ok(Ok(())) => None,
                Ok(Err(fault)) => Some(fault.report),
                Err(_) => Some(crate::worker::failed_over_it()),
            };
            let mut update = catalog.update();
            let progress = update.running.take().unwrap_or_else(|| Progress::new(0, begun));
            let last = progress.finished(error.clone());
            (update.last_error, update.last) = (error, Some(last.clone()));
            drop(update);
            ended(&last);
        };
        std::thread::Builder::new().name("altclip-index".into()).spawn(work).map_err(|error| {
            Fault::from(Report::new(Code::E9005, "index", format!("no thread: {error}")))
        })?;
        update.running = Some(Progress::new(0, begun));
        Ok(())
    }

    fn follow(&self, begun: Instant) -> Result<(), Fault> {
        let model = self.engine.model()?;
        let mut index = Index::open_to_write(Arc::new(RealFs), &self.dir)?;
        same_model(&self.opened.lock().unwrap_or_else(PoisonError::into_inner).index, &index)?;
        let roots: Vec<PathBuf> = index.settings().roots.iter().map(PathBuf::from).collect();
        let plan = Plan::new(&index, &roots)?;
        let total = (plan.look.len() + plan.gone.len() + plan.faults.len()) as u64;
        self.update().running = Some(Progress::new(total, begun));
        let mut tell = |path: &str, told: Told| -> Result<(), Fault> {
            if let Some(progress) = &mut self.update().running {
                progress.note(path, told);
            }
            Ok(())
        };
        let decode = model.options().decode.clone();
        let the_model = || Ok::<&Model, Fault>(&model);
        altclip_search::apply(&mut index, plan, &[], &decode, the_model, &mut tell)?;
        index.flat()?;
        drop(index);
        self.reload()
    }
}

fn open(dir: &Path, engine: &dyn Engine) -> Result<Opened, Fault> {
    let generation = generation(dir);
    let mut index = Index::open(Arc::new(RealFs), dir)?;
    let width = engine.about().width;
    if index.settings().width != width {
        return Err(Error::OtherModel {
            path: dir.to_owned(),
            found: format!("vectors of {width} numbers"),
            expected: format!("{} numbers", index.settings().width),
        }
        .report()
        .into());
    }
    let sequence = index.store().sequence()?;
    let flat = Arc::new(index.flat()?);
    let model = OnceCell::new();
    let load = || -> Result<&Arc<Model>, Fault> {
        let loaded = engine.model()?;
        Ok(model.get_or_init(|| loaded))
    };
    let background = Background::of_index(&index, &RealFs, || load().map(|model| &**model))?;
    let (background, nulls) = (Arc::new(background), Arc::default());
    Ok(Opened { index, flat, background, nulls, sequence, generation })
}

/// The name of the generation that counts.
fn generation(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("CURRENT")).unwrap_or_default()
}

fn same_model(before: &Index, now: &Index) -> Result<(), Fault> {
    let (before, now) = (before.settings(), now.settings());
    if (&before.fingerprint, &before.decode) == (&now.fingerprint, &now.decode) {
        return Ok(());
    }
    let report = Report::new(Code::E7004, "index", "the index is of another model now")
        .got(now.fingerprint.clone())
        .expected(before.fingerprint.clone())
        .help("start the server again with the model of the index");
    Err(report.into())
}

fn not_finite() -> Fault {
    let report = Report::new(Code::E9003, "index", "a score is not finite")
        .help("nothing of it was sent; see altclip index verify");
    report.into()
}
