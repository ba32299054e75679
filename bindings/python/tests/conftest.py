"""What all tests share: models, pictures, golden values."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import altclip
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden"
PICTURES = ROOT / "crates" / "nano" / "pictures"


def pytest_collection_modifyitems(config, items):
    if os.environ.get("ALTCLIP_FULL"):
        return
    skip = pytest.mark.skip(reason="runs in `just python-full`")
    for item in items:
        if "full" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache of its own, so that a test finds nothing that another run left."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["ALTCLIP_CACHE"] = str(folder)
    os.environ["HF_HOME"] = str(folder / "hf")
    os.environ["HF_HUB_OFFLINE"] = "1"
    return folder


@pytest.fixture(scope="session")
def nano(cache):
    return altclip.load("nano")


@pytest.fixture(scope="session")
def pictures():
    """Paths of small PNG files, by name."""
    return {path.stem: path for path in sorted(PICTURES.glob("*.png"))}


def tensors(path):
    """The tensors of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    types = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}
    return {
        name: np.frombuffer(data[8 + size :], types[entry["dtype"]], count=int(np.prod(entry["shape"], dtype=int)),
                            offset=entry["data_offsets"][0]).reshape(entry["shape"])
        for name, entry in header.items()
    }  # fmt: skip


class Golden:
    """A tiny model with its tokenizer, and what transformers gives for it."""

    def __init__(self, name, folder):
        self.folder = folder
        shutil.copytree(GOLDEN / name, folder)
        for file in (GOLDEN / ("tokenizer_clip" if name == "clip" else "tokenizer")).iterdir():
            if file.name != "expected.json":
                shutil.copy(file, folder)
        inputs = json.loads((folder / "inputs.json").read_text())
        self.texts = inputs["texts"]
        self.pictures = [folder / picture for picture in inputs["pictures"]]
        self.expected = tensors(folder / "expected.safetensors")


@pytest.fixture(scope="session", params=["alt_l", "alt_h", "clip"])
def golden(request, tmp_path_factory):
    return Golden(request.param, tmp_path_factory.mktemp("golden") / request.param)


@pytest.fixture(scope="session")
def golden_of(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = Golden(name, tmp_path_factory.mktemp("golden") / name)
        return made[name]

    return get


def off(found, expected):
    """The largest difference, in shares of the largest magnitude."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()
