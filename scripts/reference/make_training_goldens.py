"""Training in PyTorch, step by step, for the crate `train` to repeat: tests/golden/train.

    .venv/bin/python scripts/reference/make_training_goldens.py [numerics stage1 stage2 clip]

Everything is computed in float64 and written as float32 (losses, norms and rates stay
float64): that is what a right float32 computation is near to. Beside it stands how far
PyTorch's own float32 is from it, the scale for a tolerance.

`numerics.safetensors`: optimisers, clipping, schedules and losses alone; the groups are
written by the functions below, whose comments say what each tensor is.

`stage1`, `stage2`, `clip`.safetensors: N steps of training, from a model of tests/golden.

    input_ids, attention_mask    i32 [N, B, S]  token ids; mask 1 = token, 0 = padding
    teacher_input_ids            i32 [N, B, T]  stage1: the same texts for the teacher (no mask: causal)
    teacher                      f32 [N, B, D]  stage1: the teacher's pooled states, the targets
    pixel_values                 f32 [P, 3, Y, X]  stage2, clip: pictures
    image_ids                    i32 [N, B]        stage2, clip: which pictures; distinct in a step
    lr, loss, grad_norm          f64 [N]  of each update; loss and norm before it, the norm before clipping
    loss_f32, grad_norm_f32      f64 [N]  the same where PyTorch computes in float32
    final.NAME                   f32      each trained weight after the last update
    final_f32_deviation.NAME     f32 [1]  largest difference of PyTorch's float32 from it

    metadata `settings` (JSON): model (a folder of tests/golden: its weights are the initial ones; stage1 and
    stage2 take the text tower alone to train), teacher, trainable (prefixes of names), loss, schedule, lr,
    warmup_steps, total_steps, beta1, beta2, eps, weight_decay, max_norm, no_decay (what has none)

stage1  text tower of alt_h against the pooled states (before the projection) of clip's text tower; MSE over
        [B, D]; the student's row is `pooler_output`
stage2  alt_l, image tower (vision_model, visual_projection) frozen; contrastive loss, logit scale trained
clip    clip, both towers and the logit scale trained; its initial weights are random
No dropout. Weight decay applies to all but biases, layer norms and the logit scale. eps is 1e-6: the
gradients of attention's key biases are zero but for rounding, and a smaller eps would make weights of it.
"""

import argparse
import json
import platform
from pathlib import Path

import safetensors
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from transformers import AltCLIPModel, CLIPModel
from transformers.optimization import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from sorted_metadata import sort_metadata

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
SCHEDULES = {
    "constant": lambda o, warmup, total: get_constant_schedule_with_warmup(o, warmup),
    "cosine": get_cosine_schedule_with_warmup,
    "linear": get_linear_schedule_with_warmup,
}
STEPS, BATCH, PICTURES = 20, 4, 6
NO_DECAY = ["bias", "layer norm", "logit_scale"]
COMMON = {"beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "warmup_steps": 5, "total_steps": 24, "no_decay": NO_DECAY}
RUNS = {
    "stage1": {
        "model": "alt_h", "teacher": "clip", "trainable": ["text_model."], "loss": "mse",
        "schedule": "linear", "lr": 2e-3, "weight_decay": 0.05, "max_norm": 1.0, "seed": 71,
    },
    "stage2": {
        "model": "alt_l", "trainable": ["text_model.", "text_projection.", "logit_scale"], "loss": "contrastive",
        "schedule": "cosine", "lr": 1e-3, "weight_decay": 0.2, "max_norm": 5.0, "seed": 72,
    },
    "clip": {
        "model": "clip", "trainable": [""], "loss": "contrastive",
        "schedule": "cosine", "lr": 1e-3, "weight_decay": 0.2, "max_norm": 5.0, "seed": 73,
    },
}  # fmt: skip


def write(name, tensors, settings):
    """Save one golden with what is needed to make it again."""
    metadata = {
        "command": f"python scripts/reference/make_training_goldens.py {name}",
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
        "settings": json.dumps(settings),
    }
    path = GOLDEN / "train" / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=metadata)
    sort_metadata(path)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


# One optimiser, loss or schedule at a time.


def random(generator, *shape):
    """Normal numbers that float32 holds exactly, in float64."""
    return torch.randn(*shape, generator=generator).double()


def adamw_golden(generator):
    """AdamW: a matrix with decay, a bias without, a table of which three rows a step have a gradient.

    `adamw.{matrix,bias,table}.{start,gradients,end,first,second}`, gradients [20, ...] (the table's rows as
    `adamw.table.ids` [20, 3] and `.gradients` [20, 3, 4]); `adamw.norms` [20] before clipping to 3.
    """
    settings = {"lr": 0.02, "weight_decay": 0.1, "max_norm": 3.0, "warmup_steps": 4, "total_steps": 20}
    shapes = {"matrix": (5, 7), "bias": (7,), "table": (10, 4)}
    start = {name: random(generator, *shape) for name, shape in shapes.items()}
    gradients = {name: random(generator, STEPS, *shape) for name, shape in shapes.items()}
    ids = torch.stack([torch.randperm(10, generator=generator)[:3].sort().values for _ in range(STEPS)])
    rows = random(generator, STEPS, 3, 4)
    gradients["table"] = torch.zeros(STEPS, 10, 4).double()
    for step in range(STEPS):
        gradients["table"][step, ids[step]] = rows[step]
    parameters = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    groups = [
        {"params": [parameters["matrix"], parameters["table"]], "weight_decay": settings["weight_decay"]},
        {"params": [parameters["bias"]], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings["lr"], foreach=False)
    schedule = SCHEDULES["cosine"](optimizer, settings["warmup_steps"], settings["total_steps"])
    norms = []
    for step in range(STEPS):
        for name, parameter in parameters.items():
            parameter.grad = gradients[name][step].clone()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), settings["max_norm"]).item())
        optimizer.step()
        schedule.step()
    gradients["table"] = rows
    tensors = {"adamw.norms": torch.tensor(norms, dtype=torch.float64), "adamw.table.ids": ids.int()}
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]
        values = {
            "start": start[name], "gradients": gradients[name], "end": parameter.detach(),
            "first": state["exp_avg"], "second": state["exp_avg_sq"],
        }  # fmt: skip
        tensors |= {f"adamw.{name}.{key}": value.float() for key, value in values.items()}
    return tensors, settings


def schedule_golden():
    """`schedule.NAME` [30]: the rates of a loop of 24 steps with a warm-up of 5, and 0 (`.0`)."""
    tensors = {}
    for name, make in SCHEDULES.items():
        for warmup in (5, 0):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
            schedule, rates = make(optimizer, warmup, 24), []
            for _ in range(24):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                schedule.step()
            tensors[f"schedule.{name}.{warmup}"] = torch.tensor(rates, dtype=torch.float64)
    return tensors


def loss_golden(generator):
    """Losses and the gradients of their inputs, by autograd.

    `NAME.{images,texts,logit_scale}` and `NAME.{loss,d_images,d_texts,d_logit_scale}` of `infonce` (transformers'
    formula), `repeats` (pairs that share `.image_ids`, `.caption_ids`: soft cross-entropy), `classification`
    (`.labels`); `mse.{student,teacher,loss,d_student}`.
    """
    tensors = {}

    def add(name, inputs, loss, keys):
        gradients = torch.autograd.grad(loss, [inputs[key] for key in keys])
        tensors[f"{name}.loss"] = loss.detach().reshape(1)
        for key, gradient in zip(keys, gradients):
            tensors[f"{name}.{key}"] = inputs[key].detach().float().reshape(-1)
            tensors[f"{name}.d_{key}"] = gradient.float().reshape(-1)

    def inputs(n, c, scale):
        values = {"images": random(generator, n, 5), "texts": random(generator, c, 5)}
        values["logit_scale"] = torch.tensor([scale]).double()
        return {key: value.requires_grad_() for key, value in values.items()}

    def logits(x):
        return F.normalize(x["texts"], dim=-1) @ F.normalize(x["images"], dim=-1).T * x["logit_scale"].exp()

    keys = ["images", "texts", "logit_scale"]
    x = inputs(6, 6, 2.5)
    per_text, right = logits(x), torch.arange(6)
    add("infonce", x, (F.cross_entropy(per_text, right) + F.cross_entropy(per_text.T, right)) / 2, keys)

    x = inputs(6, 6, 2.5)
    image_ids, caption_ids = torch.tensor([1, 1, 2, 3, 4, 1]), torch.tensor([1, 2, 2, 3, 4, 5])
    right = (image_ids[:, None] == image_ids) | (caption_ids[:, None] == caption_ids)
    target = right.double() / right.sum(1, keepdim=True)  # symmetric, so it serves both directions
    per_text = logits(x)
    add("repeats", x, (F.cross_entropy(per_text, target) + F.cross_entropy(per_text.T, target)) / 2, keys)
    tensors["repeats.image_ids"], tensors["repeats.caption_ids"] = image_ids.int(), caption_ids.int()

    x, labels = inputs(6, 4, 3.0), torch.tensor([2, 0, 2, 1, 2, 2])
    add("classification", x, F.cross_entropy(logits(x).T, labels), keys)
    tensors["classification.labels"] = labels.int()

    x = {"student": random(generator, 4, 9).requires_grad_(), "teacher": random(generator, 4, 9)}
    add("mse", x, F.mse_loss(x["student"], x["teacher"]), ["student"])
    tensors["mse.teacher"] = x["teacher"].float().reshape(-1)
    return tensors


def numerics():
    """Write `numerics.safetensors`."""
    generator = torch.Generator().manual_seed(70)
    tensors, settings = adamw_golden(generator)
    write("numerics", tensors | schedule_golden() | loss_golden(generator), {"adamw": settings})


# Whole training.


def token_batches(generator, length, low, high, bos, eos, pad):
    """Ids and mask [N, B, S]: random words between `bos` and `eos`, padded to the batch's longest."""
    ids = torch.full((STEPS, BATCH, length), pad)
    mask = torch.zeros(STEPS, BATCH, length, dtype=torch.int64)
    for step in range(STEPS):
        for row in range(BATCH):
            n = length if row == step % BATCH else int(torch.randint(3, length + 1, (1,), generator=generator))
            words = torch.randint(low, high, (n - 2,), generator=generator)
            ids[step, row, :n] = torch.cat([torch.tensor([bos]), words, torch.tensor([eos])])
            mask[step, row, :n] = 1
    return ids, mask


def altclip_tokens(generator):
    """Batches for an AltCLIP text tower of 600 ids."""
    return token_batches(generator, 12, 4, 600, 0, 2, 1)


def clip_tokens(generator, config):
    """Batches for a CLIP text tower: words lie below its beginning-of-text id."""
    bos, eos, pad = config.bos_token_id, config.eos_token_id, config.pad_token_id
    return token_batches(generator, 10, 0, bos, bos, eos, pad)


def make_inputs(name, run):
    """The inputs of all steps, and the teacher's targets."""
    generator = torch.Generator().manual_seed(run["seed"])
    if name == "stage1":
        teacher = CLIPModel.from_pretrained(GOLDEN / run["teacher"], attn_implementation="eager").double().eval()
        ids, mask = altclip_tokens(generator)
        teacher_ids, _ = clip_tokens(generator, teacher.config.text_config)
        with torch.no_grad():
            targets = torch.stack([teacher.text_model(input_ids=batch).pooler_output for batch in teacher_ids])
        return {
            "input_ids": ids, "attention_mask": mask, "teacher_input_ids": teacher_ids,
            "teacher": targets.float(),
        }  # fmt: skip
    config = CLIPModel.config_class.from_pretrained(GOLDEN / run["model"])
    ids, mask = clip_tokens(generator, config.text_config) if name == "clip" else altclip_tokens(generator)
    size = config.vision_config.image_size
    pictures = [torch.randperm(PICTURES, generator=generator)[:BATCH] for _ in range(STEPS)]
    return {
        "input_ids": ids, "attention_mask": mask, "image_ids": torch.stack(pictures),
        "pixel_values": torch.randn(PICTURES, 3, size, size, generator=generator),
    }  # fmt: skip


def parameter_groups(model, names, weight_decay):
    """Two groups: with weight decay, and without."""
    norms = {id(p) for m in model.modules() if isinstance(m, torch.nn.LayerNorm) for p in m.parameters()}
    plain = [p for n, p in names.items() if n.endswith("bias") or n == "logit_scale" or id(p) in norms]
    exempt = {id(p) for p in plain}
    decayed = [p for p in names.values() if id(p) not in exempt]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def published_names(model, folder):
    """The name in the checkpoint of each parameter of a model just loaded from it, found by its values."""
    files = sorted(folder.glob("model*.safetensors"))
    published = {value.numpy().tobytes(): name for file in files for name, value in load_file(file).items()}
    return {name: published[parameter.detach().numpy().tobytes()] for name, parameter in model.named_parameters()}


def train(run, inputs, dtype):
    """All steps in one dtype: rates, losses, norms, and the trained weights by their names in the checkpoint."""
    family = CLIPModel if run["model"] == "clip" else AltCLIPModel
    model = family.from_pretrained(GOLDEN / run["model"], attn_implementation="eager")
    published = published_names(model, GOLDEN / run["model"])
    model = model.to(dtype).eval()
    names = {n: p for n, p in model.named_parameters() if n.startswith(tuple(run["trainable"]))}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, names, run["weight_decay"]),
        lr=run["lr"], betas=(run["beta1"], run["beta2"]), eps=run["eps"], foreach=False,
    )  # fmt: skip
    schedule = SCHEDULES[run["schedule"]](optimizer, run["warmup_steps"], run["total_steps"])
    curves = {"lr": [], "loss": [], "grad_norm": []}
    for step in range(STEPS):
        texts = {"input_ids": inputs["input_ids"][step], "attention_mask": inputs["attention_mask"][step]}
        if run["loss"] == "mse":
            student = model.text_model(**texts).pooler_output
            loss = F.mse_loss(student, inputs["teacher"][step].to(dtype))
        else:
            pictures = inputs["pixel_values"][inputs["image_ids"][step]].to(dtype)
            loss = model(pixel_values=pictures, **texts, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        curves["lr"].append(optimizer.param_groups[0]["lr"])
        curves["loss"].append(loss.item())
        curves["grad_norm"].append(torch.nn.utils.clip_grad_norm_(names.values(), run["max_norm"]).item())
        optimizer.step()
        schedule.step()
    curves = {key: torch.tensor(values, dtype=torch.float64) for key, values in curves.items()}
    return curves, {published[name]: parameter.detach().double() for name, parameter in names.items()}


def training(name):
    """Write the golden of one run."""
    run = RUNS[name] | COMMON
    inputs = make_inputs(name, run)
    curves, weights = train(run, inputs, torch.float64)
    curves_f32, weights_f32 = train(run, inputs, torch.float32)
    tensors = {key: value if value.is_floating_point() else value.int() for key, value in inputs.items()}
    tensors |= curves
    tensors |= {f"{key}_f32": curves_f32[key] for key in ("loss", "grad_norm")}
    for key, value in weights.items():
        tensors[f"final.{key}"] = value.float()
        tensors[f"final_f32_deviation.{key}"] = (value - weights_f32[key]).abs().max().float().reshape(1)
    write(name, tensors, run)
    worst = max(weights, key=lambda key: tensors[f"final_f32_deviation.{key}"].item())
    print("  loss", curves["loss"][0].item(), "to", curves["loss"][-1].item())
    print("  norm", [round(norm, 2) for norm in curves["grad_norm"].tolist()])
    print("  f32: loss", (curves["loss"] - curves_f32["loss"]).abs().max().item(), end=" ")
    print("weights", tensors[f"final_f32_deviation.{worst}"].item(), worst)


def main():
    """Make the goldens that were asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["numerics", *RUNS])
    torch.set_num_threads(1)
    for name in parser.parse_args().names:
        numerics() if name == "numerics" else training(name)


if __name__ == "__main__":
    main()
