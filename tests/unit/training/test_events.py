"""Live events of a training: read back, across resumed attempts, and when they cannot be written."""

import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from lct.training.loop import EventLog
from lct.training.trainer import Trainer
from tests.helpers.in_process import run_job
from tests.helpers.tiny_training import CPU, command, latents, settings


def read_events(path: Path) -> list:
    """Events of a file; a record is its length, a checksum, the event and a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content, events, start = path.read_bytes(), [], 0
    while start < len(content):
        (length,) = struct.unpack("<Q", content[start : start + 8])
        events.append(Event.FromString(content[start + 12 : start + 12 + length]))
        start += 16 + length
    return events


def points(events: list, name: str) -> dict[int, float]:
    return {event.step: v.simple_value for event in events for v in event.summary.value if v.tag == name}


def test_scalars_and_images_come_back(tmp_path):
    event_log = EventLog(tmp_path / "events", 7, "2")
    event_log.scalars({"loss/total": 1.5, "schedule/c": None}, 10)
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    event_log.images("preview/x", images, 10)
    (path,) = (tmp_path / "events").iterdir()
    first, purge, scalar, image = read_events(path)
    assert first.file_version == "brain.Event:2"
    assert (purge.step, purge.session_log.status) == (8, 1), "a start: steps from 8 on are taken again"
    assert points([scalar], "loss/total") == {10: 1.5}
    (value,) = image.summary.value
    assert (value.image.height, value.image.width) == (4, 8)
    assert value.image.encoded_image_string.startswith(b"\x89PNG")


def test_a_training_writes_its_curve_and_a_preview_and_its_result_stays_the_same(encoded):
    made = settings(keep_steps=(6,))
    for step in ("6", "out/step12-ema0.9.safetensors"):  # a number, or the file that a rule asks for
        assert run_job([*command(encoded, "out", made), "--step", step]).returncode == 0
    events = [event for path in sorted(encoded.rglob("events.out.tfevents.*")) for event in read_events(path)]
    curve = json.loads((encoded / "out" / "curves.json").read_text())
    columns = {
        "loss/total": "loss",
        "loss/consistency": "consistency",
        "loss/diffusion": "diffusion",
        "schedule/c": "c",
        "residual/rms": "residual_rms",
        "optimiser/gradient_norm": "gradient_norm",
        "optimiser/learning_rate": "lr",
    }
    for name, column in columns.items():
        assert points(events, name) == pytest.approx(dict(zip(curve["step"], curve[column], strict=True)), rel=1e-6)
    assert list(points(events, "schedule/N").values()) == [s + 1 for s in curve["intervals"]]
    assert sorted(points(events, "preview/one_step_latents")) == [6, 12]


@pytest.mark.slow
def test_a_resumed_training_appends_and_purges_the_steps_it_takes_again(encoded):
    made = settings(steps=60)
    words = command(encoded, "out", made)
    first = subprocess.run([*words, "--minutes", "1e-6"], capture_output=True, check=False)
    assert first.returncode == 75
    subprocess.run(words, capture_output=True, check=True)
    one, two = sorted(encoded.rglob("events.out.tfevents.*"), key=lambda path: path.suffix)
    assert [read_events(path)[1].step for path in (one, two)] == [1, 2]
    assert max(points(read_events(two), "loss/total")) == 60


def test_events_that_cannot_be_written_are_a_warning(tmp_path, caplog, monkeypatch):
    (tmp_path / "file").write_text("")
    EventLog(tmp_path / "file" / "events", 0, "1").scalars({"a": 1.0}, 1)
    assert "no events are written" in caplog.text
    event_log = EventLog(tmp_path / "events", 0, "1")

    def full(event):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(event_log._writer, "write_event", full)
    event_log.scalars({"a": 1.0}, 1)
    event_log.scalars({"a": 1.0}, 2)
    assert caplog.text.count("No space left") == 1


def test_a_preview_leaves_the_training_alone():

    trainer, other = (Trainer(settings(), latents(), 0, CPU) for _ in range(2))
    for step in range(3):
        trainer.step(step, False)
        images = trainer.preview(0.9, 4)
        other.step(step, False)
    assert images.shape == (4, 4, 4, 3) and images.dtype == np.uint8 and trainer.network.training
    assert all(torch.equal(t, other.network.state_dict()[name]) for name, t in trainer.network.state_dict().items())
