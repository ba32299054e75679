"""The peers behind one call: `load(arch, case)` gives a function that runs one batch.

Each engine gets its best ordinary settings for a fixed number of threads:
PyTorch eager with sdpa, OpenVINO with one stream and static shapes where the
case has one shape, ONNX Runtime with all its graph optimisations.
"""

import torch

import export
from towers import make


def torch_engine(dtype):
    """PyTorch, eager; a mask only where a text is padded."""

    def load(arch, case, threads):
        torch.set_num_threads(threads)
        model = make(arch, case.tower).to(dtype)

        def call(pixels_or_ids, mask=None):
            first = torch.from_numpy(pixels_or_ids)
            rest = () if mask is None or not case.mixed else (torch.from_numpy(mask),)
            with torch.inference_mode():
                return model(first.to(dtype) if case.tower == "image" else first, *rest).float().numpy()

        return call

    return load


def openvino_engine(precision):
    """OpenVINO; int8 models run what is left of their floats in bf16 where the processor has it."""

    def load(arch, case, threads):
        import openvino

        path = (export.openvino_int8 if precision == "int8" else export.openvino_f32)(arch, case.tower)
        core = openvino.Core()
        model = core.read_model(path)
        if not case.mixed:
            fixed = [case.batch, 3, 224, 224] if case.tower == "image" else [case.batch, case.tokens]
            model.reshape({name: fixed for name in export.INPUTS[case.tower]})
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        options["INFERENCE_PRECISION_HINT"] = "f32" if precision == "f32" else "bf16"
        compiled = core.compile_model(model, "CPU", options)
        request = compiled.create_infer_request()
        return lambda *inputs: request.infer(list(inputs), share_inputs=True)[0]

    return load


def onnxruntime_engine(precision):
    """ONNX Runtime on its CPU provider."""

    def load(arch, case, threads):
        import onnxruntime

        path = (export.onnx_int8 if precision == "int8" else export.onnx_f32)(arch, case.tower)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_inputs()]
        return lambda *inputs: session.run(None, dict(zip(names, inputs)))[0]

    return load


ENGINES = {
    ("pytorch", "f32"): torch_engine(torch.float32),
    ("pytorch", "bf16"): torch_engine(torch.bfloat16),
    ("openvino", "f32"): openvino_engine("f32"),
    ("openvino", "bf16"): openvino_engine("bf16"),
    ("openvino", "int8"): openvino_engine("int8"),
    ("onnxruntime", "f32"): onnxruntime_engine("f32"),
    ("onnxruntime", "int8"): onnxruntime_engine("int8"),
}
