"""PyTorch's side, one process a measurement: `peer.py WORK STAGE PRECISION THREADS STEPS` prints seconds a step.

The usual training loop at its best: transformers' towers with scaled dot product attention, batches padded to
their longest text, autocast for bf16, fused AdamW, gradients clipped.
"""

import json
import sys
import time
from pathlib import Path

import torch
from setup import BATCH, BATCHES, STUDENT, VISION
from tokenizers import Tokenizer
from transformers import AltCLIPTextConfig, AltCLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection


def texts(work):
    """Batches of ids and mask."""
    tokenizer = Tokenizer.from_file(str(work / "student" / "tokenizer.json"))
    tokenizer.enable_truncation(75)
    tokenizer.enable_padding(pad_id=1)
    lines = [line.split("\t")[1] for line in (work / "pairs.tsv").read_text(encoding="utf-8").splitlines()]
    for start in range(0, BATCH * BATCHES, BATCH):
        found = tokenizer.encode_batch(lines[start : start + BATCH])
        yield torch.tensor([e.ids for e in found]), torch.tensor([e.attention_mask for e in found])


def student():
    """The text tower of both stages."""
    kept = {key: value for key, value in STUDENT.items() if key != "model_type"}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return AltCLIPTextModel(AltCLIPTextConfig(**kept, **dropout, project_dim=512))


def stage1(work):
    """Loss of a batch, and what is trained: the teacher's answers are there already."""
    net = student()
    batches = list(texts(work))
    targets = torch.randn(BATCHES, BATCH, 512)

    def loss(n):
        ids, mask = batches[n % BATCHES]
        found = net(input_ids=ids, attention_mask=mask).pooler_output
        return torch.nn.functional.mse_loss(found.float(), targets[n % BATCHES])

    return loss, list(net.parameters())


def stage2(work):
    """Loss of a batch, and what is trained: the image tower runs but is frozen."""
    net, projection = student(), torch.nn.Linear(512, 512, bias=False)
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).eval().requires_grad_(False)
    scale = torch.nn.Parameter(torch.tensor(2.66))
    batches = list(texts(work))
    pixels = torch.randn(2, BATCH, 3, 224, 224)

    def loss(n):
        ids, mask = batches[n % BATCHES]
        with torch.no_grad():
            images = vision(pixel_values=pixels[n % 2]).image_embeds
        found = projection(net(input_ids=ids, attention_mask=mask).pooler_output)
        images, found = (torch.nn.functional.normalize(x.float(), dim=-1) for x in (images, found))
        logits = scale.exp() * images @ found.T
        labels = torch.arange(BATCH)
        cross_entropy = torch.nn.functional.cross_entropy
        return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2

    return loss, [*net.parameters(), *projection.parameters(), scale]


def main(work, stage, precision, threads, steps):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    loss, parameters = {"stage1": stage1, "stage2": stage2}[stage](work)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.99, 0.999), weight_decay=0.1, fused=True)
    seconds = []
    for n in range(steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            value = loss(n)
        value.backward()
        torch.nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
