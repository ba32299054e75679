"""Every stage of a forward pass, computed by transformers' own modules."""

from contextlib import contextmanager


@contextmanager
def recorded(modules):
    """Collect the outputs of modules, by the names given here, during a run."""
    outputs, handles = {}, []

    def hook(name):
        def keep(_module, _inputs, output):
            outputs[name] = output[0] if isinstance(output, tuple) else output

        return keep

    for name, module in modules.items():
        handles.append(module.register_forward_hook(hook(name)))
    yield outputs
    for handle in handles:
        handle.remove()


def is_clip(model):
    """Whether the text tower is OpenAI CLIP's causal one."""
    return model.config.model_type == "clip"


def text_modules(model):
    """Stage name → module, for the text tower."""
    tower = model.text_model
    body = tower if is_clip(model) else tower.roberta
    modules = {"text.embeddings": body.embeddings}
    modules |= {f"text.block.{i}": layer for i, layer in enumerate(body.encoder.layers)}
    return modules if is_clip(model) else modules | {"text.pre_ln": tower.pre_LN}


def vision_modules(model):
    """Stage name → module, for the vision tower."""
    tower = model.vision_model
    modules = {"vision.embeddings": tower.embeddings, "vision.pre_layrnorm": tower.pre_layrnorm}
    return modules | {f"vision.block.{i}": layer for i, layer in enumerate(tower.encoder.layers)}


def normalised(features):
    """Each row divided by its Euclidean length."""
    return features / features.pow(2).sum(-1, keepdim=True).pow(0.5)


def text_stages(model, batch):
    """Text tower: embeddings, blocks, last hidden state, pooled, features, embeds."""
    with recorded(text_modules(model)) as stages:
        output = model.text_model(**batch)
    stages["text.last_hidden_state"] = output.last_hidden_state
    stages["text.pooled"] = output.pooler_output
    stages["text.features"] = model.get_text_features(**batch).pooler_output
    stages["text.embeds"] = normalised(stages["text.features"])
    return stages


def vision_stages(model, pixel_values):
    """Vision tower: embeddings, pre_layrnorm, blocks, pooled, features, embeds."""
    with recorded(vision_modules(model)) as stages:
        output = model.vision_model(pixel_values)
    stages["vision.pooled"] = output.pooler_output
    stages["vision.features"] = model.get_image_features(pixel_values).pooler_output
    stages["vision.embeds"] = normalised(stages["vision.features"])
    return stages


def joint_stages(model, batch, pixel_values):
    """Logits both ways and probabilities, from the model's own forward."""
    output = model(pixel_values=pixel_values, **batch)
    return {
        "logit_scale": model.logit_scale.detach(),
        "logits_per_text": output.logits_per_text,
        "logits_per_image": output.logits_per_image,
        "probabilities": output.logits_per_image.softmax(dim=-1),
    }


def single_stages(model, singles):
    """The same texts one by one, without any padding."""
    stages = {}
    for index, batch in enumerate(singles):
        output = model.text_model(**batch)
        stages[f"single.{index}.input_ids"] = batch["input_ids"]
        stages[f"single.{index}.last_hidden_state"] = output.last_hidden_state
        stages[f"single.{index}.features"] = model.get_text_features(**batch).pooler_output
    return stages


def conditioning(model, batch, transformation_pre=None):
    """AltDiffusion's text states at every position of a padded batch.

    First generation: `transformation` of the last layer, no pre_LN.
    m18: `transformation_pre` of pre_LN of the last but one layer.
    """
    tower = model.text_model
    states = tower.roberta(**batch, output_hidden_states=True).hidden_states
    if transformation_pre is None:
        return tower.transformation(states[-1])
    return transformation_pre(tower.pre_LN(states[-2]))
