//! What a tape promises: chains and sums, frozen weights, watched tensors, checkpoints, decorators.

use super::support::{Numbers, wave};
use altclip_tensor::autograd::{Gradients, Tape};
use altclip_tensor::{
    Activation, Backend, Counting, CpuBackend, Dropout, Error, Lookup, Op, Tensor, Weight,
    WeightGrad, WeightKind,
};
use std::collections::BTreeSet;
use std::sync::Arc;

const WIDTH: usize = 6;

/// An embedding with its norm and two blocks with residuals, as BERT has them.
struct Model {
    table: Weight,
    norm: [Weight; 2],
    blocks: [[Weight; 4]; 2],
}

impl Model {
    fn new(backend: &dyn Backend) -> Self {
        let mut phase = 0.0;
        let mut weight = |kind, shape: [usize; 2]| {
            phase += 1.7;
            let values = wave(shape[0] * shape[1], phase);
            backend.weight(kind, Arc::new(Numbers { shape, values })).unwrap()
        };
        let mut block = || {
            [
                weight(WeightKind::Matrix, [2 * WIDTH, WIDTH]),
                weight(WeightKind::Matrix, [WIDTH, 2 * WIDTH]),
                weight(WeightKind::Vector, [1, WIDTH]),
                weight(WeightKind::Vector, [1, WIDTH]),
            ]
        };
        let blocks = [block(), block()];
        Self {
            table: weight(WeightKind::Table, [9, WIDTH]),
            norm: [0; 2].map(|_| weight(WeightKind::Vector, [1, WIDTH])),
            blocks,
        }
    }

    fn all(&self) -> Vec<&Weight> {
        std::iter::once(&self.table).chain(&self.norm).chain(self.blocks.iter().flatten()).collect()
    }

    fn forward(&self, b: &dyn Backend) -> Tensor {
        let norm = |x: &Tensor, weight: &Weight, bias: &Weight| {
            let (x, weight, bias) = (x.clone(), weight.clone(), bias.clone());
            b.forward(&Op::LayerNorm { x, weight, bias, eps: 1e-5, compact: false }).unwrap()
        };
        let linear = |x: &Tensor, weight: &Weight, activation, residual: Option<&Tensor>| {
            let compact = residual.is_none();
            let (x, weight, residual) = (x.clone(), weight.clone(), residual.cloned());
            b.forward(&Op::Linear { x, weight, bias: None, activation, residual, compact }).unwrap()
        };
        let table = self.table.clone();
        let lookups = vec![Lookup { table, ids: vec![1, 4, 1, 8, 0].into() }];
        let x = b.forward(&Op::Embed { lookups }).unwrap();
        let mut x = norm(&x, &self.norm[0], &self.norm[1]);
        for [up, down, weight, bias] in &self.blocks {
            let h = linear(&x, up, Activation::Gelu, None);
            x = norm(&linear(&h, down, Activation::Identity, Some(&x)), weight, bias);
            b.block_end(&x);
        }
        x
    }
}

fn ids<'a>(weights: impl IntoIterator<Item = &'a Weight>) -> BTreeSet<altclip_tensor::WeightId> {
    weights.into_iter().map(Weight::id).collect()
}

fn gradients(tape: &Tape<'_>, y: &Tensor) -> Gradients {
    let grad = tape.tensor(y.rows(), y.cols(), &wave(y.rows() * y.cols(), 9.0)).unwrap();
    tape.gradients(&[(y.clone(), grad)]).unwrap()
}

fn bits(backend: &dyn Backend, grad: &WeightGrad) -> Vec<u32> {
    let (WeightGrad::Dense(values) | WeightGrad::Rows { values, .. }) = grad;
    backend.read(values).unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn checkpoints_give_the_same_bits_with_dropout_or_without() {
    let backend = CpuBackend::new(2);
    let model = Model::new(&backend);
    for p in [0.0, 0.3] {
        let run = |tape: &Tape<'_>| {
            let y = model.forward(&Dropout::new(tape, p, 5));
            let gradients = gradients(tape, &y);
            let grads: Vec<_> = (model.all().iter())
                .map(|weight| bits(&backend, gradients.of_weight(weight.id()).unwrap()))
                .collect();
            (backend.read(&y).unwrap(), grads)
        };
        let plain = run(&Tape::new(&backend, ids(model.all())));
        let again = run(&Tape::new(&backend, ids(model.all())).with_checkpoints());
        assert!(plain == again, "dropout {p}");
        let undropped = backend.read(&model.forward(&backend)).unwrap();
        assert_eq!(plain.0 == undropped, p == 0.0);
    }
}

#[test]
fn dropout_falls_where_bert_has_it() {
    let backend = CpuBackend::new(1);
    let counting = Counting::new(&backend);
    Model::new(&backend).forward(&Dropout::new(&counting, 0.3, 5));
    // Behind the embeddings' norm, and before each residual.
    let counts = counting.counts();
    assert_eq!(
        (counts["dropout"].calls, counts["add"].calls, counts["layer_norm"].calls),
        (3, 2, 3)
    );
}

#[test]
fn frozen_parts_cost_nothing() {
    let backend = CpuBackend::new(1);
    let model = Model::new(&backend);
    let last = &model.blocks[1];
    let counting = Counting::new(&backend);
    let all = Tape::new(&backend, ids(model.all()));
    let y = model.forward(&all);
    let expected = gradients(&all, &y);
    // Only the last block trains: it alone has gradients, of the same bits.
    let tape = Tape::new(&counting, ids(last));
    let y = model.forward(&tape);
    let found = gradients(&tape, &y);
    for weight in last {
        let [found, expected] = [&found, &expected].map(|g| g.of_weight(weight.id()).unwrap());
        assert_eq!(bits(&backend, found), bits(&backend, expected));
    }
    assert!(matches!(found.of_weight(model.table.id()), Err(Error::NoGradient(_))));
    assert_eq!(found.into_weights().unwrap().len(), last.len());
}

#[test]
fn a_trainable_weight_without_gradient_is_an_error() {
    let backend = CpuBackend::new(1);
    let model = Model::new(&backend);
    let numbers = Numbers { shape: [1, 1], values: vec![1.0] };
    let stranger = backend.weight(WeightKind::Vector, Arc::new(numbers)).unwrap();
    let tape = Tape::new(&backend, ids(model.all().into_iter().chain([&stranger])));
    let y = model.forward(&tape);
    let gradients = gradients(&tape, &y);
    assert!(matches!(gradients.of_weight(stranger.id()), Err(Error::NoGradient(_))));
    assert!(matches!(gradients.into_weights(), Err(Error::NoGradient(id)) if id == stranger.id()));
}

#[test]
fn gradients_meet_in_sums() {
    let backend = CpuBackend::new(1);
    // The same table looked up twice, the same tensor used twice, and two results.
    let numbers = Numbers { shape: [5, 2], values: wave(10, 1.0) };
    let table = backend.weight(WeightKind::Table, Arc::new(numbers)).unwrap();
    let tape = Tape::new(&backend, ids([&table]));
    let embed = |ids: &[u32]| {
        let lookups = vec![Lookup { table: table.clone(), ids: ids.into() }];
        tape.forward(&Op::Embed { lookups }).unwrap()
    };
    let (a, b) = (embed(&[3, 1]), embed(&[1, 4]));
    tape.watch(&a);
    let sum = tape.forward(&Op::Add { a: a.clone(), b: a.clone() }).unwrap();
    let ones = |rows| backend.tensor(rows, 2, &vec![1.0; rows * 2]).unwrap();
    let gradients = tape.gradients(&[(sum, ones(2)), (b, ones(2))]).unwrap();
    assert_eq!(backend.read(gradients.of(&a).unwrap()).unwrap(), [2.0; 4]);
    let WeightGrad::Rows { rows, values } = gradients.of_weight(table.id()).unwrap() else {
        panic!("a table's gradient is dense")
    };
    assert_eq!(**rows, [1, 3, 4]);
    assert_eq!(backend.read(values).unwrap(), [3.0, 3.0, 2.0, 2.0, 1.0, 1.0]);
}
