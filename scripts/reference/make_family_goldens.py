"""Tiny checkpoints of the other models of the table, and what their reference gives.

    .venv/bin/python scripts/reference/make_family_goldens.py

Under tests/golden/families. CLIP, CN-CLIP and Taiyi's towers are transformers'; Wukong, PRD2 and R2D2
are `families_oracle.py`. Weights are random and stored in half precision where the authors' files are
in a form of their own; the reference computes in float32 from what is stored. Inputs are token ids and
pixel values, so that no file of a tokenizer or picture is needed.
"""

import shutil
from pathlib import Path

import safetensors
import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPModel,
)

import families_oracle as oracle
from sorted_metadata import sort_metadata
from tiny_models import randomise

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "families"
WORDS, CONTEXT = 570, 12
TEXTS = [[2, 40, 77, 301, 3], [2, 3], [2, 118, 119, 120, 121, 500, 3], [2, 9, 569, 40, 3]]
CLIP_TEXTS = [[793, 40, 77, 301, 794], [793, 794], [793, 118, 119, 120, 121, 500, 794]]
VISION = {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 2, "intermediate_size": 48}
WIDE = {"hidden_size": 128, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 64}
PICTURE = {"image_size": 24, "patch_size": 8, "hidden_act": "quick_gelu"}
BERT = {
    "vocab_size": WORDS, "hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 2,
    "intermediate_size": 48, "max_position_embeddings": 32, "type_vocab_size": 2, "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}  # fmt: skip


def header():
    """What is needed to make a file again."""
    return {
        "format": "pt",
        "command": "python scripts/reference/make_family_goldens.py",
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
    }


def write(path, tensors):
    """A safetensors file with the header of this script."""
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path, metadata=header())
    sort_metadata(path)


def fresh(name):
    """An empty folder."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def padded(texts, pad):
    """Ids and mask of texts as a batch."""
    length = max(map(len, texts))
    ids = torch.tensor([[*text, *[pad] * (length - len(text))] for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (length - len(text)) for text in texts])
    return {"input_ids": ids, "attention_mask": mask}


def pictures():
    """Pixel values of three pictures."""
    return torch.randn((3, 3, 24, 24), generator=torch.Generator().manual_seed(5))


def halved(model):
    """The same model with weights that half precision holds."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model.eval()


def unit(x):
    """Rows of length one."""
    return x / x.norm(dim=-1, keepdim=True)


def dual(model, texts, pad):
    """Features and logits of a dual encoder of transformers, with the states behind each block."""
    batch, pixels = padded(texts, pad), pictures()
    with torch.no_grad():
        text = model.text_model(**batch, output_hidden_states=True).hidden_states
        vision = model.vision_model(pixels, output_hidden_states=True).hidden_states
        text_features = model.get_text_features(**batch)
        image_features = model.get_image_features(pixel_values=pixels)
        text_features = getattr(text_features, "pooler_output", text_features)
        image_features = getattr(image_features, "pooler_output", image_features)
        logits = unit(image_features) @ unit(text_features).T * model.logit_scale.exp()
    expected = {f"text.{key}": value for key, value in batch.items()}
    expected |= {f"text.state.{i}": state for i, state in enumerate(text)}
    expected |= {f"vision.state.{i}": state for i, state in enumerate(vision)}
    expected |= {"vision.pixel_values": pixels, "text.features": text_features, "vision.features": image_features}
    return expected | {"logits_per_image": logits}


class Block(torch.nn.Module):
    """A block with OpenAI's names."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.mlp = torch.nn.ModuleDict({"c_fc": torch.nn.Linear(width, hidden), "c_proj": torch.nn.Linear(hidden, width)})


class Transformer(torch.nn.Module):
    """Blocks with OpenAI's names."""

    def __init__(self, config):
        super().__init__()
        block = (config.hidden_size, config.num_attention_heads, config.intermediate_size)
        self.resblocks = torch.nn.ModuleList([Block(*block) for _ in range(config.num_hidden_layers)])


class Visual(torch.nn.Module):
    """An image tower with OpenAI's names."""

    def __init__(self, config, out):
        super().__init__()
        width, tokens = config.hidden_size, (config.image_size // config.patch_size) ** 2 + 1
        self.conv1 = torch.nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.class_embedding = torch.nn.Parameter(torch.zeros(width))
        self.positional_embedding = torch.nn.Parameter(torch.zeros(tokens, width))
        self.ln_pre, self.ln_post = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.transformer = Transformer(config)
        self.proj = torch.nn.Parameter(torch.zeros(width, out))


class OpenAI(torch.nn.Module):
    """CLIP with OpenAI's names; what is traced is a product that touches nothing else."""

    def __init__(self, config):
        super().__init__()
        text, out = config.text_config, config.projection_dim
        self.visual = Visual(config.vision_config, out)
        self.transformer = Transformer(text)
        self.token_embedding = torch.nn.Embedding(text.vocab_size, text.hidden_size)
        self.positional_embedding = torch.nn.Parameter(torch.zeros(text.max_position_embeddings, text.hidden_size))
        self.ln_final = torch.nn.LayerNorm(text.hidden_size)
        self.text_projection = torch.nn.Parameter(torch.zeros(text.hidden_size, out))
        self.logit_scale = torch.nn.Parameter(torch.zeros([]))
        sizes = {"input_resolution": 24, "context_length": CONTEXT, "vocab_size": text.vocab_size}
        for name, size in sizes.items():
            self.register_buffer(name, torch.tensor(size))

    def forward(self, x):
        """Something that can be traced."""
        return x * self.logit_scale


def openai_tower(state, ours, theirs):
    """A tower's blocks under OpenAI's names, queries, keys and values fused."""
    found = {}
    prefix = f"{ours}.encoder.layers."
    for layer in sorted({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)}):
        old, new = f"{prefix}{layer}.", f"{theirs}transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            fused = [state[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            found[f"{new}attn.in_proj_{kind}"] = torch.cat(fused)
            found[f"{new}attn.out_proj.{kind}"] = state[f"{old}self_attn.out_proj.{kind}"]
            for a, b in (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                found[f"{new}{b}.{kind}"] = state[f"{old}{a}.{kind}"]
    return found


def openai_visual(state):
    """The image tower under OpenAI's names."""
    found = openai_tower(state, "vision_model", "visual.")
    found |= {
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
        "logit_scale": state["logit_scale"],
        "text_projection": state["text_projection.weight"].T,
    }
    for kind in ("weight", "bias"):
        found[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        found[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
    return found


def make_openai():
    """CLIP as a TorchScript archive in half precision, its numbers by transformers."""
    folder = fresh("openai")
    text = {
        "vocab_size": 795, "hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 2,
        "intermediate_size": 64, "max_position_embeddings": CONTEXT, "hidden_act": "quick_gelu",
        "eos_token_id": 794, "bos_token_id": 793,
    }  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=WIDE | PICTURE, projection_dim=32)
    model = halved(randomise(CLIPModel(config), 31, 2.5))
    state = model.state_dict()
    named = openai_visual(state) | openai_tower(state, "text_model", "")
    named["token_embedding.weight"] = state["text_model.embeddings.token_embedding.weight"]
    named["positional_embedding"] = state["text_model.embeddings.position_embedding.weight"]
    for kind in ("weight", "bias"):
        named[f"ln_final.{kind}"] = state[f"text_model.final_layer_norm.{kind}"]
    module = OpenAI(config)
    missing, unexpected = module.load_state_dict(named, strict=False)
    assert not unexpected and set(missing) == {"input_resolution", "context_length", "vocab_size"}
    traced = torch.jit.trace(module.half().eval(), torch.ones(1).half())
    traced.save(str(folder / "ViT-tiny.pt"))
    write(folder / "expected.safetensors", dual(model, CLIP_TEXTS, 794))


def make_chinese_clip():
    """CN-CLIP as the Hub has it, and as its authors do."""
    folder = fresh("chinese_clip")
    vision = VISION | PICTURE | {"num_attention_heads": 1}
    config = ChineseCLIPConfig(text_config=dict(BERT), vision_config=vision, projection_dim=32)
    config._attn_implementation = "eager"
    model = halved(randomise(ChineseCLIPModel(config), 47, 2.7))
    config.architectures = ["ChineseCLIPModel"]
    config.save_pretrained(folder)
    state = {key: value.half() for key, value in model.state_dict().items()}
    published = {key.replace("text_model.encoder.layers.", "text_model.encoder.layer."): v for key, v in state.items()}
    write(folder / "model.safetensors", published)
    write(folder / "expected.safetensors", dual(model, TEXTS, 0))
    text = {key.replace("text_model.", "bert."): v for key, v in published.items() if key.startswith("text_model.")}
    theirs = {f"module.{key}": value.clone() for key, value in (openai_visual(state) | text).items()}
    checkpoint = {"epoch": 3, "step": 7, "name": "tiny", "state_dict": theirs}
    torch.save(checkpoint, folder / "clip_cn_tiny.pt")


def make_taiyi():
    """Taiyi: a BERT classifier, and a CLIP of which the image tower is used."""
    folder = fresh("taiyi")
    bert = BertForSequenceClassification(BertConfig(**BERT, num_labels=32))
    bert = halved(randomise(bert, 53, 0.0))
    bert.config.architectures = ["BertForSequenceClassification"]
    bert.config.save_pretrained(folder)
    names = bert.state_dict().items()
    torch.save({k.replace("encoder.layers.", "encoder.layer."): v.half() for k, v in names}, folder / "pytorch_model.bin")
    text = {"vocab_size": 99, "hidden_size": 16, "num_attention_heads": 1, "num_hidden_layers": 1,
            "intermediate_size": 16, "max_position_embeddings": CONTEXT}  # fmt: skip
    vision = VISION | PICTURE | {"num_attention_heads": 2}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    clip = halved(randomise(CLIPModel(config), 59, 2.9))
    tower = folder / "image_tower"
    tower.mkdir()
    config.architectures = ["CLIPModel"]
    config.save_pretrained(tower)
    write(tower / "model.safetensors", {key: value.half() for key, value in clip.state_dict().items()})
    batch, pixels = padded(TEXTS, 0), pictures()
    with torch.no_grad():
        logits = bert(**batch).logits
        features = clip.get_image_features(pixel_values=pixels)
        features = getattr(features, "pooler_output", features)
        both = unit(features) @ unit(logits).T * clip.logit_scale.exp()
    expected = {f"text.{key}": value for key, value in batch.items()}
    expected |= {"vision.pixel_values": pixels, "text.features": logits, "vision.features": features}
    write(folder / "expected.safetensors", expected | {"logits_per_image": both})


def random_weights(shapes, seed):
    """Random half-precision weights, alive as those of `tiny_models.py` are."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in sorted(shapes.items()):
        value = torch.randn(shape, generator=generator)
        scale = 0.3 if len(shape) == 1 else 1.3 * torch.Size(shape[1:]).numel() ** -0.5
        if "embedding" in name and "patch" not in name:
            scale = 0.5
        if name.endswith("proj") or name.endswith("projection"):
            scale = shape[0] ** -0.5
        value = value * scale
        if len(shape) == 1 and name.endswith("weight"):
            value = value + 1.0
        found[name] = value.half()
    return found


def block_shapes(name, width, hidden, other=None):
    """Shapes of a BERT block."""
    shapes = {}
    for part, keys in (("attention", width), *([("crossattention", other)] if other else [])):
        for kind, columns in (("query", width), ("key", keys), ("value", keys)):
            shapes[f"{name}.{part}.self.{kind}"] = (width, columns)
        shapes[f"{name}.{part}.output.dense"] = (width, width)
        shapes[f"{name}.{part}.output.LayerNorm"] = (width,)
    shapes |= {f"{name}.intermediate.dense": (hidden, width), f"{name}.output.dense": (width, hidden)}
    return with_biases(shapes | {f"{name}.output.LayerNorm": (width,)})


def with_biases(shapes):
    """Weight and bias of each map and norm."""
    weights = {f"{name}.weight": shape for name, shape in shapes.items()}
    return weights | {f"{name}.bias": shape[:1] for name, shape in shapes.items()}


def r2d2_shapes(joint):
    """Shapes of PRD2, and of what R2D2 has besides."""
    text, image, out = 64, 96 if joint else 128, 32
    shapes = {
        "text_encoder.embeddings.word_embeddings.weight": (WORDS, text),
        "text_encoder.embeddings.position_embeddings.weight": (CONTEXT, text),
        "text_encoder.embeddings.token_type_embeddings.weight": (2, text),
        "visual_encoder.embeddings.class_embedding": (image,),
        "visual_encoder.embeddings.patch_embedding.weight": (image, 3, 8, 8),
        "visual_encoder.embeddings.position_embedding.weight": (10, image),
    }
    named = {"text_encoder.embeddings.LayerNorm": (text,), "text_proj": (out, text), "vision_proj": (out, image)}
    if not joint:
        named |= {"text_encoder.pooler.dense": (text, text)}
    named |= {f"visual_encoder.{norm}": (image,) for norm in ("pre_layrnorm", "post_layernorm")}
    block = "visual_encoder.encoder.layers.0"
    named |= {f"{block}.self_attn.{part}_proj": (image, image) for part in ("q", "k", "v", "out")}
    named |= {f"{block}.layer_norm1": (image,), f"{block}.layer_norm2": (image,)}
    named |= {f"{block}.mlp.fc1": (32, image), f"{block}.mlp.fc2": (image, 32)}
    if joint:
        named |= {"img_joint_proj": (text, image), "itm_head": (2, text), "itm_head_i": (2, text)}
    shapes |= with_biases(named)
    for layer in range(1 if joint else 2):
        shapes |= block_shapes(f"text_encoder.encoder.layer.{layer}", text, 48)
    if joint:
        shapes["text_joint_layer.embeddings.word_embeddings.weight"] = (5, text)
        shapes |= block_shapes("text_joint_layer.encoder.layer.0", text, 32, image)
        shapes |= block_shapes("img_joint_layer.encoder.layer.0", text, 32, text)
    return shapes


def make_r2d2(name, joint, seed):
    """PRD2 or R2D2."""
    folder = fresh(name)
    stored = random_weights(r2d2_shapes(joint), seed)
    stored["temp"] = torch.tensor(0.07)
    torch.save({"model": stored, "epoch": 1}, folder / f"{name}_tiny.pth")
    weights = {key: value.float() for key, value in stored.items()}
    pixels = pictures()
    layers, heads = (1, 1) if joint else (2, 2)
    texts = [oracle.bert(weights, "text_encoder", torch.tensor(ids), layers, 1) for ids in TEXTS]
    images = [oracle.hub_vision(weights, "visual_encoder", picture, 1, heads) for picture in pixels]
    text = torch.stack([oracle.linear(weights, "text_proj", state[0]) for state in texts])
    image = torch.stack([oracle.linear(weights, "vision_proj", state[0]) for state in images])
    cosines = unit(image) @ unit(text).T
    expected = {f"text.{key}": value for key, value in padded(TEXTS, 0).items()}
    expected |= {"vision.pixel_values": pixels, "text.features": text, "vision.features": image}
    expected |= {f"text.state.{layers}": torch.cat(texts), "vision.state.1": torch.stack(images)}
    if joint:
        matches = [[oracle.r2d2_match(weights, t, i, 1, 1) for t in texts] for i in images]
        expected["similarity"] = torch.tensor(matches) + cosines
    write(folder / "expected.safetensors", expected | {"logits_per_image": cosines / weights["temp"]})


def make_wukong(name, groups, seed):
    """Wukong token by token, with or without the layer that learns tokens."""
    folder = fresh(name)
    image, text, out = 128, 64, 32
    shapes = {
        "visual.conv1.weight": (image, 3, 8, 8), "visual.class_embedding": (image,),
        "visual.positional_embedding": (10, image), "visual.proj": (image, out),
        "transformer.token_embedding.weight": (WORDS, text), "transformer.positional_embedding": (CONTEXT, text),
        "transformer.text_projection": (text, out),
    }  # fmt: skip
    named = {"visual.ln_pre": (image,), "visual.ln_post": (image,), "transformer.ln_final": (text,)}
    for prefix, width, layers in (("visual.", image, 1), ("", text, 2)):
        for layer in range(layers):
            block = f"{prefix}transformer.resblocks.{layer}"
            shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
            named |= {f"{block}.attn.out_proj": (width, width), f"{block}.ln_1": (width,), f"{block}.ln_2": (width,)}
            named |= {f"{block}.mlp.c_fc": (32, width), f"{block}.mlp.c_proj": (width, 32)}
    if groups:
        learner = "visual.token_learner"
        named |= {f"{learner}.norm": (image,), f"{learner}.attention_maps.1": (4, image, 1, 1)}
        named |= {f"{learner}.{part}": (image, image // groups, 1, 1) for part in ("attention_maps.0", "feat_conv")}
    stored = random_weights(shapes | with_biases(named), seed)
    torch.save(stored, folder / "wukong_tiny.pth")
    weights = {key: value.float() for key, value in stored.items()}
    pixels = pictures()
    images = [oracle.wukong_picture(weights, picture, 1, 2, groups) for picture in pixels]
    padded_texts = [oracle.wukong_text(weights, ids, CONTEXT, 2, 1) for ids in TEXTS]
    whole = [text[: len(ids)] for text, ids in zip(padded_texts, TEXTS)]
    expected = {f"text.{key}": value for key, value in padded(TEXTS, 0).items()}
    expected |= {"vision.pixel_values": pixels}
    expected["similarity"] = torch.tensor([[oracle.late(i, t) for t in padded_texts] for i in images])
    expected["similarity_of_texts"] = torch.tensor([[oracle.late(t, i) for i in images] for t in whole])
    write(folder / "expected.safetensors", expected)


def main():
    """Make every folder."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    make_openai()
    make_chinese_clip()
    make_taiyi()
    make_r2d2("prd2", False, 61)
    make_r2d2("r2d2", True, 67)
    make_wukong("wukong", 0, 71)
    make_wukong("wukong_learner", 8, 73)
    for path in sorted(OUT.rglob("*")):
        if path.is_file():
            path.chmod(0o644)
            print(path.relative_to(OUT), path.stat().st_size)
            assert path.stat().st_size < 500_000, path


if __name__ == "__main__":
    main()
