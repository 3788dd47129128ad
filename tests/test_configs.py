"""Every YAML that is shipped loads, opens with the command that uses it, and builds its model."""

import shlex
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from evlvideo.assembly.architecture import run_architecture
from evlvideo.assembly.stages import check_parts
from evlvideo.config.loading import load_config
from evlvideo.config.recipes.recipe import is_recipe, load_recipe
from evlvideo.config.run import TOWERS, RunConfig
from evlvideo.models.architecture import read_architecture
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors import CONNECTORS
from evlvideo.training.arguments import training_arguments

ROOT = Path(__file__).parents[1]
EVLGEN_ARCHITECTURES = sorted((ROOT / "configs" / "architectures").glob("evlgen_*.yaml"))
ARCHITECTURES = sorted((ROOT / "configs" / "architectures").rglob("*.y*ml"))
RECIPES = sorted(path for path in (ROOT / "configs").rglob("*.y*ml") if is_recipe(path))
ELIP = sorted((ROOT / "configs" / "elip").glob("*.yaml"))
CONFIGS = sorted(set((ROOT / "configs").rglob("*.y*ml")) - {*ARCHITECTURES, *RECIPES, *ELIP})
EVLGEN_FORMS = {
    f"{form}_{language}"
    for form in ("concat", "mean", "image", "video", "scst")
    for language in ("opt2.7b", "vicuna7b")
}


COMPARED = {
    # connector, frames, learning rates, weight decay, warm-up, beams, longest
    "blip2_opt2.7b": ("blip2", 8, (1e-6, 0.0), 0.05, 1000, 5, 32),
    "blip2_vicuna7b": ("blip2", 8, (1e-5, 0.0), 0.05, 1000, 5, 32),
    "video_llama_vicuna7b": ("video_llama", 4, (3e-5, 1e-5), 0.05, 2500, 3, 20),
    "videochat_vicuna7b": ("videochat", 4, (1e-6, 1e-7), 1e-4, 1000, 3, 20),
    "video_coca_vicuna7b": ("video_coca", 4, (1e-6, 1e-7), 1e-4, 1000, 3, 20),
}
MSRVTT_CAPTIONS = 130_260
EPOCHS = {"blip2_opt2.7b": 30, "blip2_vicuna7b": 20, "video_llama_vicuna7b": 30, "videochat_vicuna7b": 30}


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def command(config: Path) -> list[str]:
    return shlex.split(config.read_text(encoding="utf-8").splitlines()[0])


@cache
def loaded(name: str | Path) -> RunConfig:
    """Load a config by its path, or its name in `configs`; tests do not change it."""
    return load_config(ROOT / "configs" / name)


def with_architecture(run: RunConfig) -> RunConfig:
    """Of a run that starts from another config's run and names no architecture, that one's start."""
    before = {other.output_dir: other for other in map(loaded, CONFIGS)}
    return run if run.architecture or run.init not in before else replace(run, init=before[run.init].init)


def test_there_are_configs() -> None:
    assert {path.parent.name for path in CONFIGS} >= {"mini", "evlgen", "msrvtt", "msvd", "webvid", "small"}
    assert {path.stem for path in CONFIGS if path.parent.name == "msrvtt"} >= EVLGEN_FORMS | COMPARED.keys()
    assert {path.stem for path in CONFIGS if path.parent.name == "connectors"} == set(CONNECTORS)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
class TestShippedConfig:
    def test_opens_with_its_command(self, config: Path) -> None:
        assert command(config)[:4] == ["#", "evlvideo", "train", str(config.relative_to(ROOT))]

    def test_loads_as_its_command_asks(self, config: Path) -> None:
        load_config(config, command(config)[4:])

    def test_writes_to_its_own_directory(self, config: Path) -> None:
        others = [loaded(other).output_dir for other in CONFIGS if other != config]
        assert loaded(config).output_dir not in others

    def test_starts_from_the_package_towers_a_checkpoint_or_another_config(self, config: Path) -> None:
        init = loaded(config).init
        written = {loaded(other).output_dir for other in CONFIGS if other != config}
        written |= {str(stage.directory) for recipe in RECIPES for stage in load_recipe(recipe).stages}
        assert init in ("mini", TOWERS) or init.startswith("checkpoints/") or init in written

    def test_builds_its_model(self, config: Path) -> None:
        """On the meta device: every size, name and combination, and no memory."""
        architecture = run_architecture(with_architecture(loaded(config)))
        with torch.device("meta"):
            model = EvlVideoForCaptioning(architecture)
        assert any(weight.requires_grad for weight in model.parameters())

    def test_is_understood_by_the_trainer(self, config: Path, tmp_path: Path) -> None:
        arguments = training_arguments(load_config(config, [f"output_dir={tmp_path}"]), "fp32")
        assert arguments.max_steps == loaded(config).training.max_steps


def test_there_are_recipes() -> None:
    names = {f"{path.parent.name}/{path.stem}" for path in RECIPES}
    assert names >= {"alignment/four_stages", "alignment/llava15", "alignment/small", "mini/alignment"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
class TestShippedRecipe:
    def test_opens_with_its_command(self, recipe: Path) -> None:
        assert command(recipe) == ["#", "evlvideo", "train", str(recipe.relative_to(ROOT))]

    def test_writes_to_its_own_directory(self, recipe: Path) -> None:
        taken = {loaded(path).output_dir for path in CONFIGS}
        taken |= {str(load_recipe(path).directory) for path in RECIPES if path != recipe}
        assert str(load_recipe(recipe).directory) not in taken

    def test_every_stage_trains_parts_that_its_model_has(self, recipe: Path) -> None:
        check_parts(load_recipe(recipe))

    def test_is_understood_by_the_trainer(self, recipe: Path, tmp_path: Path) -> None:
        for stage in load_recipe(recipe, [f"output_dir={tmp_path}"]).stages:
            assert training_arguments(stage.config, "fp32").max_steps == stage.config.training.max_steps


@pytest.mark.parametrize("config", [path for path in CONFIGS if path.parent.name == "mini"], ids=lambda path: path.stem)
def test_mini_configs_do_not_flip(config: Path) -> None:
    """A flipped clip contradicts captions that tell left from right."""
    run = loaded(config)
    assert (run.data.dataset, run.data.horizontal_flip) == ("mini", 0.0)


@pytest.mark.parametrize(
    "config", [path for path in CONFIGS if path.parent.name == "image"], ids=lambda path: path.stem
)
def test_mini_image_configs_do_not_flip(config: Path) -> None:
    """A flipped picture contradicts captions and questions that tell left from right."""
    data = loaded(config).data
    assert (data.num_frames, data.horizontal_flip) == (1, 0.0)


@pytest.mark.parametrize("name", COMPARED)
def test_msrvtt_configs_of_other_systems_follow_their_published_recipe(name: str) -> None:
    run = loaded(f"msrvtt/{name}.yaml")
    training, generation = run.training, run.generation
    connector, frames, rates, decay, warmup, beams, longest = COMPARED[name]
    assert run_architecture(run).connector == connector
    assert (run.data.num_frames, generation.num_beams, generation.max_new_tokens) == (frames, beams, longest)
    assert (training.learning_rate, training.min_learning_rate) == rates
    assert (training.weight_decay, training.warmup_steps) == (decay, warmup)
    epochs = EPOCHS.get(name, 10)
    assert training.max_steps == round(epochs * MSRVTT_CAPTIONS / (8 * training.batch_size))


@pytest.mark.parametrize("connector", CONNECTORS)
def test_mini_configs_of_connectors_differ_in_the_model_and_its_learning_rate_alone(connector: str) -> None:
    run, other = loaded(f"mini/connectors/{connector}.yaml"), loaded("mini/connectors/tomeformer.yaml")
    assert (run.model.connector, run.init) == (connector, TOWERS)
    training = replace(run.training, learning_rate=other.training.learning_rate)
    assert (run.data, training, run.generation) == (other.data, other.training, other.generation)
    model = EvlVideoForCaptioning(run_architecture(run))
    assert all(name.startswith(("vision_tower.vit.", "language_model.")) for name in frozen_names(model))


def frozen_names(model: EvlVideoForCaptioning) -> list[str]:
    return [name for name, weight in model.named_parameters() if not weight.requires_grad]


@pytest.mark.parametrize("architecture", EVLGEN_ARCHITECTURES, ids=lambda path: path.stem)
def test_architectures_are_evlgens(architecture: Path) -> None:
    found = read_architecture(architecture)
    assert (found.vision_tower, found.vision_overrides) == ("eva_giant_patch14_clip_224", {"depth": 39})
    assert (found.bert.hidden_size, found.bert.num_hidden_layers, found.merge_r) == (768, 12, 19)
    assert (found.merge_reduction, found.vision_final_norm) == ("mean", False)


@pytest.mark.parametrize("name", sorted(EVLGEN_FORMS - {"scst_opt2.7b", "scst_vicuna7b"}))
def test_msrvtt_configs_follow_the_published_recipe(name: str) -> None:
    run = loaded(f"msrvtt/{name}.yaml")
    training, data, generation = run.training, run.data, run.generation
    assert (training.learning_rate, training.min_learning_rate) == (1e-5, 1e-6)
    assert (training.warmup_steps, training.warmup_learning_rate, training.weight_decay) == (1000, 1e-8, 0.05)
    assert (training.max_steps, training.batch_size) == (50_000, 4)
    assert (data.num_frames, data.train_sampling, data.eval_sampling) == (4, "headtail", "uniform")
    assert (data.crop_scale_min, data.horizontal_flip) == (0.5, 0.5)
    assert (generation.num_beams, generation.min_new_tokens, generation.max_new_tokens) == (5, 4, 19)
    assert generation.repetition_penalty == (1.5 if "vicuna" in name else 1.0)


@pytest.mark.parametrize(
    ("form", "fusion", "contextualizer"),
    [
        ("concat", "concat", "none"),
        ("mean", "mean", "none"),
        ("image", "mean", "in_tower"),
        ("video", "mean", "in_tower"),
    ],
)
def test_msrvtt_configs_differ_in_the_model_alone(form: str, fusion: str, contextualizer: str) -> None:
    run, other = loaded(f"msrvtt/{form}_opt2.7b.yaml"), loaded("msrvtt/mean_opt2.7b.yaml")
    assert (run.model.fusion, run.model.contextualizer) == (fusion, contextualizer)
    assert (run.data, run.training, run.generation) == (other.data, other.training, other.generation)


@pytest.mark.parametrize(
    ("name", "steps", "warmup", "ratios"),
    [
        ("pretrain_opt2.7b", 250_000, 5000, {"shards": 15, "lavis": 4, "coco": 1}),
        ("pretrain_vicuna7b", 60_000, 2000, {"lavis": 45, "coco": 5}),
    ],
)
def test_image_pre_training_follows_the_published_recipe(
    name: str, steps: int, warmup: int, ratios: dict[str, float]
) -> None:
    run = loaded(f"evlgen/{name}.yaml")
    training, generation = run.training, run.generation
    assert (run.init, run.connector_init, run.data.num_frames) == (TOWERS, "bert-base-uncased", 1)
    assert {source.dataset: source.ratio for source in run.data.sources} == ratios
    assert (training.learning_rate, training.min_learning_rate, training.warmup_learning_rate) == (1e-4, 1e-5, 1e-6)
    assert (training.max_steps, training.warmup_steps, training.weight_decay) == (steps, warmup, 0.05)
    assert 8 * training.batch_size * training.gradient_accumulation_steps == 1600
    assert (generation.num_beams, generation.min_new_tokens, generation.max_new_tokens) == (5, 7, 29)
    assert generation.repetition_penalty == (1.5 if "vicuna" in name else 1.0)
    assert (training.schedule, training.schedule_steps, training.max_grad_norm) == ("staircase", 5000, 0.0)
    assert run.data.batches == "one_source"


SMALL = [path for path in CONFIGS if path.parent.name == "small"]


@pytest.mark.parametrize("config", SMALL, ids=lambda path: path.stem)
def test_small_configs_train_on_features_of_one_tower(config: Path) -> None:
    run = loaded(config)
    assert run.data.features == "features/clip"
    assert not run_architecture(run).needs_frames
    assert f"evlvideo features extract {config.relative_to(ROOT)}\n" in config.read_text() or run.stage == "scst"


@pytest.mark.parametrize("data", ["msrvtt", "own"])
def test_small_self_critical_configs_go_on_where_training_ended(data: str) -> None:
    run, before = loaded(f"small/scst_{data}.yaml"), loaded(f"small/{data}.yaml")
    assert (run.init, run.model, run.data) == (before.output_dir, before.model, before.data)


def test_vicunas_text_opens_with_its_eos_token_as_published() -> None:
    text = loaded("evlgen/pretrain_vicuna7b.yaml").text
    assert (text.template, text.bos, text.bos_in_loss) == ("plain", "</s>", False)
