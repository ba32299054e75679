//! The README's main job without a download: the tiny random AltCLIP of the golden files, a few
//! pictures drawn here, and the real command line over both.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Side of a picture in pixels, large enough for the resize to have work.
const SIDE: u32 = 160;

/// Makes `build/demo` and runs `altclip classify` on it.
pub(crate) fn run(json: bool) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let demo = root.join("build/demo");
    make_model(&root, &demo.join("model"))
        .map_err(|error| format!("{}: {error}", demo.display()))?;
    make_pictures(&demo.join("pictures"))
        .map_err(|error| format!("{}: {error}", demo.display()))?;
    let mut altclip = Command::new(env!("CARGO"));
    altclip.current_dir(&root).args([
        "run",
        "--release",
        "--quiet",
        "--package",
        "altclip-cli",
        "--",
    ]);
    altclip.args(["classify", "--model", "build/demo/model"]);
    altclip.args(["--label", "红色", "--label", "blau", "--label", "a green picture"]);
    altclip.arg("build/demo/pictures");
    if json {
        altclip.arg("--json");
    }
    match altclip.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("altclip ended with {status}")),
        Err(error) => Err(format!("altclip could not be started: {error}")),
    }
}

/// A model folder as the hub has them: the golden weights beside the golden tokenizer.
fn make_model(root: &Path, dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let golden = root.join("tests/golden");
    let files = ["config.json", "preprocessor_config.json", "model.safetensors"]
        .map(|file| ("alt_l", file));
    let tokenizer = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
        .map(|file| ("tokenizer", file));
    for (folder, file) in files.into_iter().chain(tokenizer) {
        std::fs::copy(golden.join(folder).join(file), dir.join(file))?;
    }
    Ok(())
}

/// A colour for each place of the unit square.
type Colour = fn(f32, f32) -> [f32; 3];

/// Pictures with as much colour and structure as a formula gives.
fn make_pictures(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let draw: [(&str, Colour); 4] = [
        ("checks.png", |x, y| [f32::from(((x * 8.0) as i32 + (y * 8.0) as i32) % 2 == 0); 3]),
        ("rings.png", |x, y| {
            let ring = 0.5 + 0.5 * (40.0 * ((x - 0.5).powi(2) + (y - 0.5).powi(2)).sqrt()).sin();
            [ring, 0.2, 1.0 - ring]
        }),
        ("sunset.png", |x, y| [1.0 - 0.3 * y, 0.7 - 0.6 * y, 0.2 + 0.5 * x * y]),
        ("meadow.png", |x, y| [0.2 * x, 0.4 + 0.5 * y, 0.9 * (1.0 - y)]),
    ];
    draw.into_iter().try_for_each(|(name, colour)| write_png(&dir.join(name), colour))
}

fn write_png(path: &PathBuf, colour: Colour) -> std::io::Result<()> {
    let at = |n: u32| n as f32 / SIDE as f32;
    let pixels: Vec<u8> = (0..SIDE * SIDE)
        .flat_map(|n| colour(at(n % SIDE), at(n / SIDE)))
        .map(|shade| (255.0 * shade.clamp(0.0, 1.0)).round() as u8)
        .collect();
    let mut encoder = png::Encoder::new(std::fs::File::create(path)?, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(())
}
