//! Every gradient against finite differences of a plain `f64` loss, and the promises of blocks,
//! threads and repeats.

use altclip_kernels::{Kernels, Pool};

use super::*;
use crate::random::Random;

const E: usize = 5;

fn normals(stream: u64, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Random::new(11, stream).fill_normal(&Pool::new(1), 1.0, &mut values);
    values
}

fn in_f64(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn unit_rows(x: &[f64], width: usize) -> Vec<f64> {
    let unit = |row: &[f64]| {
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter().map(|x| x / norm).collect::<Vec<_>>()
    };
    x.chunks(width).flat_map(unit).collect()
}

/// Mean cross-entropy of the rows of `logits` with the targets `right(row, column)`, spread evenly.
fn cross_entropy(logits: &[Vec<f64>], right: &dyn Fn(usize, usize) -> bool) -> f64 {
    let of_row = |(i, row): (usize, &Vec<f64>)| {
        let log_sum = row.iter().map(|x| x.exp()).sum::<f64>().ln();
        let own: Vec<f64> = (0..row.len()).filter(|&j| right(i, j)).map(|j| row[j]).collect();
        log_sum - own.iter().sum::<f64>() / own.len() as f64
    };
    logits.iter().enumerate().map(of_row).sum::<f64>() / logits.len() as f64
}

/// The loss as the formula says it. `both`: with the texts' direction.
fn plain(images: &[f64], texts: &[f64], scale: f64, positives: &Positives, both: bool) -> f64 {
    let (images, texts) = (unit_rows(images, E), unit_rows(texts, E));
    let scale = scale.min(f64::from(MAX_LOGIT_SCALE)).exp();
    let dot = |a: &[f64], b: &[f64]| scale * a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let table = |a: &[f64], b: &[f64]| -> Vec<Vec<f64>> {
        a.chunks(E).map(|a| b.chunks(E).map(|b| dot(a, b)).collect()).collect()
    };
    let right = |i: usize, j: usize| positives.of_image(i).contains(&(j as u32));
    let rows = cross_entropy(&table(&images, &texts), &right);
    if !both {
        return rows;
    }
    (rows + cross_entropy(&table(&texts, &images), &|j, i| right(i, j))) / 2.0
}

fn differences(x: &[f64], loss: &dyn Fn(&[f64]) -> f64) -> Vec<f64> {
    let h = 1e-5;
    let shifted = |i: usize, by: f64| {
        let mut x = x.to_vec();
        x[i] += by;
        loss(&x)
    };
    (0..x.len()).map(|i| (shifted(i, h) - shifted(i, -h)) / (2.0 * h)).collect()
}

fn assert_near(name: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0.0_f64, |size, x| size.max(x.abs()));
    for (i, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= 3e-6 * size + 1e-8, "{name}[{i}]: {found}, expected {expected}");
    }
}

fn check(images: &[f32], texts: &[f32], scale: f32, positives: &Positives, both: bool) {
    let (kernels, pool) = (Kernels::get(), Pool::new(2));
    let found = if both {
        let args = Contrastive { images, texts, width: E, positives, logit_scale: scale };
        contrastive(kernels, &pool, &args)
    } else {
        let labels: Vec<u32> =
            (0..positives.n_images()).map(|i| positives.of_image(i)[0]).collect();
        let args = Classification {
            images,
            classes: texts,
            width: E,
            labels: &labels,
            logit_scale: scale,
        };
        classification(kernels, &pool, &args)
    };
    let (x, y, s) = (in_f64(images), in_f64(texts), f64::from(scale));
    let loss = plain(&x, &y, s, positives, both);
    assert!((f64::from(found.loss) - loss).abs() < 2e-6 * loss.max(1.0), "{} {loss}", found.loss);
    let of_images = differences(&x, &|x| plain(x, &y, s, positives, both));
    assert_near("images", &found.images, &of_images);
    assert_near("texts", &found.texts, &differences(&y, &|y| plain(&x, y, s, positives, both)));
    let of_scale = differences(&[s], &|s| plain(&x, &y, s[0], positives, both));
    assert_near("logit_scale", &[found.logit_scale], &of_scale);
}

#[test]
fn contrastive_gradients_are_the_differences() {
    let (images, texts) = (normals(0, 6 * E), normals(1, 6 * E));
    let repeats = Positives::of_ids(&[1, 1, 2, 3, 4, 1], &[1, 2, 2, 3, 4, 5]);
    for positives in [Positives::pairs(6), repeats] {
        for scale in [0.0, 2.6592, 4.0] {
            check(&images, &texts, scale, &positives, true);
        }
        // Above the bound: the loss is that of 100, and the scale has no gradient.
        check(&images, &texts, 5.0, &positives, true);
    }
}

#[test]
fn classification_gradients_are_the_differences() {
    let positives = Positives::labels(&[2, 0, 2, 1, 2, 2], 4);
    check(&normals(0, 6 * E), &normals(1, 4 * E), 2.6592, &positives, false);
}

#[test]
fn mse_gradients_are_the_differences() {
    let (student, teacher) = (normals(0, 40), normals(1, 40));
    let (loss, gradient) = mse(&Pool::new(2), &student, &teacher);
    let teacher = in_f64(&teacher);
    let plain = |student: &[f64]| {
        student.iter().zip(&teacher).map(|(s, t)| (s - t) * (s - t)).sum::<f64>() / 40.0
    };
    assert!((f64::from(loss) - plain(&in_f64(&student))).abs() < 1e-6);
    assert_near("student", &gradient, &differences(&in_f64(&student), &plain));
}

/// More rows than a block and more columns than a task: the loss is that of the formula, and each
/// gradient moves it as it says.
#[test]
fn blocks_fit_together() {
    let n = 2 * CONTRASTIVE_BLOCK + 600;
    let (images, texts) = (normals(0, n * E), normals(1, n * E));
    let ids: Vec<u64> = (0..n as u64).map(|i| i / 2).collect();
    let captions: Vec<u64> = (0..n as u64).collect();
    let positives = Positives::of_ids(&ids, &captions);
    let args = Contrastive {
        images: &images,
        texts: &texts,
        width: E,
        positives: &positives,
        logit_scale: 3.0,
    };
    let found = contrastive(Kernels::get(), &Pool::new(1), &args);
    let (x, y) = (in_f64(&images), in_f64(&texts));
    let loss = plain(&x, &y, 3.0, &positives, true);
    assert!((f64::from(found.loss) - loss).abs() < 1e-6 * loss);
    // Along a random direction, over all values at once.
    let (dx, dy) = (in_f64(&normals(2, n * E)), in_f64(&normals(3, n * E)));
    let moved = |h: f64| {
        let add = |x: &[f64], d: &[f64]| -> Vec<f64> {
            x.iter().zip(d).map(|(x, d)| x + h * d).collect()
        };
        plain(&add(&x, &dx), &add(&y, &dy), 3.0, &positives, true)
    };
    let along = |gradient: &[f32], d: &[f64]| -> f64 {
        gradient.iter().zip(d).map(|(&g, d)| f64::from(g) * d).sum()
    };
    let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
    let slope = along(&found.images, &dx) + along(&found.texts, &dy);
    assert!((slope - expected).abs() < 1e-5 * expected.abs().max(0.1), "{slope} {expected}");
    assert_eq!(contrastive(Kernels::get(), &Pool::new(3), &args), found, "threads change bits");
}

#[test]
fn the_instruction_set_does_not_change_bits() {
    let (images, texts) = (normals(0, 40 * E), normals(1, 40 * E));
    let positives = Positives::pairs(40);
    let args = Contrastive {
        images: &images,
        texts: &texts,
        width: E,
        positives: &positives,
        logit_scale: 3.0,
    };
    let all = altclip_kernels::Isa::available();
    let all: Vec<&Kernels> = all.into_iter().filter_map(Kernels::for_isa).collect();
    let first = contrastive(all[0], &Pool::new(1), &args);
    assert!(all.iter().all(|kernels| contrastive(kernels, &Pool::new(1), &args) == first));
}

#[test]
fn what_is_not_finite_is_seen() {
    let (mut images, texts) = (normals(0, 6 * E), normals(1, 6 * E));
    for (place, bad) in [(0, f32::NAN), (7, f32::INFINITY), (29, f32::NEG_INFINITY)] {
        let before = std::mem::replace(&mut images[place], bad);
        let positives = Positives::pairs(6);
        let args = Contrastive {
            images: &images,
            texts: &texts,
            width: E,
            positives: &positives,
            logit_scale: 1.0,
        };
        assert!(contrastive(Kernels::get(), &Pool::new(1), &args).loss.is_nan());
        images[place] = before;
    }
    // A row of zeros has no direction.
    images[..E].fill(0.0);
    let positives = Positives::pairs(6);
    let args = Contrastive {
        images: &images,
        texts: &texts,
        width: E,
        positives: &positives,
        logit_scale: 1.0,
    };
    assert!(contrastive(Kernels::get(), &Pool::new(1), &args).loss.is_nan());
    let finite = normals(0, 6 * E);
    let args = Contrastive { images: &finite, logit_scale: f32::NAN, ..args };
    assert!(contrastive(Kernels::get(), &Pool::new(1), &args).loss.is_nan());
}

#[test]
fn the_largest_scale_is_a_hundred() {
    assert_eq!(clamp_logit_scale(9.0), MAX_LOGIT_SCALE);
    assert_eq!(clamp_logit_scale(2.0), 2.0);
    assert!(clamp_logit_scale(f32::NAN).is_nan());
    assert!((f64::from(MAX_LOGIT_SCALE) - 100_f64.ln()).abs() < 1e-7);
}
