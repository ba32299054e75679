//! A model folder as one object: texts and pictures in, rows of the joint space out.

use crate::distinct::Distinct;
use crate::{Classified, Embeddings, Error, Result, Templates};
use altclip_checkpoint::Checkpoint;
use altclip_image::{DecodeOptions, Preprocessor, Rgb};
use altclip_models::config::Text;
use altclip_models::{Family, ImageEncoder, Opened, TextEncoder, TextTower};
use altclip_report::{Code, Diagnose, Report};
use altclip_tensor::{Backend, CpuBackend, Ops, Precision, Tensor};
use altclip_tokenizer::{DEFAULT_MAX_LENGTH, Encoding, Tokenizer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

pub use altclip_models::alt_clip::Conditioning;

/// Texts of one batch have at most this many tokens together, unless one text alone has more.
pub(crate) const BATCH_TOKENS: usize = 2048;
/// Pictures of one batch. More would not be faster, only larger.
pub(crate) const BATCH_PICTURES: usize = 4;

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
    /// What the towers compute in.
    pub precision: Precision,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            allow_extra_keys: false,
            max_length: DEFAULT_MAX_LENGTH,
            decode: DecodeOptions::default(),
            precision: Precision::F32,
        }
    }
}

/// A loaded model. Each tower's weights are read when it is first used. Safe to share between
/// threads.
pub struct Model {
    opened: Opened,
    tokenizer: Arc<Tokenizer>,
    dir: PathBuf,
    options: LoadOptions,
    backend: CpuBackend,
    warnings: Vec<Report>,
    text: Lazy<TextEncoder>,
    image: Lazy<(ImageEncoder, Preprocessor)>,
}

impl Model {
    /// Opens a folder: `config.json`, weights, tokenizer files, `preprocessor_config.json`.
    ///
    /// # Errors
    /// Whatever is missing, damaged or contradictory in the folder; all faults of one file together.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self> {
        let checkpoint = Checkpoint::open(dir)?;
        let config = read(dir, "config.json")?;
        let opened = Opened::open(checkpoint, &config, options.allow_extra_keys)?;
        let tokenizer = Tokenizer::from_dir(dir)?;
        let mut warnings = opened.warnings().to_vec();
        warnings.extend(check_vocabulary(&tokenizer, &opened)?);
        Ok(Self {
            opened,
            tokenizer: Arc::new(tokenizer),
            dir: dir.to_owned(),
            backend: CpuBackend::new(options.threads).with_precision(options.precision),
            options: options.clone(),
            warnings,
            text: Lazy::default(),
            image: Lazy::default(),
        })
    }

    /// The model's files and sizes.
    pub fn opened(&self) -> &Opened {
        &self.opened
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

    /// The ids of a text, truncated to the model's longest text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn tokenize(&self, text: &str) -> Result<Encoding> {
        Ok(self.tokenizer.encode(text, self.options.max_length)?)
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
        preprocessor(&self.dir)
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
        let encoder = self.text_encoder()?;
        let distinct = Distinct::new(ids);
        let mut numbers = Vec::new();
        for batch in batches(&distinct.texts) {
            let features = encoder.features(&self.backend, batch)?;
            numbers.extend(self.backend.read(&features)?);
        }
        Embeddings::new(self.width(), distinct.scatter(numbers, self.width()))
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
        if per_label == 1 {
            return Ok(embeds);
        }
        let width = embeds.width();
        let mean = |rows: &[f32]| {
            let sum = |column: usize| rows.chunks_exact(width).map(|row| row[column]).sum::<f32>();
            (0..width).map(|column| sum(column) / per_label as f32).collect::<Vec<_>>()
        };
        let means = embeds.as_slice().chunks_exact(width * per_label).flat_map(mean).collect();
        self.normalize(&Embeddings::new(width, means)?)
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
        Ok(Classified::from_cosines(labels.len(), self.opened.scale()?, &images.cosines(labels)?))
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
        let encoder = self.text_encoder()?;
        let TextTower::AltClip(tower) = encoder.tower() else {
            return Err(altclip_models::Error::NoTower("AltCLIP text tower").into());
        };
        let (mut width, mut numbers) = (1, Vec::new());
        for encoding in &encodings {
            let generation = generation.unwrap_or(tower.generation());
            let states = tower.conditioning(&self.backend, &[&encoding.input_ids], generation)?;
            width = states.cols();
            numbers.extend(self.backend.read(&states)?);
        }
        Embeddings::new(width, numbers)
    }

    /// The text encoder; its weights are read on the first call.
    pub fn text_encoder(&self) -> Result<Arc<TextEncoder>> {
        self.text.get_or_init(|| Ok(self.opened.text_encoder(&self.backend)?))
    }

    /// The image encoder and its preprocessor; their files are read on the first call.
    pub fn image_encoder(&self) -> Result<Arc<(ImageEncoder, Preprocessor)>> {
        self.image.get_or_init(|| {
            let preprocessor = self.preprocessor()?;
            let size = self.opened.config().vision.map_or(0, |vision| vision.image_size);
            if preprocessor.output_size() != (size, size) {
                let (height, width) = preprocessor.output_size();
                return Err(altclip_models::Error::ConfigField {
                    field: "preprocessor_config.json crop_size".into(),
                    value: format!("{height} × {width}"),
                    allowed: format!("{size} × {size}, the image_size of the model"),
                }
                .into());
            }
            Ok((self.opened.image_encoder(&self.backend)?, preprocessor))
        })
    }

    fn width(&self) -> usize {
        self.opened.config().projection_dim
    }
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

/// Looks at a folder without reading a weight.
///
/// # Errors
/// Only what leaves nothing to tell.
pub fn inspect(dir: &Path, allow_extra_keys: bool) -> Result<Inspection> {
    let checkpoint = Checkpoint::open(dir)?;
    let (opened, faults) =
        Opened::inspect(checkpoint, &read(dir, "config.json")?, allow_extra_keys)?;
    let mut problems: Vec<Report> = faults.iter().flat_map(|fault| fault.reports()).collect();
    if opened.family() != Family::AltClipText {
        problems.extend(preprocessor(dir).err().iter().flat_map(|error| error.reports()));
    }
    let warnings = opened.warnings().to_vec();
    Ok(Inspection { opened, problems, warnings })
}

/// The settings by which a model folder wants its pictures prepared.
///
/// # Errors
/// `preprocessor_config.json` is missing or not valid; nothing is guessed.
pub fn preprocessor(dir: &Path) -> Result<Preprocessor> {
    Ok(Preprocessor::from_json(&read(dir, "preprocessor_config.json")?)?)
}

fn read(dir: &Path, file: &'static str) -> Result<Vec<u8>> {
    /// Settings files are a few kilobytes; CLIP's old config.json with all label names is 40.
    const LIMIT: u64 = 4 << 20;
    let open = || {
        let file = std::fs::File::open(dir.join(file))?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, LIMIT), &mut bytes)?;
        Ok(bytes)
    };
    open().map_err(|source| Error::File { file, dir: dir.to_owned(), source })
}

fn check_vocabulary(tokenizer: &Tokenizer, opened: &Opened) -> Result<Option<Report>> {
    let model = match &opened.config().text {
        Text::AltClip(text) => text.bert.vocab_size,
        Text::Clip(text) => text.vocab_size,
    };
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
fn batches<'t>(ids: &'t [&'t [u32]]) -> impl Iterator<Item = &'t [&'t [u32]]> {
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
