"""The two towers of AltCLIP with random weights: the published shapes, of which only the time matters.

The text table is cut to a few thousand rows: a lookup reads one row for a
token, so its length costs memory and no time.
"""

import torch
import transformers
from torch import nn
from transformers import AltCLIPConfig
from transformers.models.altclip.modeling_altclip import AltCLIPTextModel, AltCLIPVisionModel

ARCHS = ("altclip", "altclip-m18")
TOWERS = ("image", "text")
VOCABULARY = 8192
MASKED = -1e4
VISION_L = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "hidden_act": "quick_gelu", "patch_size": 14, "image_size": 224, "projection_dim": 768,
}  # fmt: skip
VISION_H = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
    "hidden_act": "gelu", "patch_size": 14, "image_size": 224, "projection_dim": 1024,
}  # fmt: skip


def configuration(arch):
    """The published sizes, the vocabulary excepted."""
    width, vision = (1024, VISION_H) if arch == "altclip-m18" else (768, VISION_L)
    text = {"project_dim": width, "vocab_size": VOCABULARY}
    return AltCLIPConfig(text_config=text, vision_config=vision, projection_dim=width)


class Image(nn.Module):
    """Pixels → image embedding, not normalised."""

    def __init__(self, config):
        """The ViT and its projection."""
        super().__init__()
        self.tower = AltCLIPVisionModel(config.vision_config)
        self.projection = nn.Linear(config.vision_config.hidden_size, config.projection_dim, bias=False)

    def forward(self, pixels):
        """The projection of the pooled class token."""
        return self.projection(self.tower(pixel_values=pixels).pooler_output)


class Text(nn.Module):
    """Token ids, and a mask where some are padding → text embedding, not normalised."""

    def __init__(self, config):
        """XLM-R, its head and its projection."""
        super().__init__()
        self.tower = AltCLIPTextModel(config.text_config)
        self.projection = nn.Linear(config.text_config.project_dim, config.projection_dim, bias=False)

    def forward(self, ids, mask=None):
        """The projection of `<s>`; the mask becomes a term that is added to the scores."""
        if mask is not None:
            mask = (1 - mask[:, None, None, :].to(self.projection.weight.dtype)) * MASKED
        return self.projection(self.tower(input_ids=ids, attention_mask=mask).pooler_output)


def make(arch, tower, attention="sdpa"):
    """One tower with random weights in f32, ready to run."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = configuration(arch)
    config.vision_config._attn_implementation = config.text_config._attn_implementation = attention
    return {"image": Image, "text": Text}[tower](config).eval()
