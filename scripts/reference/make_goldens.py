"""Tiny checkpoints under tests/golden, with transformers' result at every stage.

    .venv/bin/python scripts/reference/make_goldens.py [alt_l alt_h clip]

Each folder gets a checkpoint, its configurations, pictures and
`expected.safetensors`; tests/golden/README.md says what each file is.
The weights are random: nothing here was downloaded.
"""

import argparse
import copy
import json
import platform
import shutil
from pathlib import Path

import numpy as np
import PIL
import safetensors
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer, CLIPImageProcessorPil

from pictures import PICTURES
from sorted_metadata import sort_metadata
from stages import conditioning, joint_stages, single_stages, text_stages, vision_stages
from tiny_models import alt_h_config, alt_l_config, build, clip_config

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
SEEDS = {"alt_l": 12, "alt_h": 29, "clip": 114}
TEXTS = [
    "一只猫",
    "a dog",
    "ein altes Haus am See",
    "窓辺で眠る犬の写真",
    "a photo of two cats on a pink sofa",
    "",
    "Привет, мир! 123",
    "صورة قطة",
]
CLIP_TEXTS = ["a dog", "two cats on a pink sofa", "", "naïve café, 42!", "a photo of a chess board"]
PROMPTS = ["", "一只猫", "a photo of two cats on a pink sofa"]
CONTEXT = 77


def header(name):
    """What is needed to make the file again, for the metadata of each file."""
    return {
        "command": f"python scripts/reference/make_goldens.py {name}",
        "seed": str(SEEDS.get(name, "")),
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "safetensors": safetensors.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def write_tensors(path, tensors, name):
    """Write a safetensors file with the header of this script."""
    tensors = {key: value.detach().contiguous() for key, value in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt", **header(name)})
    path.chmod(0o644)
    sort_metadata(path)


def write_json(path, value):
    """Write JSON as transformers does: sorted keys, two spaces."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def published_names(state):
    """State dict under the keys of the published files (`encoder.layer.{i}` for the text)."""
    return {key.replace("roberta.encoder.layers.", "roberta.encoder.layer."): value for key, value in state.items()}


def legacy_tensors(config, seed):
    """What published pickles hold besides: position buffers and RoBERTa's dead pooler."""
    text, vision = config.text_config, config.vision_config
    rows = (vision.image_size // vision.patch_size) ** 2 + 1
    generator = torch.Generator().manual_seed(seed)
    width = text.hidden_size
    return {
        "vision_model.embeddings.position_ids": torch.arange(rows)[None],
        "text_model.roberta.embeddings.position_ids": torch.arange(text.max_position_embeddings)[None],
        "text_model.roberta.pooler.dense.weight": torch.randn(width, width, generator=generator),
        "text_model.roberta.pooler.dense.bias": torch.randn(width, generator=generator),
    }


def preprocessor(size):
    """The Pillow image processor with CLIP's settings at another size."""
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def write_preprocessors(folder, size):
    """preprocessor_config.json in today's shape, and in the old one with plain numbers."""
    processor = preprocessor(size)
    processor.save_pretrained(folder)
    old = {
        "crop_size": size, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": list(processor.image_mean),
        "image_std": list(processor.image_std), "resample": 3, "size": size,
    }  # fmt: skip
    write_json(folder / "preprocessor_config_old.json", old)


def write_pictures(folder):
    """Draw the pictures; returns their paths in the order of the names."""
    paths = [folder / f"{name}.png" for name in sorted(PICTURES)]
    for path in paths:
        PICTURES[path.stem]().save(path, optimize=True)
    return paths


def pixels(paths, size):
    """Pixel values of picture files, by transformers' Pillow image processor."""
    return preprocessor(size)([Image.open(path) for path in paths], return_tensors="pt")["pixel_values"]


def tokenizer_for(name):
    """The tiny tokenizer beside the goldens."""
    return AutoTokenizer.from_pretrained(GOLDEN / ("tokenizer_clip" if name == "clip" else "tokenizer"))


def encode(tokenizer, texts, **options):
    """Input ids and attention mask of a batch of texts."""
    options = {"padding": True, "truncation": True, "max_length": CONTEXT} | options
    batch = tokenizer(texts, return_tensors="pt", **options)
    return {key: batch[key] for key in ("input_ids", "attention_mask")}


def all_stages(model, batch, singles, pixel_values):
    """Every expected tensor of a model except AltDiffusion's states."""
    stages = {f"text.{key}": value for key, value in batch.items()}
    stages |= text_stages(model, batch)
    stages |= single_stages(model, singles)
    stages["vision.pixel_values"] = pixel_values
    stages |= vision_stages(model, pixel_values)
    return stages | joint_stages(model, batch, pixel_values)


def features(model, batch, pixel_values):
    """Projected features of both towers, for comparisons."""
    return {
        "text.features": model.get_text_features(**batch).pooler_output,
        "vision.features": model.get_image_features(pixel_values).pooler_output,
    }


def relative(found, expected):
    """Largest absolute difference over the largest magnitude expected."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def write_double(folder, name, model, batch, pixel_values, expected):
    """The same features in float64, and how far float32 is from them."""
    double = features(copy.deepcopy(model).double(), batch, pixel_values.double())
    write_tensors(folder / "features_f64.safetensors", double, name)
    for key, value in double.items():
        print(f"{name}: float32 {key} is off by {relative(expected[key].double(), value):.1e} of the largest")


def check_alive(name, expected):
    """The numbers must tell a right result from a wrong one."""
    logits = expected["logits_per_image"]
    top = logits.argmax(dim=1).tolist(), logits.argmax(dim=0).tolist()
    gaps = logits.topk(2, dim=1).values
    gaps = (gaps[:, 0] - gaps[:, 1]).tolist()
    print(f"{name}: top-1 text of each picture {top[0]}, picture of each text {top[1]}, gaps", np.round(gaps, 2))
    assert len(set(top[0])) > 1 and len(set(top[1])) > 1 and min(gaps) > 0.05
    assert expected["probabilities"].max() < 0.99, "saturated"


def check_controls(name, model, batch, paths, expected):
    """Typical mistakes must move the features by more than one per cent."""
    size = model.config.vision_config.image_size
    wrong = {}
    larger = preprocessor(size)
    larger.size = {"shortest_edge": size + 1}
    shifted = larger([Image.open(path) for path in paths], return_tensors="pt")["pixel_values"]
    wrong["resize off by one"] = ("vision", features(model, batch, shifted))
    pixel_values = expected["vision.pixel_values"]
    positions = batch["attention_mask"].cumsum(1) * batch["attention_mask"]
    moved = model.get_text_features(**batch, position_ids=positions + (name != "clip") * 2).pooler_output
    wrong["positions off by one"] = ("text", {"text.features": moved})
    if name != "clip":
        plain = copy.deepcopy(model)
        plain.text_model.pre_LN = torch.nn.Identity()
        wrong["no pre_LN"] = ("text", features(plain, batch, pixel_values))
    for what, (tower, found) in wrong.items():
        moved = relative(found[f"{tower}.features"], expected[f"{tower}.features"])
        print(f"{name}: {what} moves the features by {moved:.3f}")
        assert moved > 1e-2


def write_stages(name, folder, model, extra=None):
    """Run the reloaded model and write expected.safetensors with its inputs."""
    texts = CLIP_TEXTS if name == "clip" else TEXTS
    tokenizer = tokenizer_for(name)
    batch = encode(tokenizer, texts)
    singles = [encode(tokenizer, [text]) for text in texts]
    paths = write_pictures(folder)
    pixel_values = pixels(paths, model.config.vision_config.image_size)
    expected = all_stages(model, batch, singles, pixel_values)
    if extra:
        expected |= extra(model, tokenizer)
    write_tensors(folder / "expected.safetensors", expected, name)
    inputs = {"texts": texts, "pictures": [path.name for path in paths]}
    write_json(folder / "inputs.json", inputs | ({} if name == "clip" else {"prompts": PROMPTS}))
    check_alive(name, expected)
    check_controls(name, model, batch, paths, expected)
    write_double(folder, name, model, batch, pixel_values, expected)


def reload(folder, expected_state, **options):
    """Load a folder through transformers; every parameter must have arrived."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", **options).eval()
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected_state[key]), key
    return model


def prompt_states(key, transformation_pre=None):
    """AltDiffusion's states of the prompts, padded to 77, under the key given."""

    def compute(model, tokenizer):
        batch = encode(tokenizer, PROMPTS, padding="max_length")
        states = {f"diffusion.{part}": value for part, value in batch.items()}
        return states | {f"diffusion.{key}": conditioning(model, batch, transformation_pre)}

    return compute


def legacy_config(config):
    """The same model's configuration as the hub has it, with stale `*_config_dict`."""
    found = {key: value for key, value in config.to_dict().items() if key != "transformers_version"}
    found |= {"architectures": ["AltCLIPModel"], "torch_dtype": "float32", "num_layers": 3, "direct_kd": False}
    found |= {"text_model_name": None, "vision_model_name": None, "variant": "invalid", "_commit_hash": None}
    found["text_config"] |= {"pooler_fn": "cls", "learn_encoder": False, "torch_dtype": None}
    found["text_config_dict"] = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24,
    }  # fmt: skip
    found["vision_config_dict"] = {
        "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12,
    }  # fmt: skip
    return found


def modelhub_config(config):
    """The oldest form: before the port to transformers, under CLIP's model types."""
    found = legacy_config(config)
    found |= {"architectures": ["AltCLIP"], "model_type": "clip"}
    found["text_config"] |= {"model_type": "xlm-roberta", "architectures": ["XLMRobertaForMaskedLM"]}
    found["vision_config"] |= {"model_type": "clip_vision_model"}
    return found


def make_alt_l():
    """AltCLIP / m9: one safetensors file, its pickle twin and three configurations."""
    name, folder = "alt_l", fresh("alt_l")
    config = alt_l_config(len(tokenizer_for(name)))
    state = build(config, SEEDS[name]).state_dict()
    published = published_names(state)
    config.architectures, config.dtype = ["AltCLIPModel"], "float32"
    config.save_pretrained(folder)
    torch.save({**published, **legacy_tensors(config, SEEDS[name])}, folder / "pytorch_model.bin")
    reload(folder, state)
    write_tensors(folder / "model.safetensors", published, name)
    model = reload(folder, state, use_safetensors=True)
    write_json(folder / "config_legacy.json", legacy_config(config))
    write_json(folder / "config_modelhub.json", modelhub_config(config))
    write_preprocessors(folder, config.vision_config.image_size)
    write_stages(name, folder, model, prompt_states("m9"))


def make_alt_h():
    """m18: two safetensors shards, with the extra `transformation_pre`."""
    name, folder = "alt_h", fresh("alt_h")
    config = alt_h_config(len(tokenizer_for(name)))
    state = build(config, SEEDS[name]).state_dict()
    config.architectures, config.dtype = ["AltCLIPModel"], "float32"
    config.save_pretrained(folder)
    torch.manual_seed(SEEDS[name])
    width = config.text_config.hidden_size
    pre = torch.nn.Linear(width, width)
    extra = {f"text_model.transformation_pre.{key}": value for key, value in pre.state_dict().items()}
    write_shards(folder, {**published_names(state), **extra}, name)
    model = reload(folder, state)
    write_preprocessors(folder, config.vision_config.image_size)
    write_stages(name, folder, model, prompt_states("m18", pre))


def write_shards(folder, state, name):
    """Two shards and their index, split by tower."""
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    places = {key: shards[key.startswith("vis")] for key in state}
    for shard in shards:
        part = {key: value for key, value in state.items() if places[key] == shard}
        write_tensors(folder / shard, part, name)
    size = sum(value.numel() * value.element_size() for value in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    write_json(folder / "model.safetensors.index.json", index)


def eos_states(eos):
    """Both rules for the pooled token, on ids where they choose different ones."""
    ids = torch.tensor([[eos - 1, 5, eos + 2, 9, eos, eos, eos], [eos - 1, 8, 7, 6, 5, 4, eos]])
    batch = {"input_ids": ids, "attention_mask": torch.tensor([[1] * 5 + [0] * 2, [1] * 7])}

    def compute(model, _tokenizer):
        states = {f"eos.{key}": value for key, value in batch.items()}
        for rule, token in (("first", eos), ("legacy", 2)):
            model.text_model.eos_token_id = token
            states[f"eos.{rule}.features"] = model.get_text_features(**batch).pooler_output
        model.text_model.eos_token_id = eos
        changed = relative(states["eos.legacy.features"], states["eos.first.features"])
        assert changed > 1e-2, "both rules choose the same token"
        return states

    return compute


def make_clip():
    """OpenAI CLIP in HF layout, with the configuration before and after the eos repair."""
    name, folder = "clip", fresh("clip")
    eos = tokenizer_for(name).eos_token_id
    config = clip_config(eos + 4, eos)
    state = build(config, SEEDS[name]).state_dict()
    config.architectures, config.dtype = ["CLIPModel"], "float32"
    legacy = copy.deepcopy(config)
    legacy.text_config.bos_token_id, legacy.text_config.eos_token_id = 0, 2
    write_json(folder / "config_eos2.json", legacy.to_dict())
    config.save_pretrained(folder)
    write_tensors(folder / "model.safetensors", state, name)
    model = reload(folder, state)
    write_preprocessors(folder, config.vision_config.image_size)
    write_stages(name, folder, model, eos_states(eos))


def fresh(name):
    """An empty folder for a checkpoint."""
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def main():
    """Make the folders named on the command line, or all."""
    makers = {"alt_l": make_alt_l, "alt_h": make_alt_h, "clip": make_clip}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(makers))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    for name in parser.parse_args().names or makers:
        makers[name]()


if __name__ == "__main__":
    main()
