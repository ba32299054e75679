"""What needs torch, notebooks or Ray: `just python-full`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import altclip
import numpy as np
import pytest
from conftest import ROOT, off
from PIL import Image

pytestmark = pytest.mark.full
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def test_tensors_share_their_memory(golden):
    torch = pytest.importorskip("torch")
    model = altclip.AltCLIP.from_pretrained(golden.folder, dtype=torch.float32, device="cpu")
    processor = altclip.AltCLIPProcessor.from_pretrained(golden.folder)
    images = [Image.open(path) for path in golden.pictures]
    inputs = processor(text=golden.texts, images=images, return_tensors="pt", padding=True, truncation=True)
    assert all(isinstance(value, torch.Tensor) for value in inputs.values())
    assert inputs["input_ids"].dtype == torch.int64 and inputs["pixel_values"].dtype == torch.float32
    pixels = inputs["pixel_values"]
    assert np.shares_memory(pixels.numpy(), pixels[1].numpy()) and pixels.is_contiguous()
    outputs = model(**inputs)
    assert isinstance(outputs.logits_per_image, torch.Tensor)
    probabilities = outputs.logits_per_image.softmax(dim=1)
    assert off(probabilities.numpy(), golden.expected["probabilities"]) < 1e-5
    assert isinstance(model.get_text_features(**inputs), np.ndarray)
    rows = model.encode(golden.texts[:2], convert_to_tensor=True)
    assert isinstance(rows, torch.Tensor) and rows.shape[0] == 2
    assert (model.similarity(rows, rows) == model.similarity(rows.numpy(), rows.numpy())).all()
    half = inputs["pixel_values"].to(torch.bfloat16)
    assert np.isfinite(model.get_image_features(half)).all()


def test_arrays_become_tensors_without_a_copy():
    torch = pytest.importorskip("torch")
    from altclip._array import as_tensors, from_bytes, to_numpy

    data = bytearray(np.arange(6, dtype=np.float32).tobytes())
    tensor = as_tensors(from_bytes(data, 3), "pt")
    data[:4] = np.float32(7).tobytes()
    assert tensor[0, 0] == 7
    assert np.shares_memory(to_numpy(tensor), tensor.numpy())
    assert torch.equal(tensor, torch.tensor([[7.0, 1, 2], [3, 4, 5]]))


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "outputs do not belong into the repository"
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert any(cell.get("outputs") for cell in notebook.cells)


def test_ray_embeds_shards(tmp_path, nano, pictures):
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    sys.path.insert(0, str(ROOT / "examples"))
    from ray_embed import write_shards

    shards = write_shards(tmp_path / "shards", {name: path.read_bytes() for name, path in pictures.items()}, 3)
    command = [sys.executable, ROOT / "examples/ray_embed.py", "--model", "nano", "--out", tmp_path / "out",
               "--workers", "2", *shards]  # fmt: skip
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["rows"] == len(pictures) and report["workers"] == 2
    table = parquet.read_table(tmp_path / "out").to_pydict()
    rows = dict(zip(table["key"], table["image_embedding"]))
    assert sorted(rows) == sorted(name.replace(" ", "_") for name in pictures)
    for name, path in pictures.items():
        expected = nano.encode_image([path])[0]
        assert np.asarray(rows[name.replace(" ", "_")], np.float32).tobytes() == expected.tobytes()
