"""Each tower once as OpenVINO IR and as ONNX, in f32 and in int8, kept under `build/peers`."""

import shutil
import sys
from pathlib import Path

import torch

from cases import Case, batches
from towers import make

ROOT = Path(__file__).resolve().parents[2] / "build" / "peers"
CALIBRATION = 4
INPUTS = {"image": ["pixels"], "text": ["ids", "mask"]}


def example(tower, batch=2):
    """Inputs to trace with, or to calibrate with."""
    return batches(Case(tower, batch, 257 if tower == "image" else 16))[0]


def once(path, write):
    """`path`, written through a folder beside it so that half a file is never found."""
    if not path.exists():
        print(f"writing {path.relative_to(ROOT)}", file=sys.stderr)
        scratch = path.parent / f"{path.name}.part"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        write(scratch / path.name)
        for file in sorted(scratch.iterdir(), key=lambda file: file.name == path.name):
            file.rename(path.parent / file.name)
        scratch.rmdir()
    return path


def openvino_f32(arch, tower):
    """IR with f32 weights and dynamic shapes."""

    def write(path):
        import openvino

        module = make(arch, tower)
        shapes = [[-1, 3, 224, 224]] if tower == "image" else [[-1, -1]] * 2
        inputs = tuple(map(torch.from_numpy, example(tower)))
        with torch.no_grad():
            model = openvino.convert_model(module, example_input=inputs, input=shapes)
        for port, name in zip(model.inputs, INPUTS[tower]):
            port.get_tensor().set_names({name})
        openvino.save_model(model, path, compress_to_fp16=False)

    return once(ROOT / arch / f"{tower}.xml", write)


def openvino_int8(arch, tower):
    """Post-training quantisation for transformers, SmoothQuant included; random inputs calibrate it."""
    source = openvino_f32(arch, tower)

    def write(path):
        import nncf
        import openvino

        random = [example(tower, batch) for batch in range(1, CALIBRATION + 1)]
        data = nncf.Dataset([dict(zip(INPUTS[tower], inputs)) for inputs in random])
        model = openvino.Core().read_model(source)
        options = {"model_type": nncf.ModelType.TRANSFORMER, "subset_size": CALIBRATION}
        openvino.save_model(nncf.quantize(model, data, **options), path, compress_to_fp16=False)

    return once(ROOT / arch / f"{tower}.int8.xml", write)


def onnx_f32(arch, tower):
    """ONNX with f32 weights and dynamic shapes."""

    def write(path):
        batch, tokens = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("tokens", min=2, max=512)
        dynamic = ({0: batch},) if tower == "image" else ({0: batch, 1: tokens},) * 2
        inputs = tuple(map(torch.from_numpy, example(tower)))
        names = {"input_names": INPUTS[tower], "output_names": ["features"]}
        torch.onnx.export(
            make(arch, tower), inputs, path, dynamo=True, dynamic_shapes=dynamic, external_data=True, **names
        )

    return once(ROOT / arch / f"{tower}.onnx", write)


def onnx_int8(arch, tower):
    """Dynamic quantisation: int8 weights by channel, activations quantised on the way."""
    source = onnx_f32(arch, tower)

    def write(path):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        options = {"weight_type": QuantType.QInt8, "per_channel": True, "op_types_to_quantize": ["MatMul", "Gemm"]}
        quantize_dynamic(source, path, use_external_data_format=True, **options)

    return once(ROOT / arch / f"{tower}.int8.onnx", write)
