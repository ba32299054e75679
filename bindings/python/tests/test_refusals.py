"""Whatever is wrong is an exception that says what, where, what was found and what to do. Never wrong numbers."""

import io
import pickle

import altclip
import numpy as np
import pytest
from altclip import _native

RGB = np.zeros((20, 20, 3), np.uint8)


class Odd:
    pass


# (what, the call, code, a class of Python's own, a part of the message)
ROWS = [
    ("None among texts", lambda m: m.encode_text(["a", None]), "E1101", TypeError, "texts[1]"),
    ("bytes among texts", lambda m: m.encode_text([b"a"]), "E1101", TypeError, "bytes"),
    ("a lone surrogate", lambda m: m.encode_text(["a", "b\ud800"]), "E3101", ValueError, "text 1"),
    ("a text of 2 MiB", lambda m: m.encode_text(["a", "b" * (2 << 20)]), "E3105", ValueError, "text 1"),
    ("None among images", lambda m: m.encode_image([RGB, None]), "E1101", TypeError, "images[1]"),
    ("a number as an image", lambda m: m.encode_image([3]), "E1101", TypeError, "int"),
    ("any object as an image", lambda m: m.encode_image([Odd()]), "E1101", TypeError, "Odd"),
    ("no such file", lambda m: m.encode_image(["/none/there.png"]), "E4201", FileNotFoundError, "image 0"),
    ("a folder", lambda m: m.encode_image(["/"]), "E4201", OSError, "a folder"),
    ("NUL in a path", lambda m: m.encode_image(["a\0b"]), "E1101", ValueError, "NUL"),
    ("no picture", lambda m: m.encode_image([RGB, b"<html>"]), "E4001", ValueError, "image 1"),
    ("an empty file", lambda m: m.encode_image([b""]), None, ValueError, "image 0"),
    ("float pixels", lambda m: m.encode_image([RGB / 255]), "E4101", ValueError, "float64"),
    ("16-bit pixels", lambda m: m.encode_image([RGB.astype(">u2")]), "E4101", ValueError, ">u2"),
    ("bool pixels", lambda m: m.encode_image([RGB > 0]), "E4101", ValueError, "bool"),
    ("two channels", lambda m: m.encode_image([RGB[..., :2]]), "E4101", ValueError, "[20, 20, 2]"),
    ("0-d", lambda m: m.encode_image([np.uint8(3)]), "E4101", ValueError, "[]"),
    ("1-d", lambda m: m.encode_image([RGB.ravel()]), "E4101", ValueError, "[1200]"),
    ("no rows", lambda m: m.encode_image([RGB[:0]]), "E4101", ValueError, "[0, 20, 3]"),
    ("first or last", lambda m: m.encode_image([RGB[:3]]), "E4101", ValueError, "first or last"),
    ("objects", lambda m: m.encode_image([np.array([None, 1])]), "E4101", ValueError, "object"),
    ("pixel_values of a wrong size", lambda m: m.get_image_features(np.zeros((1, 3, 8, 8))), "E4101", ValueError,
     "[1, 3, 8, 8]"),
    ("pixel_values, channels last", lambda m: m.get_image_features(np.zeros((1, 64, 64, 3))), "E4101", ValueError,
     "expected [N, 3, 64, 64]"),
    ("pixel_values, whole numbers", lambda m: m.get_image_features(np.zeros((1, 3, 64, 64), int)), "E4101",
     ValueError, "int64"),
    ("pixel_values with NaN", lambda m: m.get_image_features(np.full((2, 3, 64, 64), np.nan)), "E4101", ValueError,
     "pixel_values[0]"),
    ("ids, floats", lambda m: m.get_text_features(np.zeros((1, 4))), "E1101", ValueError, "float64"),
    ("ids, a gap", lambda m: m.get_text_features([[0, 5, 2]], [[1, 0, 1]]), None, None, ""),
    ("ids, a gap in an array", lambda m: m.get_text_features(np.array([[0, 5, 2]]), np.array([[1, 0, 1]])), "E1101",
     ValueError, "gap"),
    ("ids, another shape of mask", lambda m: m.get_text_features(np.ones((1, 4), int), np.ones((1, 3), int)),
     "E1101", ValueError, "[1, 3]"),
    ("ids, padding without a mask", lambda m: m.get_text_features(np.array([[0, 5, 2, 1]])), "E1101", ValueError,
     "attention_mask"),
    ("an id beyond the vocabulary", lambda m: m.get_text_features([[0, 8_000, 2]]), "E1101", ValueError, "8000"),
    ("a negative id", lambda m: m.get_text_features(np.array([[0, -5, 2]])), "E1101", ValueError, "-5"),
    ("too many ids", lambda m: m.get_text_features([[0] + [5] * 600 + [2]]), "E1101", ValueError, "602 tokens"),
    ("no ids", lambda m: m.get_text_features([[]]), "E1101", ValueError, "0 tokens"),
    ("texts alone", lambda m: m(input_ids=[[0, 5, 2]]), "E1101", ValueError, "pixel_values"),
    ("no label", lambda m: m.classify(RGB, []), "E1101", ValueError, "no label"),
    ("rows of two widths", lambda m: m.similarity(np.ones((1, 128)), np.ones((1, 64))), "E1101", ValueError,
     "128 and 64"),
    ("rows of zeros", lambda m: m.similarity(np.zeros((1, 128)), np.ones((1, 128))), "E9003", RuntimeError, "finite"),
    ("ragged rows", lambda m: m.similarity([[1.0], [1.0, 2.0]], ["a"]), None, ValueError, ""),
    ("another device", lambda m: m.to("cuda"), "E1101", ValueError, "cuda"),
    ("no such model", lambda m: altclip.load("/none"), "E2001", FileNotFoundError, "no model folder"),
    ("a model that was not downloaded", lambda m: altclip.load("BAAI/AltCLIP"), "E2006", FileNotFoundError, "cache"),
    ("a name that is none", lambda m: altclip.load("a b c"), None, FileNotFoundError, ""),
    ("no such precision", lambda m: altclip.load("nano", "fp8"), "E1101", ValueError, "f32, bf16, int8"),
    ("no such keyword", lambda m: altclip.Model.load("nano", colour=1), None, TypeError, "colour"),
    ("a token as an argument", lambda m: altclip.AltCLIP.from_pretrained("x/y", token="t"), "E1101", ValueError,
     "HF_TOKEN"),
    ("no such index", lambda m: altclip.Index("/none").search("a"), "E7011", RuntimeError, "index"),
    ("no such task", lambda m: altclip.evaluate(m, "singing"), "E1101", ValueError, "singing"),
    ("a flag that is none", lambda m: altclip.evaluate(m, "zeroshot", "webdataset:/none", colour=1), "E1001",
     ValueError, "colour"),
    ("no such dataset", lambda m: altclip.evaluate(m, "zeroshot", "imagenet:/none"), None, (OSError, ValueError), ""),
    ("nothing to process", lambda m: altclip.AltCLIPProcessor.from_pretrained("nano")(), "E1101", ValueError, ""),
    ("texts of two lengths in an array",
     lambda m: altclip.AltCLIPProcessor.from_pretrained("nano")(["a", "a b"], return_tensors="np"), "E1101",
     ValueError, "padding=True"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "call", "code", "kind", "part"), ROWS, ids=[row[0] for row in ROWS])
def test_refused(nano, what, call, code, kind, part):
    if kind is None:
        # Lists are taken row by row, so that a gap is the caller's own affair.
        call(nano)
        return
    with pytest.raises(kind) as raised:
        call(nano)
    error = raised.value
    assert part in str(error)
    if code is not None:
        assert isinstance(error, altclip.AltClipError), repr(error)
        assert error.code == code and str(error).startswith(f"error[{code}] "), error
        assert error.help and "\n" not in str(error)
        assert error.where or error.got, error
    # The model goes on.
    assert nano.encode_text(["a"]).shape == (1, 128)


def test_every_layout_of_numbers_is_the_same(nano):
    values = np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype(np.float32)
    expected = nano.get_image_features(values)
    strided = np.zeros((2, 3, 64, 128), np.float32)
    strided[..., ::2] = values
    read_only = values.copy()
    read_only.flags.writeable = False
    for form in (values.astype(np.float64), values.astype(">f4"), np.asfortranarray(values), strided[..., ::2],
                 values[::-1][::-1], read_only, values.tolist()):  # fmt: skip
        assert (nano.get_image_features(form) == expected).all()
    ids = np.array([[0, 9, 2, 1], [0, 9, 9, 2]])
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    expected = nano.get_text_features(ids, mask)
    for kind in (">i4", np.uint16, np.int32):
        assert (nano.get_text_features(np.asfortranarray(ids.astype(kind)), mask.astype(bool)) == expected).all()


def test_the_first_bad_item_is_named_far_into_a_list(nano, pictures):
    items = [RGB] * 700 + [b"bad"]
    with pytest.raises(altclip.AltClipInputError) as raised:
        nano.encode_image(items)
    assert raised.value.where.startswith("image 700") and "image 700" in str(raised.value)
    with pytest.raises(altclip.AltClipInputError, match="image 700"):
        list(nano.iter_image(items))


def test_closed_models(pictures):
    model = altclip.load("nano")
    row = model.encode_text(["a"])
    with model:
        assert (model.encode_text(["a"]) == row).all()
    for use in (lambda: model.encode_text(["a"]), lambda: model.encode_image(pictures["key"]), lambda: model.family):
        with pytest.raises(RuntimeError) as raised:
            use()
        assert raised.value.code == "E9101"
    model.close()
    assert "closed" in repr(model)


def test_models_are_not_pickled(nano):
    with pytest.raises(RuntimeError, match="E9101"):
        pickle.dump(nano, io.BytesIO())


def test_a_panic_is_an_exception_and_the_process_lives(nano):
    for _ in range(3):
        with pytest.raises(altclip.AltClipInternalError, match="injected") as raised:
            _native.panic_on_purpose()
        assert raised.value.code == "E9001" and isinstance(raised.value, RuntimeError)
    assert nano.encode_text(["a"]).shape == (1, 128)


def test_all_faults_of_one_file_are_there(golden_of, tmp_path):
    import json
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(golden_of("alt_l").folder, folder)
    (folder / "pytorch_model.bin").unlink()
    file = folder / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for name in ("text_projection.weight", "visual_projection.weight"):
        header[name + "x"] = header.pop(name)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(altclip.AltClipModelError) as raised:
        altclip.load(folder).encode_text(["a"])
    assert {"E2101", "E2102"} <= {raised.value.code, *(other.code for other in raised.value.others)}
