"""Tiny random models whose features are alive: every part moves the result.

Small enough to commit, and scaled so that biases, positions, layer norms and
attention all matter, and so that top-1 differs between texts and pictures.
"""

import torch
from transformers import AltCLIPConfig, AltCLIPModel, CLIPConfig, CLIPModel


def alt_l_config(vocab_size):
    """Shape of AltCLIP and AltCLIP-m9: quick_gelu tower, project_dim < hidden."""
    return AltCLIPConfig(
        text_config={
            "vocab_size": vocab_size, "hidden_size": 32, "num_attention_heads": 4,
            "num_hidden_layers": 3, "intermediate_size": 56, "max_position_embeddings": 130,
            "hidden_act": "gelu", "project_dim": 24,
        },
        vision_config={
            "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3,
            "intermediate_size": 56, "image_size": 32, "patch_size": 8, "hidden_act": "quick_gelu",
            "projection_dim": 20,
        },
        projection_dim=20,
    )  # fmt: skip


def alt_h_config(vocab_size):
    """Shape of AltCLIP-m18: gelu tower with heads of 80, project_dim = hidden."""
    return AltCLIPConfig(
        text_config={
            "vocab_size": vocab_size, "hidden_size": 32, "num_attention_heads": 2,
            "num_hidden_layers": 2, "intermediate_size": 52, "max_position_embeddings": 82,
            "hidden_act": "gelu", "project_dim": 32,
        },
        vision_config={
            "hidden_size": 160, "num_attention_heads": 2, "num_hidden_layers": 1,
            "intermediate_size": 52, "image_size": 21, "patch_size": 7, "hidden_act": "gelu",
            "projection_dim": 32,
        },
        projection_dim=32,
    )  # fmt: skip


def clip_config(vocab_size, eos_token_id):
    """Shape of OpenAI CLIP in HF layout: causal text tower, quick_gelu."""
    return CLIPConfig(
        text_config={
            "vocab_size": vocab_size, "hidden_size": 32, "num_attention_heads": 2,
            "num_hidden_layers": 2, "intermediate_size": 64, "max_position_embeddings": 77,
            "hidden_act": "quick_gelu", "projection_dim": 28,
            "bos_token_id": eos_token_id - 1, "eos_token_id": eos_token_id,
            "pad_token_id": eos_token_id,
        },
        vision_config={
            "hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 2,
            "intermediate_size": 64, "image_size": 32, "patch_size": 8, "hidden_act": "quick_gelu",
            "projection_dim": 28,
        },
        projection_dim=28,
    )  # fmt: skip


def _scale(name, shape):
    """Standard deviation of a parameter's values."""
    if len(shape) == 1:
        return 0.3
    if "embedding" in name and "patch" not in name:
        return 0.4 if "position" in name or "token_type" in name else 1.0
    fan_in = shape[1:].numel()
    if any(part in name for part in ("query", "key", "q_proj", "k_proj")):
        return 2.0 * fan_in**-0.5
    return 1.3 * fan_in**-0.5


def randomise(model, seed, logit_scale):
    """Fill every parameter, in the order of the names, from one seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            value = torch.randn(parameter.shape, generator=generator) * _scale(name, parameter.shape)
            if parameter.dim() == 1 and name.endswith("weight"):
                value += 1.0  # the gain of a layer norm
            parameter.copy_(torch.tensor(logit_scale) if name == "logit_scale" else value)
    return model.eval()


def build(config, seed, logit_scale=3.2):
    """A model of the configuration's family, f32, eager attention."""
    family = CLIPModel if config.model_type == "clip" else AltCLIPModel
    config._attn_implementation = "eager"
    return randomise(family(config), seed, logit_scale)
