"""The third step: training, from its last checkpoint, until its steps are done or it is told to stop.

SIGTERM and Ctrl-C end the step in hand, write a checkpoint and leave. The curve of losses and word error
rates goes to ``curve.csv``, one line per evaluation.
"""

from __future__ import annotations

import csv
import shutil
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import torch

from . import batches, measure, vocabulary
from .batches import Batch
from .checkpoint import Checkpoint
from .config import TrainConfig
from .dataset import Dataset, phone_inventory
from .losses import compute
from .model import Trainee
from .optimiser import Optimiser
from .progress import bar

_RATES = ("clean", "noise_10db", "telephone", "festival")
_STOPPED_S = 60.0
"""A step that takes longer was stopped meanwhile (SIGSTOP), which is no training."""
_PARTS = ("text", "phones", "tokens", "attention")
_COLUMNS = ("step", "stage", "trained_s", "hours", "rate", *_PARTS, *(f"wer_{name}" for name in _RATES))


def run(work: Path, config: TrainConfig, device_name: str, finish: bool = False) -> None:
    """Train; returns when done or stopped. ``finish`` lets the rate fall to zero from the checkpoint on."""
    torch.set_num_threads(config.threads)
    if finish:
        config = config.finishing(_decay_start(work))
    trainer = Trainer(work, config, torch.device(device_name))
    stop = _StopSignal()
    with bar() as progress, ThreadPoolExecutor(1) as reader:
        task = progress.add_task("train", total=config.steps, completed=trainer.step)
        upcoming = reader.submit(trainer.batch, trainer.step)
        while trainer.step < config.steps and not stop.received:
            upcoming = trainer.advance(upcoming, reader)
            progress.update(task, completed=trainer.step, description=trainer.status)
    trainer.save()


def _decay_start(work: Path) -> int:
    """Return the step where the rate began to fall: noted once, so that a finish may be interrupted too."""
    path = work / "decay_from.txt"
    if not path.exists():
        path.write_text(str(Checkpoint.load(work / "checkpoint.pt").step))
    return int(path.read_text())


class _StopSignal:
    """Remembers that the process was asked to stop."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True


class Trainer:
    """Network, optimiser, mean weights and their clock; made from the checkpoint if there is one."""

    def __init__(self, work: Path, config: TrainConfig, device: torch.device) -> None:
        self._work, self._config, self._device = work, config, device
        self._path = work / "checkpoint.pt"
        saved = Checkpoint.load(self._path) if self._path.exists() else None
        self._vocabulary = saved.vocabulary if saved else vocabulary.build(work)
        phones = saved.phones if saved else phone_inventory(work / "speech")
        self._dataset = Dataset(work / "speech", self._vocabulary, phones)
        self._dataset.refresh()
        torch.manual_seed(config.seed)
        self._model = Trainee(config.shape, self._vocabulary, len(phones)).to(device)
        if config.fused and device.type == "cpu" and shutil.which("g++"):
            self._model.compile_encoder()
        self._optimiser = Optimiser(self._model, config.weight_decay)
        self.step, self._trained_s = 0, 0.0
        if saved:
            self._restore(saved)
        self._average = self._parameters(saved.average if saved else None)
        self._tests = measure.held_out_sets(work / "speech")
        self._sums, self._n_summed = dict.fromkeys(_PARTS, 0.0), 0
        self._saved_at_s = time.monotonic()
        self.status = "train"

    def batch(self, step: int) -> Batch:
        """Return the batch of a step; called from the reading thread, one call at a time."""
        if step % self._config.refresh_every == 0:
            self._dataset.refresh()
        return batches.make(self._dataset, self._config, step)

    def advance(self, ready: Future[Batch], reader: ThreadPoolExecutor) -> Future[Batch]:
        """Do one step with the batch that is ready, while the next one is being read."""
        began_s = time.monotonic()
        batch = ready.result().to(self._device)
        following = reader.submit(self.batch, self.step + 1)
        self._learn(batch)
        self.step += 1
        took_s = time.monotonic() - began_s
        self._trained_s += took_s if took_s < _STOPPED_S else 0.0
        if self.step % self._config.evaluate_every == 0:
            self._evaluate()
        if time.monotonic() - self._saved_at_s > self._config.checkpoint_every_s:
            self.save()
        return following

    def save(self) -> None:
        """Write the checkpoint."""
        Checkpoint(
            step=self.step,
            shape=self._config.shape,
            text_tokens=list(self._vocabulary.whisper_ids[: self._vocabulary.n_text]),
            phones=self._dataset.phones,
            model=self._model.state_dict(),
            average=self._average,
            optimiser=self._optimiser.state_dict(),
            trained_s=self._trained_s,
            hours=self._dataset.hours,
        ).save(self._path)
        self._saved_at_s = time.monotonic()

    def _learn(self, batch: Batch) -> None:
        with torch.autocast(self._device.type, torch.bfloat16):
            parts = compute(self._model, batch, self._config.stage_at(self.step))
        self._model.zero_grad(set_to_none=True)
        parts["total"].backward()  # type: ignore[no-untyped-call]  # torch declares it so
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimiser.step(self._config.rate_at(self.step))
        self._follow()
        for name in _PARTS:
            self._sums[name] += parts[name].item()
        self._n_summed += 1
        self.status = f"train text {self._sums['text'] / self._n_summed:.2f}"

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the mean weights; at the beginning the mean is over fewer steps."""
        share = 1.0 - min(self._config.average, (1 + self.step) / (10 + self.step))
        parameters = dict(self._model.named_parameters())
        names = list(self._average)
        torch._foreach_lerp_([self._average[n] for n in names], [parameters[n] for n in names], share)

    def _evaluate(self) -> None:
        """Measure the mean weights and write a line of the curve."""
        current = self._parameters(None)
        self._model.load_state_dict(self._average, strict=False)
        rates, shown = measure.measure(self._model.eval(), self._vocabulary, self._tests, self._device)
        self._model.train().load_state_dict(current, strict=False)
        losses = [self._sums[name] / max(self._n_summed, 1) for name in _PARTS]
        self._sums, self._n_summed = dict.fromkeys(_PARTS, 0.0), 0
        stage = self._config.stage_at(self.step).name
        row = [self.step, stage, round(self._trained_s), round(self._dataset.hours, 1)]
        numbers = [self._config.rate_at(self.step), *losses, *(rates[name] for name in _RATES)]
        self._write_row([*row, *(f"{number:.4g}" for number in numbers)])
        lines = [f"{self.step} {said!r}\n    {understood!r}" for said, understood in shown]
        (self._work / "understood.txt").write_text("\n".join(lines) + "\n")

    def _write_row(self, row: list[object]) -> None:
        path = self._work / "curve.csv"
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(_COLUMNS)
            writer.writerow(row)

    def _restore(self, saved: Checkpoint) -> None:
        if saved.shape != self._config.shape:
            raise ValueError(f"{self._path} has another shape than this configuration; use another --work")
        self._model.load_state_dict(saved.model)
        self._optimiser.load_state_dict(saved.optimiser)
        self.step, self._trained_s = saved.step, saved.trained_s

    def _parameters(self, values: dict[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
        """Return a copy of the parameters, or of ``values`` for them."""
        named = self._model.named_parameters()
        return {name: (values[name] if values else p.detach()).to(self._device).clone() for name, p in named}
