//! Changes of a picture that leave its meaning: another window, other colours. Each is a function of a
//! counter, so a resumed run sees the same pictures.
//!
//! There is no mirroring: captions say left and right.

use crate::random::Random;
use altclip_image::Rgb;

/// How far pictures are changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// Smallest share of a picture's area that a window keeps; 1 keeps all of it.
    pub min_area: f32,
    /// How far brightness, contrast and saturation go, as a share; 0 leaves them.
    pub colour: f32,
    /// Share of pictures that lose their colours.
    pub grey: f32,
    /// Share of pictures whose white ground takes another colour.
    pub ground: f32,
}

impl Augment {
    /// Pictures as they are.
    pub const NONE: Self = Self { min_area: 1.0, colour: 0.0, grey: 0.0, ground: 0.0 };
    /// Windows of 90 % of the area and more, as CLIP was trained with; colours stay.
    ///
    /// # Source
    /// mlfoundations/open_clip `src/open_clip/transform.py`, `AugmentationCfg.scale` (commit 89fb801).
    pub const CROP: Self = Self { min_area: 0.9, colour: 0.0, grey: 0.0, ground: 0.0 };
    /// Windows and colours, for small sets.
    pub const STRONG: Self = Self { min_area: 0.6, colour: 0.35, grey: 0.15, ground: 0.25 };

    /// The picture of sample `counter`.
    pub fn apply(&self, image: Rgb, seed: u64, counter: u64) -> Rgb {
        if *self == Self::NONE {
            return image;
        }
        let random = Random::named(seed, "augment");
        let mut draw = Draw { random, index: counter.wrapping_mul(DRAWS) };
        let mut image = self.window(image, &mut draw);
        self.colours(&mut image, &mut draw);
        image
    }

    fn window(&self, image: Rgb, draw: &mut Draw) -> Rgb {
        let (width, height) = (image.width(), image.height());
        let area = draw.between(self.min_area, 1.0);
        let ratio = draw.between(-0.15, 0.15).exp2();
        let (x, y) = (draw.unit(), draw.unit());
        if self.min_area >= 1.0 {
            return image;
        }
        let side = |full: u32, factor: f32| {
            ((full as f32 * area.sqrt() * factor).round() as u32).clamp(1, full)
        };
        let (w, h) = (side(width, ratio.sqrt()), side(height, ratio.sqrt().recip()));
        let (left, top) =
            ((x * (width - w + 1) as f32) as u32, (y * (height - h + 1) as f32) as u32);
        let (left, top) = (left.min(width - w), top.min(height - h));
        let columns = 3 * left as usize..3 * (left + w) as usize;
        let rows = (top..top + h).flat_map(|y| image.row(y).get(columns.clone()).unwrap_or(&[]));
        let data = rows.copied().collect();
        // The window lies inside, so the sizes agree.
        Rgb::from_raw(w, h, data).unwrap_or(image)
    }

    fn colours(&self, image: &mut Rgb, draw: &mut Draw) {
        let grey = draw.unit() < self.grey;
        let ground = draw.unit() < self.ground;
        let tint =
            [draw.between(120.0, 255.0), draw.between(120.0, 255.0), draw.between(120.0, 255.0)];
        let factor = |draw: &mut Draw| 1.0 + draw.between(-self.colour, self.colour);
        let (brightness, contrast) = (factor(draw), factor(draw));
        let saturation = if grey { 0.0 } else { factor(draw) };
        let (width, height) = (image.width(), image.height());
        let mut data = image.data().to_vec();
        for pixel in data.chunks_exact_mut(3) {
            let is_ground = ground && pixel.iter().all(|&value| value >= 250);
            let mut rgb = [f32::from(pixel[0]), f32::from(pixel[1]), f32::from(pixel[2])];
            if is_ground {
                rgb = tint;
            }
            let luma = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
            for (value, rgb) in pixel.iter_mut().zip(rgb) {
                let coloured = luma + saturation * (rgb - luma);
                let changed = (coloured - 127.5) * contrast + 127.5;
                *value = (changed * brightness).clamp(0.0, 255.0) as u8;
            }
        }
        if let Ok(changed) = Rgb::from_raw(width, height, data) {
            *image = changed;
        }
    }
}

/// Numbers that one picture may take.
const DRAWS: u64 = 16;

/// The numbers of one picture, one after the other.
struct Draw {
    random: Random,
    index: u64,
}

impl Draw {
    fn unit(&mut self) -> f32 {
        self.index = self.index.wrapping_add(1);
        self.random.uniform(self.index) as f32
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Rgb {
        let data = (0..20 * 10 * 3).map(|n| (n % 256) as u8).collect();
        Rgb::from_raw(20, 10, data).unwrap()
    }

    #[test]
    fn a_counter_gives_one_picture_and_another_counter_another() {
        let image = |counter| Augment::STRONG.apply(picture(), 7, counter);
        assert_eq!(image(3), image(3));
        assert_ne!(image(3), image(4));
        assert_eq!(Augment::NONE.apply(picture(), 7, 3), picture());
    }

    #[test]
    fn a_window_keeps_its_share_of_the_area() {
        for counter in 0..200 {
            let image = Augment::CROP.apply(picture(), 1, counter);
            let area = f64::from(image.width() * image.height()) / 200.0;
            assert!(area > 0.75 && area <= 1.0, "{area}");
        }
    }
}
