"""The example of the model card, with its imports changed and nothing else."""

import subprocess
import sys

import numpy as np
from conftest import off
from PIL import Image


def test_the_published_example(golden):
    DIR = golden.folder
    image = Image.open(golden.pictures[0])

    from altclip import AltCLIP, AltCLIPProcessor

    model = AltCLIP.from_pretrained(DIR)
    processor = AltCLIPProcessor.from_pretrained(DIR)

    inputs = processor(text=["a photo of a cat", "a photo of a dog"], images=image, return_tensors="pt", padding=True)

    outputs = model(**inputs)
    logits_per_image = outputs.logits_per_image  # this is the image-text similarity score
    probs = logits_per_image.softmax(dim=1)  # we can take the softmax to get the label probabilities

    assert tuple(probs.shape) == (1, 2)
    assert abs(float(probs.sum()) - 1) < 1e-6
    assert probs[0].tolist() == probs.numpy()[0].tolist()
    assert int(probs.argmax(dim=1)[0]) == int(np.argmax(probs.numpy()[0]))
    model_probs = model.probabilities(image, ["a photo of a cat", "a photo of a dog"])
    assert np.allclose(np.asarray(probs), model_probs, atol=1e-6)


def test_the_numbers_of_transformers(golden):
    from altclip import AltCLIP, AltCLIPProcessor

    model = AltCLIP.from_pretrained(golden.folder)
    processor = AltCLIPProcessor.from_pretrained(golden.folder)
    images = [Image.open(path) for path in golden.pictures]
    inputs = processor(text=golden.texts, images=images, return_tensors="np", padding=True, truncation=True)
    expected = golden.expected
    assert (inputs["input_ids"] == expected["text.input_ids"]).all()
    assert (inputs.attention_mask == expected["text.attention_mask"]).all()
    assert inputs["pixel_values"].tobytes() == expected["vision.pixel_values"].tobytes()

    outputs = model(**inputs)
    assert off(outputs.logits_per_image, expected["logits_per_image"]) < 1e-5
    assert off(outputs["logits_per_text"], expected["logits_per_image"].T) < 1e-5
    assert off(outputs.logits_per_image.softmax(dim=1), expected["probabilities"]) < 1e-5
    assert off(outputs.text_embeds, expected["text.embeds"]) < 1e-5
    assert off(outputs[3], expected["vision.embeds"]) < 1e-5

    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    image = model.get_image_features(pixel_values=inputs["pixel_values"])
    assert type(text) is np.ndarray and text.dtype == np.float32
    assert type(image) is np.ndarray and image.dtype == np.float32
    assert off(text, expected["text.features"]) < 1e-5
    assert off(image, expected["vision.features"]) < 1e-5
    # The measure can tell a wrong result.
    assert off(text[::-1], expected["text.features"]) > 1e-2


def test_padding_on_either_side_is_no_part_of_a_text(golden):
    from altclip import AltCLIP, AltCLIPProcessor

    model = AltCLIP.from_pretrained(golden.folder)
    processor = AltCLIPProcessor.from_pretrained(golden.folder)
    lists = processor(text=golden.texts, truncation=True)
    padded = processor(text=golden.texts, truncation=True, padding="max_length", return_tensors="np")
    assert padded["input_ids"].shape == (len(golden.texts), 77)
    left = np.roll(padded["input_ids"], 5, axis=1), np.roll(padded["attention_mask"], 5, axis=1)
    fits = padded["attention_mask"].sum(axis=1) <= 72
    plain = model.get_text_features(**lists)
    assert (model.get_text_features(**padded) == plain).all()
    assert (model.get_text_features(left[0][fits], left[1][fits]) == plain[fits]).all()


def test_importing_is_light():
    code = "import sys, altclip; assert 'numpy' not in sys.modules and 'PIL' not in sys.modules; altclip.load; " \
           "assert 'numpy' in sys.modules and 'PIL' not in sys.modules and 'torch' not in sys.modules"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True)
