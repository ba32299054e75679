"""Wukong, PRD2 and R2D2 as plain functions of named weights, written from their papers.

Gu et al., Wukong, arXiv 2202.06767; Yao et al., FILIP, arXiv 2111.07783; Xie et al., Zero and R2D2,
arXiv 2205.03860. Nothing is padded: a text is computed alone, as its mask would have it.
"""

import torch
from torch.nn.functional import gelu, layer_norm, softmax


def linear(weights, name, x):
    """A map with the bias that there is."""
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def norm(weights, name, x, eps):
    """Layer norm."""
    return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def quick_gelu(x):
    """OpenAI's approximation."""
    return x * torch.sigmoid(1.702 * x)


def attend(q, k, v, heads, causal=False):
    """Scaled dot-product attention over [T, D], head by head."""
    parts = []
    for q_head, k_head, v_head in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1)):
        scores = q_head @ k_head.T / q_head.shape[-1] ** 0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf"))
        parts.append(softmax(scores, -1) @ v_head)
    return torch.cat(parts, -1)


def bert_attention(weights, name, x, other, heads):
    """Attention of BERT with its residual and norm."""
    q, k, v = (
        linear(weights, f"{name}.self.{part}", y) for part, y in (("query", x), ("key", other), ("value", other))
    )
    mixed = linear(weights, f"{name}.output.dense", attend(q, k, v, heads))
    return norm(weights, f"{name}.output.LayerNorm", x + mixed, 1e-12)


def bert_blocks(weights, name, x, layers, heads, other=None):
    """BERT's blocks, with cross-attention to `other` where it is given."""
    for layer in range(layers):
        block = f"{name}.encoder.layer.{layer}"
        x = bert_attention(weights, f"{block}.attention", x, x, heads)
        if other is not None:
            x = bert_attention(weights, f"{block}.crossattention", x, other, heads)
        hidden = gelu(linear(weights, f"{block}.intermediate.dense", x))
        x = norm(weights, f"{block}.output.LayerNorm", x + linear(weights, f"{block}.output.dense", hidden), 1e-12)
    return x


def bert(weights, name, ids, layers, heads):
    """BERT over one text: the states of all tokens."""
    tables = f"{name}.embeddings"
    x = weights[f"{tables}.word_embeddings.weight"][ids]
    x = x + weights[f"{tables}.position_embeddings.weight"][: len(ids)]
    x = x + weights[f"{tables}.token_type_embeddings.weight"][0]
    return bert_blocks(weights, name, norm(weights, f"{tables}.LayerNorm", x, 1e-12), layers, heads)


def hub_vision(weights, name, pixels, layers, heads):
    """CLIP's image tower under the Hub's names: all states, without the last norm."""
    kernel = weights[f"{name}.embeddings.patch_embedding.weight"]
    patches = torch.nn.functional.conv2d(pixels[None], kernel, stride=kernel.shape[-1])[0].flatten(1).T
    x = torch.cat([weights[f"{name}.embeddings.class_embedding"][None], patches])
    x = norm(weights, f"{name}.pre_layrnorm", x + weights[f"{name}.embeddings.position_embedding.weight"], 1e-5)
    for layer in range(layers):
        block = f"{name}.encoder.layers.{layer}"
        y = norm(weights, f"{block}.layer_norm1", x, 1e-5)
        q, k, v = (linear(weights, f"{block}.self_attn.{part}_proj", y) for part in "qkv")
        x = x + linear(weights, f"{block}.self_attn.out_proj", attend(q, k, v, heads))
        hidden = quick_gelu(linear(weights, f"{block}.mlp.fc1", norm(weights, f"{block}.layer_norm2", x, 1e-5)))
        x = x + linear(weights, f"{block}.mlp.fc2", hidden)
    return x


def openai_blocks(weights, name, x, layers, heads, causal):
    """CLIP's blocks under OpenAI's names."""
    for layer in range(layers):
        block = f"{name}transformer.resblocks.{layer}"
        y = norm(weights, f"{block}.ln_1", x, 1e-5)
        fused = y @ weights[f"{block}.attn.in_proj_weight"].T + weights[f"{block}.attn.in_proj_bias"]
        x = x + linear(weights, f"{block}.attn.out_proj", attend(*fused.chunk(3, -1), heads, causal))
        hidden = quick_gelu(linear(weights, f"{block}.mlp.c_fc", norm(weights, f"{block}.ln_2", x, 1e-5)))
        x = x + linear(weights, f"{block}.mlp.c_proj", hidden)
    return x


def token_learner(weights, x, groups):
    """A few learned tokens of all patches: softmax over the patches of maps of the normed patches."""

    def grouped(name, y):
        kernel = weights[f"{name}.weight"]
        y = torch.nn.functional.conv1d(y.T[None], kernel[..., 0], weights.get(f"{name}.bias"), groups=groups)
        return y[0].T

    name = "visual.token_learner"
    maps = grouped(f"{name}.attention_maps.0", norm(weights, f"{name}.norm", x, 1e-5))
    maps = maps @ weights[f"{name}.attention_maps.1.weight"][..., 0, 0].T
    maps = maps + weights[f"{name}.attention_maps.1.bias"]
    return softmax(maps.T, -1) @ grouped(f"{name}.feat_conv", x)


def wukong_picture(weights, pixels, layers, heads, groups):
    """All patches, or those learned of them, projected and normalised."""
    kernel = weights["visual.conv1.weight"]
    patches = torch.nn.functional.conv2d(pixels[None], kernel, stride=kernel.shape[-1])[0].flatten(1).T
    x = torch.cat([weights["visual.class_embedding"][None], patches]) + weights["visual.positional_embedding"]
    x = openai_blocks(weights, "visual.", norm(weights, "visual.ln_pre", x, 1e-5), layers, heads, False)
    x = norm(weights, "visual.ln_post", x, 1e-5)[1:]
    if groups:
        x = token_learner(weights, x, groups)
    x = x @ weights["visual.proj"]
    return x / x.norm(dim=-1, keepdim=True)


def wukong_text(weights, ids, context, layers, heads):
    """A text padded with 0 to the context: its tokens projected and normalised, padding set to zero."""
    padded = torch.tensor([*ids, *[0] * (context - len(ids))])
    x = weights["transformer.token_embedding.weight"][padded] + weights["transformer.positional_embedding"]
    x = openai_blocks(weights, "", x, layers, heads, True)
    x = norm(weights, "transformer.ln_final", x, 1e-5) @ weights["transformer.text_projection"]
    return x / x.norm(dim=-1, keepdim=True) * (padded > 0)[:, None]


def late(queries, others):
    """FILIP: the mean over the query's tokens of the largest product with the other's."""
    return (queries @ others.T).max(-1).values.mean()


def r2d2_match(weights, text, image, layers, heads):
    """The mean of both heads' probability that a text and a picture belong together."""
    by_text = bert_blocks(weights, "text_joint_layer", text, layers, heads, image)[0]
    mapped = linear(weights, "img_joint_proj", image)
    by_image = bert_blocks(weights, "img_joint_layer", mapped, layers, heads, text)[0]
    pairs = (("itm_head", by_text), ("itm_head_i", by_image))
    return sum(softmax(linear(weights, head, state), -1)[1] for head, state in pairs) / 2
