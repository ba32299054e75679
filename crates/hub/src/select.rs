//! Which files of a repository a model needs.

/// What a model folder must hold, for messages.
pub const MODEL_FILES_NEEDED: &str = "a model folder needs config.json, preprocessor_config.json, \
    tokenizer.json or another vocabulary, and model.safetensors or pytorch_model.bin";

/// Everything small that describes a model, its pictures and its text. `processor_config.json` is
/// where transformers 5 may keep the image settings.
const SMALL_FILES: &[&str] = &[
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
];

/// The files, out of all files of a repository, that a model folder of the AltCLIP or CLIP family
/// needs: settings, vocabulary, and one set of weights.
///
/// Of several sets of weights the first of these is taken: `model.safetensors`, sharded
/// safetensors, `pytorch_model.bin`, sharded `pytorch_model`. Files in sub-folders and those of
/// other frameworks are left out.
pub fn model_files(all: &[String]) -> Vec<String> {
    let mut chosen: Vec<String> =
        all.iter().filter(|name| SMALL_FILES.contains(&name.as_str())).cloned().collect();
    chosen.extend(weight_files(all));
    chosen.sort();
    chosen.dedup();
    chosen
}

/// What is missing from a choice of files, in words, if it cannot be a model.
pub(crate) fn missing_part(chosen: &[String]) -> Option<&'static str> {
    if !chosen.iter().any(|name| name == "config.json") {
        Some("config.json")
    } else if weight_files(chosen).is_empty() {
        Some("model.safetensors or pytorch_model.bin")
    } else {
        None
    }
}

fn weight_files(all: &[String]) -> Vec<String> {
    for (stem, ending) in [("model", "safetensors"), ("pytorch_model", "bin")] {
        let single = format!("{stem}.{ending}");
        if all.contains(&single) {
            return vec![single];
        }
        let index = format!("{stem}.{ending}.index.json");
        if all.contains(&index) {
            let mut files: Vec<String> =
                all.iter().filter(|name| is_shard(name, stem, ending)).cloned().collect();
            if !files.is_empty() {
                files.push(index);
                return files;
            }
        }
    }
    Vec::new()
}

/// `STEM-00001-of-00002.ENDING`.
fn is_shard(name: &str, stem: &str, ending: &str) -> bool {
    let numbers = name
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_suffix(ending))
        .and_then(|rest| rest.strip_suffix('.'))
        .and_then(|rest| rest.split_once("-of-"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    numbers.is_some_and(|(number, count)| digits(number) && digits(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(all: &[&str]) -> Vec<String> {
        model_files(&all.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn one_set_of_weights_and_no_other_frameworks() {
        let all = [
            ".gitattributes",
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "model.safetensors",
            "onnx/model.onnx",
            "optimizer.pt",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "sub/config.json",
            "tf_model.h5",
            "tokenizer.json",
            "training_args.bin",
        ];
        let small = ["config.json", "preprocessor_config.json", "tokenizer.json"];
        assert_eq!(choose(&all), ["config.json", "model.safetensors", small[1], small[2]]);
        let without: Vec<&str> = all.into_iter().filter(|n| *n != "model.safetensors").collect();
        assert_eq!(choose(&without), ["config.json", small[1], "pytorch_model.bin", small[2]]);
    }

    #[test]
    fn shards_come_with_their_index() {
        let all = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model-final.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
        ];
        assert_eq!(choose(&all), [all[0], all[1], all[3]]);
        assert_eq!(choose(&[all[3], all[4]]), ["pytorch_model.bin"], "an index without shards");
    }

    #[test]
    fn what_is_missing_is_named() {
        let files = |all: &[&str]| missing_part(&choose(all));
        assert_eq!(files(&["model.safetensors"]), Some("config.json"));
        assert_eq!(files(&["config.json"]), Some("model.safetensors or pytorch_model.bin"));
        assert_eq!(files(&["config.json", "pytorch_model.bin"]), None);
    }
}
