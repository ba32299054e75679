//! An operation with its operands and its reference, and the comparison of both.

use altclip_report::Report;
use altclip_tensor::autograd::Tape;
use altclip_tensor::{Backend, CpuBackend, Op, RowSource, Tensor, Weight, WeightGrad, WeightKind};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a weight.
pub(crate) struct Numbers {
    pub(crate) shape: [usize; 2],
    pub(crate) values: Vec<f32>,
}

impl RowSource for Numbers {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), Report> {
        out.copy_from_slice(&self.values[rows.start * self.shape[1]..rows.end * self.shape[1]]);
        Ok(())
    }
}

/// Numbers that look random.
pub(crate) fn wave(len: usize, phase: f32) -> Vec<f32> {
    (0..len).map(|i| ((i as f32 + phase) * 12.9898).sin() * 1.3 + 0.1).collect()
}

/// A matrix `[rows, cols]` in `f64`.
#[derive(Clone)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) values: Vec<f64>,
}

impl Matrix {
    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.cols..(row + 1) * self.cols]
    }
}

/// What an operation is made of its tensors and weights.
pub(crate) type MakeOp = dyn Fn(&[Tensor], &[Weight]) -> Op;
/// The same in `f64`, of tensors and weights one after the other.
pub(crate) type Reference = dyn Fn(&[Matrix]) -> Vec<f64>;

/// An operation, its operands and its reference.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) inputs: Vec<[usize; 2]>,
    pub(crate) weights: Vec<(WeightKind, [usize; 2])>,
    pub(crate) op: Box<MakeOp>,
    pub(crate) reference: Box<Reference>,
}

impl Case {
    fn operands(&self) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let input = |(i, &[r, c]): (usize, &[usize; 2])| wave(r * c, 0.37 + i as f32 * 5.3);
        let weight = |(i, &(_, [r, c])): (usize, &(WeightKind, [usize; 2]))| {
            wave(r * c, 0.71 + i as f32 * 3.1)
        };
        (
            self.inputs.iter().enumerate().map(input).collect(),
            self.weights.iter().enumerate().map(weight).collect(),
        )
    }

    /// The output and the gradients of all inputs and weights, dense, for the loss `Σ y · grad`.
    pub(crate) fn run(&self, backend: &CpuBackend) -> (Vec<f32>, Vec<Vec<f32>>) {
        let (inputs, weights) = self.operands();
        let make = |((kind, shape), values): (&(WeightKind, [usize; 2]), Vec<f32>)| {
            backend.weight(*kind, Arc::new(Numbers { shape: *shape, values })).unwrap()
        };
        let weights: Vec<Weight> = self.weights.iter().zip(weights).map(make).collect();
        let tensor = |([rows, cols], values): (&[usize; 2], Vec<f32>)| {
            backend.tensor(*rows, *cols, &values).unwrap()
        };
        let inputs: Vec<Tensor> = self.inputs.iter().zip(inputs).map(tensor).collect();
        let trainable: BTreeSet<_> = weights.iter().map(Weight::id).collect();
        let tape = Tape::new(backend, trainable);
        inputs.iter().for_each(|input| tape.watch(input));
        let op = (self.op)(&inputs, &weights);
        let y = tape.forward(&op).unwrap();
        let out = backend.read(&y).unwrap();
        let plain = backend.read(&backend.forward(&op).unwrap()).unwrap();
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&out), bits(&plain), "{}: a tape changes the result", self.name);
        let grad = backend.tensor(y.rows(), y.cols(), &Self::loss_grad(out.len())).unwrap();
        let gradients = tape.gradients(&[(y, grad)]).unwrap();
        let mut all: Vec<Vec<f32>> = (inputs.iter())
            .map(|input| backend.read(gradients.of(input).unwrap()).unwrap())
            .collect();
        for (weight, (_, [rows, cols])) in weights.iter().zip(&self.weights) {
            all.push(match gradients.of_weight(weight.id()).unwrap() {
                WeightGrad::Dense(grad) => {
                    assert_eq!([grad.rows(), grad.cols()], [*rows, *cols], "{}", self.name);
                    backend.read(grad).unwrap()
                }
                WeightGrad::Rows { rows: ids, values } => {
                    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{}", self.name);
                    let mut dense = vec![0.0; rows * cols];
                    let values = backend.read(values).unwrap();
                    for (&id, values) in ids.iter().zip(values.chunks(*cols)) {
                        dense[id as usize * cols..][..*cols].copy_from_slice(values);
                    }
                    dense
                }
            });
        }
        (out, all)
    }

    pub(crate) fn loss_grad(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * i + 1) as f32).cos()).collect()
    }

    /// The output and all gradients by central differences of the reference.
    fn differences(&self) -> (Vec<f64>, Vec<Vec<f64>>) {
        let (inputs, weights) = self.operands();
        let shapes = self.inputs.iter().chain(self.weights.iter().map(|(_, shape)| shape));
        let matrix = |(&[rows, cols], values): (&[usize; 2], Vec<f32>)| {
            let values = values.into_iter().map(f64::from).collect();
            Matrix { rows, cols, values }
        };
        let mut operands: Vec<Matrix> =
            shapes.zip(inputs.into_iter().chain(weights)).map(matrix).collect();
        let out = (self.reference)(&operands);
        let grad = Self::loss_grad(out.len());
        let step = 1e-5;
        let mut all = Vec::new();
        for nth in 0..operands.len() {
            let mut gradient = Vec::new();
            for i in 0..operands[nth].values.len() {
                let mut loss = |delta: f64| {
                    let value = operands[nth].values[i];
                    operands[nth].values[i] = value + delta;
                    let y = (self.reference)(&operands);
                    operands[nth].values[i] = value;
                    y.iter().zip(&grad).map(|(y, g)| y * f64::from(*g)).sum::<f64>()
                };
                gradient.push((loss(step) - loss(-step)) / (2.0 * step));
            }
            all.push(gradient);
        }
        (out, all)
    }

    /// Holds output and gradients against the reference: within `tolerance` of the largest magnitude.
    pub(crate) fn check(&self, backend: &CpuBackend, tolerance: f64) {
        let (out, grads) = self.run(backend);
        let (expected_out, expected) = self.differences();
        let found = std::iter::once(out).chain(grads);
        let expected = std::iter::once(expected_out).chain(expected);
        for (nth, (found, expected)) in found.zip(expected).enumerate() {
            assert_eq!(found.len(), expected.len(), "{}: operand {nth}", self.name);
            let largest = expected.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
            for (i, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
                let off = (f64::from(found) - expected).abs();
                let name = format!("{}: operand {nth} (0 is the output), value {i}", self.name);
                assert!(off <= tolerance * largest, "{name}: {found} against {expected}");
            }
        }
    }
}
