//! Many pictures or texts to rows, in order: reading and preparing go on while the model computes.
//!
//! Threads of their own read, decode and preprocess pictures a little ahead of the encoder, which runs
//! on the caller's thread and its backend's pool. There is no rate to set: a batch that was taken makes
//! room, the threads fill it again and sleep, and the system shares the cores meanwhile. So the
//! preparation costs its CPU time and no more, and waiting for a disk costs nothing.
//!
//! What is wrong with one item is that item's result. Rows have the same bits whatever they are batched
//! with.

use crate::model::{BATCH_PICTURES, BATCH_TOKENS};
use crate::ordered::{Ordered, Panicked};
use crate::{Embeddings, Error, Model, Result};
use altclip_image::{DecodeOptions, Preprocessor, Rgb, decode_and_preprocess};
use altclip_models::ImageEncoder;
use altclip_tensor::{Backend, Ops};
use altclip_tokenizer::Encoding;
use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Texts that are tokenised ahead, and most texts of one step.
const TEXTS_AHEAD: usize = 512;

/// A picture that has yet to be read or decoded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Picture {
    /// A file.
    File(PathBuf),
    /// The bytes of a file.
    Bytes(Vec<u8>),
    /// One that was decoded elsewhere.
    Rgb(Rgb),
}

impl Picture {
    /// Reads and decodes it.
    ///
    /// # Errors
    /// The file cannot be read or is not a picture that this program decodes.
    pub fn decode(self, options: &DecodeOptions) -> Result<Rgb> {
        Ok(match self {
            Picture::File(path) => {
                altclip_image::decode(&altclip_image::read_file(&path, options)?, options)?
            }
            Picture::Bytes(bytes) => altclip_image::decode(&bytes, options)?,
            Picture::Rgb(picture) => picture,
        })
    }

    /// Its pixel values `[3, Y, X]`.
    ///
    /// # Errors
    /// As [`Picture::decode`], or the picture is refused.
    pub fn preprocess(
        self,
        options: &DecodeOptions,
        preprocessor: &Preprocessor,
        out: &mut [f32],
    ) -> Result<()> {
        let bytes = match self {
            Picture::File(path) => altclip_image::read_file(&path, options)?,
            Picture::Bytes(bytes) => bytes,
            Picture::Rgb(picture) => return Ok(preprocessor.apply_into(&picture, out)?),
        };
        Ok(decode_and_preprocess(&bytes, options, preprocessor, out)?)
    }
}

impl From<PathBuf> for Picture {
    fn from(path: PathBuf) -> Self {
        Picture::File(path)
    }
}

impl From<Vec<u8>> for Picture {
    fn from(bytes: Vec<u8>) -> Self {
        Picture::Bytes(bytes)
    }
}

impl From<Rgb> for Picture {
    fn from(picture: Rgb) -> Self {
        Picture::Rgb(picture)
    }
}

/// How many pictures become rows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PictureOptions {
    /// Pictures that the encoder takes at a time.
    pub batch: usize,
    /// Threads that read and decode; with none the caller does it between batches.
    pub threads: usize,
    /// Rows are divided by their L2 norm.
    pub normalize: bool,
    /// How pictures are decoded.
    pub decode: DecodeOptions,
}

impl PictureOptions {
    /// The usual options for a backend of `threads` threads: as many decode, but one alone takes turns
    /// with itself.
    pub fn for_threads(threads: usize) -> Self {
        let batch = BATCH_PICTURES;
        let threads = if threads > 1 { threads.min(2 * batch) } else { 0 };
        Self { batch, threads, normalize: true, decode: DecodeOptions::default() }
    }

    /// Pictures that are in work or wait for the encoder.
    fn ahead(&self) -> usize {
        2 * self.batch.max(1)
    }
}

/// An image tower with its preprocessor.
pub type ImageTower = Arc<(ImageEncoder, Preprocessor)>;

/// The rows of pictures, in the order of their sources.
///
/// # Memory
/// Beside the encoder's activations: the pixel values of four batches at most (two ahead, one gathered,
/// one as the encoder's operand; 0.6 MB a picture of 224 × 224), and for each thread the file and what
/// its decoder needs, which [`altclip_image::Limits`] bounds.
pub struct Pictures<'m> {
    backend: &'m dyn Backend,
    tower: ImageTower,
    options: PictureOptions,
    decoded: Ordered<Result<Vec<f32>>>,
    spare: Spare,
    pixels: Vec<f32>,
    rows: VecDeque<Result<Vec<f32>>>,
}

impl<'m> Pictures<'m> {
    /// Starts to read `sources`. Nothing is encoded before the first row is asked for.
    pub fn new<S: Into<Picture> + Send + 'static>(
        backend: &'m dyn Backend,
        tower: ImageTower,
        sources: impl Iterator<Item = S> + Send + 'static,
        options: &PictureOptions,
    ) -> Self {
        let prepare = Prepare::new(&tower, &options.decode);
        let spare = prepare.spare.clone();
        let work = move |source: S| prepare.run(source.into());
        Self {
            backend,
            tower,
            decoded: Ordered::new(sources, options.threads, options.ahead(), work),
            options: options.clone(),
            spare,
            pixels: Vec::new(),
            rows: VecDeque::new(),
        }
    }

    /// Whether the next row is there already: a good moment to flush is when it is not.
    pub fn is_ready(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Fills a batch with the next pictures that could be decoded and encodes it.
    fn step(&mut self) {
        let mut good = 0;
        self.pixels.clear();
        // Refused pictures are bounded too, so that a row of them is handed out.
        while good < self.options.batch.max(1) && self.rows.len() < self.options.ahead() {
            let Some(values) = self.decoded.next() else { break };
            self.rows.push_back(values.map_err(Error::from).flatten().map(|values| {
                good += 1;
                self.pixels.extend_from_slice(&values);
                self.spare.give_back(values);
                Vec::new()
            }));
        }
        if good > 0 {
            let results = self.encode_each(good);
            let places = self.rows.iter_mut().filter(|row| row.is_ok());
            places.zip(results).for_each(|(place, result)| *place = result);
        }
    }

    /// Encodes the gathered pictures together. If that fails, each alone, so that the fault is laid at
    /// the right door.
    fn encode_each(&self, count: usize) -> Vec<Result<Vec<f32>>> {
        match self.encode(&self.pixels, count) {
            Ok(rows) => rows.rows().map(|row| Ok(row.to_vec())).collect(),
            Err(error) if count == 1 => vec![Err(error)],
            Err(_) => {
                let alone = |pixels| Ok(self.encode(pixels, 1)?.row(0).to_vec());
                self.pixels.chunks(self.pixels.len() / count).map(alone).collect()
            }
        }
    }

    fn encode(&self, pixels: &[f32], count: usize) -> Result<Embeddings> {
        let pixels = self.backend.tensor(count, pixels.len() / count, pixels)?;
        let mut rows = self.tower.0.features(self.backend, &pixels)?;
        if self.options.normalize {
            rows = self.backend.l2_normalize(&rows)?;
        }
        Embeddings::new(rows.cols(), self.backend.read(&rows)?)
    }
}

impl Iterator for Pictures<'_> {
    type Item = Result<Vec<f32>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rows.is_empty() {
            self.step();
        }
        self.rows.pop_front()
    }
}

/// From a source to pixel values.
struct Prepare {
    tower: ImageTower,
    decode: DecodeOptions,
    spare: Spare,
}

impl Prepare {
    fn new(tower: &ImageTower, decode: &DecodeOptions) -> Self {
        Self { tower: Arc::clone(tower), decode: decode.clone(), spare: Spare::default() }
    }

    fn run(&self, picture: Picture) -> Result<Vec<f32>> {
        let (height, width) = self.tower.1.output_size();
        let mut out = self.spare.take(3 * height * width);
        match picture.preprocess(&self.decode, &self.tower.1, &mut out) {
            Ok(()) => Ok(out),
            Err(error) => {
                self.spare.give_back(out);
                Err(error)
            }
        }
    }
}

/// Buffers of pixel values that serve again.
#[derive(Clone, Default)]
struct Spare(Arc<Mutex<Vec<Vec<f32>>>>);

impl Spare {
    /// Numbers of any value.
    fn take(&self, len: usize) -> Vec<f32> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.filter(|numbers| numbers.len() == len).unwrap_or_else(|| vec![0.0; len])
    }

    fn give_back(&self, numbers: Vec<f32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(numbers);
    }
}

/// A row of a text.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TextRow {
    /// The embedding or the features.
    pub vector: Vec<f32>,
    /// Tokens of the whole text, where it was truncated.
    pub truncated_from: Option<usize>,
}

/// The rows of texts, in the order of their sources: tokenised on threads, packed by tokens, each
/// text of a pack computed once.
pub struct Texts<'m> {
    model: &'m Model,
    normalize: bool,
    encodings: Ordered<Result<Encoding>>,
    /// The one that did not fit into the last pack.
    carried: Option<Result<Encoding>>,
    rows: VecDeque<Result<TextRow>>,
}

impl Texts<'_> {
    /// As [`Pictures::is_ready`].
    pub fn is_ready(&self) -> bool {
        !self.rows.is_empty()
    }

    fn step(&mut self) {
        let (mut pack, mut distinct, mut tokens) = (Vec::new(), HashSet::new(), 0);
        while pack.len() < TEXTS_AHEAD {
            let next = self.carried.take();
            let next = next.or_else(|| Some(self.encodings.next()?.map_err(Error::from).flatten()));
            let Some(next) = next else { break };
            if let Ok(encoding) = &next
                && !distinct.contains(&encoding.input_ids)
            {
                tokens += encoding.input_ids.len();
                if tokens > BATCH_TOKENS && !distinct.is_empty() {
                    self.carried = Some(next);
                    break;
                }
                distinct.insert(encoding.input_ids.clone());
            }
            pack.push(next);
        }
        let ids = pack.iter().flatten().map(|encoding| encoding.input_ids.as_slice());
        let mut vectors = self.encode_each(&ids.collect::<Vec<_>>()).into_iter();
        self.rows.extend(pack.into_iter().map(|encoding| {
            let encoding = encoding?;
            let truncated_from = encoding.truncated.then_some(encoding.tokens_total);
            Ok(TextRow { vector: vectors.next().unwrap_or(Ok(Vec::new()))?, truncated_from })
        }));
    }

    /// As [`Pictures::encode_each`].
    fn encode_each(&self, ids: &[&[u32]]) -> Vec<Result<Vec<f32>>> {
        if ids.is_empty() {
            return Vec::new();
        }
        match self.encode(ids) {
            Ok(rows) => rows.rows().map(|row| Ok(row.to_vec())).collect(),
            Err(error) if ids.len() == 1 => vec![Err(error)],
            Err(_) => ids.iter().map(|&ids| Ok(self.encode(&[ids])?.row(0).to_vec())).collect(),
        }
    }

    fn encode(&self, ids: &[&[u32]]) -> Result<Embeddings> {
        let features = self.model.features_of_ids(ids)?;
        if self.normalize { self.model.normalize(&features) } else { Ok(features) }
    }
}

impl Iterator for Texts<'_> {
    type Item = Result<TextRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rows.is_empty() {
            self.step();
        }
        self.rows.pop_front()
    }
}

impl Model {
    /// The usual options of [`Model::pictures`] for this model.
    pub fn picture_options(&self) -> PictureOptions {
        let options = PictureOptions::for_threads(self.backend().threads());
        PictureOptions { decode: self.options().decode.clone(), ..options }
    }

    /// The rows of any number of pictures, in order: `image_embeds`, or `image_features` where the
    /// options say so. Files are read and decoded while the model computes.
    ///
    /// # Errors
    /// A weight or the preprocessor's settings cannot be read. What is wrong with a picture is its row.
    pub fn pictures(
        &self,
        sources: impl Iterator<Item: Into<Picture> + Send + 'static> + Send + 'static,
        options: &PictureOptions,
    ) -> Result<Pictures<'_>> {
        Ok(Pictures::new(self.backend(), self.image_encoder()?, sources, options))
    }

    /// The rows of any number of texts, in order: `text_embeds`, or `text_features` without
    /// normalising.
    pub fn texts(
        &self,
        sources: impl Iterator<Item: Into<String> + Send + 'static> + Send + 'static,
        normalize: bool,
    ) -> Texts<'_> {
        let (tokenizer, max_length) = (self.shared_tokenizer(), self.max_length());
        let work = move |text| Ok(tokenizer.encode(&Into::<String>::into(text), max_length)?);
        let threads = match self.backend().threads() {
            1 => 0,
            threads => threads,
        };
        let encodings = Ordered::new(sources, threads, TEXTS_AHEAD, work);
        Texts { model: self, normalize, encodings, carried: None, rows: VecDeque::new() }
    }
}

impl From<Panicked> for Error {
    fn from(panicked: Panicked) -> Self {
        Error::Panicked { message: panicked.message }
    }
}
