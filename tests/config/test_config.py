import re
from collections.abc import Callable
from pathlib import Path

import pytest

from evlvideo.config.data import DataConfig
from evlvideo.config.loading import load_config, save_config
from evlvideo.config.run import RunConfig
from evlvideo.config.scst import ScstConfig
from evlvideo.config.text import TextConfig
from evlvideo.config.training import LearningRatesConfig
from evlvideo.errors import UserError

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as raised:
        load_config(path, list(overrides))
    return str(raised.value)


def test_an_empty_file_gives_the_defaults(write: Write) -> None:
    assert load_config(write("")) == RunConfig()


def test_an_empty_section_gives_its_defaults(write: Write) -> None:
    assert load_config(write("data:\n  # root: elsewhere\n")) == RunConfig()


def test_values_are_read(write: Write) -> None:
    config = load_config(write("seed: 7\ntraining:\n  learning_rate: 1e-3\ndata:\n  augment: false\n"))
    assert (config.seed, config.training.learning_rate, config.data.augment) == (7, 1e-3, False)


def test_an_override_wins_over_the_file(write: Write) -> None:
    assert load_config(write("training:\n  max_steps: 5\n"), ["training.max_steps=9"]).training.max_steps == 9


def test_the_last_override_of_a_key_wins(write: Write) -> None:
    assert load_config(write(""), ["seed=1", "seed=2"]).seed == 2


def test_an_override_may_hold_an_equals_sign(write: Write) -> None:
    assert load_config(write(""), ["data.root=a=b"]).data.root == "a=b"


def test_a_whole_number_serves_as_a_number(write: Write) -> None:
    assert load_config(write("training:\n  max_grad_norm: 0\n")).training.max_grad_norm == 0.0


@pytest.mark.parametrize("value, expected", [("[0, 2]", [0, 2]), ("null", None), ("[]", [])])
def test_lists_and_null_are_read(write: Write, value: str, expected: list[int] | None) -> None:
    text = f"model:\n  contextualizer_blocks: {value}\n"
    assert load_config(write(text)).model.contextualizer_blocks == expected
    assert load_config(write(""), [f"model.contextualizer_blocks={value}"]).model.contextualizer_blocks == expected


@pytest.mark.parametrize("value, expected", [("3", 3), ("[4, 0.5]", [4, 0.5]), ("[2, 2, 1]", [2, 2, 1])])
def test_a_merge_schedule_is_a_number_or_a_list(write: Write, value: str, expected: object) -> None:
    assert load_config(write(""), [f"model.merge_r={value}"]).model.merge_r == expected


@pytest.mark.parametrize("value", ["many", "[1, x]", "true", "[]"])
def test_another_merge_schedule_is_refused(write: Write, value: str) -> None:
    assert "model.merge_r is" in problems(write(""), f"model.merge_r={value}")


def test_tokens_to_merge_and_tokens_to_leave_are_not_both_given(write: Write) -> None:
    assert load_config(write(""), ["model.merge_to=32"]).model.merge_to == 32
    assert "model.merge_to is 0; it must be at least 1" in problems(write(""), "model.merge_to=0")
    found = problems(write("model:\n  merge_r: 3\n"), "model.merge_to=32")
    assert "model.merge_r is 3 and model.merge_to is 32; give one of them, and set the other to null" in found


ARGUMENTS = """
training:
  arguments:
    gradient_checkpointing: true
    gradient_checkpointing_kwargs: {use_reentrant: false}
    optim: adafactor
    adam_beta2: 0.95
    report_to: [tensorboard, wandb]
"""


def test_arguments_of_the_trainer_are_read_and_changed(write: Write) -> None:
    config = load_config(write(ARGUMENTS), ["training.arguments.gradient_checkpointing=false"])
    assert config.training.arguments == {
        "gradient_checkpointing": False,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "optim": "adafactor",
        "adam_beta2": 0.95,
        "report_to": ["tensorboard", "wandb"],
    }


@pytest.mark.parametrize("section", ["arguments", "learning_rates"])
def test_a_section_inside_a_section_may_be_empty(write: Write, section: str) -> None:
    assert load_config(write(f"training:\n  {section}:\n")) == RunConfig()


def test_learning_rates_of_parts_are_read_and_changed(write: Write) -> None:
    text = "training:\n  learning_rates:\n    connector: 1e-4\n    lora: 1e-3\n"
    rates = load_config(write(text), ["training.learning_rates.lora=null"]).training.learning_rates
    assert rates == LearningRatesConfig(connector=1e-4)


def test_null_overrides_a_value_that_may_be_null(write: Write) -> None:
    assert load_config(write("data:\n  root: here\n"), ["data.root=null"]).data.root is None


@pytest.mark.parametrize(
    "override, message",
    [
        ("training.max_step=3", "unknown key training.max_step; did you mean training.max_steps?"),
        ("num_frames=3", "unknown key num_frames; did you mean data.num_frames?"),
        ("data.learning_rate=3", "unknown key data.learning_rate; did you mean training.learning_rate?"),
        ("scst.xyz=3", "unknown key scst.xyz; allowed: preset, candidates, num_samples"),
        ("optimiser.name=x", "unknown key optimiser; allowed: stage, init"),
    ],
)
def test_an_unknown_key_is_answered_with_a_suggestion(write: Write, override: str, message: str) -> None:
    assert message in problems(write(""), override)


def test_a_dotted_key_in_yaml_is_explained(write: Write) -> None:
    assert "unknown key data.num_frames; in YAML" in problems(write("data.num_frames: 3\n"))


@pytest.mark.parametrize(
    "override, message",
    [
        ("data.num_frames=four", "data.num_frames is 'four'; it must be a whole number"),
        ("data.num_frames=2.5", "data.num_frames is 2.5; it must be a whole number"),
        ("data.num_frames=true", "data.num_frames is True; it must be a whole number"),
        ("data.num_frames=null", "data.num_frames is null; it must be a whole number"),
        ("data.num_frames.x=1", "data.num_frames is {'x': 1}; it must be a whole number"),
        ("training.learning_rate=fast", "training.learning_rate is 'fast'; it must be a number"),
        ("data.augment=maybe", "data.augment is 'maybe'; it must be true or false"),
        ("training.arguments=3", "training.arguments is 3; it must be a section of values by name"),
        ("training.learning_rates=3", "training.learning_rates is 3; it is a section with the keys connector"),
        ("training.learning_rates.lora=fast", "training.learning_rates.lora is 'fast'; it must be a number or null"),
        (
            "model.contextualizer_blocks=3",
            "contextualizer_blocks is 3; it must be a list of whole numbers or null",
        ),
        ("training=3", "training is 3; it is a section with the keys max_steps"),
    ],
)
def test_a_wrong_type_names_key_value_and_what_is_expected(write: Write, override: str, message: str) -> None:
    assert message in problems(write(""), override)


@pytest.mark.parametrize(
    "override, message",
    [
        ("stage=both", "stage is 'both'; allowed: caption, scst"),
        ("model.fusion=sum", "model.fusion is 'sum'; allowed: mean, mean_tokens, concat"),
        ("data.num_frames=0", "data.num_frames is 0; it must be at least 1"),
        ("data.validation_clips=0", "data.validation_clips is 0; it must be at least 1"),
        ("seed=-1", "seed is -1; it must be at least 0 and at most 4294967295"),
        ("seed=4294967296", "seed is 4294967296; it must be at least 0 and at most 4294967295"),
        ("training.learning_rate=0", "training.learning_rate is 0.0; it must be above 0"),
        ("training.min_learning_rate=1", "training.min_learning_rate is 1.0, more than training.learning_rate, 1e-05"),
        ("training.learning_rate=nan", "training.learning_rate is nan"),
        ("training.learning_rate=.inf", "training.learning_rate is inf"),
        ("training.learning_rates.connector=-1", "training.learning_rates.connector is -1.0; it must be at least 0"),
        ("training.learning_rates.bert=1", "unknown key training.learning_rates.bert; allowed: connector, projections"),
        ("training.max_hours=0", "training.max_hours is 0.0; it must be above 0"),
        ("training.patience=-1", "training.patience is -1; it must be at least 0"),
        ("training.arguments.torch_compil=true", "did you mean training.arguments.torch_compile?"),
        ("training.arguments.torch_compile=1", "training.arguments.torch_compile is 1; it must be true or false"),
        ("training.arguments.bf16=true", "training.arguments.bf16 is set by this program; use training.precision"),
        ("data.crop_scale_min=0", "data.crop_scale_min is 0.0; it must be above 0 and at most 1"),
        ("data.horizontal_flip=2", "data.horizontal_flip is 2.0; it must be at least 0 and at most 1"),
        ("scst.temperature=0", "scst.temperature is 0.0; it must be above 0"),
        ("scst.reward=cider", "scst.reward: The reward 'cider' is unknown; it must be one of cider_d, bleu_4, rouge_l"),
        ("scst.reward_frequencies=test", "scst.reward_frequencies is 'test'; allowed: train, batch"),
        ("scst.reward_references=some", "scst.reward_references is 'some'; allowed: all, first"),
        ("generation.min_new_tokens=30", "generation.min_new_tokens is 30, more than generation.max_new_tokens, 20"),
    ],
)
def test_a_value_out_of_range_is_answered_with_what_is_allowed(write: Write, override: str, message: str) -> None:
    assert message in problems(write(""), override)


def test_leave_one_out_needs_two_samples(write: Write) -> None:
    message = problems(write("scst:\n  baseline: loo\n  num_samples: 1\n"))
    assert "set scst.num_samples to 2 or more" in message


def test_all_problems_are_reported_at_once(write: Write) -> None:
    message = problems(write("sed: 1\ndata:\n  num_frames: four\n"), "training.max_steps=0", "scst.baseline=best")
    assert "has 4 problems:" in message
    for key in ("sed", "data.num_frames", "training.max_steps", "scst.baseline"):
        assert re.search(rf"^  - .*\b{re.escape(key)}\b", message, re.MULTILINE), key


@pytest.mark.parametrize("override", ["training.max_steps", "=3", "data.=3", ""])
def test_an_override_without_key_or_value_is_refused(write: Write, override: str) -> None:
    assert f"The override {override!r} is not of the form key=value" in problems(write(""), override)


def test_an_override_that_is_not_yaml_is_refused(write: Write) -> None:
    assert "The value of the override 'seed=[1,' cannot be read" in problems(write(""), "seed=[1,")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml").startswith(f"The config {tmp_path / 'none.yaml'} cannot be read:")


def test_a_directory_is_not_a_config(tmp_path: Path) -> None:
    assert "cannot be read" in problems(tmp_path)


@pytest.mark.parametrize("text", ["a: [1", "seed: 1\nseed: 2\n", "\tseed: 1\n", "a: !!python/name:os.system\n"])
def test_a_file_that_is_not_plain_yaml_is_refused(write: Write, text: str) -> None:
    assert "is not valid YAML" in problems(write(text))


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00seed")
    assert "is not valid YAML" in problems(path)


@pytest.mark.parametrize("text", ["- seed\n", "3\n"])
def test_a_file_without_keys_is_refused(write: Write, text: str) -> None:
    with pytest.raises(UserError):
        load_config(write(text))


@pytest.mark.parametrize("value", ["${nowhere}", "???"])
def test_a_value_that_cannot_be_resolved_is_named(write: Write, value: str) -> None:
    assert "no usable value for data.root" in problems(write(f"data:\n  root: {value}\n"))


def test_a_config_built_in_python_is_checked_too() -> None:
    with pytest.raises(UserError, match=r"data\.num_frames is 0"):
        RunConfig(data=DataConfig(num_frames=0))


def test_a_saved_config_loads_as_it_was(tmp_path: Path) -> None:
    config = RunConfig(stage="scst", init="runs/a", data=DataConfig(root="x: y"), scst=ScstConfig(temperature=0.7))
    config.model.merge_r = [4, -0.5]
    config.model.contextualizer_blocks = [1, 3]
    config.training.learning_rate = 1e-5
    config.training.learning_rates.lora = 1e-3
    config.training.arguments = {"gradient_checkpointing_kwargs": {"use_reentrant": False}, "report_to": ["wandb"]}
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_a_saved_config_names_every_key(tmp_path: Path) -> None:
    save_config(RunConfig(), tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert "length_penalty: 1.0" in text and "merge_r: null" in text


def test_numbers_of_clips_belong_to_what_is_trained_on(write: Write) -> None:
    config = write("data:\n  train_clips: 5\n  sources:\n    - {dataset: shards, clips: 7}\n    - {clips: 9}\n")
    found = problems(config)
    assert "data.train_clips is 5, of data.train_split, which data.sources replaces; set clips in each source" in found
    assert "data.sources[0].clips is 7, but clips of shards are not drawn" in found
    assert "sources[1]" not in found


@pytest.mark.parametrize("key", ["data.train_clips=0", "data.train_clips=-3"])
def test_at_least_one_clip_is_trained_on(write: Write, key: str) -> None:
    assert "data.train_clips is" in problems(write(""), key)


@pytest.mark.parametrize(
    "text",
    [
        "output_dir: ${oc.env:SECRET}",
        "output_dir: ${ oc.env:SECRET,none}/x",
        "output_dir: \\${oc.env:SECRET}",
        'output_dir: "\\x24{oc.env:SECRET}"',
        "init: env\noutput_dir: ${oc.${init}:SECRET}",
        "init: '{oc.env:SECRET}'\noutput_dir: ${oc.decode:$${init}}",
        "data: {sources: [{dataset: jsonl, root: '${oc.env:SECRET}'}]}",
        "training: {arguments: {run_name: '${oc.env:SECRET}'}}",
    ],
)
def test_a_file_does_not_read_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    found = problems(write(text))
    assert "may read the environment" in found
    assert "only an override may do that" in found
    assert "s3cret" not in found


def test_an_override_reads_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data")
    config = load_config(write("output_dir: ${data.root}/run"), ["data.root=${oc.env:DATA}"])
    assert (config.data.root, config.output_dir) == ("/data", "/data/run")


def test_what_is_put_together_is_text(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    config = load_config(write("init: $\noutput_dir: ${init}{oc.env:SECRET}"))
    assert config.output_dir == "${oc.env:SECRET}"
    save_config(config, tmp_path / "saved.yaml")
    assert "s3cret" not in (tmp_path / "saved.yaml").read_text()
    assert "oc.env" in problems(tmp_path / "saved.yaml")


@pytest.mark.parametrize("text", ["${x", "a \\${init} b", "\\\\${init}", "{video} ${"])
def test_texts_are_saved_as_they_are(tmp_path: Path, text: str) -> None:
    config = RunConfig(text=TextConfig(prompt=text))
    save_config(config, tmp_path / "run.yaml")
    assert load_config(tmp_path / "run.yaml") == config
