//! From datasets to what a step takes: token ids, pixel values, features of a frozen tower.

use crate::augment::Augment;
use crate::contrastive::{ImageText, Picture};
use crate::distill::PairIds;
use crate::feed::{Prepare, Samples};
use crate::random::Random;
use altclip::cache::FeatureCache;
use altclip_data::{
    Captioned, CaptionedPictures, Dataset, Fault, LabelledPictures, ParallelTexts, Picture as File,
    Place, Reason,
};
use altclip_image::{DecodeOptions, Preprocessor};
use altclip_report::Diagnose;
use altclip_tokenizer::Tokenizer;
use std::sync::{Arc, Mutex, PoisonError};
use xxhash_rust::xxh3::xxh3_64;

/// Texts to ids, truncated to a length.
#[derive(Clone)]
pub struct Ids {
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Longest text in tokens.
    pub max_length: usize,
}

impl Ids {
    /// The ids of a text.
    ///
    /// # Errors
    /// The text is refused; the fault names `place`.
    pub fn of(&self, text: &str, place: impl FnOnce() -> Place) -> Result<Vec<u32>, Fault> {
        match self.tokenizer.encode(text, self.max_length) {
            Ok(encoding) => Ok(encoding.input_ids),
            Err(error) => Err(Fault::new(Reason::BrokenLine, place(), error.report().sentence())),
        }
    }
}

/// Samples of a dataset.
fn of<D: Dataset + Send + Sync + 'static, T>(
    data: &Arc<D>,
    len: u64,
    prepare: Arc<Prepare<T>>,
) -> Samples<T> {
    let data = Arc::clone(data);
    Samples { prepare, len, unchanged: Arc::new(move || data.check_unchanged()) }
}

/// How many samples pairs give: with identity pairs each sentence of the teacher is one more.
pub fn pair_count(pairs: u64, identity: bool) -> u64 {
    if identity { 2 * pairs } else { pairs }
}

/// Pairs of sentences. With `identity` sample `2 n + 1` is the teacher's sentence of pair `n` with
/// itself.
pub fn pairs(
    data: Arc<ParallelTexts>,
    teacher: Ids,
    student: Ids,
    identity: bool,
) -> Samples<PairIds> {
    let all = Arc::clone(&data);
    let len = pair_count(data.len(), identity);
    let prepare = Arc::new(move |_, number| {
        let (line, same) = if identity { (number / 2, number % 2 == 1) } else { (number, false) };
        let pair = data.get(line)?;
        let place = || data.place(line);
        let text = if same { &pair.source } else { &pair.target };
        Ok(PairIds {
            number: line,
            teacher: teacher.of(&pair.source, place)?,
            student: student.of(text, place)?,
        })
    });
    of(&all, len, prepare)
}

/// How pictures become pixel values.
pub struct Pictures {
    /// Resizing, cropping, normalising.
    pub preprocessor: Preprocessor,
    /// How files are decoded.
    pub decode: DecodeOptions,
    /// How training pictures are changed.
    pub augment: Augment,
    /// What the changes follow from.
    pub seed: u64,
}

impl Pictures {
    /// Numbers of a picture's pixel values.
    pub fn len(&self) -> usize {
        let (height, width) = self.preprocessor.output_size();
        3 * height * width
    }

    /// Whether pictures have no pixel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pixel values `[3, Y, X]` of a picture; `counter` says which changes it gets.
    ///
    /// # Errors
    /// The picture is refused; the fault names `place`.
    pub fn pixels(
        &self,
        picture: &File,
        counter: u64,
        place: impl FnOnce() -> Place,
    ) -> Result<Vec<f32>, Fault> {
        let pixels = || {
            let image = match picture {
                File::File(path) => altclip_image::decode(
                    &altclip_image::read_file(path, &self.decode)?,
                    &self.decode,
                ),
                File::Bytes(bytes) => altclip_image::decode(bytes, &self.decode),
            }?;
            self.preprocessor.apply(&self.augment.apply(image, self.seed, counter))
        };
        pixels().map_err(|error: altclip_image::Error| {
            Fault::new(Reason::BadPicture, place(), error.report().sentence())
        })
    }
}

/// Which of `len` things sample `number` takes in `epoch`.
fn drawn(seed: u64, what: &str, epoch: u64, number: u64, len: usize) -> usize {
    if len < 2 {
        return 0;
    }
    let stream = Random::named(seed, what).bits(epoch)[0];
    Random::new(seed, stream).below(number, len as u64) as usize
}

/// A number that no other epoch or sample has, as far as hashes tell.
fn counter(epoch: u64, number: u64) -> u64 {
    let mut bytes = epoch.to_le_bytes().to_vec();
    bytes.extend(number.to_le_bytes());
    xxh3_64(&bytes)
}

/// Pictures with captions, of which each epoch draws one. Where features of a frozen tower are in
/// `cache`, the picture is not decoded.
pub fn captions(
    data: Arc<CaptionedPictures>,
    ids: Ids,
    pictures: Pictures,
    cache: Option<FeatureCache>,
) -> Samples<ImageText> {
    let cache = cache.map(Mutex::new);
    let (all, len) = (Arc::clone(&data), data.len());
    let prepare = Arc::new(move |epoch, number| {
        let Captioned { picture, captions, .. } = data.get(number)?;
        let place = || data.place(number);
        let nth = drawn(pictures.seed, "caption", epoch, number, captions.len());
        let caption = captions.get(nth).map_or("", |caption| caption.as_str());
        let known = cache.as_ref().and_then(|cache| {
            let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.get(number).ok().flatten()
        });
        let picture = match known {
            Some(features) => Picture::Features(features),
            None => Picture::Pixels(pictures.pixels(&picture, counter(epoch, number), place)?),
        };
        Ok(ImageText {
            image: number,
            picture,
            text: ids.of(caption, place)?,
            meaning: xxh3_64(caption.as_bytes()),
        })
    });
    of(&all, len, prepare)
}

/// Labelled pictures; each epoch draws a template. Pictures of one label are positives of each other's
/// captions, whatever the template.
pub fn labelled(
    data: Arc<LabelledPictures>,
    ids: Ids,
    pictures: Pictures,
    templates: Vec<String>,
) -> Samples<ImageText> {
    let (all, len) = (Arc::clone(&data), data.len());
    let prepare = Arc::new(move |epoch, number| {
        let sample = data.get(number)?;
        let place = || data.place(number);
        let nth = drawn(pictures.seed, "template", epoch, number, templates.len());
        let template = templates.get(nth).map_or("{}", String::as_str);
        let caption = template.replace("{}", &sample.class_name);
        Ok(ImageText {
            image: number,
            picture: Picture::Pixels(pictures.pixels(
                &sample.picture,
                counter(epoch, number),
                place,
            )?),
            text: ids.of(&caption, place)?,
            meaning: xxh3_64(sample.class_name.as_bytes()),
        })
    });
    of(&all, len, prepare)
}
