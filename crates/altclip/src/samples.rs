//! What a model is tried on where the user gives nothing: sentences in many languages, and pictures
//! made by formula.

use crate::Result;
use altclip_image::{Preprocessor, Rgb};
use std::ops::Range;

/// Sentences as captions and queries are, long and short.
pub const SENTENCES: [&str; 24] = [
    "a photo of a cat",
    "two dogs running through deep snow",
    "An old man is reading a newspaper on a bench in the park while children play football behind him.",
    "red car",
    "The Eiffel Tower at night, lit up, seen from the river",
    "一只猫",
    "一群孩子在海滩上放风筝，远处有一艘白色的帆船",
    "红色的汽车停在路边",
    "夜晚的城市灯光",
    "猫が窓辺で眠っている",
    "海辺の夕日",
    "눈 속에서 뛰노는 강아지 두 마리",
    "рыжая кошка спит на стуле",
    "Старый мост через реку осенью",
    "un perro grande en la playa",
    "une tasse de café sur une table en bois",
    "ein kleines Haus am See mit einem roten Dach",
    "un piatto di pasta con pomodoro e basilico",
    "طائر صغير على غصن شجرة",
    "एक लड़की साइकिल चला रही है",
    "ช้างในป่า",
    "biển xanh và bãi cát trắng",
    "café à Paris, 1952 (black & white)",
    "12:30 — menu: €4.50, 50% off!",
];

/// Others of the same kinds, for measuring what was set up on [`SENTENCES`].
pub const OTHER_SENTENCES: [&str; 24] = [
    "a bowl of fresh fruit on a kitchen counter",
    "three people hiking up a rocky mountain trail at dawn",
    "A black and white photograph of a crowded train station in the nineteen forties, with steam rising from the locomotives.",
    "green apple",
    "the harbour of Sydney seen from a ferry on a cloudy morning",
    "一只狗",
    "老人坐在公园的长椅上看报纸，身边有几只鸽子",
    "蓝色的自行车靠在墙上",
    "清晨的山谷",
    "犬が公園を走っている",
    "雪の富士山",
    "바닷가에서 책을 읽는 여자",
    "белая лодка на спокойном озере",
    "Дети играют в снежки во дворе",
    "una montaña cubierta de nieve",
    "deux enfants jouent dans le jardin",
    "eine alte Brücke über den Fluss im Herbst",
    "una bicicletta rossa davanti a un negozio",
    "قطة تنام على السرير",
    "एक बच्चा फुटबॉल खेल रहा है",
    "รถไฟสีแดง",
    "một con mèo đen trên mái nhà",
    "Tokyo, 2019: neon signs (rain)",
    "50 km/h — slow down! school zone",
];

/// Pictures of smooth shades, edges and noise: those of these numbers, always the same.
pub fn pictures(numbers: Range<u32>) -> Vec<Rgb> {
    const SIDE: u32 = 256;
    let hash = |mut x: u32| {
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    };
    let pixel = |picture: u32, at: u32, channel: u32| {
        let (x, y) = ((at % SIDE) as f32 / SIDE as f32, (at / SIDE) as f32 / SIDE as f32);
        let seed = hash(picture * 3 + channel);
        let frequency = |shift: u32| 1.0 + (seed >> shift & 15) as f32;
        let wave = (frequency(0) * x + frequency(4) * y).sin() * (frequency(8) * (x - y)).cos();
        let (right, down) = (x - 0.5, y - 0.5);
        let distance = (right * right + down * down).sqrt();
        let edge = if distance < frequency(12) / 40.0 { 60.0 } else { 0.0 };
        let noise = (hash(at ^ seed) >> 27) as f32;
        (110.0 + 80.0 * wave + edge + noise).clamp(0.0, 255.0) as u8
    };
    let picture = |picture| {
        let values = (0..3 * SIDE * SIDE).map(|i| pixel(picture, i / 3, i % 3));
        Rgb::from_raw(SIDE, SIDE, values.collect()).ok()
    };
    // All have three values a pixel, so none is left out.
    numbers.filter_map(picture).collect()
}

/// Pixel values of all pictures, one after the other.
///
/// # Errors
/// A picture is refused.
pub fn pixels(pictures: &[Rgb], preprocessor: &Preprocessor) -> Result<Vec<f32>> {
    let (height, width) = preprocessor.output_size();
    let mut pixels = vec![0.0; pictures.len() * 3 * height * width];
    for (picture, out) in pictures.iter().zip(pixels.chunks_exact_mut(3 * height * width)) {
        preprocessor.apply_into(picture, out)?;
    }
    Ok(pixels)
}
