"""The direct calls: rows, similarity, labels, iterators."""

import io
import json
import os
import shutil
import subprocess
import sys
import warnings

import altclip
import numpy as np
import pytest
from conftest import GOLDEN
from PIL import Image


def command(*args):
    """Rows of the program: that of ALTCLIP_PROGRAM, else the one in the wheel."""
    program = os.environ.get("ALTCLIP_PROGRAM")
    start = [program] if program else [sys.executable, "-m", "altclip"]
    done = subprocess.run([*start, *map(str, args)], check=True, capture_output=True)
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


TEXTS = ["一只猫", "a dog", "", "una llave", "emoji 🦊 fox", "ракета", "a dog"]


def test_the_bits_of_the_command_line(nano, pictures):
    paths = list(pictures.values())
    texts = [argument for text in TEXTS for argument in ("--text", text)]
    images = [argument for path in paths for argument in ("--image", path)]
    rows = command("embed", "--model", "nano", "--json", *texts, *images)
    expected = np.array([row["embedding"] for row in rows]).astype(np.float32)
    assert nano.encode_text(TEXTS).tobytes() == expected[: len(TEXTS)].tobytes()
    assert nano.encode_image(paths).tobytes() == expected[len(TEXTS) :].tobytes()
    many = TEXTS * 30
    assert nano.encode_text(many).tobytes() == np.tile(expected[: len(TEXTS)], (30, 1)).tobytes()

    labels = ["红苹果", "banana", "ключ"]
    flags = [argument for label in labels for argument in ("--label", label)]
    rows = command("classify", "--model", "nano", "--json", "--template", "{}!", *flags, *paths)
    expected = np.array([[cell["probability"] for cell in row["labels"]] for row in rows]).astype(np.float32)
    assert nano.probabilities(paths, labels, "{}!").tobytes() == expected.tobytes()


def test_a_picture_in_every_form_is_the_same_row(nano, pictures):
    path = pictures["cat face"]
    image = Image.open(path)
    rgb = np.asarray(image.convert("RGB"))
    wide = np.zeros((rgb.shape[0], rgb.shape[1] * 2, 3), np.uint8)
    wide[:, ::2] = rgb
    read_only = rgb.copy()
    read_only.flags.writeable = False
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "png")
    forms = [
        str(path), path, path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes()), image,
        rgb, read_only, np.asfortranarray(rgb), wide[:, ::2], rgb[::-1][::-1], rgb.transpose(2, 0, 1),
        np.ascontiguousarray(rgb.transpose(2, 0, 1)), np.dstack([rgb, rgb[:, :, 0]]), buffer.getvalue(),
    ]  # fmt: skip
    expected = nano.encode_image([path])
    rows = nano.encode_image(forms)
    assert rows.shape == (len(forms), 128)
    for n, row in enumerate(rows):
        assert row.tobytes() == expected[0].tobytes(), n
    for form in forms:
        assert nano.encode_image(form).tobytes() == expected.tobytes()
    # Another picture, mirrored pixels and swapped channels are other rows.
    for other in (rgb[:, ::-1], rgb[..., ::-1], pictures["dog face"]):
        assert nano.encode_image([other]).tobytes() != expected.tobytes()


def test_grey_and_one_channel(nano, pictures):
    grey = np.asarray(Image.open(pictures["panda"]).convert("L"))
    expected = nano.encode_image(Image.fromarray(grey))
    assert (nano.encode_image(grey) == expected).all()
    assert (nano.encode_image(grey[:, :, None]) == expected).all()


def test_transparency_is_dropped_or_put_on_white(pictures):
    image = Image.open(pictures["key"]).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 99))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    rows = []
    for alpha in ("drop", "composite"):
        with altclip.load("nano", alpha=alpha) as model:
            file, pil = model.encode_image([buffer.getvalue(), image])
            assert np.allclose(file, pil, atol=2e-2), alpha
            rows.append(file)
    assert not np.allclose(*rows, atol=2e-2)


def test_rows_have_the_same_bits_in_any_company(nano):
    texts = [f"text {n} " + "word " * (n % 40) for n in range(300)]
    together = nano.encode_text(texts)
    assert (together == np.vstack([nano.encode_text(text) for text in texts])).all()
    assert (together == np.stack(list(nano.iter_text(iter(texts), chunk_size=7)))).all()
    lengths = np.linalg.norm(nano.encode_text(texts, normalize=False), axis=1)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5) and not np.allclose(lengths, 1, atol=1e-2)


def test_nothing_in_nothing_out(nano):
    assert nano.encode_text([]).shape == (0, 128)
    assert nano.encode_image([]).shape == (0, 128)
    assert nano.encode([]).shape == (0, 128)
    assert list(nano.iter_text([])) == list(nano.iter_image([])) == []
    assert nano.similarity(nano.encode_text([]), nano.encode_text(["a"])).shape == (0, 1)
    assert nano.classify([], ["a", "b"]) == []


def test_results_belong_to_the_caller(nano):
    rows = nano.encode_text(["a", "b"])
    rows *= 2
    assert rows.flags.writeable and rows.flags.c_contiguous
    assert (nano.encode_text(["a"]) != rows[0]).any()


def test_iterating_with_bad_pictures(nano, pictures):
    paths = list(pictures.values())
    mixed = [paths[0], b"no picture", paths[1], None, paths[2]]
    found = list(nano.iter_image(iter(mixed), chunk_size=2, on_error="return"))
    assert [isinstance(row, altclip.AltClipError) for row in found] == [False, True, False, True, False]
    assert found[1].code == "E4001" and found[1].where.startswith("image 1")
    assert found[3].code == "E1101" and found[3].where == "images[3]"
    rows = nano.encode_image(paths[:3])
    assert (np.stack(found[::2]) == rows).all()
    with pytest.raises(altclip.AltClipInputError, match="E4001"):
        list(nano.iter_image(mixed, chunk_size=2))


def test_similarity_and_labels(nano, pictures):
    paths = [pictures["banana"], pictures["rocket"]]
    images, texts = nano.encode_image(paths), nano.encode_text(["banana", "火箭"])
    cosines = nano.similarity(images, texts)
    assert cosines.dtype == np.float32 and np.allclose(cosines, images @ texts.T, atol=1e-5)
    assert np.allclose(nano.similarity(paths, ["banana", "火箭"]), cosines, atol=1e-6)
    assert np.allclose(nano.similarity(images * 3, texts[0]), cosines[:, :1], atol=1e-6)
    assert (cosines.argmax(axis=1) == [0, 1]).all()
    best = nano.classify(paths[0], ["rocket", "banana", "key"])
    assert best[0]["label"] == "banana" and abs(sum(each["score"] for each in best) - 1) < 1e-5
    two = nano.classify(paths, ["rocket", "banana"], ["a picture of a {}", "{}"], top_k=1)
    assert [each[0]["label"] for each in two] == ["banana", "rocket"] and len(two[0]) == 1
    piped = nano.zero_shot_image_classification(paths[1], ["rocket", "key"], hypothesis_template="{}")
    assert piped[0]["label"] == "rocket"


def test_as_sentence_transformers(nano, pictures):
    one = nano.encode("一只猫")
    assert one.shape == (128,) and not np.allclose(np.linalg.norm(one), 1, atol=1e-2)
    both = nano.encode(["一只猫", Image.open(pictures["banana"]), "key"], batch_size=2, normalize_embeddings=True,
                       show_progress_bar=True)  # fmt: skip
    assert both.shape == (3, 128) and np.allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)
    assert (both[1] == nano.encode_image(pictures["banana"])[0]).all()
    assert isinstance(nano.encode(["a"], convert_to_numpy=False), list)
    assert nano.get_sentence_embedding_dimension() == 128


def test_progress(nano, pictures, capsys):
    nano.encode_text(["a"] * 100, progress=True)
    nano.encode_image(list(pictures.values()), progress=True)
    assert "100/100" in capsys.readouterr().err


def test_a_truncated_text_is_warned_of(nano):
    with pytest.warns(altclip.AltClipWarning, match="1 of 2 texts were truncated to 77 tokens"):
        nano.encode_text(["word " * 200, "word"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nano.encode_text(["word"])


def test_precisions_and_options(pictures):
    reference = altclip.load("nano").encode_image([pictures["banana"]])
    for precision in ("bf16", "int8"):
        model = altclip.load("nano", precision, threads=1, max_length=16)
        assert model.precision == precision and model.max_length == 16
        assert (model.encode_image([pictures["banana"]]) @ reference.T)[0, 0] > 0.98
    assert altclip.AltCLIP.from_pretrained("nano", dtype="bfloat16", cache=False).precision == "bf16"
    assert "E=128" in repr(altclip.load("nano"))


@pytest.mark.parametrize("family", ["wukong", "r2d2"])
def test_models_that_compare_in_their_own_way(family, golden_of, tmp_path):
    shutil.copytree(GOLDEN / "tokenizer_bert", tmp_path, dirs_exist_ok=True)
    file = shutil.copy(GOLDEN / "families" / family / f"{family}_tiny.pth", tmp_path)
    model = altclip.load(file)
    paths, labels = golden_of("alt_l").pictures, ["一只猫", "狗", "猫 和 狗"]
    found = model.similarity(paths, labels)
    assert found.shape == (4, 3)
    assert (model.similarity(labels, [Image.open(path) for path in paths]) == found.T).all()
    flags = [argument for label in labels for argument in ("--label", label)]
    rows = command("classify", "--model", file, "--json", *flags, *paths)
    expected = np.array([[cell["probability"] for cell in row["labels"]] for row in rows]).astype(np.float32)
    assert model.probabilities(paths, labels).tobytes() == expected.tobytes()
    with pytest.raises(altclip.AltClipInputError, match="similarity"):
        model(input_ids=[[1]], pixel_values=np.zeros((1, 3, 8, 8), np.float32))


def test_mteb_wrapper(nano, pictures):
    encoder = altclip.MtebEncoder(nano)
    batches = [{"text": ["a", "b"]}, {"text": ["c"]}]
    rows = encoder.encode(batches, task_metadata=None, hf_split="test", hf_subset="default")
    assert (rows == nano.encode_text(["a", "b", "c"])).all()
    image = Image.open(pictures["key"])
    assert encoder.encode([{"image": [image]}]).shape == (1, 128)
    both = encoder.encode([{"image": [image], "text": ["key"]}])
    assert np.allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)
    assert encoder.similarity(rows, rows).shape == (3, 3)
    assert np.allclose(encoder.similarity_pairwise(rows, rows), 1, atol=1e-6)
    # One row is a row, as sentence-transformers takes it.
    assert encoder.similarity(rows[0], rows[1]).shape == (1, 1)
    assert encoder.similarity_pairwise(rows[0], rows[0]).shape == (1,)
    assert altclip.MtebEncoder("nano", None, device="cpu").name == "altclip/nano"


def test_mteb_names():
    from altclip._mteb import _named

    assert _named("/hub/models--BAAI--AltCLIP/snapshots/abc") == ("BAAI/AltCLIP", "abc")
    assert _named("/models/AltCLIP/") == ("altclip/AltCLIP", None)
    assert _named("snapshots/abc") == ("altclip/abc", None)
