//! From dotted names to prepared weights: the only place that knows how files spell them.
//!
//! A model's `new` asks a [`Weights`] scope for each weight by name and shape. Behind the scope stands
//! a checkpoint, or a [`Plan`] that only writes down what is asked: so the list of expected tensors is
//! never written twice.

use crate::config::Model;
use crate::{Error, Result};
use altclip_checkpoint::{Checkpoint, Expected, MatrixFormat};
use altclip_report::{Diagnose, Report};
use altclip_tensor::{
    Backend, Format, Op, Packed, PackedBf16, PackedI8, RowSource, Storage, Tensor, Weight,
    WeightBytes, WeightKind,
};
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Where the rows of a named tensor come from.
pub trait Source {
    /// The rows of tensor `name`, which must have exactly this shape.
    ///
    /// # Errors
    /// The tensor is missing or has another shape.
    fn rows(&self, name: &str, shape: &[usize]) -> Result<Arc<dyn RowSource>>;

    /// Whether an optional tensor is there.
    fn has(&self, name: &str) -> bool;

    /// How the matrix of these tensors, their names joined with `+`, is to be kept, where that is
    /// not the backend's own choice.
    fn format(&self, joined: &str) -> Option<Format> {
        let _ = joined;
        None
    }

    /// The same matrix as it was packed before, if it was.
    ///
    /// # Errors
    /// It is damaged.
    fn packed(&self, joined: &str) -> Result<Option<Packed>> {
        let _ = joined;
        Ok(None)
    }

    /// Is told of each weight that a backend has prepared.
    fn prepared(&self, prepared: Prepared<'_>) {
        let _ = prepared;
    }
}

/// A weight that a model asked for, and what the backend made of it.
pub struct Prepared<'a> {
    /// What it is used for.
    pub kind: WeightKind,
    /// The tensors that it consists of.
    pub names: &'a [String],
    /// The shape of each.
    pub shape: &'a [usize],
    /// The prepared weight.
    pub weight: &'a Weight,
}

/// One level of the dotted path of names, on its way to a backend.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    backend: &'a dyn Backend,
    source: &'a dyn Source,
    path: &'a str,
}

impl<'a> Weights<'a> {
    /// The root of all names.
    pub fn new(backend: &'a dyn Backend, source: &'a dyn Source) -> Self {
        Self { backend, source, path: "" }
    }

    /// Calls `build` with the level `part` below this one: `scope("encoder", …)`.
    pub fn scope<T>(&self, part: &str, build: impl FnOnce(Weights<'_>) -> T) -> T {
        let path = self.name(part);
        build(Weights { backend: self.backend, source: self.source, path: &path })
    }

    /// Whether the optional tensor `name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.source.has(&self.name(name))
    }

    /// A matrix of this shape where a tower begins or ends; dimensions behind the first are flattened
    /// (a convolution kernel `[D, C, Y, X]` becomes `[D, C·Y·X]`).
    ///
    /// # Errors
    /// The tensor is missing, has another shape or is not finite; here and below.
    pub fn edge(&self, name: &str, shape: &[usize]) -> Result<Weight> {
        self.prepare(WeightKind::Edge, &[name.to_owned()], shape)
    }

    /// Matrices of one shape inside a tower, one below the other.
    pub fn stacked_matrix(&self, names: &[String], shape: &[usize]) -> Result<Weight> {
        self.prepare(WeightKind::Matrix, names, shape)
    }

    /// A vector.
    pub fn vector(&self, name: &str, len: usize) -> Result<Weight> {
        self.prepare(WeightKind::Vector, &[name.to_owned()], &[len])
    }

    /// A single number, as a vector of one.
    pub fn scalar(&self, name: &str) -> Result<Weight> {
        self.prepare(WeightKind::Vector, &[name.to_owned()], &[])
    }

    /// Vectors of one length, one after the other.
    pub fn stacked_vector(&self, names: &[String], len: usize) -> Result<Weight> {
        self.prepare(WeightKind::Vector, names, &[len])
    }

    /// A table that is read by row.
    pub fn table(&self, name: &str, shape: [usize; 2]) -> Result<Weight> {
        self.prepare(WeightKind::Table, &[name.to_owned()], &shape)
    }

    /// A matrix, or a vector, at a place of a larger one that is zero elsewhere. It is kept in f32.
    pub fn placed(&self, name: &str, shape: &[usize], place: Placement) -> Result<Weight> {
        let kind = if shape.len() == 1 { WeightKind::Vector } else { WeightKind::Edge };
        self.prepare_with(kind, &[name.to_owned()], shape, Some(place))
    }

    /// A table likewise.
    pub fn placed_table(&self, name: &str, shape: &[usize], place: Placement) -> Result<Weight> {
        self.prepare_with(WeightKind::Table, &[name.to_owned()], shape, Some(place))
    }

    fn prepare(&self, kind: WeightKind, names: &[String], shape: &[usize]) -> Result<Weight> {
        self.prepare_with(kind, names, shape, None)
    }

    fn prepare_with(
        &self,
        kind: WeightKind,
        names: &[String],
        shape: &[usize],
        place: Option<Placement>,
    ) -> Result<Weight> {
        let names: Vec<String> = names.iter().map(|name| self.name(name)).collect();
        let sources = names.iter().map(|name| self.source.rows(name, shape));
        let mut sources = sources.collect::<Result<Vec<_>>>()?;
        let mut source = match (sources.len(), sources.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                Arc::new(Stacked::new(sources.into_iter().chain(last).collect(), shape.len() == 1))
            }
        };
        if let Some(place) = place {
            let rows = Arc::new(Placed { rows: source, place });
            source = Arc::new(Chosen { rows, format: Some(Format::F32), packed: None });
        } else if matches!(kind, WeightKind::Matrix | WeightKind::Edge) {
            let joined = names.join("+");
            let (packed, format) = (self.source.packed(&joined)?, self.source.format(&joined));
            if packed.is_some() || format.is_some() {
                source = Arc::new(Chosen { rows: source, format, packed });
            }
        }
        let weight = self.backend.weight(kind, source)?;
        self.source.prepared(Prepared { kind, names: &names, shape, weight: &weight });
        Ok(weight)
    }

    fn name(&self, part: &str) -> String {
        if self.path.is_empty() { part.to_owned() } else { format!("{}.{part}", self.path) }
    }
}

/// Where a matrix or vector lies in a larger one.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Rows of the larger one; its length, for a vector.
    pub rows: usize,
    /// Columns of the larger one.
    pub cols: usize,
    /// Its first row there; its first element, for a vector.
    pub start: usize,
    /// So many equal parts of its rows take, one after the other, as many parts of the columns: a
    /// convolution in groups as the map that it is.
    pub groups: usize,
    /// Every value is multiplied by this.
    pub factor: f32,
}

/// Rows at their place.
struct Placed {
    rows: Arc<dyn RowSource>,
    place: Placement,
}

impl RowSource for Placed {
    fn shape(&self) -> [usize; 2] {
        match self.rows.shape() {
            [1, _] => [1, self.place.rows],
            _ => [self.place.rows, self.place.cols],
        }
    }

    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> std::result::Result<(), Report> {
        let Placement { start, groups, factor, .. } = self.place;
        let [count, width] = self.rows.shape();
        out.fill(0.0);
        if let [1, _] = self.rows.shape() {
            if let Some(out) = out.get_mut(start..start + width) {
                self.rows.read_rows(0..1, out)?;
            }
        } else {
            let each = (count / groups.max(1)).max(1);
            for (row, out) in rows.zip(out.chunks_exact_mut(self.place.cols.max(1))) {
                let Some(row) = row.checked_sub(start).filter(|row| *row < count) else { continue };
                let column = row / each * width;
                if let Some(out) = out.get_mut(column..column + width) {
                    self.rows.read_rows(row..row + 1, out)?;
                }
            }
        }
        out.iter_mut().for_each(|value| *value *= factor);
        Ok(())
    }
}

/// A matrix whose form was chosen elsewhere.
struct Chosen {
    rows: Arc<dyn RowSource>,
    format: Option<Format>,
    packed: Option<Packed>,
}

impl RowSource for Chosen {
    fn shape(&self) -> [usize; 2] {
        self.rows.shape()
    }

    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> std::result::Result<(), Report> {
        self.rows.read_rows(rows, out)
    }

    fn format(&self) -> Option<Format> {
        self.format.clone()
    }

    fn packed(&self) -> std::result::Result<Option<Packed>, Report> {
        Ok(self.packed.clone())
    }
}

/// Sources of one shape taken together: matrices below, vectors behind each other.
struct Stacked {
    parts: Vec<Arc<dyn RowSource>>,
    part_shape: [usize; 2],
    vectors: bool,
}

impl Stacked {
    fn new(parts: Vec<Arc<dyn RowSource>>, vectors: bool) -> Self {
        let part_shape = parts.first().map_or([0, 0], |part| part.shape());
        Self { parts, part_shape, vectors }
    }
}

impl RowSource for Stacked {
    fn shape(&self) -> [usize; 2] {
        let [rows, cols] = self.part_shape;
        if self.vectors { [1, cols * self.parts.len()] } else { [rows * self.parts.len(), cols] }
    }

    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> std::result::Result<(), Report> {
        let [part_rows, cols] = self.part_shape;
        if self.vectors {
            let mut chunks = out.chunks_exact_mut(cols.max(1));
            return self
                .parts
                .iter()
                .zip(&mut chunks)
                .try_for_each(|(part, out)| part.read_rows(0..1, out));
        }
        let mut out = out;
        for (nth, part) in self.parts.iter().enumerate() {
            let first = nth * part_rows;
            let from = rows.start.clamp(first, first + part_rows);
            let to = rows.end.clamp(first, first + part_rows);
            let (head, rest) = out.split_at_mut((to - from) * cols);
            if from < to {
                part.read_rows(from - first..to - first, head)?;
            }
            out = rest;
        }
        Ok(())
    }
}

/// Formats of matrices by the names of their tensors, joined with `+`.
pub type Formats = BTreeMap<String, Format>;

/// The tensors of a checkpoint: of a model folder, or of a packed model file.
#[derive(Clone)]
pub struct Files {
    /// The weight files.
    pub checkpoint: Arc<Checkpoint>,
    /// Matrices of a folder that are not to be kept in the backend's own format.
    pub formats: Arc<Formats>,
}

impl Source for Files {
    fn rows(&self, name: &str, shape: &[usize]) -> Result<Arc<dyn RowSource>> {
        Ok(Arc::new(FileRows {
            checkpoint: self.checkpoint.clone(),
            name: name.to_owned(),
            shape: shape.to_vec(),
        }))
    }

    fn has(&self, name: &str) -> bool {
        self.checkpoint.shape(name).is_some()
    }

    fn format(&self, joined: &str) -> Option<Format> {
        match self.checkpoint.packed_info() {
            // What is not packed in such a file was left in f32 on purpose.
            Some(_) => Some(Format::F32),
            None => self.formats.get(joined).cloned(),
        }
    }

    fn packed(&self, joined: &str) -> Result<Option<Packed>> {
        let Some(matrix) = self.checkpoint.packed_matrix(joined)? else { return Ok(None) };
        let (n, k) = (matrix.n, matrix.k);
        let bytes = WeightBytes::Shared(Arc::new(matrix.bytes));
        let correction = matrix.correction.map(Arc::from);
        let packed = match matrix.format {
            MatrixFormat::Int8 => {
                let smoothing = matrix.smoothing.map(Arc::from);
                let (scales, sums) = (&matrix.scales, &matrix.sums);
                PackedI8::from_bytes(n, k, bytes, scales, sums, smoothing)
                    .map(|packed| Packed::Int8(packed.with_correction(correction)))
            }
            _ => PackedBf16::from_bytes(n, k, bytes)
                .map(|packed| Packed::Bf16(packed.with_correction(correction))),
        };
        match packed {
            Ok(packed) => Ok(Some(packed)),
            Err(_) => Err(Error::Checkpoint(altclip_checkpoint::Error::Packed {
                file: self.checkpoint.files().first().map(|f| f.path.clone()).unwrap_or_default(),
                what: "a matrix is not of the size of its shape",
                found: joined.to_owned(),
            })),
        }
    }
}

/// A weight that was prepared, for a packed model file.
pub struct Recorded {
    /// What it is used for.
    pub kind: WeightKind,
    /// The tensors that it consists of.
    pub names: Vec<String>,
    /// The shape of each.
    pub shape: Vec<usize>,
    /// The prepared weight.
    pub weight: Weight,
}

/// Files that keep every weight that is prepared from them.
pub(crate) struct Recorder<'a> {
    pub(crate) files: Files,
    pub(crate) progress: &'a dyn Fn(u64),
    pub(crate) recorded: Mutex<Vec<Recorded>>,
}

impl Source for Recorder<'_> {
    fn rows(&self, name: &str, shape: &[usize]) -> Result<Arc<dyn RowSource>> {
        self.files.rows(name, shape)
    }

    fn has(&self, name: &str) -> bool {
        self.files.has(name)
    }

    fn format(&self, joined: &str) -> Option<Format> {
        self.files.format(joined)
    }

    fn packed(&self, joined: &str) -> Result<Option<Packed>> {
        self.files.packed(joined)
    }

    fn prepared(&self, prepared: Prepared<'_>) {
        let Prepared { kind, names, shape, weight } = prepared;
        let numbers = names.len() as u64 * shape.iter().map(|&d| d as u64).product::<u64>();
        let (names, shape, weight) = (names.to_vec(), shape.to_vec(), weight.clone());
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.push(Recorded { kind, names, shape, weight });
        (self.progress)(numbers);
    }
}

struct FileRows {
    checkpoint: Arc<Checkpoint>,
    name: String,
    shape: Vec<usize>,
}

impl RowSource for FileRows {
    fn shape(&self) -> [usize; 2] {
        match self.shape.as_slice() {
            [] => [1, 1],
            [len] => [1, *len],
            [rows, rest @ ..] => [*rows, rest.iter().product()],
        }
    }

    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> std::result::Result<(), Report> {
        // The rows of a vector are its elements.
        let rows = if self.shape.len() < 2 { 0..out.len() } else { rows };
        self.checkpoint.read_rows_f32(&self.name, rows, out).map_err(|error| error.report())
    }
}

impl Drop for FileRows {
    fn drop(&mut self) {
        // What was packed is held by the backend; its pages in the file need not stay resident.
        self.checkpoint.release(&self.name);
    }
}

/// Writes down every tensor that a model asks for, and is its own backend while doing so.
#[derive(Default)]
pub struct Plan<'a> {
    optional: Option<&'a Checkpoint>,
    expected: Mutex<Vec<Expected>>,
}

impl<'a> Plan<'a> {
    /// A plan in which the optional tensors are those that this checkpoint has.
    pub fn for_checkpoint(checkpoint: &'a Checkpoint) -> Self {
        Self { optional: Some(checkpoint), expected: Mutex::default() }
    }

    /// What was asked for.
    pub fn into_expected(self) -> Vec<Expected> {
        self.expected.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Plan<'_> {
    fn rows(&self, name: &str, shape: &[usize]) -> Result<Arc<dyn RowSource>> {
        let expected = Expected { name: name.to_owned(), shape: shape.to_vec() };
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).push(expected);
        let shape = match shape {
            [] => [1, 1],
            [len] => [1, *len],
            [rows, rest @ ..] => [*rows, rest.iter().product()],
        };
        Ok(Arc::new(Nothing(shape)))
    }

    fn has(&self, name: &str) -> bool {
        self.optional.is_some_and(|checkpoint| checkpoint.shape(name).is_some())
    }
}

/// A backend that prepares weights of the right shape without numbers.
impl Backend for Plan<'_> {
    fn name(&self) -> &'static str {
        "plan"
    }

    fn tensor(&self, _: usize, _: usize, _: &[f32]) -> altclip_tensor::Result<Tensor> {
        Err(altclip_tensor::Error::Unsupported { op: "tensor", backend: "plan" })
    }

    fn weight(&self, _: WeightKind, source: Arc<dyn RowSource>) -> altclip_tensor::Result<Weight> {
        let [rows, cols] = source.shape();
        Ok(Weight::from_storage(rows, cols, Arc::new(Nothing([rows, cols]))))
    }

    fn read(&self, _: &Tensor) -> altclip_tensor::Result<Vec<f32>> {
        Err(altclip_tensor::Error::Unsupported { op: "read", backend: "plan" })
    }

    fn forward(&self, op: &Op) -> altclip_tensor::Result<Tensor> {
        Err(altclip_tensor::Error::Unsupported { op: op.name(), backend: "plan" })
    }
}

struct Nothing([usize; 2]);

impl Storage for Nothing {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl RowSource for Nothing {
    fn shape(&self) -> [usize; 2] {
        self.0
    }

    fn read_rows(&self, _: Range<usize>, out: &mut [f32]) -> std::result::Result<(), Report> {
        out.fill(0.0);
        Ok(())
    }
}

/// A single number, `logit_scale`.
///
/// # Errors
/// The tensor is missing, has more than one number or is not finite.
pub fn scalar(checkpoint: &Checkpoint, name: &str) -> Result<f32> {
    let numbers = checkpoint.read_f32(name)?;
    numbers.first().copied().ok_or_else(|| Error::ConfigField {
        field: name.to_owned(),
        value: "an empty tensor".into(),
        allowed: "one number".into(),
    })
}

/// The name that this program uses for a name found in a file, where the two differ.
///
/// - transformers 5 saves the text encoder's blocks as `encoder.layers.{i}` in memory form;
/// - a stand-alone text encoder (diffusers, `AltCLIPTextModel`) lacks the prefix `text_model.`.
pub fn canonical_name(name: &str, stand_alone_text: bool) -> Option<String> {
    let mut new = name.to_owned();
    let text_parts = [
        "roberta.",
        "transformation.",
        "transformation_pre.",
        "pre_LN.",
        "encoder_tfm.",
        "lm_head.",
    ];
    if stand_alone_text && text_parts.iter().any(|part| name.starts_with(part)) {
        new = format!("text_model.{new}");
    }
    if new.contains(".roberta.encoder.layers.") {
        new = new.replacen(".roberta.encoder.layers.", ".roberta.encoder.layer.", 1);
    }
    // The same in CN-CLIP's text encoder.
    if new.starts_with("text_model.encoder.layers.") && is_bert_layer(&new) {
        new = new.replacen(".encoder.layers.", ".encoder.layer.", 1);
    }
    (new != name).then_some(new)
}

/// Whether a name below a block is BERT's, not CLIP's.
fn is_bert_layer(name: &str) -> bool {
    [".attention.", ".intermediate.", ".output."].iter().any(|part| name.contains(part))
}

/// Whether a tensor of this family's files is not used for what this program computes.
pub fn is_unused(name: &str, model: &Model) -> bool {
    let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let norm = model.vision.is_some_and(|vision| !vision.post_layernorm);
    (model.vision.is_none() && name == "logit_scale")
        || (norm && is(&["vision_model.post_layernorm."]))
        || is(&[
            "text_model.pooler.",
            "text_joint_layer.embeddings.",
            "img_joint_layer.embeddings.",
        ])
        || is(&["mlm_head.", "token_learner.attention_maps.1.bias"])
        || name.ends_with(".attn_mask")
        || ["input_resolution", "context_length", "vocab_size"].contains(&name)
}

/// Whether a tensor may be in a file without being used: buffers of old versions, heads of training.
pub fn is_known_extra(name: &str) -> bool {
    name.ends_with(".position_ids")
        || name.ends_with(".token_type_ids")
        || name.starts_with("text_model.roberta.pooler.")
        || name.starts_with("text_model.encoder_tfm.")
        || name.starts_with("text_model.lm_head.")
        || name.starts_with("text_model.transformation_pre.")
}
