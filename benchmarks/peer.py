"""Our training beside a public implementation of improved consistency training, same network, batch and number of
averages, in turns in one process: `git clone https://github.com/Kinyugo/consistency_models FOLDER`, then
`python benchmarks/peer.py FOLDER`. No part of `make bench`: nothing of it is installed or kept here.

The peer's step is that of its example for improved training: its own draws, targets, loss and average, torch's Adam, a
DataLoader; Lightning, which its example runs in, is left out. Ours is the run mini digits-ilct with one average.
"""

import lct.cli  # noqa: F401 fixes the number of threads of NumPy and SciPy before they load

# isort: split

import argparse
import copy
import sys
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import torch
from contest.training import Size, one_step, race
from contest.turns import show

from lct.jobs import job
from lct.networks.unet import UNet
from lct.streams import generator
from lct.training.trainer import Trainer

AVERAGE, STEPS = 0.99993, 100_000  # of the peer's example; the number of steps decides its number of intervals


class Peer:
    """The peer's training of our network; `step(k)` gives the step's loss."""

    def __init__(self, size: Size, x: torch.Tensor, device: torch.device):
        import consistency_models as peer
        from consistency_models.utils import update_ema_model_

        self.device, self.update, self.huber = device, update_ema_model_, peer.pseudo_huber_loss
        self.training = peer.ImprovedConsistencyTraining()
        self.network = UNet(size.settings.network, *x.shape[1:3], generator(0, "initial-weights")).to(device)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-4, betas=(0.9, 0.995))
        loader = torch.utils.data.DataLoader(x, size.settings.batch, shuffle=True, drop_last=True)
        self.batches = chain.from_iterable(repeat(loader))

    def step(self, step: int) -> torch.Tensor:
        found = self.training(self.network, next(self.batches).to(self.device), step, STEPS)
        loss = (self.huber(found.predicted, found.target) * found.loss_weights).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.update(self.average, self.network, AVERAGE)
        return loss.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a checkout of github.com/Kinyugo/consistency_models")
    parser.add_argument("--device", default="auto", help="torch device (default: a GPU when there is one)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--steps", type=int, default=200, help="training steps of each (default: 200)")
    arguments = parser.parse_args()
    if not (arguments.folder / "consistency_models" / "__init__.py").exists():
        raise SystemExit(f"{arguments.folder}: expected a checkout of github.com/Kinyugo/consistency_models; clone it")
    sys.path.insert(0, str(arguments.folder))
    device = job.device(arguments.device, threads=1, tf32=True)
    size = Size.of("mini", "digits-ilct", 4096)
    size = replace(size, settings=replace(size.settings, emas=(AVERAGE,)))
    z, statistics = size.latents()
    x = statistics.normalise(z)
    contestants = {
        "ours": partial(one_step, Trainer(size.settings, x, 0, device)),
        "peer": Peer(size, x, device).step,
    }
    turns, _ = race(contestants, device, arguments.repeats, arguments.steps)
    each = max(1, arguments.steps // arguments.repeats)
    print(show([turns.row("training", f"{size.name}: peer / ours", "ours", "peer", each)]))


if __name__ == "__main__":
    main()
