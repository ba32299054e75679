//! Retrieval measured in the middle of a run: R@1 of each language, both ways, and the mean recall.

use crate::failure::Failure;
use altclip_data::{CaptionedPictures, Dataset, Fault};
use altclip_eval::{Pairs, RetrievalOptions, Rows, Scorer};
use altclip_models::config::Model;
use altclip_tensor::CpuBackend;
use altclip_train::parameters::Parameters;
use altclip_train::run::Scores;
use altclip_train::samples::{Ids, Pictures};
use altclip_train::snapshot::Snapshot;
use std::collections::BTreeMap;

/// Pictures whose pixel values are held at once.
const PICTURES: usize = 32;

/// What a model is measured on.
pub(crate) struct Measure {
    /// Ids of all captions.
    texts: Vec<Vec<u32>>,
    /// The picture of each caption.
    text_image_index: Vec<usize>,
    languages: Vec<String>,
    data: Vec<(CaptionedPictures, u64)>,
    pictures: Pictures,
    /// Of a frozen tower, once they were computed.
    images: Option<Vec<f32>>,
    frozen: bool,
}

impl Measure {
    /// All captions of all pictures of these datasets. A picture that several of them share counts once.
    pub(crate) fn new(
        datasets: Vec<CaptionedPictures>,
        ids: &Ids,
        pictures: Pictures,
        frozen: bool,
    ) -> Result<Self, Failure> {
        let mut measure = Self {
            texts: Vec::new(),
            text_image_index: Vec::new(),
            languages: Vec::new(),
            data: Vec::new(),
            pictures,
            images: None,
            frozen,
        };
        let mut first = 0;
        for data in datasets {
            for number in 0..data.len() {
                let sample = data.get(number)?;
                let language = sample.language.unwrap_or_default();
                for caption in &sample.captions {
                    measure.texts.push(ids.of(caption, || data.place(number))?);
                    measure.text_image_index.push((first + number) as usize);
                    measure.languages.push(language.clone());
                }
            }
            let len = data.len();
            measure.data.push((data, first));
            first += len;
        }
        Ok(measure)
    }

    /// The model as it is.
    pub(crate) fn run(
        &mut self,
        backend: &CpuBackend,
        model: &Model,
        parameters: &Parameters,
    ) -> altclip_train::Result<Scores> {
        let snapshot = Snapshot::new(backend, model, parameters)?;
        let images = match self.images.take() {
            Some(images) => images,
            None => self.encode_pictures(&snapshot)?,
        };
        let texts = snapshot.encode_text(&self.texts)?;
        let scores = self.scores(&images, &texts, model.projection_dim)?;
        if self.frozen {
            self.images = Some(images);
        }
        Ok(scores)
    }

    fn encode_pictures(&self, snapshot: &Snapshot<'_>) -> altclip_train::Result<Vec<f32>> {
        let picture = self.pictures.len();
        let mut embeds = Vec::new();
        for (data, _) in &self.data {
            let numbers: Vec<u64> = (0..data.len()).collect();
            for batch in numbers.chunks(PICTURES) {
                let mut pixels = Vec::with_capacity(batch.len() * picture);
                for &number in batch {
                    let sample = data.get(number)?;
                    let place = || data.place(number);
                    pixels.extend(self.pictures.pixels(&sample.picture, 0, place)?);
                }
                embeds.extend(snapshot.encode_pixels(&pixels, picture)?);
            }
        }
        Ok(embeds)
    }

    fn scores(&self, images: &[f32], texts: &[f32], width: usize) -> altclip_train::Result<Scores> {
        let scorer = Scorer::new(1);
        let mut by_language: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (n, language) in self.languages.iter().enumerate() {
            by_language.entry(language).or_default().push(n);
        }
        let mut scores = Scores::new();
        let mut means = Vec::new();
        for (language, captions) in by_language {
            // Only pictures that this language speaks of take part.
            let mut pictures: BTreeMap<usize, usize> = BTreeMap::new();
            let mut index = Vec::new();
            for &n in &captions {
                let next = pictures.len();
                index.push(*pictures.entry(self.text_image_index[n]).or_insert(next));
            }
            let mut rows = vec![0.0; pictures.len() * width];
            for (&picture, &row) in &pictures {
                rows[row * width..(row + 1) * width]
                    .copy_from_slice(&images[picture * width..(picture + 1) * width]);
            }
            let texts: Vec<f32> = captions
                .iter()
                .flat_map(|&n| texts[n * width..(n + 1) * width].iter().copied())
                .collect();
            let pairs = Pairs::new(
                Rows::new("image embeddings", &rows, width).map_err(report)?,
                Rows::new("text embeddings", &texts, width).map_err(report)?,
                &index,
            )
            .map_err(report)?;
            let found = altclip_eval::retrieval(&scorer, &pairs, &RetrievalOptions::default());
            let name = |metric: &str| match language {
                "" => metric.to_owned(),
                language => format!("{language}/{metric}"),
            };
            scores.push((name("image_retrieval_recall@1"), found.image_retrieval_recall[0]));
            scores.push((name("text_retrieval_recall@1"), found.text_retrieval_recall[0]));
            scores.push((name("mean_recall"), found.mean_recall));
            means.push(found.mean_recall);
        }
        if means.len() > 1 {
            let mean = means.iter().sum::<f64>() / means.len() as f64;
            scores.insert(0, ("mean_recall".to_owned(), mean));
        } else if let Some(mean) = scores.pop() {
            scores.insert(0, mean);
        }
        Ok(scores)
    }
}

/// An error of another crate, as training reports it.
fn report(error: altclip_eval::Error) -> altclip_train::Error {
    altclip_train::Error::Reported(altclip_report::Diagnose::report(&error))
}

/// A fault of a sample that a measurement cannot do without.
impl From<Fault> for Box<Failure> {
    fn from(fault: Fault) -> Self {
        Box::new(fault.into())
    }
}
