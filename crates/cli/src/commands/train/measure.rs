//! What a model is measured on in the middle of a run: retrieval, or labelled pictures.

use crate::failure::Failure;
use altclip_data::{CaptionedPictures, Dataset, LabelledPictures, Picture};
use altclip_eval::{Pairs, RetrievalOptions, Rows, Scorer, zeroshot};
use altclip_models::config::Model;
use altclip_tensor::CpuBackend;
use altclip_train::parameters::Parameters;
use altclip_train::run::Scores;
use altclip_train::samples::{Ids, Pictures};
use altclip_train::snapshot::Snapshot;
use altclip_train::stop::Stop;
use std::collections::BTreeMap;

/// Pictures whose pixel values are held at once.
const PICTURES: usize = 32;

/// A measurement that is taken again and again.
pub(crate) struct Measure {
    pictures: Pictures,
    data: Data,
    threads: usize,
    /// Embeddings of pictures by a frozen tower, once they were computed.
    images: Option<Vec<f32>>,
    frozen: bool,
}

enum Data {
    Captions(Captions),
    Labels(Box<Labels>),
}

/// All captions of all pictures of some datasets.
struct Captions {
    datasets: Vec<CaptionedPictures>,
    texts: Vec<Vec<u32>>,
    text_image_index: Vec<usize>,
    languages: Vec<String>,
}

/// Labelled pictures, and each label in each template.
struct Labels {
    data: LabelledPictures,
    classes: usize,
    texts: Vec<Vec<u32>>,
}

impl Measure {
    /// Retrieval over all captions of these datasets; `frozen` where pictures always give the same.
    pub(crate) fn captions(
        datasets: Vec<CaptionedPictures>,
        ids: &Ids,
        pictures: Pictures,
        threads: usize,
        frozen: bool,
    ) -> Result<Self, Failure> {
        let (mut texts, mut text_image_index, mut languages) = (Vec::new(), Vec::new(), Vec::new());
        let mut image = 0;
        for data in &datasets {
            for number in 0..data.len() {
                let sample = data.get(number)?;
                for caption in &sample.captions {
                    texts.push(ids.of(caption, || data.place(number))?);
                    text_image_index.push(image);
                    languages.push(sample.language.clone().unwrap_or_default());
                }
                image += 1;
            }
        }
        let data = Data::Captions(Captions { datasets, texts, text_image_index, languages });
        Ok(Self { pictures, data, threads, images: None, frozen })
    }

    /// Accuracy over labelled pictures.
    pub(crate) fn labels(
        data: LabelledPictures,
        templates: &[String],
        ids: &Ids,
        pictures: Pictures,
        threads: usize,
        frozen: bool,
    ) -> Result<Self, Failure> {
        let mut texts = Vec::new();
        for name in data.class_names() {
            for template in templates {
                texts.push(ids.of(&template.replace("{}", name), || data.place(0))?);
            }
        }
        let classes = data.class_names().len();
        let data = Data::Labels(Box::new(Labels { data, classes, texts }));
        Ok(Self { pictures, data, threads, images: None, frozen })
    }

    /// Figures of the model as it is; the first is what a better model has more of.
    pub(crate) fn run(
        &mut self,
        backend: &CpuBackend,
        model: &Model,
        parameters: &Parameters,
        stop: &Stop,
    ) -> altclip_train::Result<Scores> {
        let snapshot = Snapshot::new(backend, model, parameters)?;
        let images = match self.images.take() {
            Some(images) => images,
            None => self.encode_pictures(&snapshot, stop)?,
        };
        let width = model.projection_dim;
        let scores = match &self.data {
            Data::Captions(captions) => {
                let texts = snapshot.encode_text(&captions.texts)?;
                captions.scores(&images, &texts, width, self.threads)
            }
            Data::Labels(labels) => {
                let texts = snapshot.encode_text(&labels.texts)?;
                labels.scores(&images, &texts, width, self.threads)
            }
        }
        .map_err(|error| {
            altclip_train::Error::Reported(altclip_report::Diagnose::report(&error))
        })?;
        if self.frozen {
            self.images = Some(images);
        }
        Ok(scores)
    }

    fn encode_pictures(
        &self,
        snapshot: &Snapshot<'_>,
        stop: &Stop,
    ) -> altclip_train::Result<Vec<f32>> {
        let mut embeds = Vec::new();
        match &self.data {
            Data::Captions(captions) => {
                for data in &captions.datasets {
                    let picture = |sample: altclip_data::Captioned| sample.picture;
                    self.encode((snapshot, stop), data, picture, &mut embeds)?;
                }
            }
            Data::Labels(labels) => {
                let picture = |sample: altclip_data::Labelled| sample.picture;
                self.encode((snapshot, stop), &labels.data, picture, &mut embeds)?;
            }
        }
        Ok(embeds)
    }

    fn encode<D: Dataset>(
        &self,
        (snapshot, stop): (&Snapshot<'_>, &Stop),
        data: &D,
        picture: impl Fn(D::Sample) -> Picture,
        embeds: &mut Vec<f32>,
    ) -> altclip_train::Result<()> {
        let len = self.pictures.len();
        let numbers: Vec<u64> = (0..data.len()).collect();
        for batch in numbers.chunks(PICTURES) {
            if stop.is_wished() {
                return Err(altclip_train::Error::Stopped);
            }
            let mut pixels = Vec::with_capacity(batch.len() * len);
            for &number in batch {
                let picture = picture(data.get(number)?);
                pixels.extend(self.pictures.pixels(&picture, 0, || data.place(number))?);
            }
            embeds.extend(snapshot.encode_pixels(&pixels, len)?);
        }
        Ok(())
    }
}

impl Captions {
    fn scores(
        &self,
        images: &[f32],
        texts: &[f32],
        width: usize,
        threads: usize,
    ) -> altclip_eval::Result<Scores> {
        let scorer = Scorer::new(threads);
        let images = Rows::new("image embeddings", images, width)?;
        let texts = Rows::new("text embeddings", texts, width)?;
        let mut by_language: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (n, language) in self.languages.iter().enumerate() {
            by_language.entry(language).or_default().push(n);
        }
        let mut scores = Scores::new();
        let mut means = Vec::new();
        for (language, captions) in by_language {
            // Only pictures that this language speaks of take part.
            let mut pictures: Vec<usize> =
                captions.iter().map(|&n| self.text_image_index[n]).collect();
            pictures.dedup();
            let place: BTreeMap<usize, usize> =
                pictures.iter().enumerate().map(|(place, &picture)| (picture, place)).collect();
            let index: Vec<usize> =
                captions.iter().map(|&n| place[&self.text_image_index[n]]).collect();
            let pairs = Pairs::new(images.select(&pictures)?, texts.select(&captions)?, &index)?;
            let found = altclip_eval::retrieval(&scorer, &pairs, &RetrievalOptions::default());
            let name = |metric: &str| match language {
                "" => metric.to_owned(),
                language => format!("{language}/{metric}"),
            };
            scores.push((name("mean_recall"), found.mean_recall));
            scores.push((name("image_retrieval_recall@1"), found.image_retrieval_recall[0]));
            scores.push((name("text_retrieval_recall@1"), found.text_retrieval_recall[0]));
            means.push(found.mean_recall);
        }
        if means.len() > 1 {
            let mean = means.iter().sum::<f64>() / means.len() as f64;
            scores.insert(0, ("mean_recall".to_owned(), mean));
        }
        Ok(scores)
    }
}

impl Labels {
    fn scores(
        &self,
        images: &[f32],
        texts: &[f32],
        width: usize,
        threads: usize,
    ) -> altclip_eval::Result<Scores> {
        let mut labels = Vec::new();
        for number in 0..self.data.len() {
            // A sample that could not be read ended the encoding already.
            labels.extend(self.data.get(number).map(|sample| sample.class));
        }
        let texts = Rows::new("text embeddings", texts, width)?;
        let classifier = altclip_eval::classifier(&texts, self.classes)?;
        let images = Rows::new("image embeddings", images, width)?;
        let classes = Rows::new("labels", &classifier, width)?;
        let report = zeroshot(&Scorer::new(threads), &images, &classes, &labels)?.report()?;
        let acc5 = report.acc5.map(|acc5| ("acc5".to_owned(), acc5));
        let figures = [
            ("acc1".to_owned(), report.acc1),
            ("mean_per_class_recall".to_owned(), report.mean_per_class_recall),
        ];
        Ok(figures.into_iter().chain(acc5).collect())
    }
}
