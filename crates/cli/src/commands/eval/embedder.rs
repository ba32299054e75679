//! Embeddings of a set, kept by model and input: what was computed once is read from then on.

use crate::commands::progress;
use crate::failure::{Failure, Reporter};
use crate::host;
use crate::model;
use altclip::cache::EmbeddingCache;
use altclip::image::read_file;
use altclip::{Model, Picture};
use altclip_data::{Dataset as _, Fault, LabelledPictures};
use altclip_report::{Code, Diagnose as _, Report};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Reads picture `n`, from any thread.
pub(super) type Source = Arc<dyn Fn(usize) -> Result<altclip_data::Picture, Fault> + Send + Sync>;

/// The embeddings of pictures.
pub(super) struct Images {
    /// `[rows, E]`, normalised.
    pub(super) rows: Vec<f32>,
    /// The number of the picture of each row.
    pub(super) kept: Vec<usize>,
    /// What could not be used.
    pub(super) bad: Vec<Report>,
}

/// How much was computed, and how fast.
#[derive(Clone, Copy, Default, serde::Serialize)]
pub(super) struct Work {
    /// Pictures that were computed, not read from the cache.
    pub(super) pictures_computed: usize,
    /// Texts that were computed.
    pub(super) texts_computed: usize,
    /// Rows that came from the cache.
    pub(super) from_cache: usize,
    #[serde(serialize_with = "seconds")]
    pub(super) picture_seconds: Duration,
    #[serde(serialize_with = "seconds")]
    pub(super) text_seconds: Duration,
}

fn seconds<S: serde::Serializer>(time: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(time.as_secs_f64())
}

/// A model with the cache of what it said before.
pub(super) struct Embedder<'m> {
    pub(super) model: &'m Model,
    /// Where embeddings are kept, if they are.
    pub(super) folder: Option<PathBuf>,
    images: Option<EmbeddingCache>,
    texts: Option<EmbeddingCache>,
    pub(super) reporter: Reporter,
    pub(super) work: Work,
}

impl<'m> Embedder<'m> {
    /// With a cache in `ALTCLIP_CACHE`, unless none is wanted or there can be none, which is said.
    pub(super) fn new(model: &'m Model, no_cache: bool, reporter: Reporter) -> Self {
        let folder = model::cache_folder(|name| std::env::var_os(name)).filter(|_| !no_cache);
        let folder = folder.map(|folder| folder.join("embeddings"));
        let width = model.opened().config().projection_dim;
        let open = |kind: &str| {
            let dir = folder.as_ref()?;
            let made_of = model.fingerprint();
            match made_of.and_then(|made_of| EmbeddingCache::open(dir, kind, &made_of, width)) {
                Ok(cache) => Some(cache),
                Err(error) => {
                    reporter.say(&format!("embeddings are not kept: {error}"));
                    None
                }
            }
        };
        let (images, texts) = (open("image"), open("text"));
        Self { model, folder, images, texts, reporter, work: Work::default() }
    }

    /// Numbers of a row, E.
    pub(super) fn width(&self) -> usize {
        self.model.opened().config().projection_dim
    }

    /// The rows of `len` pictures.
    pub(super) fn pictures(&mut self, len: usize, source: Source) -> Result<Images, Failure> {
        let mut start = Instant::now();
        let width = self.width();
        let mut rows: Vec<Option<Result<Vec<f32>, Report>>> = Vec::new();
        rows.resize_with(len, || None);
        let mut keys = vec![0; len];
        if let Some(cache) = &mut self.images {
            for (n, row) in rows.iter_mut().enumerate() {
                match bytes(self.model, &source, n) {
                    Ok(bytes) => {
                        keys[n] = EmbeddingCache::key(&bytes);
                        *row = cache.get(keys[n])?.map(Ok);
                        self.work.from_cache += usize::from(row.is_some());
                    }
                    Err(report) => *row = Some(Err(report)),
                }
            }
        }
        let missing: Vec<usize> = (0..len).filter(|&n| rows[n].is_none()).collect();
        let faults = Arc::new(Mutex::new(Vec::new()));
        // Where everything was there no weight is read.
        if !missing.is_empty() {
            let loading = Instant::now();
            self.model.image_encoder()?;
            // That is not part of the rate.
            start += loading.elapsed();
            let bar = progress(missing.len(), self.reporter);
            let (noted, numbers) = (Arc::clone(&faults), missing.clone());
            // A picture that cannot be read is no picture to the pipeline; why is noted beside it.
            let sources = numbers.into_iter().map(move |n| match source(n) {
                Ok(altclip_data::Picture::File(path)) => Picture::File(path),
                Ok(altclip_data::Picture::Bytes(bytes)) => Picture::Bytes(bytes),
                Err(fault) => {
                    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    noted.push((n, fault.report()));
                    Picture::Bytes(Vec::new())
                }
            });
            let computed = self.model.pictures(sources, &self.model.picture_options())?;
            for (&n, row) in missing.iter().zip(computed) {
                host::check()?;
                bar.inc(1);
                if let (Ok(row), Some(cache)) = (&row, &mut self.images) {
                    cache.put(keys[n], row)?;
                }
                rows[n] = Some(row.map_err(|error| error.report()));
            }
            bar.finish_and_clear();
        }
        for (n, report) in faults.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            rows[n] = Some(Err(report));
        }
        let mut images =
            Images { rows: Vec::with_capacity(len * width), kept: Vec::new(), bad: Vec::new() };
        for (n, row) in rows.into_iter().enumerate() {
            match row {
                Some(Ok(row)) => {
                    images.rows.extend(row);
                    images.kept.push(n);
                }
                Some(Err(report)) => images.bad.push(report),
                None => {}
            }
        }
        self.work.pictures_computed += missing.len();
        self.work.picture_seconds += start.elapsed();
        Ok(images)
    }

    /// The rows of labelled pictures, and the label of each row.
    pub(super) fn labelled(
        &mut self,
        data: &Arc<LabelledPictures>,
    ) -> Result<(Images, Vec<usize>), Failure> {
        let (len, source, classes_of) = labels(data);
        let images = self.pictures(len, source)?;
        let labels = classes_of(&images.kept);
        Ok((images, labels))
    }

    /// The rows of texts, `[N, E]`, normalised.
    pub(super) fn texts<S: AsRef<str>>(&mut self, texts: &[S]) -> Result<Vec<f32>, Failure> {
        let mut start = Instant::now();
        let width = self.width();
        let mut rows = vec![0.0; texts.len() * width];
        let mut missing = Vec::new();
        for (n, row) in rows.chunks_exact_mut(width).enumerate() {
            let known = match &mut self.texts {
                Some(cache) => cache.get(EmbeddingCache::key(texts[n].as_ref().as_bytes()))?,
                None => None,
            };
            match known {
                Some(known) => row.copy_from_slice(&known),
                None => missing.push(n),
            }
        }
        if !missing.is_empty() {
            let loading = Instant::now();
            self.model.text_encoder()?;
            start += loading.elapsed();
        }
        self.work.from_cache += texts.len() - missing.len();
        self.work.texts_computed += missing.len();
        let bar = progress(missing.len(), self.reporter);
        let owned: Vec<String> = missing.iter().map(|&n| texts[n].as_ref().to_owned()).collect();
        let mut truncated = Vec::new();
        for (&n, row) in missing.iter().zip(self.model.texts(owned.into_iter(), true)) {
            host::check()?;
            bar.inc(1);
            let row = row.map_err(|error| {
                let report = error.report();
                let place = format!("text {n} {}", report.place.as_deref().unwrap_or_default());
                Failure::one(report.place(place.trim_end()))
            })?;
            truncated.extend(row.truncated_from);
            rows[n * width..][..width].copy_from_slice(&row.vector);
            if let Some(cache) = &mut self.texts {
                cache.put(EmbeddingCache::key(texts[n].as_ref().as_bytes()), &row.vector)?;
            }
        }
        bar.finish_and_clear();
        self.say_truncated(&truncated);
        self.work.text_seconds += start.elapsed();
        Ok(rows)
    }

    /// Says of texts that were cut how many tokens they had.
    pub(super) fn say_truncated(&self, tokens: &[usize]) {
        let Some(longest) = tokens.iter().max() else { return };
        let message = format!("{} texts were truncated", tokens.len());
        let report = Report::new(Code::W3107, "text", message)
            .got(format!("up to {longest} tokens"))
            .expected(format!("at most {}", self.model.max_length()))
            .help("the rest is not part of the vector; --max-length sets the limit");
        self.reporter.warn(&[report]);
    }
}

/// How many labelled pictures there are, how one is read, and the labels of those that were read.
pub(super) fn labels(
    data: &Arc<LabelledPictures>,
) -> (usize, Source, impl FnOnce(&[usize]) -> Vec<usize> + use<>) {
    let len = usize::try_from(data.len()).unwrap_or(usize::MAX);
    let classes = Arc::new(Mutex::new(vec![0; len]));
    let (noted, data) = (Arc::clone(&classes), Arc::clone(data));
    let source: Source = Arc::new(move |n| {
        let sample = data.get(n as u64)?;
        noted.lock().unwrap_or_else(PoisonError::into_inner)[n] = sample.class;
        Ok(sample.picture)
    });
    let of = move |read: &[usize]| {
        let classes = classes.lock().unwrap_or_else(PoisonError::into_inner);
        read.iter().map(|&n| classes[n]).collect()
    };
    (len, source, of)
}

/// The bytes of a picture's file.
pub(super) fn bytes(model: &Model, source: &Source, n: usize) -> Result<Vec<u8>, Report> {
    match source(n) {
        Ok(altclip_data::Picture::Bytes(bytes)) => Ok(bytes),
        Ok(altclip_data::Picture::File(path)) => {
            read_file(&path, &model.options().decode).map_err(|error| error.report())
        }
        Err(fault) => Err(fault.report()),
    }
}
