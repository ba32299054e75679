//! The master weights: what the optimiser changes, and what a model is built from at each step.
//!
//! A model is not told that it is trained. It asks for its weights by name, as it does when it is
//! loaded, and gets them from here; what was prepared for which names is written down, so that
//! gradients find their way back.

use crate::lora::{self, Factors, Lora};
use crate::{Error, Result};
use altclip_checkpoint::Expected;
use altclip_kernels::Pool;
use altclip_models::weights::{Files, Prepared, Source};
use altclip_report::Report;
use altclip_tensor::autograd::Gradients;
use altclip_tensor::{Backend, CpuBackend, RowSource, WeightGrad, WeightId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// One tensor that is trained.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name in the model's files.
    pub name: String,
    /// Its shape in the model's files.
    pub shape: Vec<usize>,
    values: Arc<Vec<f32>>,
}

impl Parameter {
    /// A tensor with these values, row-major.
    pub fn new(name: impl Into<String>, shape: &[usize], values: Vec<f32>) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), values: Arc::new(values) }
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values, for the optimiser. Free of cost once the model of the last step is dropped.
    pub fn values_mut(&mut self) -> &mut [f32] {
        Arc::<Vec<f32>>::make_mut(&mut self.values)
    }

    /// The name, and the values for the optimiser.
    pub fn name_and_values_mut(&mut self) -> (&str, &mut [f32]) {
        (&self.name, Arc::<Vec<f32>>::make_mut(&mut self.values))
    }

    /// Length of a row: the product of all dimensions behind the first, or the length of a vector.
    pub fn row_len(&self) -> usize {
        row_shape(&self.shape)[1]
    }

    /// Whether weight decay applies: not to biases, not to norms, not to `logit_scale`.
    pub fn decays(&self) -> bool {
        !is_norm(&self.name) && !self.name.ends_with(".bias") && self.name != LOGIT_SCALE
    }
}

/// Whether a tensor belongs to a layer norm.
pub(crate) fn is_norm(name: &str) -> bool {
    ["LayerNorm", "layernorm", "layer_norm", "layrnorm", "pre_LN"]
        .iter()
        .any(|part| name.contains(part))
}

/// Name of the factor from cosine to logit, stored as a logarithm.
pub const LOGIT_SCALE: &str = "logit_scale";

/// A low-rank update of a weight that is itself not trained.
#[derive(Clone, Copy, Debug)]
pub struct Adapter {
    /// Its sizes.
    pub lora: Lora,
    /// Number of the parameter `A` `[rank, K]`.
    pub a: usize,
    /// Number of the parameter `B` `[N, rank]`.
    pub b: usize,
}

/// The tensors of a model: some trained, the others as they are in files.
pub struct Parameters {
    trained: Vec<Parameter>,
    index: BTreeMap<String, usize>,
    adapters: BTreeMap<String, Adapter>,
    frozen: Option<Files>,
    prepared: Mutex<BTreeMap<WeightId, Vec<Part>>>,
}

/// The rows of a prepared weight that are one tensor of the files.
#[derive(Clone, Debug)]
struct Part {
    name: String,
    /// Numbers of this part, row-major within the weight.
    numbers: Range<usize>,
}

/// The gradient of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Gradient {
    /// Of every number.
    Dense(Vec<f32>),
    /// Of some rows of a table; the others are zero.
    Rows {
        /// Row numbers, ascending.
        rows: Vec<u32>,
        /// One row after the other.
        values: Vec<f32>,
    },
}

impl Gradient {
    /// The gradient for the optimiser, of a tensor with rows of `width` numbers.
    pub fn as_view(&self, width: usize) -> crate::optimizer::Gradient<'_> {
        match self {
            Gradient::Dense(values) => crate::optimizer::Gradient::Dense(values),
            Gradient::Rows { rows, values } => {
                crate::optimizer::Gradient::Rows { ids: rows, values, width }
            }
        }
    }
}

impl Parameters {
    /// `trained` parameters; every other tensor comes from `frozen`.
    pub fn new(trained: Vec<Parameter>, frozen: Option<Files>) -> Self {
        let index = trained.iter().enumerate().map(|(n, p)| (p.name.clone(), n)).collect();
        let adapters = BTreeMap::new();
        Self { trained, index, adapters, frozen, prepared: Mutex::default() }
    }

    /// Reads the tensors that `is_trained` names, and leaves the others where they are.
    ///
    /// # Errors
    /// A tensor cannot be read.
    pub fn of_files(
        expected: &[Expected],
        files: Files,
        is_trained: &dyn Fn(&str) -> bool,
    ) -> Result<Self> {
        let trained = expected.iter().filter(|tensor| is_trained(&tensor.name)).map(|tensor| {
            let values = files.checkpoint.read_f32(&tensor.name)?;
            Ok(Parameter::new(&tensor.name, &tensor.shape, values))
        });
        let trained = trained.collect::<Result<Vec<_>>>()?;
        Ok(Self::new(trained, Some(files)))
    }

    /// Adds a low-rank update to the frozen weight `name`.
    pub fn adapt(&mut self, name: &str, lora: Lora, factors: Factors) {
        let [a, b] = lora::peft_names(name)
            .unwrap_or_else(|| [format!("{name}.lora_A"), format!("{name}.lora_B")]);
        let a = self.push(Parameter::new(a, &[lora.rank, lora.k], factors.a));
        let b = self.push(Parameter::new(b, &[lora.n, lora.rank], factors.b));
        self.adapters.insert(name.to_owned(), Adapter { lora, a, b });
    }

    fn push(&mut self, parameter: Parameter) -> usize {
        let number = self.trained.len();
        self.index.insert(parameter.name.clone(), number);
        self.trained.push(parameter);
        number
    }

    /// The trained tensors.
    pub fn trained(&self) -> &[Parameter] {
        &self.trained
    }

    /// The trained tensors, for the optimiser.
    pub fn trained_mut(&mut self) -> &mut [Parameter] {
        &mut self.trained
    }

    /// The weights with a low-rank update.
    pub fn adapters(&self) -> &BTreeMap<String, Adapter> {
        &self.adapters
    }

    /// Where tensors that are not trained come from.
    pub fn frozen(&self) -> Option<&Files> {
        self.frozen.as_ref()
    }

    /// Number of the trained tensor `name`.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// How many numbers are trained.
    pub fn len(&self) -> usize {
        self.trained.iter().map(|parameter| parameter.values.len()).sum()
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.trained.is_empty()
    }

    /// The values of a tensor, trained or not, with its low-rank update.
    ///
    /// # Errors
    /// There is no such tensor, or it cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        if let Some(number) = self.number(name) {
            return Ok(self.trained[number].values.to_vec());
        }
        let frozen = self.frozen.as_ref().ok_or_else(|| Error::NoTensor(name.to_owned()))?;
        let mut values = frozen.checkpoint.read_f32(name)?;
        if let Some(adapter) = self.adapters.get(name) {
            self.adapted(adapter).add_rows(0..adapter.lora.n, &mut values);
        }
        Ok(values)
    }

    /// Forgets which weights were prepared. Called before a model is built.
    pub fn begin(&self) {
        self.lock().clear();
    }

    /// The weights that were prepared since and need a gradient.
    pub fn trainable(&self) -> BTreeSet<WeightId> {
        self.lock().keys().copied().collect()
    }

    /// Adds the gradients of prepared weights to those of the parameters that they were made of. A pass
    /// through one tower has none for the other.
    ///
    /// # Errors
    /// A gradient of another backend.
    pub fn collect(
        &self,
        backend: &CpuBackend,
        gradients: Gradients,
        sums: &mut [Option<Gradient>],
    ) -> Result<()> {
        let (_, pool) = backend.kernels();
        let prepared = self.lock();
        for (id, gradient) in gradients.into_received() {
            let parts = prepared.get(&id).map_or(&[][..], Vec::as_slice);
            match gradient {
                WeightGrad::Dense(tensor) => {
                    let numbers = backend.read(&tensor)?;
                    for part in parts {
                        let Some(numbers) = numbers.get(part.numbers.clone()) else { continue };
                        self.add(pool, &part.name, numbers, sums);
                    }
                }
                WeightGrad::Rows { rows, values } => {
                    let values = backend.read(&values)?;
                    for part in parts {
                        let Some(number) = self.number(&part.name) else { continue };
                        add_rows(&mut sums[number], &rows, &values);
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a dense gradient of the tensor `name`, or of what it is made of.
    fn add(&self, pool: &Pool, name: &str, numbers: &[f32], sums: &mut [Option<Gradient>]) {
        if let Some(number) = self.number(name) {
            add_dense(&mut sums[number], numbers);
        } else if let Some(adapter) = self.adapters.get(name) {
            let values = |number: usize| self.trained[number].values.to_vec();
            let factors = Factors { a: values(adapter.a), b: values(adapter.b) };
            let gradients = adapter.lora.gradients(pool, numbers, &factors);
            add_dense(&mut sums[adapter.a], &gradients.a);
            add_dense(&mut sums[adapter.b], &gradients.b);
        }
    }

    fn adapted(&self, adapter: &Adapter) -> Update {
        let values = |number: usize| self.trained[number].values.clone();
        Update { lora: adapter.lora, a: values(adapter.a), b: values(adapter.b) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<WeightId, Vec<Part>>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add_dense(sum: &mut Option<Gradient>, numbers: &[f32]) {
    match sum {
        Some(Gradient::Dense(sum)) => sum.iter_mut().zip(numbers).for_each(|(s, n)| *s += n),
        _ => *sum = Some(Gradient::Dense(numbers.to_vec())),
    }
}

/// Merges rows into a sum of rows; both ascend.
fn add_rows(sum: &mut Option<Gradient>, rows: &[u32], values: &[f32]) {
    let (mut have_rows, mut have) = match sum.take() {
        Some(Gradient::Rows { rows, values }) => (rows, values),
        _ => (Vec::new(), Vec::new()),
    };
    if have_rows.is_empty() {
        have_rows.extend_from_slice(rows);
        have.extend_from_slice(values);
    } else {
        let width = values.len() / rows.len().max(1);
        let mut at: BTreeMap<u32, Vec<f32>> = have_rows
            .iter()
            .copied()
            .zip(have.chunks_exact(width.max(1)).map(<[f32]>::to_vec))
            .collect();
        for (&row, values) in rows.iter().zip(values.chunks_exact(width.max(1))) {
            let sum = at.entry(row).or_insert_with(|| vec![0.0; width]);
            sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
        }
        have_rows = at.keys().copied().collect();
        have = at.into_values().flatten().collect();
    }
    *sum = Some(Gradient::Rows { rows: have_rows, values: have });
}

impl Source for Parameters {
    fn rows(&self, name: &str, shape: &[usize]) -> altclip_models::Result<Arc<dyn RowSource>> {
        if let Some(number) = self.number(name) {
            let parameter = &self.trained[number];
            return Ok(Arc::new(MasterRows {
                shape: row_shape(&parameter.shape),
                values: parameter.values.clone(),
            }));
        }
        let Some(frozen) = &self.frozen else {
            let missing =
                altclip_checkpoint::Error::TensorMissing { name: name.to_owned(), nearest: None };
            return Err(missing.into());
        };
        let rows = frozen.rows(name, shape)?;
        match self.adapters.get(name) {
            None => Ok(rows),
            Some(adapter) => Ok(Arc::new(AdaptedRows { rows, update: self.adapted(adapter) })),
        }
    }

    fn has(&self, _: &str) -> bool {
        // What is optional takes no part in training.
        false
    }

    fn prepared(&self, prepared: Prepared<'_>) {
        let numbers: usize = prepared.shape.iter().product();
        let is_trained =
            |name: &String| self.index.contains_key(name) || self.adapters.contains_key(name);
        if !prepared.names.iter().any(is_trained) {
            return;
        }
        let part = |(nth, name): (usize, &String)| Part {
            name: name.clone(),
            numbers: nth * numbers..(nth + 1) * numbers,
        };
        let parts = prepared.names.iter().enumerate().map(part).collect();
        self.lock().insert(prepared.weight.id(), parts);
    }
}

/// A shape as rows: a vector or a number is one row.
fn row_shape(shape: &[usize]) -> [usize; 2] {
    match shape {
        [] => [1, 1],
        [len] => [1, *len],
        [rows, rest @ ..] => [*rows, rest.iter().product()],
    }
}

struct MasterRows {
    shape: [usize; 2],
    values: Arc<Vec<f32>>,
}

impl RowSource for MasterRows {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> std::result::Result<(), Report> {
        let start = rows.start * self.shape[1];
        if let Some(values) = self.values.get(start..start + out.len()) {
            out.copy_from_slice(values);
        }
        Ok(())
    }
}

/// `scale · B · A`.
struct Update {
    lora: Lora,
    a: Arc<Vec<f32>>,
    b: Arc<Vec<f32>>,
}

impl Update {
    fn add_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let b_rows = self.b.chunks_exact(self.lora.rank).skip(rows.start);
        for (out, b) in out.chunks_exact_mut(self.lora.k).zip(b_rows) {
            self.lora.add_row(&self.a, b, self.lora.scale(), out);
        }
    }
}

struct AdaptedRows {
    rows: Arc<dyn RowSource>,
    update: Update,
}

impl RowSource for AdaptedRows {
    fn shape(&self) -> [usize; 2] {
        self.rows.shape()
    }

    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> std::result::Result<(), Report> {
        self.rows.read_rows(rows.clone(), out)?;
        self.update.add_rows(rows, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_chunks_are_merged_in_order() {
        let mut sum = None;
        add_rows(&mut sum, &[1, 4], &[1.0, 2.0, 3.0, 4.0]);
        add_rows(&mut sum, &[0, 4], &[5.0, 6.0, 7.0, 8.0]);
        let expected =
            Gradient::Rows { rows: vec![0, 1, 4], values: vec![5.0, 6.0, 1.0, 2.0, 10.0, 12.0] };
        assert_eq!(sum, Some(expected));
    }

    #[test]
    fn norms_biases_and_the_scale_do_not_decay() {
        let decays = |name: &str| Parameter::new(name, &[1], vec![0.0]).decays();
        assert!(decays("text_model.roberta.encoder.layer.0.attention.self.query.weight"));
        assert!(decays("vision_model.embeddings.class_embedding"));
        for name in [
            "logit_scale",
            "text_model.pre_LN.weight",
            "vision_model.pre_layrnorm.weight",
            "text_model.roberta.embeddings.LayerNorm.weight",
            "vision_model.encoder.layers.0.layer_norm1.bias",
            "text_model.transformation.bias",
        ] {
            assert!(!decays(name), "{name}");
        }
    }
}
