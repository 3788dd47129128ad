"""The model computes in the type of its frozen towers, whoever runs it and whatever is around it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import MakeConfig, chirp, open_gates, pixels, text_batch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Subset
from toy_run import Toy, make_trainer, open_all_gates, switch_dropout_off

from evlvideo.assembly.datasets import evaluation_dataset, video_dataset
from evlvideo.assembly.models import open_model, start_model
from evlvideo.comparison.page.inspect_models import inspect_models
from evlvideo.comparison.rows.system import System
from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.inference.caption_files import caption_files
from evlvideo.inference.captioning import generate_captions
from evlvideo.inference.extract_features import extract_features
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.precision import Float32LayerNorm, autocast_by
from evlvideo.training.scst.trainer import SelfCriticalTrainer

FORMS = {
    "mean": {"fusion": "mean"},
    "in_tower": {"fusion": "concat", "contextualizer": "in_tower", "frame_positions": True},
    "merged": {"fusion": "mean_tokens", "contextualizer": "merged"},
    "lora": {"lora_r": 2},
    "videochat": {
        "connector": "videochat",
        "merge_r": None,
        "connector_options": {"relation_blocks": 2, "relation_heads": 4, "num_queries": 3, "extra_queries": 3},
    },
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def captioner(make_config: MakeConfig, precision: str = "bf16", **changes: Any) -> EvlVideoForCaptioning:
    torch.manual_seed(0)
    model = EvlVideoForCaptioning.from_towers(make_config(**changes), tower_dtype=PRECISIONS[precision])
    open_gates(model)
    switch_dropout_off(model)
    return model


@contextmanager
def prompts_of(method: str = "features_to_prompt") -> Iterator[list[Tensor]]:
    """Collect every soft prompt that any captioner computes meanwhile."""
    found: list[Tensor] = []
    original = getattr(EvlVideoForCaptioning, method)

    def compute(self: EvlVideoForCaptioning, *args: Any, **kwargs: Any) -> Tensor:
        found.append(original(self, *args, **kwargs))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EvlVideoForCaptioning, method, compute)
        yield found


def rounding(prompt: Tensor) -> float:
    """How far equal prompts may be apart: not at all, but on a GPU, which adds up merged tokens in any order."""
    return 0.0 if prompt.device.type == "cpu" else 0.02 * float(prompt.abs().max())


class TestPaths:
    """The same clip on every path that computes a soft prompt."""

    @pytest.fixture(params=["fp32", "bf16", pytest.param("bf16", id="bf16-gpu", marks=pytest.mark.needs_cuda)])
    def precision(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture(params=["mean", "in_tower", "merged"])
    def run(self, request: pytest.FixtureRequest, precision: str, toy: Toy, tmp_path: Path) -> RunConfig:
        """A finished run's config; its directory holds the model."""
        training = {"precision": precision, "batch_size": 1, "max_steps": 1}
        form = FORMS[request.param]
        config = toy.config(tmp_path / "run", model=form, training=training, generation={"batch_size": 1})
        model, processor = start_model(config, tower_dtype=PRECISIONS[precision])
        open_all_gates(model)
        model.save_pretrained(tmp_path / "run")
        processor.save_pretrained(tmp_path / "run")
        save_config(config, tmp_path / "run" / "config.yaml")
        return config

    @pytest.fixture
    def paths(self, run: RunConfig, toy: Toy, tmp_path: Path) -> dict[str, Callable[[], Any]]:
        directory, clips = Path(run.output_dir), toy.clips("validate")[:1]

        def trainer(**sections: Any) -> Any:
            training = {"precision": run.training.precision, "batch_size": 1, "max_steps": 1}
            config = toy.config(tmp_path / "more", init=directory, training=training, **sections)
            made = make_trainer(config)
            switch_dropout_off(made.model)
            made.eval_dataset = Subset(made.eval_dataset, [0])
            made.model_wrapped = made.accelerator.prepare(made.model)
            return made

        def batch(made: Any) -> dict[str, Any]:
            item = evaluation_dataset(run.data, made.captioner, made.processor, clips, "validate")[0]
            return made.data_collator([{**item, "caption": item["captions"][0]}])

        def train() -> None:
            made = trainer()
            made.training_step(made.model_wrapped, batch(made), torch.tensor(1))

        def draw() -> None:
            made = trainer(run={"stage": "scst"}, scst={"num_samples": 2})
            assert isinstance(made, SelfCriticalTrainer)
            made.reward = lambda captions, clip_ids, ended: [1.0] * len(captions)
            made.roll_out([made._prepare_inputs(batch(made))])

        def generate() -> None:
            model, processor = open_model(directory, run)
            generate_captions(model, processor, video_dataset(run.data, processor, clips), run.generation)

        return {
            "training": train,
            "validation": lambda: trainer().evaluate(),
            "evaluate": generate,
            "caption": lambda: list(caption_files([clips[0].video], str(directory))),
            "compare": lambda: inspect_models([System("run", directory, None, {}, {}, {}, None)], clips),
            "scst": draw,
        }

    def test_computes_the_same_prompt_bit_for_bit(self, paths: dict[str, Callable[[], Any]], precision: str) -> None:
        found = {}
        for name, run_path in paths.items():
            with prompts_of() as prompts:
                run_path()
            assert len(prompts) == 1, name
            found[name] = prompts[0].detach()
        assert {name: prompt.dtype for name, prompt in found.items()} == dict.fromkeys(found, PRECISIONS[precision])
        differences = {name: float((prompt - found["training"]).abs().max()) for name, prompt in found.items()}
        assert max(differences.values()) <= rounding(found["training"])
        assert found["training"].abs().max() > 0.1

    def test_features_give_the_prompt_of_frames(self, run: RunConfig, toy: Toy, tmp_path: Path) -> None:
        if run.model.contextualizer == "in_tower":
            pytest.skip("what is trained in the tower needs frames")
        clips = toy.clips("validate")[:1]
        with_features = toy.config(
            tmp_path / "features-run",
            init=Path(run.output_dir),
            data={"features": str(tmp_path / "features"), "train_sampling": "uniform", "augment": False},
            training={"precision": run.training.precision, "batch_size": 1},
        )
        extract_features(with_features, ["validate"])
        model, processor = open_model(run.output_dir, run)
        shown = ("pixel_values", "features")
        prompts = [
            model.encode(**{name: item[name][None].to(model.device) for name in shown if name in item})
            for config in (run, with_features)
            for item in [evaluation_dataset(config.data, model, processor, clips, "validate")[0]]
        ]
        assert (prompts[0] - prompts[1]).abs().max() <= rounding(prompts[0])


@every_precision
@pytest.mark.parametrize("form", FORMS)
def test_what_a_caller_enters_changes_nothing(make_config: MakeConfig, precision: str, form: str) -> None:
    model, frames, text = captioner(make_config, precision, **FORMS[form]), pixels(2, 3), text_batch()
    results = []
    for around in (torch.autocast("cpu", enabled=False), torch.autocast("cpu", torch.bfloat16)):
        with around, torch.no_grad():
            prompt = model.encode(frames)
            # A text of two words, as the toy's language model tells no others apart.
            captions = model.generate(frames, max_new_tokens=4, min_new_tokens=4)
            results.append((model.vision_tower(frames), prompt, model(frames, **text).logits, captions))
    assert all(torch.equal(plain, cast) for plain, cast in zip(*results, strict=True))
    assert results[0][0].dtype == results[0][2].dtype == PRECISIONS[precision]


def test_half_precision_is_near_float32_and_not_equal_to_it(make_config: MakeConfig) -> None:
    with torch.no_grad():
        half, full = (captioner(make_config, precision).encode(pixels(2, 3)) for precision in ("bf16", "fp32"))
    assert 0 < (half - full).abs().max() < 0.1 * full.abs().max()


@pytest.mark.parametrize("form", FORMS)
def test_gradients_arrive_after_drawing_in_the_same_autocast(make_config: MakeConfig, form: str) -> None:
    """Autocast keeps copies of weights: one made without gradient must not be used with gradient."""
    frames, text = pixels(2, 3), text_batch()
    gradients = []
    for draws in (False, True):
        model = captioner(make_config, **FORMS[form])
        with torch.autocast("cpu", torch.bfloat16):
            if draws:
                model.generate(frames, max_new_tokens=2)
                with torch.no_grad():
                    model.encode(frames)
            loss = model(frames, **text).loss
        loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad})
    assert {name for name, value in gradients[1].items() if value is None} == set()
    assert all(torch.equal(gradients[1][name], value) for name, value in gradients[0].items())


def test_copies_of_weights_are_kept_where_there_is_a_gradient_alone() -> None:
    weight = torch.zeros(1, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        with autocast_by(weight):
            assert torch.is_autocast_cache_enabled()
        with torch.no_grad(), autocast_by(weight):
            assert not torch.is_autocast_cache_enabled()
        assert torch.is_autocast_cache_enabled()


def test_features_of_another_type_are_brought_to_the_towers(make_config: MakeConfig) -> None:
    model, frames = captioner(make_config), pixels(2, 3)
    with torch.no_grad():
        features = model.vision_tower(frames)
        assert features.dtype == torch.bfloat16
        assert torch.equal(model.encode(features=features.float()), model.encode(frames))


def test_loss_and_logits_of_half_precision(make_config: MakeConfig) -> None:
    output = captioner(make_config)(pixels(2, 1), **text_batch())
    assert (output.loss.dtype, output.logits.dtype) == (torch.float32, torch.bfloat16)


def test_autocast_keeps_ln_vision_in_float32() -> None:
    norm = Float32LayerNorm(48)
    x = 1000 + chirp(2, 48)
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x)
    assert out.dtype == torch.float32
    assert torch.equal(out, norm(x))


def test_ln_vision_computes_half_precision_input_in_float32() -> None:
    norm = Float32LayerNorm(48)
    x = chirp(2, 48).bfloat16()
    assert torch.equal(norm(x), F.layer_norm(x.float(), (48,), norm.weight, norm.bias, 1e-5))
