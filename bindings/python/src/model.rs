//! A model, shared by any number of Python's threads.

use crate::error::{Fault, detached, unusable};
use crate::input;
use crate::watch::Watch;
use altclip::image::{Alpha, Limits};
use altclip::tensor::Precision;
use altclip::{Embeddings, LoadOptions, Picture, Similarity, Templates};
use altclip_report::{Code, Diagnose as _, Report};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Up to so many texts are not worth threads that tokenise ahead.
const FEW: usize = 32;
/// Pictures that are compared at a time by models that keep more than a row of each.
const WHOLE: usize = 64;

/// Rows as bytes of f32, and the width of one.
type Rows<'py> = (Bound<'py, PyByteArray>, usize);
/// As [`Rows`], with what was wrong with single items; their rows are zeros.
type RowsAndFaults<'py> = (Bound<'py, PyByteArray>, usize, Vec<(usize, Py<PyAny>)>);

/// What is wrong with single items, by their numbers.
type Faults = Vec<(usize, Vec<Report>)>;

/// A loaded model.
#[pyclass(frozen, module = "altclip._native")]
pub(crate) struct Model {
    open: Mutex<Option<Arc<altclip::Model>>>,
    path: PathBuf,
    /// The process that loaded it. A forked child has its memory and none of its threads.
    process: u32,
}

impl Drop for Model {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            // Its threads are not here to be joined.
            let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(open.take());
        }
    }
}

impl Model {
    /// The model, where it may be used.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<Arc<altclip::Model>> {
        let found = if std::process::id() == self.process {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.clone().ok_or_else(|| {
                unusable("model", "a closed one", "load it again, or close it later")
            })
        } else {
            let help = "load a model in each process, or start processes with «spawn»";
            Err(unusable("model", "one of the parent process", help))
        };
        found.map_err(|fault| fault.into_exception(py))
    }

    /// Where it was loaded from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[pymethods]
impl Model {
    /// Opens a model by path, hub id or `nano`; `cache` lets packed weights be kept.
    #[staticmethod]
    #[pyo3(signature = (name, *, precision, threads, max_length, cache, allow_extra_keys, exif_orient, alpha, max_pixels))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments, with their defaults in Python"
    )]
    fn load(
        py: Python<'_>,
        name: PathBuf,
        precision: String,
        threads: Option<usize>,
        max_length: Option<usize>,
        cache: bool,
        allow_extra_keys: bool,
        exif_orient: bool,
        alpha: String,
        max_pixels: Option<u64>,
    ) -> PyResult<Self> {
        let mut options = LoadOptions::default();
        let chosen = |fault: Fault| fault.into_exception(py);
        let precisions = Precision::ALL.map(|precision| (precision.name(), precision));
        options.precision = choice("precision", &precision, &precisions).map_err(chosen)?;
        let alphas = [("drop", Alpha::Drop), ("composite", Alpha::CompositeWhite)];
        options.decode.alpha = choice("alpha", &alpha, &alphas).map_err(chosen)?;
        options.decode.apply_exif_orientation = exif_orient;
        if let Some(pixels) = max_pixels {
            options.decode.limits = Limits { pixels, ..Limits::default() };
        }
        options.threads = threads.unwrap_or(options.threads).clamp(1, 1024);
        options.max_length = max_length.unwrap_or(options.max_length);
        options.allow_extra_keys = allow_extra_keys;
        options.cache = if cache { altclip_cli::cache() } else { None };
        let (path, model) = detached(py, move || {
            let path = altclip_cli::model_folder(&name).map_err(Fault::Reports)?;
            let model = altclip::Model::load(&path, &options)?;
            Ok((path, Arc::new(model)))
        })?;
        Ok(Self { open: Mutex::new(Some(model)), path, process: std::process::id() })
    }

    /// Lets go of the weights. Calls that run end in peace.
    fn close(&self, py: Python<'_>) {
        if std::process::id() == self.process {
            let model = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
            py.detach(|| drop(model));
        }
    }

    /// The folder or packed file.
    #[getter]
    fn folder(&self) -> PathBuf {
        self.path.clone()
    }

    /// The width of a row, E.
    #[getter]
    fn width(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.get(py)?.opened().config().projection_dim)
    }

    /// Longest text in tokens.
    #[getter]
    fn max_length(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.get(py)?.max_length())
    }

    /// Longest text in tokens that the model has positions for.
    #[getter]
    fn context_length(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.get(py)?.opened().config().context_length())
    }

    /// Height and width of the pixel values.
    #[getter]
    fn image_size(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        let model = self.get(py)?;
        detached(py, || Ok(model.preprocessor()?.output_size()))
    }

    /// The id that fills up shorter texts.
    #[getter]
    fn pad_id(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.get(py)?.tokenizer().pad_id())
    }

    /// What the towers compute in.
    #[getter]
    fn precision(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(self.get(py)?.precision().name())
    }

    /// The family, such as `altclip`.
    #[getter]
    fn family(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.get(py)?.opened().family().name().to_owned())
    }

    /// Whether a picture or text is one row, compared by its cosine.
    #[getter]
    fn is_cosine(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.get(py)?.similarity() == Similarity::Cosine)
    }

    /// Number of threads.
    #[getter]
    fn threads(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.get(py)?.options().threads)
    }

    /// What was noticed while loading.
    #[getter]
    fn warnings(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.get(py)?.warnings().iter().map(ToString::to_string).collect())
    }

    /// What cosines are multiplied by, `exp(logit_scale)`.
    fn scale(&self, py: Python<'_>) -> PyResult<f32> {
        let model = self.get(py)?;
        detached(py, || Ok(model.opened().scale().map_err(altclip::Error::from)?))
    }

    /// Texts to rows. A text that was truncated is counted.
    #[pyo3(signature = (texts, normalize, tick=None))]
    fn texts<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyList>,
        normalize: bool,
        tick: Option<Py<PyAny>>,
    ) -> PyResult<(Bound<'py, PyByteArray>, usize, usize)> {
        let model = self.get(py)?;
        let texts = input::texts(texts).map_err(|fault| fault.into_exception(py))?;
        let width = model.opened().config().projection_dim;
        let (numbers, truncated) = detached(py, || {
            let mut watch = Watch::new(tick);
            let mut numbers = Vec::with_capacity(texts.len() * width);
            let mut truncated = 0;
            let count = texts.len();
            if count <= FEW {
                return few_texts(&model, &texts, normalize);
            }
            for (n, row) in model.texts(texts.into_iter(), normalize).enumerate() {
                let row = row.map_err(|error| at("text", n, &error))?;
                truncated += usize::from(row.truncated_from.is_some());
                numbers.extend(row.vector);
                watch.look(n + 1)?;
            }
            watch.ask(count)?;
            Ok((numbers, truncated))
        })?;
        Ok((input::bytes(py, &numbers)?, width, truncated))
    }

    /// Pictures to rows. Faults of single ones end the call, or are handed back with `keep_going`.
    #[pyo3(signature = (pictures, normalize, keep_going, tick=None))]
    fn pictures<'py>(
        &self,
        py: Python<'py>,
        pictures: &Bound<'py, PyList>,
        normalize: bool,
        keep_going: bool,
        tick: Option<Py<PyAny>>,
    ) -> PyResult<RowsAndFaults<'py>> {
        let model = self.get(py)?;
        let pictures = input::pictures(pictures).map_err(|fault| fault.into_exception(py))?;
        let width = model.opened().config().projection_dim;
        let (numbers, faults) =
            detached(py, || rows(&model, pictures, normalize, keep_going, &mut Watch::new(tick)))?;
        let fault = |(n, reports): (usize, Vec<Report>)| {
            (n, crate::error::exception(py, &reports).into_value(py).into_any())
        };
        Ok((input::bytes(py, &numbers)?, width, faults.into_iter().map(fault).collect()))
    }

    /// Texts as token ids, one after the other, to projected rows of their own length.
    fn features_of_ids<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyBytes>,
        lengths: Vec<usize>,
    ) -> PyResult<Rows<'py>> {
        let model = self.get(py)?;
        let ids = input::ids(ids);
        let width = model.opened().config().projection_dim;
        let numbers = detached(py, || {
            let (mut texts, mut rest) = (Vec::new(), ids.as_slice());
            let (most, rows) =
                (model.opened().config().context_length(), model.tokenizer().vocab_size());
            for (n, length) in lengths.into_iter().enumerate() {
                let Some((text, others)) = rest.split_at_checked(length) else {
                    return Err(argument("input_ids", n, "too few ids", "one for each position"));
                };
                if length == 0 || length > most {
                    let expected = format!("1 to {most} of them");
                    return Err(argument("input_ids", n, format!("{length} tokens"), expected));
                }
                if let Some(id) = text.iter().find(|&&id| id as usize >= rows) {
                    let expected = format!("an id below {rows}");
                    return Err(argument("input_ids", n, id.to_string(), expected));
                }
                texts.push(text);
                rest = others;
            }
            let mut numbers = Vec::new();
            let watch = Watch::new(None);
            for texts in texts.chunks(256) {
                numbers.extend_from_slice(model.features_of_ids(texts)?.as_slice());
                watch.ask(0)?;
            }
            Ok(numbers)
        })?;
        Ok((input::bytes(py, &numbers)?, width))
    }

    /// Pixel values `[N, 3, Y, X]` to projected rows of their own length.
    fn features_of_pixels<'py>(
        &self,
        py: Python<'py>,
        pixels: &Bound<'py, PyBytes>,
    ) -> PyResult<Rows<'py>> {
        let model = self.get(py)?;
        let pixels = input::floats(pixels);
        let width = model.opened().config().projection_dim;
        let numbers = detached(py, || {
            let (height, width) = model.preprocessor()?.output_size();
            let picture = 3 * height * width;
            if let Some(first) = pixels.iter().position(|number| !number.is_finite()) {
                let place =
                    format!("pixel_values[{}], number {}", first / picture, first % picture);
                return Err(Fault::one(
                    Report::new(Code::E4101, "image", "pixel values are not finite")
                        .place(place)
                        .got("NaN or infinity")
                        .expected("finite numbers")
                        .help("look at what made them"),
                ));
            }
            let mut numbers = Vec::new();
            let watch = Watch::new(None);
            for pictures in pixels.chunks(16 * picture) {
                numbers.extend_from_slice(model.features_of_pixels(pictures)?.as_slice());
                watch.ask(0)?;
            }
            Ok(numbers)
        })?;
        Ok((input::bytes(py, &numbers)?, width))
    }

    /// Each row divided by its length.
    fn normalize<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyBytes>,
        width: usize,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let model = self.get(py)?;
        let rows = input::floats(rows);
        let numbers = detached(py, || {
            Ok(model.normalize(&Embeddings::new(width, rows)?)?.as_slice().to_vec())
        })?;
        input::bytes(py, &numbers)
    }

    /// The cosine of each row of `a` with each of `b`, both normalised.
    #[staticmethod]
    fn cosines<'py>(
        py: Python<'py>,
        a: &Bound<'py, PyBytes>,
        b: &Bound<'py, PyBytes>,
        width: usize,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let (a, b) = (input::floats(a), input::floats(b));
        let numbers =
            detached(py, || Ok(Embeddings::new(width, a)?.cosines(&Embeddings::new(width, b)?)?))?;
        input::bytes(py, &numbers)
    }

    /// How the model itself compares pictures with texts: `[pictures, texts]`.
    fn compare<'py>(
        &self,
        py: Python<'py>,
        pictures: &Bound<'py, PyList>,
        texts: &Bound<'py, PyList>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let model = self.get(py)?;
        let pictures = input::pictures(pictures).map_err(|fault| fault.into_exception(py))?;
        let texts = input::texts(texts).map_err(|fault| fault.into_exception(py))?;
        let numbers = detached(py, || {
            let texts = model.text_side(&texts)?;
            let mut numbers = Vec::new();
            let watch = Watch::new(None);
            whole(&model, pictures, |images| {
                numbers.extend(model.compare(&model.image_side(images)?, &texts)?);
                watch.ask(0)
            })?;
            Ok(numbers)
        })?;
        input::bytes(py, &numbers)
    }

    /// Logits and probabilities of labels, `[pictures, labels]` each.
    #[pyo3(signature = (pictures, labels, templates, tick=None))]
    fn classify<'py>(
        &self,
        py: Python<'py>,
        pictures: &Bound<'py, PyList>,
        labels: &Bound<'py, PyList>,
        templates: &Bound<'py, PyList>,
        tick: Option<Py<PyAny>>,
    ) -> PyResult<(Bound<'py, PyByteArray>, Bound<'py, PyByteArray>)> {
        let model = self.get(py)?;
        let pictures = input::pictures(pictures).map_err(|fault| fault.into_exception(py))?;
        let labels = input::texts(labels).map_err(|fault| fault.into_exception(py))?;
        let templates = input::texts(templates).map_err(|fault| fault.into_exception(py))?;
        let (logits, probabilities) = detached(py, || {
            let (mut logits, mut probabilities) = (Vec::new(), Vec::new());
            let mut watch = Watch::new(tick);
            let templates = Templates::new(templates);
            let mut keep = |classified: &altclip::Classified| {
                let cells = || classified.rows().flatten();
                logits.extend(cells().map(|label| label.logit));
                probabilities.extend(cells().map(|label| label.probability));
            };
            if model.similarity() == Similarity::TokenWise {
                let mut done = 0;
                whole(&model, pictures, |images| {
                    keep(&model.zero_shot(images, &labels, &templates)?);
                    done += images.len();
                    watch.look(done)
                })?;
            } else {
                let labels = model.label_embeddings(&labels, &templates)?;
                let (numbers, _) = rows(&model, pictures, true, false, &mut watch)?;
                let images = Embeddings::new(labels.width(), numbers)?;
                keep(&model.classify_embeds(&images, &labels)?);
            }
            Ok((logits, probabilities))
        })?;
        Ok((input::bytes(py, &logits)?, input::bytes(py, &probabilities)?))
    }
}

/// The rows of a few texts, and how many were truncated.
fn few_texts(
    model: &altclip::Model,
    texts: &[String],
    normalize: bool,
) -> Result<(Vec<f32>, usize), Fault> {
    let encode =
        |(n, text): (usize, &String)| model.tokenize(text).map_err(|error| at("text", n, &error));
    let encodings = texts.iter().enumerate().map(encode).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<&[u32]> = encodings.iter().map(|encoding| encoding.input_ids.as_slice()).collect();
    if ids.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let mut rows = model.features_of_ids(&ids)?;
    if normalize {
        rows = model.normalize(&rows)?;
    }
    let truncated = encodings.iter().filter(|encoding| encoding.truncated).count();
    Ok((rows.as_slice().to_vec(), truncated))
}

/// The rows of pictures, and what is wrong with single ones.
fn rows(
    model: &altclip::Model,
    pictures: Vec<Picture>,
    normalize: bool,
    keep_going: bool,
    watch: &mut Watch,
) -> Result<(Vec<f32>, Faults), Fault> {
    let (count, width) = (pictures.len(), model.opened().config().projection_dim);
    let (mut numbers, mut faults) = (Vec::with_capacity(count * width), Vec::new());
    if count == 0 {
        return Ok((numbers, faults));
    }
    let mut options = model.picture_options();
    options.normalize = normalize;
    if count == 1 {
        // There is nothing to read ahead.
        options.threads = 0;
    }
    for (n, row) in model.pictures(pictures.into_iter(), &options)?.enumerate() {
        match row {
            Ok(row) => numbers.extend(row),
            Err(error) => match at("image", n, &error) {
                Fault::Reports(reports) if keep_going => {
                    numbers.extend(std::iter::repeat_n(0.0, width));
                    faults.push((n, reports));
                }
                fault => return Err(fault),
            },
        }
        watch.look(n + 1)?;
    }
    watch.ask(count)?;
    Ok((numbers, faults))
}

/// Decoded pictures, some at a time.
fn whole(
    model: &altclip::Model,
    pictures: Vec<Picture>,
    mut take: impl FnMut(&[altclip::image::Rgb]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut images = Vec::new();
    let count = pictures.len();
    for (n, picture) in pictures.into_iter().enumerate() {
        let image = picture.decode(&model.options().decode);
        images.push(image.map_err(|error| at("image", n, &error))?);
        if images.len() == WHOLE || n + 1 == count {
            take(&images)?;
            images.clear();
        }
    }
    Ok(())
}

/// An error of item `n`, which says so.
pub(crate) fn at(what: &str, n: usize, error: &altclip::Error) -> Fault {
    let mut reports = error.reports();
    for report in &mut reports {
        let place = report.place.take();
        let place = place.map_or_else(String::new, |place| format!(", {place}"));
        report.place = Some(format!("{what} {n}{place}"));
    }
    Fault::Reports(reports)
}

fn argument(name: &str, n: usize, got: impl Into<String>, expected: impl Into<String>) -> Fault {
    Fault::one(
        Report::new(Code::E1101, "python", format!("{name} cannot be used"))
            .place(format!("{name}[{n}]"))
            .got(got)
            .expected(expected)
            .help("make them with the processor of the same model"),
    )
}

/// The value of a name.
fn choice<T: Copy>(what: &'static str, name: &str, all: &[(&str, T)]) -> Result<T, Fault> {
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    all.iter().find(|(other, _)| *other == name).map(|(_, value)| *value).ok_or_else(|| {
        Fault::one(
            Report::new(Code::E1101, "python", format!("{what} is not one of the names"))
                .place(what)
                .got(altclip_report::quote(name))
                .expected(names.join(", "))
                .help("take one of them"),
        )
    })
}
