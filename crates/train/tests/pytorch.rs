//! Optimisers, clipping, schedules and losses against PyTorch.

use altclip_kernels::{Kernels, Pool};
use altclip_train::loss::{
    Classification, Contrastive, PairLoss, Positives, classification, contrastive, mse,
};
use altclip_train::optimizer::{Gradient, Moments, Norms, Optimizer, Step, TensorUpdate};
use altclip_train::schedule::{Schedule, Shape};
use safetensors::SafeTensors;

/// `numerics.safetensors`, made by `scripts/reference/make_training_goldens.py`.
struct Golden(Vec<u8>);

impl Golden {
    fn open() -> Golden {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/train/numerics.safetensors");
        Golden(std::fs::read(path).expect("the golden file"))
    }

    fn bytes<const N: usize>(&self, name: &str) -> Vec<[u8; N]> {
        let tensors = SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let tensor = tensors.tensor(name).expect(name);
        tensor.data().as_chunks().0.to_vec()
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.bytes(name).into_iter().map(f32::from_le_bytes).collect()
    }

    fn f64(&self, name: &str) -> Vec<f64> {
        self.bytes(name).into_iter().map(f64::from_le_bytes).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.bytes(name).into_iter().map(u32::from_le_bytes).collect()
    }
}

fn assert_near(name: &str, found: &[f32], expected: &[f32], bound: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= bound, "{name}[{i}]: {found}, expected {expected}");
    }
}

#[test]
fn adamw_clipping_and_cosine_through_twenty_steps() {
    let golden = Golden::open();
    let pool = Pool::new(2);
    let names = ["matrix", "bias", "table"];
    let mut masters = names.map(|name| golden.f32(&format!("adamw.{name}.start")));
    let mut moments = [35, 7, 40].map(Moments::zeros);
    let gradients = names.map(|name| golden.f32(&format!("adamw.{name}.gradients")));
    let (ids, norms) = (golden.ids("adamw.table.ids"), golden.f64("adamw.norms"));
    let optimizer = Optimizer::adamw(0.1);
    let schedule = Schedule { shape: Shape::Cosine, lr: 0.02, warmup_steps: 4, total_steps: 20 };
    for number in 1..=20 {
        let at = number as usize - 1;
        let of_step = [
            Gradient::Dense(&gradients[0][at * 35..][..35]),
            Gradient::Dense(&gradients[1][at * 7..][..7]),
            Gradient::Rows {
                ids: &ids[at * 3..][..3],
                values: &gradients[2][at * 12..][..12],
                width: 4,
            },
        ];
        let found = Norms::of(&pool, &of_step);
        assert!((found.global() - norms[at]).abs() < 1e-12 * norms[at]);
        let gradient_scale = found.clip_coefficient(3.0);
        let step = Step { number, lr: schedule.lr(number), gradient_scale };
        let tensors = masters.iter_mut().zip(&mut moments).zip(of_step).zip(names);
        let mut tensors: Vec<TensorUpdate<'_>> = tensors
            .map(|(((master, moments), gradient), name)| TensorUpdate {
                name,
                master,
                moments,
                gradient,
                decay: name != "bias",
            })
            .collect();
        optimizer.step(&pool, step, &mut tensors);
    }
    for (i, name) in names.into_iter().enumerate() {
        let expected = |part| golden.f32(&format!("adamw.{name}.{part}"));
        assert_near(name, &masters[i], &expected("end"), 2e-6);
        assert_near(name, &moments[i].first, &expected("first"), 1e-7);
        assert_near(name, &moments[i].second, &expected("second"), 1e-8);
        // The control: it has gone far from where it began.
        let start = expected("start");
        assert!(masters[i].iter().zip(&start).any(|(end, start)| (end - start).abs() > 0.05));
    }
}

#[test]
fn schedules_are_those_of_transformers() {
    let golden = Golden::open();
    for (name, shape) in
        [("constant", Shape::Constant), ("cosine", Shape::Cosine), ("linear", Shape::Linear)]
    {
        for warmup_steps in [0, 5] {
            let schedule = Schedule { shape, lr: 3e-4, warmup_steps, total_steps: 24 };
            let rates = golden.f64(&format!("schedule.{name}.{warmup_steps}"));
            assert_eq!(rates.len(), 24);
            for (step, rate) in (1..).zip(rates) {
                let found = schedule.lr(step);
                assert!((found - rate).abs() < 1e-18, "{name} {step}: {found}, expected {rate}");
            }
        }
    }
}

fn check(golden: &Golden, name: &str, found: &PairLoss) {
    let expected = |part: &str| golden.f32(&format!("{name}.{part}"));
    let loss = golden.f64(&format!("{name}.loss"))[0];
    assert!((f64::from(found.loss) - loss).abs() < 5e-7, "{name}: {} {loss}", found.loss);
    assert_near(name, &found.images, &expected("d_images"), 1e-6);
    assert_near(name, &found.texts, &expected("d_texts"), 1e-6);
    assert_near(name, &[found.logit_scale], &expected("d_logit_scale"), 3e-6);
}

#[test]
fn losses_and_gradients_are_those_of_autograd() {
    let (golden, pool, kernels) = (Golden::open(), Pool::new(2), Kernels::get());
    let input = |name: &str| {
        ["images", "texts", "logit_scale"].map(|part| golden.f32(&format!("{name}.{part}")))
    };
    let ids = |part: &str| -> Vec<u64> {
        golden.ids(&format!("repeats.{part}")).into_iter().map(u64::from).collect()
    };
    let repeats = Positives::of_ids(&ids("image_ids"), &ids("caption_ids"));
    for (name, positives) in [("infonce", Positives::pairs(6)), ("repeats", repeats)] {
        let [images, texts, logit_scale] = input(name);
        let args = Contrastive {
            images: &images,
            texts: &texts,
            width: 5,
            positives: &positives,
            logit_scale: logit_scale[0],
        };
        check(&golden, name, &contrastive(kernels, &pool, &args));
    }
    let [images, classes, logit_scale] = input("classification");
    let args = Classification {
        images: &images,
        classes: &classes,
        width: 5,
        labels: &golden.ids("classification.labels"),
        logit_scale: logit_scale[0],
    };
    check(&golden, "classification", &classification(kernels, &pool, &args));

    let (loss, gradient) = mse(&pool, &golden.f32("mse.student"), &golden.f32("mse.teacher"));
    assert!((f64::from(loss) - golden.f64("mse.loss")[0]).abs() < 5e-7);
    assert_near("mse", &gradient, &golden.f32("mse.d_student"), 1e-7);
}
