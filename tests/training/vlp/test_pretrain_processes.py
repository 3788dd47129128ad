"""Pre-training on two processes: gathered features, equal weights, and the loss of the whole batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_vlp import tiny_run
from torch.nn import functional as F
from toy_run import ROOT, environment

from evlvideo.config.loading import save_config
from evlvideo.models.vlp.losses import paired_contrast
from evlvideo.training.vlp.run import pretrain

PROGRAM = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from evlvideo.config.loading import load_config_of
from evlvideo.config.vlp import VlpConfig
from evlvideo.models.vlp.losses import paired_contrast
from evlvideo.models.vlp.queue import FeatureQueue
from evlvideo.training.vlp.run import pretrain
directory = Path(sys.argv[1])
for name in ("clip", "blip"):
    pretrain(load_config_of(VlpConfig, directory / f"{name}.yaml"))
rank = torch.distributed.get_rank()
queue = FeatureQueue(5, 2, torch.Generator().manual_seed(0))
rows = torch.arange(4.0).reshape(2, 2) + 10 * rank
queue.push(rows, -rows)
features = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))[:, 3 * rank : 3 * rank + 3]
features.requires_grad_()
loss = paired_contrast(F.normalize(features[0], dim=-1), F.normalize(features[1], dim=-1), torch.tensor(5.0))
loss.backward()
found = {"images": queue.images, "place": queue.place, "loss": loss.detach(), "gradient": features.grad}
save_file(found, directory / f"{rank}.safetensors")
"""


@pytest.fixture(scope="module")
def together(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made."""
    directory = tmp_path_factory.mktemp("together")
    for host in ("clip", "blip"):
        config = tiny_run(clips, directory / host, host, training={"batch_size": 2}, model={"dropout": 0.0})
        save_config(config, directory / f"{host}.yaml")
    (directory / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(directory / "program.py"), str(directory)],
        env=environment(ACCELERATE_USE_CPU="true"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return directory


def test_the_queue_has_the_features_of_all_processes_in_order(together: Path) -> None:
    first, second = (load_file(together / f"{rank}.safetensors") for rank in range(2))
    assert torch.equal(first["images"], second["images"])
    assert first["images"][:4].tolist() == [[0, 1], [2, 3], [10, 11], [12, 13]]
    assert first["place"] == 4


def test_clips_loss_is_that_of_the_whole_batch(together: Path) -> None:
    features = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = paired_contrast(F.normalize(features[0], dim=-1), F.normalize(features[1], dim=-1), torch.tensor(5.0))
    loss.backward()
    parts = [load_file(together / f"{rank}.safetensors") for rank in range(2)]
    torch.testing.assert_close(torch.stack([part["loss"] for part in parts]).mean(), loss.detach())
    # The mean over processes of each one's gradient is that of the whole batch's loss.
    gradient = torch.cat([part["gradient"] for part in parts], dim=1) / 2
    torch.testing.assert_close(gradient, features.grad)


def test_two_processes_train_clip_as_one_does(together: Path, clips: Path, tmp_path: Path) -> None:
    alone = pretrain(tiny_run(clips, tmp_path / "clip", "clip", model={"dropout": 0.0}))
    one, two = (
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for run in (alone, together / "clip")
    )
    losses = [entry["loss"] for entry in one if "loss" in entry]
    assert len(losses) == 2
    assert [entry["loss"] for entry in two if "loss" in entry] == pytest.approx(losses, rel=1e-4)


def test_two_processes_train_blip(together: Path) -> None:
    summary = json.loads((together / "blip" / "training.json").read_text())
    assert (summary["steps"], summary["processes"]) == (4, 2)
    queue = load_file(together / "blip/checkpoints/checkpoint-4/pretraining.safetensors")
    assert queue["queue.place"] == 4 * 4 % 10
