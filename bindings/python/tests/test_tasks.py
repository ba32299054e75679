"""Index, evaluation and training: the commands of the program, called from here."""

import json
import os
import shutil
import subprocess
import sys

import altclip
import numpy as np
import pytest

PAIRS = [("a red apple", "一个红苹果"), ("a key", "一把钥匙"), ("a rocket", "一枚火箭"), ("a dog", "一只狗")] * 8


@pytest.fixture()
def labelled(pictures, tmp_path):
    """Pictures in folders by their names."""
    for name in ("banana", "key", "rocket"):
        (tmp_path / "labelled" / name).mkdir(parents=True)
        shutil.copy(pictures[name], tmp_path / "labelled" / name / "1.png")
    return tmp_path / "labelled"


def test_an_index(nano, pictures, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("banana", "key", "rocket"):
        shutil.copy(pictures[name], photos)
    index = altclip.Index(tmp_path / "index", nano)
    summary = index.add(photos, tag=["all"])
    assert sorted(map(os.path.basename, summary["acknowledged"])) == ["banana.png", "key.png", "rocket.png"]
    assert len(index) == 3 and index.verify()["ok"]
    answer = index.search("香蕉", top_k=2)
    assert os.path.basename(answer[0]["path"]) == "banana.png" and len(answer) == 2
    assert answer.uncalibrated and answer[0]["p_match"] is None
    expected = nano.similarity(["香蕉"], [photos / "banana.png"])[0, 0]
    assert abs(answer[0]["score"] - expected) < 1e-3
    assert index.search(images=[pictures["rocket"]])[0]["path"].endswith("rocket.png")
    assert index.search("key", tag=["none"]) == [] and len(index.search("key", tag=["all"], path=["*key*"])) == 1

    shutil.copy(pictures["panda"], photos)
    (photos / "key.png").unlink()
    (photos / "text.jpg").write_text("no picture")
    summary = index.update(max_bad="100%")
    assert [len(summary[key]) for key in ("acknowledged", "removed", "refused")] == [1, 1, 1]
    assert index.search("panda", top_k=1)[0]["path"].endswith("panda.png")
    index.remove(photos / "panda.png")
    assert not any(match["path"].endswith("panda.png") for match in index.search("panda"))
    # A later process needs no model named.
    with altclip.Index(tmp_path / "index") as again:
        assert again.search("rocket", top_k=1)[0]["path"].endswith("rocket.png")
    with pytest.raises(altclip.AltClipIndexError, match="E7004"):
        altclip.Index(tmp_path / "index", altclip.load("nano", alpha="composite")).search("x")


def test_an_evaluation(nano, labelled, tmp_path):
    found = altclip.evaluate(nano, "zeroshot", f"imagenet:{labelled}", templates=["{}", "a {}"],
                             classnames=["香蕉", "钥匙", "火箭"], language="zh", no_cache=True,
                             out=tmp_path / "out")  # fmt: skip
    assert len(found) == 1 and found[0]["language"] == "zh"
    metrics = found[0]["metrics"]
    prompts = nano.encode_text([prompt.format(name) for name in ("香蕉", "钥匙", "火箭") for prompt in ("{}", "a {}")])
    classes = prompts.reshape(3, 2, -1).mean(axis=1)
    images = nano.encode_image([labelled / name / "1.png" for name in ("banana", "key", "rocket")])
    right = (nano.similarity(images, classes).argmax(axis=1) == np.arange(3)).mean()
    assert metrics["acc1"] == pytest.approx(right)
    assert (tmp_path / "out" / "report.html").exists()


@pytest.fixture(scope="module")
def distilling(golden_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distill")
    (folder / "pairs.tsv").write_text("".join(f"{en}\t{zh}\n" for en, zh in PAIRS), encoding="utf-8")
    return {"teacher": golden_of("clip").folder, "student": golden_of("alt_h").folder, "pairs": folder / "pairs.tsv"}


def test_distilling(distilling, tmp_path, capsys):
    found = altclip.train_distill(**distilling, out=tmp_path / "out", max_steps=3, batch_size=8, ignore_check=True)
    assert found["steps"] == 3 and found["kind"] == "distill" and found["end"] == "finished"
    assert "step" in capsys.readouterr().out
    model = altclip.load(tmp_path / "out")
    assert np.isfinite(model.encode_text(["一只狗"])).all()
    with pytest.raises(altclip.AltClipInputError, match="E1003"):
        altclip.train_distill(**distilling, out=tmp_path / "out", max_steps=3)


def test_a_run_that_is_interrupted_goes_on_with_the_same_bits(distilling, tmp_path):
    # A pre-check is not what is tested here, and a full run is the oracle.
    options = {"max_steps": 6, "batch_size": 8, "ignore_check": True, "save_every": 2}
    arguments = {key: str(value) for key, value in distilling.items()}
    code = f"""
import os, signal, altclip
def say(line):
    if "step" in line:
        os.kill(os.getpid(), signal.SIGINT)
from altclip import _tasks
try:
    _tasks.rows("train", "distill", flags={{**{arguments!r}, **{options!r}, "out": {str(tmp_path / "cut")!r}}}, say=say)
except KeyboardInterrupt:
    print("interrupted")
    found = altclip.train_distill(**{arguments!r}, **{options!r}, out={str(tmp_path / "cut")!r}, resume="newest",
                                  verbose=False)
    print(found["steps"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["interrupted", "6"], done.stderr
    altclip.train_distill(**distilling, **options, out=tmp_path / "whole", verbose=False)
    cut, whole = (altclip.load(tmp_path / name).encode_text(["狗", "key"]) for name in ("cut", "whole"))
    assert cut.tobytes() == whole.tobytes()


def test_commands_and_their_script(tmp_path):
    info = json.loads(altclip.run("info", "--model", "nano", "--json"))
    assert info
    with pytest.raises(altclip.AltClipInputError, match="E1001"):
        altclip.run("embed", "--nonsense")
    done = subprocess.run([sys.executable, "-m", "altclip", "embed", "--nonsense"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error[E1001]")
    script = os.path.join(os.path.dirname(sys.executable), "altclip")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert done.stdout == f"altclip {altclip.__version__}\n"


def test_every_error_code_is_documented():
    from conftest import ROOT

    documented = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "bindings/python").rglob("altclip/*.py"))
    for code in {"E1101", "E4101", "E9001", "E9101"}:
        assert f"| {code} |" in documented and f'"{code}"' in sources
