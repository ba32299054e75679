//! Pictures and texts compared as their model compares them: by one cosine, token by token, or with a
//! second look at the best.
//!
//! # Source
//! Token by token: Yao et al., FILIP, arXiv 2111.07783, equations 4 and 5; mindspore-ai/models
//! `research/mm/wukong`, `matrics.py` (commit d27b2ff). The second look: Xie et al., arXiv 2205.03860;
//! yuxie11/R2D2 `train_r2d2_retrieval.py` (commit 6c9f74a).

use crate::model::{BATCH_PICTURES, batches};
use crate::{Classified, Embeddings, Error, Model, Result, Templates};
use altclip_image::Rgb;
use altclip_models::{BEHIND, CANDIDATES, Similarity};
use altclip_tensor::{Backend, Ops, Segments, Tensor};

/// Pairs that are looked at together in the second look.
const PAIRS: usize = 8;

/// What a model knows of several pictures, or of several texts: all that it needs to compare them.
pub struct Side {
    is_text: bool,
    kind: Kind,
}

enum Kind {
    /// A normalised row for each item.
    Rows(Embeddings),
    /// Normalised rows of tokens.
    Tokens(Tokens),
    /// A normalised row for each item, and the states of its tokens.
    States(Embeddings, Tokens),
}

/// Rows of several items, one item after the other.
struct Tokens {
    width: usize,
    numbers: Vec<f32>,
    /// Where each item begins, in rows, and where the last ends.
    starts: Vec<usize>,
    /// Whether padding is compared too: its rows are zero, so no maximum is below zero.
    padded: Vec<bool>,
}

impl Tokens {
    fn new(width: usize) -> Self {
        Self { width, numbers: Vec::new(), starts: vec![0], padded: Vec::new() }
    }

    fn push(&mut self, numbers: Vec<f32>, segments: &Segments) {
        let before = self.numbers.len() / self.width.max(1);
        self.starts.extend(segments.offsets().iter().skip(1).map(|end| before + end));
        self.numbers.extend(numbers);
    }

    fn item(&self, n: usize) -> &[f32] {
        &self.numbers[self.starts[n] * self.width..self.starts[n + 1] * self.width]
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// These items one after the other, as a tensor.
    fn gather(&self, b: &dyn Backend, items: &[usize]) -> Result<(Tensor, Segments)> {
        let numbers: Vec<f32> = items.iter().flat_map(|&item| self.item(item)).copied().collect();
        let lengths = items.iter().map(|&item| self.starts[item + 1] - self.starts[item]);
        let rows = numbers.len() / self.width.max(1);
        Ok((b.tensor(rows, self.width, &numbers)?, Segments::from_lengths(lengths)))
    }
}

impl Side {
    /// Number of items.
    pub fn len(&self) -> usize {
        match &self.kind {
            Kind::Rows(rows) | Kind::States(rows, _) => rows.len(),
            Kind::Tokens(tokens) => tokens.len(),
        }
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The normalised rows of tokens `[T, E]`, how many each item has, and whether padding is compared too;
    /// where the model compares token by token.
    pub fn tokens(&self) -> Option<(&[f32], Vec<usize>, &[bool])> {
        match &self.kind {
            Kind::Tokens(tokens) => {
                let lengths = tokens.starts.windows(2).map(|ends| ends[1] - ends[0]).collect();
                Some((&tokens.numbers, lengths, &tokens.padded))
            }
            Kind::Rows(_) | Kind::States(..) => None,
        }
    }

    /// One normalised row for each item, where the model has one.
    pub fn embeddings(&self) -> Option<&Embeddings> {
        match &self.kind {
            Kind::Rows(rows) | Kind::States(rows, _) => Some(rows),
            Kind::Tokens(_) => None,
        }
    }
}

/// What a kept item begins with: how many tokens it has, and whether padding is compared too.
const HEAD: usize = 2;

impl Model {
    /// Numbers of one kept text or picture ([`Model::kept`]).
    pub fn kept_len(&self, is_text: bool) -> usize {
        let config = self.opened().config();
        let vision = config.vision.as_ref();
        let patches = vision.map_or(0, |vision| vision.tokens() - 1);
        let tokens = match (is_text, self.similarity(), config.token_learner) {
            (true, ..) => self.max_length().min(config.context_length()),
            (false, Similarity::TokenWise, Some(learner)) => learner.tokens,
            (false, Similarity::TokenWise, None) => patches,
            (false, ..) => patches + 1,
        };
        let width = match (self.similarity(), is_text) {
            (Similarity::Cosine, _) => return config.projection_dim,
            (Similarity::TokenWise, _) => config.projection_dim,
            (Similarity::Reranked(_), true) => config.text.width(),
            (Similarity::Reranked(_), false) => vision.map_or(0, |v| v.blocks.hidden_size),
        };
        let row =
            if self.similarity() == Similarity::TokenWise { 0 } else { config.projection_dim };
        HEAD + row + tokens * width
    }

    /// All that is known of item `n` of a side, as [`Model::kept_len`] numbers: they can be kept anywhere, and
    /// [`Model::side_of_kept`] makes a side of any of them.
    ///
    /// # Errors
    /// [`Error::Width`] for a side of another model.
    pub fn kept(&self, side: &Side, n: usize) -> Result<Vec<f32>> {
        let len = self.kept_len(side.is_text);
        let head = |tokens: &Tokens| {
            let count = tokens.starts[n + 1] - tokens.starts[n];
            [count as f32, f32::from(u8::from(tokens.padded[n]))]
        };
        let mut numbers = match &side.kind {
            Kind::Rows(rows) => rows.row(n).to_vec(),
            Kind::Tokens(tokens) => [&head(tokens)[..], tokens.item(n)].concat(),
            Kind::States(rows, tokens) => [&head(tokens)[..], rows.row(n), tokens.item(n)].concat(),
        };
        if numbers.len() > len {
            return Err(Error::Width { expected: len, found: numbers.len() });
        }
        numbers.resize(len, 0.0);
        Ok(numbers)
    }

    /// A side of kept items.
    ///
    /// # Errors
    /// [`Error::Width`] where an item is none of this model's.
    pub fn side_of_kept<K: AsRef<[f32]>>(&self, is_text: bool, items: &[K]) -> Result<Side> {
        let (expected, config) = (self.kept_len(is_text), self.opened().config());
        let row = config.projection_dim;
        let (mut rows, mut tokens) = (Vec::new(), Tokens::new(row));
        let similarity = self.similarity();
        if let (Similarity::Reranked(_), vision) = (similarity, &config.vision) {
            let of_picture = vision.map_or(0, |vision| vision.blocks.hidden_size);
            tokens.width = if is_text { config.text.width() } else { of_picture };
        }
        for item in items.iter().map(AsRef::as_ref) {
            let wrong = || Error::Width { expected, found: item.len() };
            if item.len() != expected {
                return Err(wrong());
            }
            if similarity == Similarity::Cosine {
                rows.extend_from_slice(item);
                continue;
            }
            let (&[count, padded], rest) = item.split_first_chunk::<HEAD>().ok_or_else(wrong)?;
            let split = if similarity == Similarity::TokenWise { 0 } else { row };
            let (own, rest) = rest.split_at_checked(split).ok_or_else(wrong)?;
            rows.extend_from_slice(own);
            let numbers = (count as usize).saturating_mul(tokens.width);
            tokens.numbers.extend_from_slice(rest.get(..numbers).ok_or_else(wrong)?);
            tokens.starts.push(tokens.numbers.len() / tokens.width.max(1));
            tokens.padded.push(padded != 0.0);
        }
        let kind = match similarity {
            Similarity::Cosine => Kind::Rows(Embeddings::new(row, rows)?),
            Similarity::TokenWise => Kind::Tokens(tokens),
            Similarity::Reranked(_) => Kind::States(Embeddings::new(row, rows)?, tokens),
        };
        Ok(Side { is_text, kind })
    }

    /// How this model compares a picture and a text.
    pub fn similarity(&self) -> Similarity {
        self.opened().config().similarity
    }

    /// Texts, ready to be compared.
    ///
    /// # Errors
    /// As [`Model::encode_text`].
    pub fn text_side<S: AsRef<str>>(&self, texts: &[S]) -> Result<Side> {
        let ids = texts.iter().map(|text| Ok(self.tokenize(text.as_ref())?.input_ids));
        let ids = ids.collect::<Result<Vec<_>>>()?;
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        self.id_side(&ids)
    }

    /// As [`Model::text_side`], from token ids.
    ///
    /// # Errors
    /// As [`Model::encode_text`].
    pub fn id_side(&self, ids: &[&[u32]]) -> Result<Side> {
        let similarity = self.similarity();
        if similarity == Similarity::Cosine {
            let kind = Kind::Rows(self.normalize(&self.features_of_ids(ids)?)?);
            return Ok(Side { is_text: true, kind });
        }
        let (b, encoder) = (self.backend(), self.text_encoder()?);
        let mut gathered = Gathered::new(self);
        for batch in batches(ids) {
            if similarity == Similarity::TokenWise {
                gathered.tokens(b, encoder.tokens(b, batch)?)?;
            } else {
                let (states, segments) = encoder.states(b, batch)?;
                let features = encoder.features_of_states(b, (&states, &segments))?;
                gathered.states(b, (states, segments), &features)?;
            }
        }
        let context = self.opened().config().context_length();
        gathered.tokens.padded = ids.iter().map(|ids| ids.len() < context).collect();
        gathered.into_side(true, similarity)
    }

    /// Pictures, ready to be compared.
    ///
    /// # Errors
    /// As [`Model::encode_image`].
    pub fn image_side(&self, images: &[Rgb]) -> Result<Side> {
        let similarity = self.similarity();
        if similarity == Similarity::Cosine {
            let kind = Kind::Rows(self.encode_image(images)?);
            return Ok(Side { is_text: false, kind });
        }
        let pixels = images.iter().map(|image| self.preprocess(image));
        self.pixel_side(&pixels.collect::<Result<Vec<_>>>()?.concat(), images.len())
    }

    /// As [`Model::image_side`], from the pixel values `[count, 3, Y, X]`.
    ///
    /// # Errors
    /// As [`Model::encode_image`].
    pub fn pixel_side(&self, pixels: &[f32], count: usize) -> Result<Side> {
        let similarity = self.similarity();
        if similarity == Similarity::Cosine {
            let kind = Kind::Rows(self.normalize(&self.features_of_pixels(pixels)?)?);
            return Ok(Side { is_text: false, kind });
        }
        let tower = self.image_encoder()?;
        let (b, encoder) = (self.backend(), &tower.0);
        let picture = pixels.len() / count.max(1);
        let mut gathered = Gathered::new(self);
        for batch in pixels.chunks(BATCH_PICTURES * picture.max(1)) {
            let pixels = b.tensor(batch.len() / picture, picture, batch)?;
            if similarity == Similarity::TokenWise {
                gathered.tokens(b, encoder.tokens(b, &pixels)?)?;
            } else {
                let (states, segments) = encoder.states(b, &pixels)?;
                let features = encoder.features_of_states(b, (&states, &segments))?;
                gathered.states(b, (states, segments), &features)?;
            }
        }
        gathered.tokens.padded = vec![false; count];
        gathered.into_side(false, similarity)
    }

    /// How similar each query is to each item of the other side, `[N, M]` row-major, before any scale.
    ///
    /// A model that looks twice gives the mean of its two probabilities and the cosine for the 128 best by
    /// cosine of a query, and -100 for the others.
    ///
    /// # Errors
    /// [`Error::Width`] where both sides are pictures or texts, or come of different models.
    pub fn compare(&self, queries: &Side, others: &Side) -> Result<Vec<f32>> {
        let different = Error::Width { expected: 1, found: 2 };
        match (&queries.kind, &others.kind) {
            _ if queries.is_text == others.is_text => Err(different),
            (Kind::Rows(a), Kind::Rows(b)) => a.cosines(b),
            (Kind::Tokens(a), Kind::Tokens(b)) if a.width == b.width => Ok(token_wise(a, b)),
            (Kind::States(a, states), Kind::States(b, others)) => {
                let cosines = a.cosines(b)?;
                self.reranked(&cosines, states, others, queries.is_text)
            }
            _ => Err(different),
        }
    }

    fn reranked(
        &self,
        cosines: &[f32],
        queries: &Tokens,
        others: &Tokens,
        queries_are_texts: bool,
    ) -> Result<Vec<f32>> {
        let (b, reranker) = (self.backend(), self.reranker()?);
        let mut scores = vec![BEHIND; cosines.len()];
        let columns = others.len().max(1);
        let rows = cosines.chunks_exact(columns).zip(scores.chunks_exact_mut(columns));
        for (query, (cosines, scores)) in rows.enumerate() {
            let mut best: Vec<usize> = (0..columns).collect();
            // The sort is stable: of equals the first is nearer.
            best.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]));
            best.truncate(CANDIDATES);
            for items in best.chunks(PAIRS) {
                let query = queries.gather(b, &vec![query; items.len()])?;
                let item = others.gather(b, items)?;
                let (text, image) =
                    if queries_are_texts { (&query, &item) } else { (&item, &query) };
                let found = reranker.probabilities(b, (&text.0, &text.1), (&image.0, &image.1))?;
                for (&item, probability) in items.iter().zip(found) {
                    scores[item] = probability + cosines[item];
                }
            }
        }
        Ok(scores)
    }

    /// Labels of pictures by whatever the model compares with. With several templates a model of one row
    /// each takes the mean of their rows; one that compares token by token the mean of the probabilities.
    ///
    /// # Errors
    /// As [`Model::classify`].
    pub fn zero_shot<S: AsRef<str>>(
        &self,
        images: &[Rgb],
        labels: &[S],
        templates: &Templates,
    ) -> Result<Classified> {
        if self.similarity() != Similarity::TokenWise {
            return self.classify(images, &self.label_embeddings(labels, templates)?);
        }
        let captions: Vec<Vec<String>> =
            labels.iter().map(|label| templates.captions(label.as_ref())).collect();
        let images = self.image_side(images)?;
        let scale = self.opened().scale()?;
        let per_template = (0..captions.first().map_or(0, Vec::len)).map(|template| {
            let texts: Vec<&String> = captions.iter().map(|texts| &texts[template]).collect();
            let similarities = self.compare(&images, &self.text_side(&texts)?)?;
            Ok(Classified::from_cosines(labels.len(), scale, &similarities))
        });
        Ok(Classified::mean(per_template.collect::<Result<Vec<_>>>()?))
    }
}

/// The mean over a query's tokens of the largest dot product with a token of the other.
fn token_wise(queries: &Tokens, others: &Tokens) -> Vec<f32> {
    let width = queries.width.max(1);
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
    };
    let pair = |query: usize, other: usize| {
        let lowest = if others.padded[other] { 0.0 } else { f64::NEG_INFINITY };
        let tokens = queries.item(query).chunks_exact(width);
        let count = tokens.len().max(1) as f64;
        let best = tokens.map(|token| {
            let dots = others.item(other).chunks_exact(width).map(|b| dot(token, b));
            dots.fold(lowest, f64::max)
        });
        (best.sum::<f64>() / count) as f32
    };
    (0..queries.len())
        .flat_map(|query| (0..others.len()).map(move |other| (query, other)))
        .map(|(query, other)| pair(query, other))
        .collect()
}

/// What batches leave behind.
struct Gathered<'m> {
    model: &'m Model,
    features: Vec<f32>,
    tokens: Tokens,
}

impl<'m> Gathered<'m> {
    fn new(model: &'m Model) -> Self {
        Self { model, features: Vec::new(), tokens: Tokens::new(0) }
    }

    fn tokens(&mut self, b: &dyn Backend, (rows, segments): (Tensor, Segments)) -> Result<()> {
        self.tokens.width = rows.cols();
        let numbers = b.read(&b.l2_normalize(&rows)?)?;
        self.tokens.push(numbers, &segments);
        Ok(())
    }

    fn states(
        &mut self,
        b: &dyn Backend,
        (states, segments): (Tensor, Segments),
        features: &Tensor,
    ) -> Result<()> {
        self.tokens.width = states.cols();
        self.tokens.push(b.read(&states)?, &segments);
        self.features.extend(b.read(features)?);
        Ok(())
    }

    fn into_side(self, is_text: bool, similarity: Similarity) -> Result<Side> {
        // Nothing that is not finite leaves, here as for rows.
        Embeddings::new(self.tokens.width, self.tokens.numbers.clone())?;
        let kind = if similarity == Similarity::TokenWise {
            Kind::Tokens(self.tokens)
        } else {
            let width = self.model.opened().config().projection_dim;
            let rows = self.model.normalize(&Embeddings::new(width, self.features)?)?;
            Kind::States(rows, self.tokens)
        };
        Ok(Side { is_text, kind })
    }
}
