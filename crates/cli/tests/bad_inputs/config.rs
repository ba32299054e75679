//! CK20: `config.json` and `preprocessor_config.json`.

use crate::row::{Row, bad_input, model};
use crate::support::child::altclip;
use crate::support::folder::Folder;
use crate::support::weights::Weights;
use altclip_report::Code;
use serde_json::{Value, json};
use std::ffi::OsStr;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = syntax();
    let text = "text_config";
    let vision = "vision_config";
    rows.extend([
        field(
            "heads that do not divide",
            text,
            "num_attention_heads",
            json!(5),
            &["num_attention_heads", "5", "32"],
        ),
        field("no heads", vision, "num_attention_heads", json!(0), &["num_attention_heads"]),
        field(
            "more layers than weights",
            text,
            "num_hidden_layers",
            json!(4),
            &["num_hidden_layers", "got 4", "expected 3"],
        ),
        field(
            "fewer layers than weights",
            vision,
            "num_hidden_layers",
            json!(2),
            &["got 2", "expected 3"],
        ),
        field(
            "another width",
            text,
            "hidden_size",
            json!(48),
            &["text_config.hidden_size", "48", "32"],
        ),
        field(
            "an unknown activation",
            text,
            "hidden_act",
            json!("swish9"),
            &["«swish9»", "quick_gelu"],
        ),
        field("an image of 0 pixels", vision, "image_size", json!(0), &["image_size", "got 0"]),
        field("another image size", vision, "image_size", json!(64), &["image_size", "64", "32"]),
        field("patches of 0 pixels", vision, "patch_size", json!(0), &["patch_size", "got 0"]),
        field("another patch size", vision, "patch_size", json!(16), &["patch_size", "16", "8"]),
        field(
            "a vocabulary of 2^63",
            text,
            "vocab_size",
            json!(1u64 << 63),
            &["vocab_size", "9223372036854775808"],
        ),
        field("another vocabulary", text, "vocab_size", json!(601), &["vocab_size", "601", "600"]),
        field("an eps of 0", text, "layer_norm_eps", json!(0.0), &["layer_norm_eps"]),
        field("a negative eps", vision, "layer_norm_eps", json!(-1e-5), &["layer_norm_eps"]),
        field("a size of text", text, "hidden_size", json!("32"), &[]),
        field("a negative size", text, "hidden_size", json!(-32), &[]),
        field("a broken size", text, "intermediate_size", json!(56.5), &[]),
    ]);
    rows.extend(preprocessors());
    rows
}

fn field(
    name: &'static str,
    side: &'static str,
    field: &'static str,
    value: Value,
    parts: &'static [&'static str],
) -> Row {
    model("CK20", name, Code::E2301, parts, move |f| {
        f.edit_json("config.json", |config| config[side][field] = value.clone());
    })
}

fn syntax() -> Vec<Row> {
    let text = |f: &Folder| String::from_utf8(f.read("config.json")).unwrap();
    vec![
        model("CK20", "empty", Code::E2301, &["config.json"], |f| drop(f.write("config.json", ""))),
        model("CK20", "not JSON", Code::E2301, &["line 1"], |f| {
            drop(f.write("config.json", "{model: 1}"))
        }),
        model("CK20", "not UTF-8", Code::E2301, &[], |f| {
            drop(f.write("config.json", b"{\"a\":\"\xff\"}"))
        }),
        model("CK20", "deeply nested", Code::E2301, &[], |f| {
            drop(f.write("config.json", "[".repeat(100_000)));
        }),
        model("CK20", "5 MiB of spaces", Code::E2301, &[], |f| {
            drop(f.write("config.json", " ".repeat(5 << 20)));
        }),
        model("CK20", "an eps of NaN", Code::E2301, &["config.json"], move |f| {
            drop(f.write("config.json", text(f).replace("1e-05", "NaN")));
        }),
        model("CK20", "a side that is a list", Code::E2301, &["text_config"], |f| {
            f.edit_json("config.json", |config| config["text_config"] = json!([1]));
        }),
        model(
            "CK20",
            "no head count, and the usual one does not fit",
            Code::E2301,
            &["num_attention_heads", "12"],
            |f| {
                f.edit_json("config.json", |config| {
                    config["vision_config"].as_object_mut().unwrap().remove("num_attention_heads");
                });
            },
        ),
        model("CK20", "another family", Code::E2302, &["«llama»", "altclip"], |f| {
            let mut weights = Weights { tensors: Vec::new() };
            weights.add("model.embed_tokens.weight", "F32", &[2, 2], vec![0; 16]);
            f.write("model.safetensors", weights.to_bytes());
            f.write("config.json", "{\"model_type\":\"llama\"}");
        }),
    ]
}

fn preprocessors() -> Vec<Row> {
    let row = |name, parts, change: fn(&mut Value)| {
        bad_input("CK20", name, Code::E2303, parts, move |case| {
            let folder = Folder::new("alt_l");
            folder.edit_json("preprocessor_config.json", change);
            let copy = case.path("model");
            std::fs::rename(folder.dir(), &copy).unwrap();
            let (picture, arg) = (copy.join("checks.png"), OsStr::new);
            let head = [arg("embed"), arg("--json"), arg("--model"), copy.as_os_str()];
            altclip(head.into_iter().chain([arg("--image"), picture.as_os_str()]))
        })
    };
    vec![
        row("a preprocessor that is a list", &["preprocessor_config.json"], |p| *p = json!([])),
        row("an unknown resampling", &["resample"], |p| p["resample"] = json!(77)),
        row("a crop of 0", &["crop_size"], |p| p["crop_size"] = json!({"height": 0, "width": 32})),
        row("a gigantic size", &["size"], |p| p["size"] = json!({"shortest_edge": 1u64 << 40})),
        row("two means", &["image_mean"], |p| p["image_mean"] = json!([0.5, 0.5])),
        row("a deviation of 0", &["image_std"], |p| p["image_std"] = json!([0.5, 0.0, 0.5])),
    ]
}
