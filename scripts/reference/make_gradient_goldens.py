"""Gradients of every parameter of the tiny models, by PyTorch's autograd.

    .venv/bin/python scripts/reference/make_gradient_goldens.py [alt_l clip families/chinese_clip]

The loss is the sum of the projected features of the golden texts and pictures,
each times a fixed weight. Each folder gets `gradients.safetensors`: the weights
under `loss.text` and `loss.vision`, the loss, and the gradient of each
parameter under its published name.
"""

import argparse

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from make_goldens import GOLDEN, features, header, published_names, sort_metadata

NAMES = ["alt_l", "clip", "families/chinese_clip"]


def weights(shape, seed):
    """Fixed factors of the features, no two alike."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator)


def gradients(name):
    """The loss of a golden folder and its gradients, in float64 and rounded."""
    folder = GOLDEN / name
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").double().eval()
    expected = load_file(folder / "expected.safetensors")
    batch = {key: expected[f"text.{key}"] for key in ("input_ids", "attention_mask")}
    found = features(model, batch, expected["vision.pixel_values"].double())
    factors = {
        "loss.text": weights(found["text.features"].shape, 1),
        "loss.vision": weights(found["vision.features"].shape, 2),
    }
    loss = sum((found[f"{key[5:]}.features"] * factor).sum() for key, factor in factors.items())
    loss.backward()
    tensors = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    unused = [key for key, p in model.named_parameters() if p.grad is None]
    assert unused == ["logit_scale"], unused
    assert all(grad.abs().max() > 0 for grad in tensors.values())
    tensors = {key: grad.float() for key, grad in published_names(tensors).items()}
    if name.endswith("chinese_clip"):
        tensors = {key.replace("text_model.encoder.layers.", "text_model.encoder.layer."): g for key, g in tensors.items()}
    return tensors | factors | {"loss": loss.float()}


def write(name):
    """Write the gradients of a folder, with what is needed to make the file again."""
    path = GOLDEN / name / "gradients.safetensors"
    command = f"python scripts/reference/make_gradient_goldens.py {name}"
    tensors = {key: value.contiguous() for key, value in gradients(name).items()}
    save_file(tensors, path, metadata={"format": "pt", **header(name), "command": command, "seed": "1 2"})
    path.chmod(0o644)
    sort_metadata(path)


def main():
    """Write the gradients of the folders asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    for name in parser.parse_args().names:
        write(name)
        print(f"{name}: gradients.safetensors")


if __name__ == "__main__":
    main()
