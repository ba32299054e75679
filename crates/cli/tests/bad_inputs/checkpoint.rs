//! CK1 to CK12, CK14 and CK16: folders and safetensors files.

use crate::row::{Row, bad_input, check, model, refused, sharded, warned};
use crate::support::child::altclip;
use crate::support::folder::Folder;
use crate::support::weights::file;
use altclip_report::Code;
use std::ffi::OsStr;

const PROJECTION: &str = "text_projection.weight";
const QUERY: &str = "text_model.roberta.encoder.layer.0.attention.self.query.weight";
const PRE_LN: &str = "text_model.pre_LN.weight";
const WORDS: &str = "text_model.roberta.embeddings.word_embeddings.weight";

pub(crate) fn rows() -> Vec<Row> {
    [missing(), headers(), layouts(), names(), tensors(), not_finite(), not_weights(), two_files()]
        .into_iter()
        .flatten()
        .collect()
}

/// A weight file of this header and this many bytes of data.
fn header(folder: &Folder, header: &str, data: usize) {
    folder.write("model.safetensors", file(header.as_bytes(), &vec![0; data]));
}

fn missing() -> Vec<Row> {
    vec![
        model("CK1", "no weights", Code::E2001, &["no weight file", "config.json"], |f| {
            f.remove("model.safetensors");
        }),
        model("CK1", "no config", Code::E2001, &["config.json"], |f| f.remove("config.json")),
        sharded("CK1", "a shard is missing", Code::E2001, &["model-00002-of-00002"], |f| {
            f.remove("model-00002-of-00002.safetensors");
        }),
        sharded("CK1", "no index beside the shards", Code::E2001, &["no weight file"], |f| {
            f.remove("model.safetensors.index.json");
        }),
        model("CK1", "the weights are a folder", Code::E2106, &["looks like a folder"], |f| {
            f.remove("model.safetensors");
            std::fs::create_dir(f.path("model.safetensors")).unwrap();
        }),
        refused("CK1", "no folder", Code::E2001, &["no model folder", "config.json"], |case| {
            let missing = case.path("missing");
            altclip([OsStr::new("info"), OsStr::new("--model"), missing.as_os_str()])
        }),
        refused("CK1", "the folder is a file", Code::E2001, &["a file"], |case| {
            let file = case.file("model", "");
            altclip([OsStr::new("info"), OsStr::new("--model"), file.as_os_str()])
        }),
        bad_input("CK1", "no preprocessor", Code::E2001, &["preprocessor_config.json"], |case| {
            let folder = Folder::new("alt_l");
            folder.remove("preprocessor_config.json");
            let copy = case.path("model");
            std::fs::rename(folder.dir(), &copy).unwrap();
            let picture = copy.join("checks.png");
            let arg = OsStr::new;
            let head = [arg("embed"), arg("--json"), arg("--model"), copy.as_os_str()];
            altclip(head.into_iter().chain([arg("--image"), picture.as_os_str()]))
        }),
    ]
}

fn headers() -> Vec<Row> {
    let declared = |folder: &Folder, length: u64, rest: &[u8]| {
        folder.write("model.safetensors", [&length.to_le_bytes(), rest].concat());
    };
    vec![
        model("CK2", "longer than the file", Code::E2010, &["1000", "108"], move |f| {
            declared(f, 1000, &[b' '; 100]);
        }),
        model(
            "CK3",
            "of 10^18 bytes",
            Code::E2011,
            &["1000000000000000000", "16777216"],
            move |f| {
                declared(f, 1_000_000_000_000_000_000, b"{}");
            },
        ),
        model("CK3", "of 16 MiB and one byte", Code::E2011, &["16777217"], move |f| {
            declared(f, (16 << 20) + 1, b"{}");
        }),
        model("CK3", "of 2^64 - 1 bytes", Code::E2011, &[], move |f| declared(f, u64::MAX, b"{}")),
        model("CK4", "not UTF-8", Code::E2012, &["byte"], move |f| {
            declared(f, 8, b"{\"\xff\xfe\"}  ")
        }),
        model("CK4", "not JSON", Code::E2012, &["byte"], |f| header(f, "{\"a\": oops}   ", 0)),
        model("CK4", "a list", Code::E2012, &["byte 8"], |f| header(f, "[]", 0)),
        model("CK4", "empty", Code::E2012, &[], |f| header(f, "", 0)),
        model("CK4", "deeply nested", Code::E2012, &[], |f| {
            header(f, &"{\"a\":".repeat(100_000), 0)
        }),
        model("CK4", "cut within a string", Code::E2012, &[], |f| header(f, "{\"a", 0)),
        model("CK5", "a name twice", Code::E2013, &["«a»", "bytes 9 and 62"], |f| {
            let a = "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}";
            header(f, &format!("{{{a},{a}}}"), 4);
        }),
        model("CK5", "a name twice, once escaped", Code::E2013, &["«a»"], |f| {
            let entry = "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}";
            header(f, &format!("{{\"a\":{entry},\"\\u0061\":{entry}}}"), 4);
        }),
    ]
}

/// Two F32 tensors of one number each at these offsets.
fn pair(a: [u64; 2], b: [u64; 2]) -> String {
    let entry = |[start, end]: [u64; 2]| {
        format!("{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[{start},{end}]}}")
    };
    format!("{{\"a\":{},\"b\":{}}}", entry(a), entry(b))
}

fn layouts() -> Vec<Row> {
    let one = |dtype: &str, shape: &str, end: u64| {
        format!("{{\"a\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}")
    };
    vec![
        model("CK6", "tensors overlap", Code::E2014, &["«b»"], |f| {
            header(f, &pair([0, 4], [2, 6]), 6)
        }),
        model("CK6", "a gap between tensors", Code::E2014, &["«b»"], |f| {
            header(f, &pair([0, 4], [8, 12]), 12);
        }),
        model("CK6", "bytes behind the last tensor", Code::E2014, &["«b»"], |f| {
            header(f, &pair([0, 4], [4, 8]), 9);
        }),
        model("CK6", "an end before its start", Code::E2014, &[], |f| {
            header(f, &pair([0, 4], [8, 4]), 8)
        }),
        model("CK7", "too few bytes", Code::E2015, &["16 bytes", "24 bytes"], move |f| {
            header(f, &one("F32", "[2,3]", 16), 16);
        }),
        model("CK7", "too many bytes", Code::E2015, &["8 bytes", "6 bytes"], move |f| {
            header(f, &one("F16", "[3]", 8), 8);
        }),
        model("CK7", "a shape whose product overflows", Code::E2015, &[], move |f| {
            header(f, &one("F32", "[4294967296,4294967296,4294967296]", 4), 4);
        }),
        model("CK7", "a dtype that is none", Code::E2017, &["«F33»"], move |f| {
            header(f, &one("F33", "[1]", 4), 4);
        }),
    ]
}

fn names() -> Vec<Row> {
    let named = |name: &str| {
        format!("{{\"{name}\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}}}")
    };
    vec![
        model("CK8", "NUL", Code::E2016, &[], move |f| header(f, &named("a\\u0000b"), 4)),
        model("CK8", "a terminal's escape", Code::E2016, &["\\u{1b}"], move |f| {
            header(f, &named("\\u001b[31mred"), 4);
        }),
        model("CK8", "out of the folder", Code::E2016, &["../"], move |f| {
            header(f, &named("../../etc/passwd"), 4);
        }),
        model("CK8", "513 bytes", Code::E2016, &[], move |f| {
            header(f, &named(&"n".repeat(513)), 4)
        }),
        model("CK8", "empty", Code::E2016, &[], move |f| header(f, &named(""), 4)),
        sharded("CK8", "a shard out of the folder", Code::E2016, &["../"], |f| {
            f.edit_json("model.safetensors.index.json", |index| {
                index["weight_map"]["logit_scale"] = "../model.safetensors".into();
            });
        }),
        sharded(
            "CK8",
            "a tensor that the index has and no shard",
            Code::E2018,
            &["«made.up»"],
            |f| {
                f.edit_json("model.safetensors.index.json", |index| {
                    index["weight_map"]["made.up"] = "model-00001-of-00002.safetensors".into();
                });
            },
        ),
    ]
}

fn tensors() -> Vec<Row> {
    vec![
        model("CK9", "missing", Code::E2101, &[PROJECTION, "missing"], |f| {
            f.edit_weights(|w| w.remove(PROJECTION));
        }),
        model("CK9", "misspelt: the nearest name is told", Code::E2101, &[PRE_LN, "pre_Ln"], |f| {
            f.edit_weights(|w| w.get(PRE_LN).name = "text_model.pre_Ln.weight".into());
        }),
        model("CK9", "thirty missing: all are listed", Code::E2101, &["layer.1"], |f| {
            f.edit_weights(|w| w.tensors.retain(|t| !t.name.contains("roberta.encoder.layer.1.")));
        }),
        model("CK10", "unexpected", Code::E2102, &["«text_model.adapter.weight»"], |f| {
            f.edit_weights(|w| w.add("text_model.adapter.weight", "F32", &[1], vec![0; 4]));
        }),
        check("CK10", "unexpected, but allowed", |_| {
            let folder = Folder::new("alt_l");
            folder.edit_weights(|w| w.add("text_model.adapter.weight", "F32", &[1], vec![0; 4]));
            let arg = OsStr::new;
            let head = [arg("embed"), arg("--json"), arg("--text"), arg("a"), arg("--model")];
            let args =
                head.into_iter().chain([folder.dir().as_os_str(), arg("--allow-extra-keys")]);
            assert_eq!(altclip(args).ok().rows().len(), 1);
        }),
        model("CK11", "one row less", Code::E2103, &[QUERY, "[31, 32]", "[32, 32]"], |f| {
            f.edit_weights(|w| {
                let query = w.get(QUERY);
                query.shape = vec![31, 32];
                query.bytes.truncate(4 * 31 * 32);
            });
        }),
        model("CK11", "transposed", Code::E2103, &["[24, 20]", "[20, 24]"], |f| {
            f.edit_weights(|w| w.get(PROJECTION).shape = vec![24, 20]);
        }),
        model("CK11", "flat", Code::E2103, &["[480]", "[20, 24]"], |f| {
            f.edit_weights(|w| w.get(PROJECTION).shape = vec![480]);
        }),
        model("CK11", "integers", Code::E2017, &[PROJECTION, "I32"], |f| {
            f.edit_weights(|w| w.get(PROJECTION).dtype = "I32".into());
        }),
    ]
}

fn not_finite() -> Vec<Row> {
    let poison = |name: &'static str, at: usize, number: f32| {
        move |f: &Folder| {
            f.edit_weights(|w| {
                w.get(name).bytes[4 * at..4 * at + 4].copy_from_slice(&number.to_le_bytes());
            });
        }
    };
    vec![
        model("CK12", "NaN in a matrix", Code::E2104, &[QUERY], poison(QUERY, 37, f32::NAN)),
        model(
            "CK12",
            "infinity in a norm",
            Code::E2104,
            &[PRE_LN],
            poison(PRE_LN, 0, f32::INFINITY),
        ),
        model(
            "CK12",
            "NaN in the row of a used word",
            Code::E2104,
            &[WORDS],
            poison(WORDS, 3, f32::NAN),
        ),
        check("CK12", "NaN in the row of an unused word: only doctor --full finds it", move |_| {
            let folder = Folder::new("alt_l");
            // A table that is read by row: larger than any that is copied as a whole.
            folder.edit_weights(|w| {
                let words = w.get(WORDS);
                words.shape[0] = 70_000;
                words.bytes.resize(4 * 32 * 70_000, 0);
            });
            folder.edit_json("config.json", |c| c["text_config"]["vocab_size"] = 70_000.into());
            poison(WORDS, 32 * 69_998 + 5, f32::NEG_INFINITY)(&folder);
            let (dir, arg) = (folder.dir().as_os_str(), OsStr::new);
            altclip([arg("embed"), arg("--model"), dir, arg("--text"), arg("a")]).ok();
            altclip([arg("doctor"), arg("--model"), dir]).ok();
            let outcome = altclip([arg("doctor"), arg("--model"), dir, arg("--full")]).go();
            assert_eq!(outcome.status, Some(4), "{}", outcome.text());
            assert!(outcome.text().contains("[E2104]"), "{}", outcome.text());
        }),
    ]
}

fn not_weights() -> Vec<Row> {
    const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n";
    vec![
        model("CK14", "a Git LFS pointer", Code::E2106, &["Git LFS", "git lfs pull"], |f| {
            drop(f.write("model.safetensors", LFS));
        }),
        model("CK14", "a Git LFS pointer for a .bin", Code::E2106, &["Git LFS"], |f| {
            f.only_bin(LFS)
        }),
        model("CK14", "an HTML page", Code::E2106, &["HTML"], |f| {
            drop(f.write("model.safetensors", "<!DOCTYPE html><html><body>404</body></html>"));
        }),
        model("CK14", "an answer in JSON", Code::E2106, &["JSON"], |f| {
            drop(f.write("model.safetensors", "{\"error\":\"Repository not found\"}"));
        }),
        model("CK14", "the last part is missing", Code::E2106, &["cut", "335180 bytes"], |f| {
            let bytes = f.read("model.safetensors");
            f.write("model.safetensors", &bytes[..bytes.len() - 100_000]);
        }),
        model("CK14", "an empty file", Code::E2106, &[], |f| {
            drop(f.write("model.safetensors", ""))
        }),
    ]
}

fn two_files() -> Vec<Row> {
    vec![warned(
        "CK16",
        "both kinds of weights",
        Code::W2120,
        &["model.safetensors", "pytorch_model.bin"],
        |case| {
            let folder = Folder::new("alt_l");
            folder.write("pytorch_model.bin", b"nobody looks at this");
            let copy = case.path("model");
            std::fs::rename(folder.dir(), &copy).unwrap();
            altclip([
                OsStr::new("embed"),
                OsStr::new("--model"),
                copy.as_os_str(),
                OsStr::new("--text=a"),
            ])
        },
    )]
}
