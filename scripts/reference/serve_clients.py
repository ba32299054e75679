"""Published clients against `altclip serve`: what they send is what is tested.

    build/serve-venv/bin/python scripts/reference/serve_clients.py target/release/altclip

openai, huggingface_hub and clip-retrieval's client are the packages themselves. The requests of infinity's and
text-embeddings-inference's documentation and of immich's server are written down here as those projects send them: their
packages need a model of their own.
"""

import base64
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import requests
from huggingface_hub import InferenceClient
from openai import APIStatusError, AuthenticationError, OpenAI, UnprocessableEntityError

KEY = "a-key-of-thirty-two-bytes-or-more-0123"


class Server:
    def __init__(self, program, *arguments, key=KEY):
        command = [program, "serve", "--model", "nano", "--port", "0", "--quiet", *arguments]
        env = {**os.environ, "ALTCLIP_API_KEY": key} if key else os.environ
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)
        self.url = json.loads(self.process.stdout.readline())["listening"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(40) == 0, self.process.returncode

    def request(self, method, path, **rest):
        headers = {"Authorization": f"Bearer {KEY}", **rest.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=60, **rest)

    def post(self, path, body):
        return self.request("POST", path, json=body)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def openai_package(server, picture):
    client = OpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0)
    # Its default asks for base64 and decodes it.
    plain = client.embeddings.create(model="nano", input=["red apple", "狗脸"])
    assert [item.index for item in plain.data] == [0, 1] and plain.usage.total_tokens > 4
    listed = client.embeddings.create(model="nano", input="red apple", encoding_format="float")
    assert cosine(plain.data[0].embedding, listed.data[0].embedding) > 1 - 1e-6
    assert [model.id for model in client.models.list()] == ["nano"]
    extra = {"modality": "image"}
    image = client.embeddings.create(model="nano", input=[picture], extra_body=extra)
    assert len(image.data[0].embedding) == len(listed.data[0].embedding)
    for call, expected in [
        (lambda: client.embeddings.create(model="nano", input=[]), UnprocessableEntityError),
        (lambda: client.embeddings.create(model="nano", input="a", dimensions=3), UnprocessableEntityError),
        (lambda: OpenAI(base_url=server.url + "/v1", api_key="wrong", max_retries=0).models.list(), AuthenticationError),
    ]:
        try:
            call()
            raise AssertionError("it was not refused")
        except APIStatusError as error:
            assert isinstance(error, expected), error
            # The package reads these from the error object.
            assert error.code.startswith("E8") and error.type and error.message


def huggingface_package(server, picture):
    client = InferenceClient(model=server.url + "/embed", token=KEY)
    rows = client.feature_extraction(["red apple", "key"], normalize=True, truncate=True)
    assert rows.shape[0] == 2 and abs(float((rows[0] ** 2).sum()) - 1) < 1e-4
    client = InferenceClient(model=server.url + "/similarity", token=KEY)
    scores = client.sentence_similarity("red apple", other_sentences=["red apple", "key"])
    assert scores[0] > 0.999 > scores[1]
    client = InferenceClient(model=server.url + "/classify", token=KEY)
    labels = ["banana", "red apple", "key"]
    found = client.zero_shot_image_classification(base64.b64decode(picture.split(",")[1]), candidate_labels=labels)
    assert found[0].label == "red apple" and abs(sum(item.score for item in found) - 1) < 1e-5


def published_shapes(server, picture):
    plain = picture.split(",")[1]
    for body in [
        # infinity
        {"model": "nano", "input": [picture], "encoding_format": "float", "modality": "image"},
        # Jina
        {"model": "jina-clip-v2", "dimensions": None, "normalized": True, "embedding_type": "float",
         "input": [{"text": "red apple"}, {"image": plain}]},
        # vLLM
        {"model": "nano", "encoding_format": "float",
         "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}]}]},
    ]:
        answer = server.post("/v1/embeddings", body)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["data"][0]["embedding"]) > 1
    # text-embeddings-inference
    assert isinstance(server.post("/embed", {"inputs": "What is Deep Learning?"}).json()[0][0], float)
    assert server.request("GET", "/info").json()["max_client_batch_size"] == 2048
    assert server.request("GET", "/health").status_code == 200
    # immich: machine-learning.repository.ts
    entries = {"clip": {"visual": {"modelName": "ViT-B-32__openai", "options": {}}}}
    files = {"image": ("blob", base64.b64decode(plain), "application/octet-stream")}
    answer = server.request("POST", "/predict", data={"entries": json.dumps(entries)}, files=files).json()
    assert len(json.loads(answer["clip"])) > 1 and answer["imageHeight"] > 0
    entries = {"clip": {"textual": {"modelName": "ViT-B-32__openai", "options": {"language": "en"}}}}
    form = {"entries": (None, json.dumps(entries)), "text": (None, "red apple")}
    answer = server.request("POST", "/predict", files=form).json()
    assert len(json.loads(answer["clip"])) > 1
    assert server.request("GET", "/ping").text == "pong"


def clip_retrieval(program, index, picture):
    """The client itself. It knows no keys, so it is a server without one, as clip-retrieval's own is."""
    # Beside the package, which imports its servers.
    file = Path(importlib.util.find_spec("clip_retrieval").submodule_search_locations[0]) / "clip_client.py"
    spec = importlib.util.spec_from_file_location("clip_client", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with Server(program, "--index", index, key=None) as server:
        names = requests.get(server.url + "/indices-list", timeout=60).json()
        client = module.ClipClient(url=server.url + "/knn-service", indice_name=names[0], num_images=5)
        vector = requests.post(server.url + "/embed", json={"inputs": "red apple"}, timeout=60).json()[0]
        for given in [{"text": "红苹果"}, {"image": str(picture)}, {"embedding_input": vector}]:
            found = client.query(**given)
            assert 0 < len(found) <= 5, found
            best = found[0]
            assert "red apple" in best["image_path"] and best["id"] >= 0 and best["similarity"] > 0, (given, best)
        similarities = [hit["similarity"] for hit in found]
        assert similarities == sorted(similarities, reverse=True)
        # An address is not fetched unless the server was told so; the client hands on what is said.
        assert "message" in client.query(image="http://example.com/a.jpg")
        wrong = module.ClipClient(url=server.url + "/knn-service", indice_name="laion5B-L-14")
        assert "message" in wrong.query(text="red apple")


def main():
    program = sys.argv[1]
    root = Path(__file__).resolve().parents[2]
    pictures = root / "crates/nano/pictures"
    data = base64.b64encode((pictures / "red apple.png").read_bytes()).decode()
    picture = "data:image/png;base64," + data
    with tempfile.TemporaryDirectory() as scratch:
        index = scratch + "/index"
        subprocess.run([program, "index", "add", str(pictures), "--index", index, "--model", "nano", "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        with Server(program, "--index", index) as server:
            for check in [openai_package, huggingface_package, published_shapes]:
                check(server, picture)
                print(f"ok: {check.__name__}")
        clip_retrieval(program, index, pictures / "red apple.png")
        print("ok: clip_retrieval")


if __name__ == "__main__":
    main()
