//! A model folder as one object: texts and pictures in, rows of the joint space out.

use crate::distinct::Distinct;
use crate::files::{ModelFiles, Settings, is_packed};
use crate::packed::{self, Parts};
use crate::{Classified, Embeddings, Error, Observer, Result, Templates};
use altclip_image::{DecodeOptions, Preprocessor, Rgb};
use altclip_models::weights::Formats;
use altclip_models::{Family, ImageEncoder, Opened, Reranker, TextEncoder, TextTower};
use altclip_report::{Code, Diagnose, Report};
use altclip_tensor::{Backend, CpuBackend, Ops, Precision, Tensor};
use altclip_tokenizer::{DEFAULT_MAX_LENGTH, Encoding, Tokenizer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use altclip_models::alt_clip::Conditioning;

/// Texts of one batch have at most this many tokens together, unless one text alone has more.
pub(crate) const BATCH_TOKENS: usize = 2048;
/// Pictures that go through a tower at once. More would be slower: activations would leave the cache.
pub const BATCH_PICTURES: usize = 4;

/// How a model is loaded and used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Number of threads; by default as many as the process may use.
    pub threads: usize,
    /// Tensors that the model does not use are a warning, not an error.
    pub allow_extra_keys: bool,
    /// Longest text in tokens; longer ones are truncated, and say so.
    pub max_length: usize,
    /// How pictures are decoded.
    pub decode: DecodeOptions,
    /// What the towers compute in. A packed model file has its own precision; f32, the default, then
    /// means that one.
    pub precision: Precision,
    /// With bf16 and int8: how single matrices are kept, by the names of their tensors, joined with
    /// `+`. Empty: found by running the model on samples (see [`LoadOptions::calibration`]).
    pub formats: Formats,
    /// With bf16 and int8: pictures that the model is tried on, to make up for what rounding does on
    /// average and to find which products bear 8 bits. Empty: pictures made by formula.
    pub calibration: Vec<PathBuf>,
    /// The folder where packed weights of model folders are kept, for precisions other than f32.
    pub cache: Option<PathBuf>,
    /// Weights are copied into memory of this process, so that whatever becomes of the files once the towers
    /// were used harms nothing. Else what is read by row, and packed weights, stay where they lie.
    pub own_memory: bool,
    /// Is told of progress and late warnings.
    pub observer: Observer,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            allow_extra_keys: false,
            max_length: DEFAULT_MAX_LENGTH,
            decode: DecodeOptions::default(),
            precision: Precision::F32,
            formats: Formats::new(),
            calibration: Vec::new(),
            cache: None,
            own_memory: false,
            observer: Observer::default(),
        }
    }
}

/// A loaded model. Each tower's weights are read when it is first used. Safe to share between
/// threads.
pub struct Model {
    opened: Opened,
    /// What took the place of a cache that turned out to be damaged.
    repaired: OnceLock<Opened>,
    settings: Settings,
    tokenizer: Arc<Tokenizer>,
    /// The folder or packed model file that was named.
    path: PathBuf,
    options: LoadOptions,
    backend: CpuBackend,
    warnings: Vec<Report>,
    text: Lazy<TextEncoder>,
    image: Lazy<(ImageEncoder, Preprocessor)>,
    reranker: Lazy<Reranker>,
}

impl Model {
    /// Opens a folder (`config.json`, weights, tokenizer files, `preprocessor_config.json`), a packed
    /// model file, or an author's own weight file (`ViT-B-32.pt`) with a tokenizer beside it. Taiyi's text
    /// folder holds its image tower, a CLIP, in a folder `image_tower`.
    ///
    /// # Errors
    /// Whatever is missing, damaged or contradictory; all faults of one file together.
    /// [`Error::Precision`] where a packed model file has another precision than the one asked for.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self> {
        let mut options = options.clone();
        let parts = match &options.cache {
            _ if is_packed(path) => Parts::of_file(path, &options)?,
            Some(cache) if options.precision != Precision::F32 => {
                Parts::of_cache(path, cache, &options)?
            }
            _ => Parts::of_folder(path, &options)?,
        };
        let Parts { opened, tokenizer, settings } = parts;
        if let Some(info) = opened.checkpoint().packed_info() {
            let own = Precision::ALL.into_iter().find(|p| p.name() == info.precision);
            let asked = options.precision;
            options.precision = match own {
                Some(own) if asked == own || asked == Precision::F32 => own,
                _ => {
                    return Err(Error::Precision {
                        file: path.to_owned(),
                        found: asked.to_string(),
                        expected: info.precision.clone(),
                    });
                }
            };
        }
        let mut warnings = opened.warnings().to_vec();
        warnings.extend(check_vocabulary(&tokenizer, &opened)?);
        let backend = backend(&options, &opened);
        Ok(Self {
            opened,
            repaired: OnceLock::new(),
            settings,
            tokenizer: Arc::new(tokenizer),
            path: path.to_owned(),
            backend,
            options,
            warnings,
            text: Lazy::default(),
            image: Lazy::default(),
            reranker: Lazy::default(),
        })
    }

    /// Prepares the weights again in this precision, in memory. Towers that were in use are ready
    /// when it returns.
    ///
    /// # Errors
    /// [`Error::Precision`] for a packed model file, which has one precision; a weight cannot be read.
    pub fn freeze(&mut self, precision: Precision) -> Result<()> {
        if precision == self.precision() {
            return Ok(());
        }
        if is_packed(&self.path) {
            return Err(Error::Precision {
                file: self.path.clone(),
                found: precision.to_string(),
                expected: self.precision().to_string(),
            });
        }
        let options = LoadOptions { precision, ..self.options.clone() };
        self.opened = Parts::of_folder(&self.path, &options)?.opened;
        self.repaired = OnceLock::new();
        self.backend = backend(&options, &self.opened);
        self.options = options;
        self.reranker.clear();
        let (text, image) = (self.text.clear(), self.image.clear());
        if text {
            self.text_encoder()?;
        }
        if image {
            self.image_encoder()?;
        }
        Ok(())
    }

    /// What the towers compute in.
    pub fn precision(&self) -> Precision {
        self.options.precision
    }

    /// Runs `work`; where that finds the cache damaged, makes the cache again and runs it once more.
    fn recovering<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(error) if self.repair(&error)? => work(),
            result => result,
        }
    }

    /// Whether the weights now come from somewhere else than when `error` was found.
    fn repair(&self, error: &Error) -> Result<bool> {
        let report = error.report();
        let Some(cache) = self.options.cache.as_ref().filter(|_| !is_packed(&self.path)) else {
            return Ok(false);
        };
        let damaged = matches!(report.code, Code::E2105 | Code::E2107 | Code::E2108);
        if !damaged || self.opened.checkpoint().packed_info().is_none() {
            return Ok(false);
        }
        // Whoever comes second waits here, and then finds it done.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        if self.repaired.get().is_none() {
            let file = packed::cache_path(&self.path, cache, self.precision());
            let again = "it is made again from the model folder";
            packed::warn(&self.options, &file, &report, again);
            // Nobody may find it valid again; where it cannot be removed, memory serves.
            let parts = match std::fs::remove_file(&file) {
                Ok(()) => Parts::of_cache(&self.path, cache, &self.options)?,
                Err(_) => Parts::of_folder(&self.path, &self.options)?,
            };
            self.text.clear();
            self.image.clear();
            self.reranker.clear();
            // It was empty under the lock.
            let _ = self.repaired.set(parts.opened);
        }
        Ok(true)
    }

    /// The model's files and sizes.
    pub fn opened(&self) -> &Opened {
        self.repaired.get().unwrap_or(&self.opened)
    }

    /// A hash of what the rows depend on: weights, tokenizer and preprocessor files by their names,
    /// sizes, times and heads, and how the model was loaded. It names a cache of embeddings.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        packed::embeddings_fingerprint(&self.path, &self.options, &self.settings)
    }

    /// What was noticed while loading.
    pub fn warnings(&self) -> &[Report] {
        &self.warnings
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokenizer for threads that outlive a borrow.
    pub(crate) fn shared_tokenizer(&self) -> Arc<Tokenizer> {
        Arc::clone(&self.tokenizer)
    }

    /// How the model was loaded.
    pub fn options(&self) -> &LoadOptions {
        &self.options
    }

    /// What executes the model.
    pub fn backend(&self) -> &CpuBackend {
        &self.backend
    }

    /// Longest text in tokens: as asked for; where nothing was asked for, no longer than the model takes.
    pub fn max_length(&self) -> usize {
        match self.options.max_length {
            DEFAULT_MAX_LENGTH => DEFAULT_MAX_LENGTH.min(self.opened().config().context_length()),
            asked => asked,
        }
    }

    /// The ids of a text, truncated to the model's longest text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn tokenize(&self, text: &str) -> Result<Encoding> {
        Ok(self.tokenizer.encode(text, self.max_length())?)
    }

    /// Reads and decodes a picture file.
    ///
    /// # Errors
    /// The file cannot be read or is not a picture that this program decodes.
    pub fn open_image(&self, path: &Path) -> Result<Rgb> {
        let bytes = altclip_image::read_file(path, &self.options.decode)?;
        Ok(altclip_image::decode(&bytes, &self.options.decode)?)
    }

    /// Pixel values `[3, Y, X]` of a picture as the model takes them.
    ///
    /// # Errors
    /// `preprocessor_config.json` is missing or not valid, or the picture is refused.
    pub fn preprocess(&self, image: &Rgb) -> Result<Vec<f32>> {
        Ok(self.preprocessor()?.apply(image)?)
    }

    /// The settings by which pictures are prepared.
    ///
    /// # Errors
    /// `preprocessor_config.json` is missing or not valid.
    pub fn preprocessor(&self) -> Result<Preprocessor> {
        self.settings.preprocessor()
    }

    /// Texts to `text_features`, projected and not normalised: `[N, E]`.
    ///
    /// # Errors
    /// A text is refused, or a weight cannot be read; here and below.
    pub fn text_features<S: AsRef<str>>(&self, texts: &[S]) -> Result<Embeddings> {
        let encodings =
            texts.iter().map(|text| self.tokenize(text.as_ref())).collect::<Result<Vec<_>>>()?;
        let ids: Vec<&[u32]> =
            encodings.iter().map(|encoding| encoding.input_ids.as_slice()).collect();
        self.features_of_ids(&ids)
    }

    /// As [`Model::text_features`], from token ids. What occurs several times is computed once.
    pub fn features_of_ids(&self, ids: &[&[u32]]) -> Result<Embeddings> {
        let distinct = Distinct::new(ids);
        self.recovering(|| {
            let encoder = self.text_encoder()?;
            let mut numbers = Vec::new();
            for batch in batches(&distinct.texts) {
                let features = encoder.features(&self.backend, batch)?;
                numbers.extend(self.backend.read(&features)?);
            }
            Embeddings::new(self.width(), distinct.scatter(numbers, self.width()))
        })
    }

    /// Texts to `text_embeds`, projected and L2-normalised: `[N, E]`.
    pub fn encode_text<S: AsRef<str>>(&self, texts: &[S]) -> Result<Embeddings> {
        self.normalize(&self.text_features(texts)?)
    }

    /// Pictures to `image_features`, projected and not normalised: `[N, E]`.
    ///
    /// # Errors
    /// As [`Model::preprocess`].
    pub fn image_features(&self, images: &[Rgb]) -> Result<Embeddings> {
        let tower = self.image_encoder()?;
        let (_, preprocessor) = &*tower;
        let (height, width) = preprocessor.output_size();
        let mut pixels = vec![0.0; images.len() * 3 * height * width];
        for (image, pixels) in images.iter().zip(pixels.chunks_exact_mut(3 * height * width)) {
            preprocessor.apply_into(image, pixels)?;
        }
        self.features_of_pixels(&pixels)
    }

    /// As [`Model::image_features`], from pixel values `[N, 3, Y, X]`.
    pub fn features_of_pixels(&self, pixels: &[f32]) -> Result<Embeddings> {
        let tower = self.image_encoder()?;
        let (encoder, preprocessor) = &*tower;
        let (height, width) = preprocessor.output_size();
        let picture = 3 * height * width;
        let mut numbers = Vec::new();
        for batch in pixels.chunks(BATCH_PICTURES * picture) {
            let pixels = self.backend.tensor(batch.len() / picture, picture, batch)?;
            let features = encoder.features(&self.backend, &pixels)?;
            numbers.extend(self.backend.read(&features)?);
        }
        Embeddings::new(self.width(), numbers)
    }

    /// Pictures to `image_embeds`, projected and L2-normalised: `[N, E]`.
    pub fn encode_image(&self, images: &[Rgb]) -> Result<Embeddings> {
        self.normalize(&self.image_features(images)?)
    }

    /// Each row divided by its L2 norm.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for a row of zeros.
    pub fn normalize(&self, features: &Embeddings) -> Result<Embeddings> {
        let rows: Tensor =
            self.backend.tensor(features.len(), features.width(), features.as_slice())?;
        Embeddings::new(features.width(), self.backend.read(&self.backend.l2_normalize(&rows)?)?)
    }

    /// One row per label: the mean of its captions' embeddings, normalised again. With one caption
    /// this is its embedding.
    ///
    /// # Source
    /// Radford et al., arXiv 2103.00020, section 3.1.4; LAION-AI/CLIP_benchmark
    /// `metrics/zeroshot_classification.py` (commit 48de38c).
    pub fn label_embeddings<S: AsRef<str>>(
        &self,
        labels: &[S],
        templates: &Templates,
    ) -> Result<Embeddings> {
        let captions: Vec<Vec<String>> =
            labels.iter().map(|label| templates.captions(label.as_ref())).collect();
        let per_label = captions.first().map_or(1, Vec::len);
        let embeds = self.encode_text(&captions.concat())?;
        match per_label {
            1 => Ok(embeds),
            _ => self.normalize(&embeds.means(per_label)?),
        }
    }

    /// Logits `exp(logit_scale) · cosine` and their softmax over the labels, for each picture.
    ///
    /// # Errors
    /// As [`Model::encode_image`].
    pub fn classify(&self, images: &[Rgb], labels: &Embeddings) -> Result<Classified> {
        self.classify_embeds(&self.encode_image(images)?, labels)
    }

    /// As [`Model::classify`], from normalised image embeddings.
    pub fn classify_embeds(&self, images: &Embeddings, labels: &Embeddings) -> Result<Classified> {
        let scale = self.recovering(|| Ok(self.opened().scale()?))?;
        Ok(Classified::from_cosines(labels.len(), scale, &images.cosines(labels)?))
    }

    /// The 77 states per prompt that condition AltDiffusion: rows of `[77 · N, D]`. The generation is
    /// that of the weights unless given.
    ///
    /// # Errors
    /// The model is not an AltCLIP, or lacks what the generation needs.
    pub fn conditioning<S: AsRef<str>>(
        &self,
        prompts: &[S],
        generation: Option<Conditioning>,
    ) -> Result<Embeddings> {
        let encode = |prompt: &S| {
            self.tokenizer.encode(prompt.as_ref(), altclip_models::alt_clip::CONDITIONING_TOKENS)
        };
        let encodings = prompts.iter().map(encode).collect::<std::result::Result<Vec<_>, _>>()?;
        self.recovering(|| self.states(&encodings, generation))
    }

    fn states(
        &self,
        encodings: &[Encoding],
        generation: Option<Conditioning>,
    ) -> Result<Embeddings> {
        let encoder = self.text_encoder()?;
        let TextTower::AltClip(tower) = encoder.tower() else {
            return Err(altclip_models::Error::NoTower("AltCLIP text tower").into());
        };
        let (mut width, mut numbers) = (1, Vec::new());
        for encoding in encodings {
            let generation = generation.unwrap_or(tower.generation());
            let states = tower.conditioning(&self.backend, &[&encoding.input_ids], generation)?;
            width = states.cols();
            numbers.extend(self.backend.read(&states)?);
        }
        Embeddings::new(width, numbers)
    }

    /// The text encoder; its weights are read on the first call.
    pub fn text_encoder(&self) -> Result<Arc<TextEncoder>> {
        self.recovering(|| {
            self.text.get_or_init(|| Ok(self.opened().text_encoder(&self.backend)?))
        })
    }

    /// The image encoder and its preprocessor; their files are read on the first call.
    pub fn image_encoder(&self) -> Result<Arc<(ImageEncoder, Preprocessor)>> {
        self.recovering(|| self.image.get_or_init(|| self.new_image_encoder()))
    }

    /// What looks at the best again; its weights are read on the first call.
    pub(crate) fn reranker(&self) -> Result<Arc<Reranker>> {
        self.recovering(|| {
            self.reranker.get_or_init(|| Ok(self.opened().reranker(&self.backend)?))
        })
    }

    fn new_image_encoder(&self) -> Result<(ImageEncoder, Preprocessor)> {
        let preprocessor = self.preprocessor()?;
        let size = self.opened().config().vision.map_or(0, |vision| vision.image_size);
        if preprocessor.output_size() != (size, size) {
            let (height, width) = preprocessor.output_size();
            return Err(altclip_models::Error::ConfigField {
                field: "preprocessor_config.json crop_size".into(),
                value: format!("{height} × {width}"),
                allowed: format!("{size} × {size}, the image_size of the model"),
            }
            .into());
        }
        Ok((self.opened().image_encoder(&self.backend)?, preprocessor))
    }

    fn width(&self) -> usize {
        self.opened().config().projection_dim
    }
}

/// What executes a model that is loaded so.
fn backend(options: &LoadOptions, opened: &Opened) -> CpuBackend {
    let backend = CpuBackend::new(options.threads).with_precision(options.precision);
    // A packed model file is in memory as a whole, with its tables.
    let is_packed = opened.checkpoint().packed_info().is_some();
    if options.own_memory && !is_packed { backend.with_own_tables() } else { backend }
}

/// What `info` says of a folder: everything that can be told without reading a weight.
pub struct Inspection {
    /// The folder's model, as far as it could be made out.
    pub opened: Opened,
    /// Faults that keep the model from loading.
    pub problems: Vec<Report>,
    /// What was noticed.
    pub warnings: Vec<Report>,
}

/// Looks at a folder or packed model file without reading a weight.
///
/// # Errors
/// Only what leaves nothing to tell.
pub fn inspect(path: &Path, allow_extra_keys: bool) -> Result<Inspection> {
    let ModelFiles { checkpoint, settings } = ModelFiles::open(path)?;
    let (opened, faults) = Opened::inspect(checkpoint, &settings.config, allow_extra_keys)?;
    let mut problems: Vec<Report> = faults.iter().flat_map(|fault| fault.reports()).collect();
    if opened.config().vision.is_some() || opened.family() != Family::AltClipText {
        problems.extend(settings.preprocessor().err().iter().flat_map(|error| error.reports()));
    }
    let warnings = opened.warnings().to_vec();
    Ok(Inspection { opened, problems, warnings })
}

fn check_vocabulary(tokenizer: &Tokenizer, opened: &Opened) -> Result<Option<Report>> {
    let model = opened.config().text.vocab_size();
    let tokenizer = tokenizer.vocab_size();
    match tokenizer.cmp(&model) {
        std::cmp::Ordering::Greater => Err(Error::Vocabulary { tokenizer, model }),
        std::cmp::Ordering::Equal => Ok(None),
        std::cmp::Ordering::Less => {
            let message = format!("the tokenizer has {tokenizer} ids, the word table {model} rows");
            Ok(Some(
                Report::new(Code::W2122, "tokenizer", message)
                    .help("check that both come from the same model"),
            ))
        }
    }
}

/// Consecutive texts of at most [`BATCH_TOKENS`] tokens together.
pub(crate) fn batches<'t>(ids: &'t [&'t [u32]]) -> impl Iterator<Item = &'t [&'t [u32]]> {
    let mut rest = ids;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|ids| {
            tokens += ids.len();
            tokens <= BATCH_TOKENS
        });
        let count = fits.count().max(1).min(rest.len());
        let (batch, others) = rest.split_at(count);
        rest = others;
        (!batch.is_empty()).then_some(batch)
    })
}

/// A value made on first use, by whoever comes first; the others wait.
struct Lazy<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Lazy<T> {
    fn get_or_init(&self, init: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*slot {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(init()?);
        *slot = Some(Arc::clone(&value));
        Ok(value)
    }

    /// Forgets the value and says whether there was one.
    fn clear(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_packed_by_tokens() {
        let long = vec![0; BATCH_TOKENS + 5];
        let short = vec![0; BATCH_TOKENS / 2];
        let ids: Vec<&[u32]> = vec![&short, &short, &short, &long, &short];
        let sizes: Vec<usize> = batches(&ids).map(<[_]>::len).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
        assert_eq!(batches(&[]).count(), 0);
    }
}
