//! The tape over the CPU backend against finite differences.
#![allow(clippy::unwrap_used)]

use altclip_report::Report;
use altclip_tensor::autograd::Tape;
use altclip_tensor::{
    Backend, Counting, CpuBackend, Error, Op, Ops, RowSource, Tensor, Weight, WeightKind,
};
use std::ops::Range;
use std::sync::Arc;

struct Numbers(Vec<f32>);

impl RowSource for Numbers {
    fn shape(&self) -> [usize; 2] {
        [1, self.0.len()]
    }
    fn read_rows(&self, _: Range<usize>, out: &mut [f32]) -> Result<(), Report> {
        out.copy_from_slice(&self.0);
        Ok(())
    }
}

const ROWS: usize = 3;
const COLS: usize = 5;
const EPS: f32 = 1e-5;

/// Two layer norms with different weights and a shared input added at the end, so that gradients
/// pass through a chain and meet in a sum. The loss is a fixed weighted sum of the output.
struct Chain {
    x: Vec<f32>,
    weights: [Vec<f32>; 4],
}

impl Chain {
    fn new() -> Self {
        let wave =
            |n: usize, phase: f32| (0..n).map(|i| (i as f32 * 1.7 + phase).sin() + 0.3).collect();
        Self {
            x: wave(ROWS * COLS, 0.1),
            weights: [wave(COLS, 1.0), wave(COLS, 2.0), wave(COLS, 3.0), wave(COLS, 4.0)],
        }
    }

    fn run(&self, backend: &dyn Backend) -> (Tensor, Vec<Weight>, Tensor) {
        let weights: Vec<Weight> = (self.weights.iter())
            .map(|w| backend.weight(WeightKind::Vector, Arc::new(Numbers(w.clone()))).unwrap())
            .collect();
        let x = backend.tensor(ROWS, COLS, &self.x).unwrap();
        let norm = |x: &Tensor, weight: &Weight, bias: &Weight| {
            let (x, weight, bias) = (x.clone(), weight.clone(), bias.clone());
            backend.forward(&Op::LayerNorm { x, weight, bias, eps: EPS, compact: false }).unwrap()
        };
        let h = norm(&x, &weights[0], &weights[1]);
        let y = norm(&h, &weights[2], &weights[3]);
        let y = backend.forward(&Op::Add { a: y, b: x.clone() }).unwrap();
        (x, weights, y)
    }

    fn loss_grad() -> Vec<f32> {
        (0..ROWS * COLS).map(|i| ((i * i) as f32).cos()).collect()
    }

    fn loss(&self) -> f64 {
        // In f64 and by the formula alone, so that the difference quotient is not lost in rounding.
        let norm = |x: &[f64], w: &[f32], b: &[f32]| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
            x.iter()
                .zip(w.iter().zip(b))
                .map(|(v, (w, b))| {
                    (v - mean) / (var + f64::from(EPS)).sqrt() * f64::from(*w) + f64::from(*b)
                })
                .collect()
        };
        let mut loss = 0.0;
        for (row, grad) in self.x.chunks(COLS).zip(Self::loss_grad().chunks(COLS)) {
            let x: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
            let h = norm(&x, &self.weights[0], &self.weights[1]);
            let y = norm(&h, &self.weights[2], &self.weights[3]);
            loss += (0..COLS).map(|i| (y[i] + x[i]) * f64::from(grad[i])).sum::<f64>();
        }
        loss
    }
}

fn assert_close(found: f32, chain: &Chain, change: impl Fn(&mut Chain, f32), name: &str) {
    let step = 1e-3;
    let at = |delta: f32| {
        let mut moved = Chain { x: chain.x.clone(), weights: chain.weights.clone() };
        change(&mut moved, delta);
        moved.loss()
    };
    let expected = (at(step) - at(-step)) / f64::from(2.0 * step);
    assert!(
        (f64::from(found) - expected).abs() < 2e-3 * expected.abs().max(1.0),
        "{name}: {found} against {expected}"
    );
}

#[test]
fn gradients_equal_finite_differences() {
    let (backend, chain) = (CpuBackend::new(1), Chain::new());
    let tape = Tape::new(&backend);
    let (x, weights, y) = chain.run(&tape);
    let grad = backend.tensor(ROWS, COLS, &Chain::loss_grad()).unwrap();
    let gradients = tape.gradients(&y, grad).unwrap();
    let dx = backend.read(gradients.of(&x).unwrap()).unwrap();
    for (i, &d) in dx.iter().enumerate() {
        assert_close(d, &chain, |c, delta| c.x[i] += delta, &format!("x[{i}]"));
    }
    for (w, weight) in weights.iter().enumerate() {
        let dw = backend.read(gradients.of_weight(weight).unwrap()).unwrap();
        for (i, &d) in dw.iter().enumerate() {
            assert_close(
                d,
                &chain,
                |c, delta| c.weights[w][i] += delta,
                &format!("weight {w}[{i}]"),
            );
        }
    }
}

#[test]
fn a_weight_without_gradient_is_an_error() {
    let backend = CpuBackend::new(1);
    let tape = Tape::new(&backend);
    let (_, _, y) = Chain::new().run(&tape);
    let stranger = backend.weight(WeightKind::Vector, Arc::new(Numbers(vec![1.0]))).unwrap();
    let grad = backend.tensor(ROWS, COLS, &Chain::loss_grad()).unwrap();
    let gradients = tape.gradients(&y, grad).unwrap();
    assert!(matches!(gradients.of_weight(&stranger), Err(Error::NoGradient(_))));
}

#[test]
fn a_tape_changes_no_result_and_decorators_stack() {
    let (backend, chain) = (CpuBackend::new(1), Chain::new());
    let (_, _, plain) = chain.run(&backend);
    let counting = Counting::new(&backend);
    let tape = Tape::new(&counting);
    let (_, _, recorded) = chain.run(&tape);
    assert_eq!(backend.read(&plain).unwrap(), backend.read(&recorded).unwrap());
    let counts = counting.counts();
    assert_eq!(
        (counts["layer_norm"].calls, counts["layer_norm"].rows, counts["add"].calls),
        (2, 2 * ROWS as u64, 1)
    );
}

#[test]
fn an_operation_without_backward_form_says_so() {
    let backend = CpuBackend::new(1);
    let tape = Tape::new(&backend);
    let x = backend.tensor(1, 2, &[3.0, 4.0]).unwrap();
    assert!(matches!(
        tape.l2_normalize(&x),
        Err(Error::Unsupported { op: "l2_normalize", backend: "cpu" })
    ));
}
