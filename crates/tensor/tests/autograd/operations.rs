//! Every operation against finite differences, in f32 and in `bf16`, on one to three threads.

use super::reference;
use super::support::Case;
use altclip_tensor::{
    Activation, CpuBackend, Error, Isa, Kernels, Lookup, Op, Precision, Segments, Tensor, Weight,
    WeightKind,
};
use std::sync::Arc;

const ACTIVATIONS: [Activation; 3] =
    [Activation::Identity, Activation::Gelu, Activation::QuickGelu];

fn linear(
    [m, n, k]: [usize; 3],
    activation: Activation,
    bias: bool,
    residual: bool,
    compact: bool,
) -> Case {
    let mut inputs = vec![[m, k]];
    inputs.extend(residual.then_some([m, n]));
    let mut weights = vec![(WeightKind::Matrix, [n, k])];
    weights.extend(bias.then_some((WeightKind::Vector, [1, n])));
    Case {
        name: format!("linear {m}×{k}×{n} {activation:?} {bias} {residual}"),
        weights,
        op: Box::new(move |inputs, weights| Op::Linear {
            x: inputs[0].clone(),
            weight: weights[0].clone(),
            bias: weights.get(1).cloned(),
            activation,
            residual: inputs.get(1).cloned(),
            compact,
        }),
        reference: {
            let inputs = inputs.len();
            Box::new(move |all| {
                let (x, weights) = all.split_at(inputs);
                reference::linear(&x[0], &weights[0], weights.get(1), activation, x.get(1))
            })
        },
        inputs,
    }
}

fn layer_norm([rows, cols]: [usize; 2]) -> Case {
    let eps = 1e-2;
    Case {
        name: format!("layer norm {rows}×{cols}"),
        inputs: vec![[rows, cols]],
        weights: vec![(WeightKind::Vector, [1, cols]); 2],
        op: Box::new(move |inputs, weights| Op::LayerNorm {
            x: inputs[0].clone(),
            weight: weights[0].clone(),
            bias: weights[1].clone(),
            eps,
            compact: false,
        }),
        reference: Box::new(move |all| {
            reference::layer_norm(&all[0], &all[1], &all[2], f64::from(eps))
        }),
    }
}

fn attention(queries: &[usize], keys: &[usize], [heads, size]: [usize; 2], causal: bool) -> Case {
    let (queries, keys) = (queries.to_vec(), keys.to_vec());
    let width = heads * size;
    Case {
        name: format!("attention {queries:?} {keys:?} {heads}×{size} {causal}"),
        inputs: vec![[queries.iter().sum(), width], [keys.iter().sum(), 2 * width]],
        weights: vec![],
        op: {
            let segments = |lens: &[usize]| Segments::from_lengths(lens.iter().copied());
            let (queries, keys) = (segments(&queries), segments(&keys));
            Box::new(move |inputs, _| Op::Attention {
                q: inputs[0].clone(),
                kv: inputs[1].clone(),
                heads,
                queries: queries.clone(),
                keys: keys.clone(),
                causal,
            })
        },
        reference: Box::new(move |all| {
            let shape = reference::Shape { heads, queries: &queries, keys: &keys, causal };
            reference::attention(&all[0], &all[1], &shape)
        }),
    }
}

fn embed(ids: Vec<Vec<u32>>, tables: &[usize], cols: usize) -> Case {
    let table = |&rows: &usize| (WeightKind::Table, [rows, cols]);
    Case {
        name: format!("embed {ids:?}"),
        inputs: vec![],
        weights: tables.iter().map(table).collect(),
        op: {
            let ids: Vec<Arc<[u32]>> = ids.iter().map(|ids| ids.as_slice().into()).collect();
            Box::new(move |_, weights: &[Weight]| {
                let lookup = |(table, ids): (&Weight, &Arc<[u32]>)| Lookup {
                    table: table.clone(),
                    ids: ids.clone(),
                };
                Op::Embed { lookups: weights.iter().zip(&ids).map(lookup).collect() }
            })
        },
        reference: Box::new(move |all| reference::embed(all, &ids)),
    }
}

/// An operation on one tensor without weights.
fn unary(
    name: &str,
    shape: [usize; 2],
    op: impl Fn(Tensor) -> Op + 'static,
    reference: impl Fn(&super::support::Matrix) -> Vec<f64> + 'static,
) -> Case {
    Case {
        name: format!("{name} {shape:?}"),
        inputs: vec![shape],
        weights: vec![],
        op: Box::new(move |inputs, _| op(inputs[0].clone())),
        reference: Box::new(move |all| reference(&all[0])),
    }
}

fn rows(shape: [usize; 2], rows: &'static [u32]) -> Case {
    let op = |x| Op::Rows { x, rows: rows.into() };
    unary("rows", shape, op, |x| {
        rows.iter().flat_map(|&row| x.row(row as usize).to_vec()).collect()
    })
}

fn patches(pictures: usize, channels: usize, size: [usize; 2], patch: usize) -> Case {
    let op = move |pixels| Op::Patches { pixels, channels, size, patch };
    unary("patches", [pictures, channels * size[0] * size[1]], op, move |x| {
        let sources = reference::patch_sources(pictures, channels, size, patch);
        sources.into_iter().map(|source| x.values[source]).collect()
    })
}

fn class_token(pictures: usize, patches: usize, cols: usize) -> Case {
    Case {
        name: format!("class token {pictures}×{patches}×{cols}"),
        inputs: vec![[pictures * patches, cols]],
        weights: vec![(WeightKind::Vector, [1, cols]), (WeightKind::Table, [patches + 1, cols])],
        op: Box::new(|inputs, weights| Op::ClassToken {
            x: inputs[0].clone(),
            class: weights[0].clone(),
            positions: weights[1].clone(),
        }),
        reference: Box::new(|all| reference::class_token(&all[0], &all[1], &all[2])),
    }
}

fn two(
    name: &str,
    shapes: [[usize; 2]; 2],
    op: impl Fn(Tensor, Tensor) -> Op + 'static,
    reference: impl Fn(&super::support::Matrix, &super::support::Matrix) -> Vec<f64> + 'static,
) -> Case {
    Case {
        name: format!("{name} {shapes:?}"),
        inputs: shapes.to_vec(),
        weights: vec![],
        op: Box::new(move |inputs, _| op(inputs[0].clone(), inputs[1].clone())),
        reference: Box::new(move |all| reference(&all[0], &all[1])),
    }
}

/// Products and attention, which `bf16` changes.
fn products() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, shape) in
        [[1, 1, 1], [3, 5, 7], [17, 33, 16], [33, 16, 40], [2, 70, 3]].iter().enumerate()
    {
        for activation in ACTIVATIONS {
            for compact in [false, true] {
                let residual = !compact && i % 2 == 0;
                cases.push(linear(*shape, activation, i % 3 != 1, residual, compact));
            }
        }
    }
    for causal in [false, true] {
        for heads in [[1, 4], [3, 5], [2, 16]] {
            cases.push(attention(&[1, 4, 0, 9], &[1, 4, 0, 9], heads, causal));
            cases.push(attention(&[1, 1, 1], &[5, 1, 3], heads, causal));
            cases.push(attention(&[2, 3], &[4, 2], heads, causal));
        }
    }
    cases
}

fn others() -> Vec<Case> {
    vec![
        layer_norm([1, 1]),
        layer_norm([3, 5]),
        layer_norm([40, 17]),
        embed(vec![vec![3, 0, 3, 1, 3]], &[6], 3),
        embed(vec![vec![2, 1, 2], vec![0, 0, 0], vec![4, 5, 4]], &[4, 1, 6], 17),
        rows([4, 3], &[3, 0, 3]),
        rows([4, 20], &[]),
        patches(2, 3, [5, 7], 2),
        class_token(2, 3, 5),
        class_token(1, 4, 17),
        unary("l2", [3, 17], |x| Op::L2Normalize { x }, reference::l2_normalize),
        two(
            "similarity",
            [[3, 17], [4, 17]],
            |a, b| Op::Similarity { a, b, scale: 2.5 },
            |a, b| reference::similarity(a, b, 2.5),
        ),
        two(
            "add",
            [[3, 7], [3, 7]],
            |a, b| Op::Add { a, b },
            |a, b| a.values.iter().zip(&b.values).map(|(a, b)| a + b).collect(),
        ),
        unary(
            "dropout",
            [5, 7],
            |x| Op::Dropout { x, p: 0.4, seed: 3, offset: 11 },
            |x| {
                let ones = vec![1.0; x.values.len()];
                let kept = altclip_kernels::reference::dropout(&ones, 0.4, 3, 11);
                x.values.iter().zip(kept).map(|(x, kept)| x * f64::from(kept)).collect()
            },
        ),
    ]
}

#[test]
fn gradients_equal_finite_differences() {
    let backend = CpuBackend::new(2);
    for case in products().into_iter().chain(others()) {
        case.check(&backend, 2e-5);
    }
}

#[test]
fn gradients_in_bf16_are_within_its_rounding() {
    let backend = CpuBackend::new(2).with_precision(Precision::Bf16);
    for case in products() {
        case.check(&backend, 2e-2);
    }
    for case in others() {
        case.check(&backend, 2e-5);
    }
}

#[test]
fn threads_and_instruction_sets_do_not_show() {
    let bits = |case: &Case, backend: &CpuBackend| {
        let (out, grads) = case.run(backend);
        out.into_iter().chain(grads.concat()).map(f32::to_bits).collect::<Vec<_>>()
    };
    let levels: Vec<_> = Isa::available().into_iter().filter_map(Kernels::for_isa).collect();
    // In f32 one backend is like any other; in bf16 each level has its own bits, whatever the threads.
    let mut alike = vec![CpuBackend::new(1), CpuBackend::new(2), CpuBackend::new(3)];
    alike.extend(levels.iter().map(|kernels| CpuBackend::with_kernels(2, kernels)));
    let mut groups = vec![alike];
    groups.extend(levels.iter().map(|kernels| {
        let backend = |threads| CpuBackend::with_kernels(threads, kernels);
        [1, 2, 3].map(|threads| backend(threads).with_precision(Precision::Bf16)).into()
    }));
    for case in products().into_iter().chain(others()) {
        for group in &groups {
            let expected = bits(&case, &group[0]);
            for backend in &group[1..] {
                let (isa, threads) = (backend.isa(), backend.threads());
                assert!(bits(&case, backend) == expected, "{} {isa} {threads}", case.name);
            }
        }
    }
}

#[test]
fn eight_bits_are_refused() {
    use altclip_report::Diagnose;
    use altclip_tensor::{Backend, Wanted};
    let backend = CpuBackend::new(1).with_precision(Precision::Int8);
    let numbers = super::support::Numbers { shape: [4, 4], values: vec![1.0; 16] };
    let weight = backend.weight(WeightKind::Matrix, Arc::new(numbers)).unwrap();
    let op = Op::Linear {
        x: backend.tensor(1, 4, &[1.0; 4]).unwrap(),
        weight,
        bias: None,
        activation: Activation::Identity,
        residual: None,
        compact: false,
    };
    let error = backend.forward_saving(&op, &Wanted::all(&op)).unwrap_err();
    assert!(matches!(error, Error::NotTrainable { precision: Precision::Int8, .. }));
    let text = error.report().to_string();
    assert!(text.contains("int8") && text.contains("bf16"), "{text}");
}
