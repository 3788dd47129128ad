"""The contrastive term: the published values and gradients, on one process and on two."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from questions_case import QuestionsCase, question_cases
from safetensors.torch import load_file
from tiny_models import chirp
from torch import Tensor
from torch.nn import functional as F
from toy_run import ROOT, environment
from transformers import AutoModel

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.contrast.term import LABEL_SMOOTHING, CaptionOutput, ContrastiveTerm, contrastive_loss

TOLERANCE = 1e-5
BETA = 0.1
PUBLISHED = {
    "VL_proj.weight": "connector.projection.weight",
    "ln_vision.weight": "ln_vision.weight",
    "opt_proj.weight": "language_projection.weight",
    "temp": "contrastive.temp",
    "text_proj.weight": "contrastive.text_proj.weight",
    "vision_proj.weight": "contrastive.vision_proj.weight",
}
"""Published names of weights whose gradients the cases have → ours."""
PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = [ROOT, ROOT + "/tests/helpers", ROOT + "/tests/models"]
import torch
from safetensors.torch import save_file
from questions_case import QuestionsCase
from test_contrastive_term import BETA, PUBLISHED, contrastive_model, passed
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
case = QuestionsCase(Path(sys.argv[1]))
found = {}
for gradient in ("published", "full"):
    model = contrastive_model(case, gradient)
    output = passed(case, model, slice(2 * rank, 2 * rank + 2))
    (output.loss + BETA * output.contrastive_loss).backward()
    weights = dict(model.named_parameters())
    found |= {f"{gradient}.{name}": weights[ours].grad for name, ours in PUBLISHED.items()}
found |= {"itc": output.contrastive_loss.detach(), "lm": output.loss.detach()}
save_file({name: value.reshape(-1).contiguous() for name, value in found.items()}, f"{sys.argv[2]}/{rank}.safetensors")
"""


def contrastive_model(case: QuestionsCase, gradient: str = "published") -> EvlVideoForCaptioning:
    """The case's captioner with its term, in eval mode."""
    model, weights = case.model(), load_file(case.directory / "contrastive.safetensors")
    (width, image_dim), text_dim = weights["vision_proj.weight"].shape, weights["text_proj.weight"].shape[1]
    term = ContrastiveTerm(
        image_dim, text_dim, width, frame_tokens=case.expected["soft_prompt"].shape[1], gradient=gradient
    )
    term.load_state_dict({name: value.reshape(getattr_of(term, name).shape) for name, value in weights.items()})
    model.contrastive = term
    return model.eval()


def getattr_of(term: ContrastiveTerm, name: str) -> Tensor:
    return dict(term.named_parameters())[name]


def pooled(case: QuestionsCase) -> Tensor:
    encoder: Any = AutoModel.from_pretrained(case.directory / "simcse").eval()
    ids, mask = (case.inputs[f"loss_simcse_{name}"] for name in ("input_ids", "attention_mask"))
    with torch.no_grad():
        return encoder(input_ids=ids, attention_mask=mask).pooler_output


def passed(case: QuestionsCase, model: EvlVideoForCaptioning, rows: slice = slice(None)) -> CaptionOutput:
    """The pass over some captions of a case."""
    names = ("pixel_values", "input_ids", "attention_mask", "labels")
    return model(**{name: case.inputs[f"loss_{name}"][rows] for name in names}, sentences=pooled(case)[rows])


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.reshape(-1), expected.reshape(-1), rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module", params=question_cases(), ids=lambda directory: directory.name)
def case(request: pytest.FixtureRequest) -> QuestionsCase:
    return QuestionsCase(request.param)


@pytest.fixture(scope="module")
def two_processes(case: QuestionsCase, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What each of two processes computed."""
    directory = tmp_path_factory.mktemp("two")
    program = directory / "program.py"
    program.write_text(f"ROOT = {str(ROOT)!r}\n{PROGRAM}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(program), str(case.directory), str(directory)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [load_file(directory / f"{rank}.safetensors") for rank in range(2)]


def test_captions_are_encoded_as_published(case: QuestionsCase) -> None:
    close(pooled(case), case.expected["text_pooled"])


def test_loss_and_its_parts_are_the_published_ones(case: QuestionsCase) -> None:
    output = passed(case, contrastive_model(case))
    assert output.loss is not None and output.contrastive_loss is not None
    close(output.loss, case.expected["loss_lm"])
    close(output.contrastive_loss, case.expected["loss_itc"])
    close(output.loss + BETA * output.contrastive_loss, case.expected["loss"])


def test_gradients_are_the_published_ones(case: QuestionsCase) -> None:
    model = contrastive_model(case)
    output = passed(case, model)
    assert output.loss is not None and output.contrastive_loss is not None
    (output.loss + BETA * output.contrastive_loss).backward()
    weights = dict(model.named_parameters())
    for name, ours in PUBLISHED.items():
        gradient = weights[ours].grad
        assert gradient is not None, name
        close(gradient, case.expected[f"grad.{name}"])


def test_two_processes_have_the_published_losses_and_gradients(
    case: QuestionsCase, two_processes: list[dict[str, Tensor]]
) -> None:
    for rank, found in enumerate(two_processes):
        expected = {name: case.expected[f"two_processes.{name}_{rank}"] for name in ("lm", "itc", "loss")}
        close(found["lm"], expected["lm"])
        close(found["itc"], expected["itc"])
        close(found["lm"] + BETA * found["itc"], expected["loss"])
        for name in ("temp", "text_proj.weight", "vision_proj.weight"):
            close(found[f"published.{name}"], case.expected[f"two_processes.grad_{rank}.{name}"])


def test_the_full_gradient_of_two_processes_is_that_of_the_whole_batch(
    case: QuestionsCase, two_processes: list[dict[str, Tensor]]
) -> None:
    model = contrastive_model(case, "full")
    loss = passed(case, model).contrastive_loss
    assert loss is not None
    loss.backward()
    weights = dict(model.named_parameters())
    for name in ("contrastive.temp", "contrastive.text_proj.weight", "contrastive.vision_proj.weight"):
        gradient = weights[name].grad
        assert gradient is not None
        mean = torch.stack([found[f"full.{name.removeprefix('contrastive.')}"] for found in two_processes]).mean(dim=0)
        close(mean, BETA * gradient)


def test_the_term_is_a_cross_entropy_in_both_directions() -> None:
    images, texts = (F.normalize(chirp(5, 8, offset=offset), dim=-1) for offset in (0.0, 3.0))
    temperature, target = torch.tensor(0.2), torch.eye(5) * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 5
    similarity = images @ texts.T / temperature
    rows, columns = (-(target * x.log_softmax(dim=1)).sum(dim=1).mean() for x in (similarity, similarity.T))
    torch.testing.assert_close(contrastive_loss(images, texts, temperature), (rows + columns) / 2)


def test_the_value_does_not_depend_on_what_takes_gradients() -> None:
    images, texts = (F.normalize(chirp(5, 8, offset=offset), dim=-1) for offset in (0.0, 3.0))
    values = [contrastive_loss(images, texts, torch.tensor(0.1), gradient=name) for name in ("published", "full")]
    assert torch.equal(*values)


@pytest.mark.parametrize("start, inside", [(0.0, 0.001), (3.0, 0.5), (0.07, 0.07)])
def test_the_temperature_is_put_back_into_its_bounds(start: float, inside: float) -> None:
    term = ContrastiveTerm(8, 6, 4, frame_tokens=3)
    term.temp.data.fill_(start)
    term(chirp(2, 3, 8), chirp(2, 6))
    assert term.temp.item() == pytest.approx(inside)


def test_frames_are_compared_by_the_mean_of_their_class_tokens() -> None:
    term, tokens, sentences = ContrastiveTerm(8, 6, 4, frame_tokens=3), chirp(2, 6, 8), chirp(2, 6)
    mean = torch.stack([tokens[:, 0], tokens[:, 3]]).mean(dim=0)
    assert torch.equal(term(tokens, sentences), term(mean[:, None].expand(-1, 3, -1), sentences))


def test_half_precision_computes_the_term_in_float32() -> None:
    term, tokens, sentences = ContrastiveTerm(8, 6, 4, frame_tokens=3), chirp(2, 3, 8).bfloat16(), chirp(2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(term(tokens, sentences), term(tokens.float(), sentences))
