"""The encoder in the hands of mteb itself, on tasks that are made here: `just python-full`."""

import os

import altclip
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.full
if os.environ.get("ALTCLIP_FULL"):
    import mteb

NAMES = ["banana", "key", "rocket", "panda"]
PAIRS = [("a dog", "一只狗", 5), ("a key", "一把钥匙", 5), ("a rocket", "火箭", 4), ("a dog", "火箭", 0),
         ("a key", "一只狗", 1), ("a banana", "香蕉", 5), ("a banana", "钥匙", 0)]  # fmt: skip


def described(name, kind, category, modalities, score):
    """The metadata of a task without data elsewhere."""
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=name, type=kind, category=category, modalities=modalities, main_score=score,
        description="made by a test", reference=None, dataset={"path": "none", "revision": "none"},
        eval_splits=["test"], eval_langs=["eng-Latn"], date=None, domains=None, task_subtypes=None, license=None,
        annotations_creators=None, dialect=None, sample_creation=None, bibtex_citation="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tasks(pictures):
    """Text to picture, picture and text to text, pairs of texts, bitexts, labels, and one of summaries."""
    from datasets import Dataset, DatasetDict
    from mteb import abstasks
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

    images = [Image.open(pictures[name]).convert("RGBA") for name in NAMES]
    texts = [f"a picture of a {name}" for name in NAMES]

    def retrieval(queries, corpus):
        queries, corpus = ({key: list(values) for key, values in side.items()} for side in (queries, corpus))
        return {"default": {"test": RetrievalSplitData(
            queries=Dataset.from_dict({"id": [f"q{n}" for n in range(4)], **queries}),
            corpus=Dataset.from_dict({"id": [f"d{n}" for n in range(4)], **corpus}),
            relevant_docs={f"q{n}": {f"d{n}": 1} for n in range(4)}, top_ranked=None,
        )}}  # fmt: skip

    class Made:
        """A task whose data are there at once."""

        def load_data(self, *_args, **_kwargs):
            self.dataset, self.data_loaded = self.made(), True

    class ToPicture(Made, abstasks.AbsTaskRetrieval):
        metadata = described("ToPicture", "Any2AnyRetrieval", "t2i", ["text", "image"], "ndcg_at_10")

        def made(self):
            return retrieval({"text": texts}, {"image": images})

    class FromBoth(Made, abstasks.AbsTaskRetrieval):
        metadata = described("FromBoth", "Any2AnyRetrieval", "it2t", ["text", "image"], "ndcg_at_10")

        def made(self):
            return retrieval({"text": NAMES, "image": images}, {"text": texts})

    class Pairs(Made, abstasks.AbsTaskSTS):
        metadata = described("Pairs", "STS", "t2t", ["text"], "cosine_spearman")

        def made(self):
            first, second, score = zip(*PAIRS)
            return DatasetDict(test=Dataset.from_dict({
                "sentence1": list(first), "sentence2": list(second), "score": list(score)}))  # fmt: skip

    class Bitexts(Made, abstasks.AbsTaskBitextMining):
        metadata = described("Bitexts", "BitextMining", "t2t", ["text"], "f1")

        def made(self):
            first, second, _ = zip(*(pair for pair in PAIRS if pair[2] == 5))
            return DatasetDict(test=Dataset.from_dict({"sentence1": list(first), "sentence2": list(second)}))

    class Labels(Made, abstasks.AbsTaskZeroShotClassification):
        metadata = described("Labels", "ZeroShotClassification", "i2t", ["image", "text"], "accuracy")

        def made(self):
            return DatasetDict(test=Dataset.from_dict({"image": images, "label": list(range(4))}))

        def get_candidate_labels(self):
            return texts

    class Summaries(Made, abstasks.AbsTaskSummarization):
        metadata = described("Summaries", "Summarization", "t2t", ["text"], "cosine_spearman")
        min_score, max_score = 0, 5

        def made(self):
            return DatasetDict(test=Dataset.from_dict({
                "text": ["a dog"], "human_summaries": [["a dog", "dogs"]],
                "machine_summaries": [["a dog", "a key", "rockets"]], "relevance": [[5, 1, 0]]}))  # fmt: skip

    return {kind.__name__: kind for kind in (ToPicture, FromBoth, Pairs, Bitexts, Labels, Summaries)}


def scores(results):
    return {result.task_name: result.scores["test"][0] for result in results}


def test_it_is_an_encoder(nano):
    from mteb.models.models_protocols import EncoderProtocol

    encoder = altclip.MtebEncoder(nano)
    assert isinstance(encoder, EncoderProtocol)
    meta = encoder.mteb_model_meta
    assert meta.embed_dim == 128 and meta.name.startswith("altclip/nano") and meta.to_dict()["loader"] is None


def test_tasks_give_the_figures_of_the_model(nano, pictures, tasks, tmp_path):
    found = mteb.evaluate(altclip.MtebEncoder(nano), [kind() for kind in tasks.values()],
                          cache=mteb.ResultCache(tmp_path), co2_tracker=False, show_progress_bar=False)  # fmt: skip
    found = scores(found.task_results)
    assert sorted(found) == sorted(tasks)
    texts = nano.encode_text([f"a picture of a {name}" for name in NAMES])
    images = nano.encode_image([pictures[name] for name in NAMES])

    def first(queries, corpus):
        return np.mean(nano.similarity(queries, corpus).argmax(axis=1) == np.arange(4))

    assert found["ToPicture"]["recall_at_1"] == pytest.approx(first(texts, images), abs=1e-4)
    both = images + nano.encode_text(NAMES)
    assert found["FromBoth"]["recall_at_1"] == pytest.approx(first(both, texts), abs=1e-4)
    assert found["Labels"]["accuracy"] == pytest.approx(first(images, texts), abs=1e-4)
    # Its own similarity is the cosine that mteb computes itself.
    for figure in ("pearson", "spearman"):
        assert found["Pairs"][figure] == pytest.approx(found["Pairs"][f"cosine_{figure}"], abs=1e-5)
        assert found["Summaries"][figure] == pytest.approx(found["Summaries"][f"cosine_{figure}"], abs=1e-5)
    cosines = [nano.similarity([a], [b])[0, 0] for a, b, _ in PAIRS]
    expected = np.corrcoef(cosines, [score for *_, score in PAIRS])[0, 1]
    assert found["Pairs"]["pearson"] == pytest.approx(expected, abs=1e-4)
    assert 0 <= found["Bitexts"]["f1"] <= 1
    # What was written says who it was.
    assert any("altclip__nano" in str(path) for path in tmp_path.rglob("Pairs.json"))


def test_the_older_way_to_run_tasks(nano, tasks, tmp_path):
    found = mteb.MTEB(tasks=[tasks["Pairs"](), tasks["ToPicture"]()]).run(
        altclip.MtebEncoder(nano), output_folder=str(tmp_path), verbosity=0
    )
    assert sorted(scores(found)) == ["Pairs", "ToPicture"]
