//! The updates against plain `f64` transcriptions, and their promises about rows and threads.

use proptest::prelude::*;

use super::*;
use crate::random::Random;

const STEP: Step = Step { number: 1, lr: 0.01, gradient_scale: 1.0 };

fn settings(algorithm: Algorithm) -> Optimizer {
    Optimizer { algorithm, ..Optimizer::adamw(0.1) }
}

fn normals(stream: u64, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Random::new(5, stream).fill_normal(&Pool::new(1), 1.0, &mut values);
    values
}

/// Updates one tensor through `steps` steps, with the gradients `gradient(step)`.
fn run(
    optimizer: &Optimizer,
    threads: usize,
    master: &mut [f32],
    steps: u64,
    gradient: impl Fn(u64) -> Vec<f32>,
) -> Moments {
    let pool = Pool::new(threads);
    let mut moments = Moments::zeros(master.len());
    for number in 1..=steps {
        let gradient = gradient(number);
        let tensor = TensorUpdate {
            name: "w",
            master,
            moments: &mut moments,
            gradient: Gradient::Dense(&gradient),
            decay: true,
        };
        optimizer.step(&pool, Step { number, ..STEP }, &mut [tensor]);
    }
    moments
}

#[test]
fn stable_adamw_is_the_papers_algorithm() {
    let n = 50;
    let mut found = normals(0, n);
    let mut p: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
    // A jump at step 15 is what the division of the rate is for.
    let gradient = |step: u64| -> Vec<f32> {
        let size = if step == 15 { 100.0 } else { 0.1 };
        normals(step, n).iter().map(|g| size * g).collect()
    };
    let optimizer = settings(Algorithm::StableAdamW);
    run(&optimizer, 1, &mut found, 20, gradient);
    let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
    let mut slowed = 0;
    for t in 1..=20 {
        let hat = |beta: f64| beta * (1.0 - beta.powi(t - 1)) / (1.0 - beta.powi(t));
        let (beta1, beta2) = (hat(optimizer.beta1), hat(optimizer.beta2));
        let g: Vec<f64> = gradient(t as u64).iter().map(|&g| f64::from(g)).collect();
        for i in 0..n {
            m[i] = beta1 * m[i] + (1.0 - beta1) * g[i];
            v[i] = beta2 * v[i] + (1.0 - beta2) * g[i] * g[i];
        }
        let mean = (0..n).map(|i| g[i] * g[i] / v[i].max(1e-16)).sum::<f64>() / n as f64;
        let rate = STEP.lr / mean.sqrt().max(1.0);
        slowed += u32::from(mean > 1.5);
        for i in 0..n {
            p[i] -= rate * optimizer.weight_decay * p[i] + rate * m[i] / (v[i].sqrt() + 1e-8);
        }
    }
    assert!(slowed > 0);
    for (found, expected) in found.iter().zip(&p) {
        assert!((f64::from(*found) - expected).abs() < 2e-6, "{found} {expected}");
    }
}

#[test]
fn threads_do_not_change_bits() {
    let n = 2 * PIECE + 77;
    for algorithm in [Algorithm::AdamW, Algorithm::StableAdamW] {
        let result = |threads| {
            let mut master = normals(0, n);
            let moments = run(&settings(algorithm), threads, &mut master, 2, |t| normals(t, n));
            (master, moments)
        };
        assert!(result(1) == result(4), "{algorithm:?}");
    }
    let gradient = normals(1, n);
    let norm = |threads| {
        let all = [Gradient::Dense(&gradient), Gradient::Dense(&gradient[..100])];
        Norms::of(&Pool::new(threads), &all).global().to_bits()
    };
    assert_eq!(norm(1), norm(3));
}

#[test]
fn what_does_not_decay_does_not() {
    let pool = Pool::new(1);
    for decay in [false, true] {
        let (mut master, mut moments) = (vec![1.0; 3], Moments::zeros(3));
        let gradient = Gradient::Dense(&[0.0; 3]);
        let tensor =
            TensorUpdate { name: "b", master: &mut master, moments: &mut moments, gradient, decay };
        settings(Algorithm::AdamW).step(&pool, STEP, &mut [tensor]);
        assert_eq!(master[0], if decay { 1.0 - 0.001 } else { 1.0 });
    }
}

#[test]
fn norms_find_what_is_not_finite() {
    let large = [2e18; 40];
    let pool = Pool::new(1);
    let norms = Norms::of(&pool, &[Gradient::Dense(&large)]);
    assert_eq!(norms.non_finite(), None);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2e19] {
        for place in [0, 7, 39] {
            let mut values = large;
            values[place] = bad;
            let gradients = [Gradient::Dense(&large), Gradient::Dense(&values)];
            assert_eq!(Norms::of(&pool, &gradients).non_finite(), Some(1));
        }
    }
}

#[test]
#[should_panic(expected = "not strictly ascending")]
fn a_row_given_twice_is_refused() {
    let gradient = Gradient::Rows { ids: &[3, 3], values: &[0.0; 4], width: 2 };
    gradient.check("table", 20);
}

#[test]
#[should_panic(expected = "outside the table")]
fn a_row_outside_the_table_is_refused() {
    Gradient::Rows { ids: &[10], values: &[0.0; 2], width: 2 }.check("table", 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Rows have the bits of the dense gradient that they stand for, wherever pieces are cut.
    #[test]
    fn rows_are_the_dense_update(
        stable in any::<bool>(),
        width in prop_oneof![1..9_usize, Just(3000)],
        ids in proptest::collection::btree_set(0..40_u32, 0..20),
    ) {
        let ids: Vec<u32> = ids.into_iter().collect();
        let optimizer =
            settings(if stable { Algorithm::StableAdamW } else { Algorithm::AdamW });
        let len = 40 * width;
        let values = normals(1, ids.len() * width);
        let mut dense = vec![0.0; len];
        for (id, row) in ids.iter().zip(values.chunks(width)) {
            dense[*id as usize * width..][..width].copy_from_slice(row);
        }
        let rows = Gradient::Rows { ids: &ids, values: &values, width };
        let result = |gradient: Gradient<'_>| {
            let mut master = normals(2, len);
            let mut moments = Moments { first: normals(3, len), second: vec![0.5; len] };
            let tensor = TensorUpdate {
                name: "table",
                master: &mut master,
                moments: &mut moments,
                gradient,
                decay: true,
            };
            optimizer.step(&Pool::new(2), Step { number: 3, ..STEP }, &mut [tensor]);
            (master, moments)
        };
        let (found, expected) = (result(rows), result(Gradient::Dense(&dense)));
        prop_assert_eq!(&found.1, &expected.1);
        for (found, expected) in found.0.iter().zip(&expected.0) {
            // The mean of StableAdamW is summed run by run: equal up to the last bit.
            let bound = if stable { 1e-6 } else { 0.0 };
            prop_assert!((found - expected).abs() <= bound);
        }
    }
}
