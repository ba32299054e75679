"""Makes tests/golden/eval/metrics.json: CLIP_benchmark's figures of random embeddings.

    .venv/bin/python scripts/reference/make_eval_goldens.py      # needs scikit-learn 1.9.1 too

Written from the definitions of `clip_benchmark/metrics/{zeroshot_retrieval,zeroshot_classification}.py`
(LAION-AI/CLIP_benchmark@082089f). Without equal scores the order is torch.topk's; with them it is that of a stable sort,
the rule that docs/evaluate.md states, since torch.topk promises none. In the cases with ties every row is of four
entries of one half, so that scores are exact and many of them equal.
"""

import json
import pathlib

import numpy as np
import sklearn
import torch
from sklearn.metrics import balanced_accuracy_score

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/eval/metrics.json"
WIDTH = 8


def rows(random, count, ties):
    """Embeddings `[count, WIDTH]`."""
    if not ties:
        return np.round(random.normal(size=(count, WIDTH)), 3).astype(np.float32)
    out = np.zeros((count, WIDTH), np.float32)
    for row in out:
        row[random.choice(WIDTH, 4, replace=False)] = random.choice([-1.0, 1.0], 4)
    return out


def first(scores, k, ties):
    """The k best columns of each row."""
    k = min(k, scores.shape[1])
    if ties:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return torch.topk(torch.from_numpy(scores), k, dim=1)[1].numpy()


def recall(scores, positive, k, ties):
    """The share of rows with a positive column among the first k; rows without one do not occur."""
    found = np.take_along_axis(positive, first(scores, k, ties), axis=1).sum(axis=1)
    return float((found / positive.sum(axis=1) > 0).mean())


def case(seed, ties, images, texts, classes):
    random = np.random.default_rng(seed)
    pictures, captions, prompts = (rows(random, n, ties) for n in (images, texts, classes))
    # Every picture has a caption, as CLIP_benchmark needs it.
    index = np.concatenate([np.arange(images), random.integers(0, images, texts - images)])
    random.shuffle(index)
    labels = random.integers(0, classes, images)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    scores = unit(captions) @ unit(pictures).T
    positive = index[:, None] == np.arange(images)[None]
    expected = {}
    for k in (1, 5, 10):
        expected[f"image_retrieval_recall@{k}"] = recall(scores, positive, k, ties)
        expected[f"text_retrieval_recall@{k}"] = recall(np.ascontiguousarray(scores.T), positive.T, k, ties)
    logits = unit(pictures) @ unit(prompts).T
    order = first(logits, 5, ties)
    expected["acc1"] = float((order[:, 0] == labels).mean())
    expected["acc5"] = float((order == labels[:, None]).any(axis=1).mean())
    expected["mean_per_class_recall"] = float(balanced_accuracy_score(labels, order[:, 0]))
    return {
        "ties": ties, "width": WIDTH, "images": pictures.ravel().tolist(), "texts": captions.ravel().tolist(),
        "classes": prompts.ravel().tolist(), "text_image_index": index.tolist(), "labels": labels.tolist(),
        "expected": expected,
    }  # fmt: skip


def main():
    cases = [case(1, True, 23, 70, 7), case(2, False, 31, 90, 9), case(3, True, 12, 60, 5), case(4, False, 17, 17, 6)]
    head = {"torch": torch.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__}
    lines = ",\n".join(json.dumps(item) for item in cases)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(
        '{"made_by": "scripts/reference/make_eval_goldens.py", "versions": ' + json.dumps(head)
        + ', "cases": [\n' + lines + "\n]}\n"
    )
    print(OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
