"""The transport plan of a batch: ours, solved on the host, against an assignment found on the device."""

import torch

from contest.turns import Row, Turns
from lct.losses.settings import Transport
from lct.losses.transport import cost_matrix, pair

FINEST = 1e-6  # of the largest benefit: the assignment found costs at most so much more than the best one, a pair
SIZES = {"mini": (64, (4, 4, 4)), "paper": (128, (4, 32, 32))}  # latents coupled together, their shape
COARSER = 6.0  # prices are first found with steps so many times as large, and then finer


def transport(device: torch.device, repeats: int, plans: int = 20) -> list[Row]:
    """Plans of groups of both scales' sizes; latents and noise lie on the device, the permutation ends on the host."""
    rows = []
    for scale, (group, shape) in SIZES.items():
        draws, turns, settings = torch.Generator().manual_seed(0), Turns(), Transport(kind="exact", group=group)
        pairs = [tuple(torch.randn(group, *shape, generator=draws).to(device) for _ in range(2)) for _ in range(plans)]
        for _ in range(repeats + 1):  # the first warms up
            with turns.of("host", device):
                exact = [pair(x, noise, settings) for x, noise in pairs]
            with turns.of("device", device):
                found = [auction(costs(x, noise)).cpu() for x, noise in pairs]
        turns.forget_first()
        excess = max(
            _cost(x, noise, mine) / _cost(x, noise, best) - 1
            for (x, noise), mine, best in zip(pairs, found, exact, strict=True)
        )
        title = f"transport of {group} {scale} latents: auction on the device / exact plan on the host"
        rows.append(turns.row("training", title, "host", "device", plans, note=f"costs at most {excess:.0e} more"))
    return rows


def costs(x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """(B, B) squared distances in float64 on the device, divided by the largest."""
    found = torch.cdist(x.flatten(1).double(), noise.flatten(1).double()) ** 2
    return found / found.max()


def auction(cost: torch.Tensor) -> torch.Tensor:
    """(B,) columns of an assignment that costs at most FINEST a pair more than the best: Bertsekas's auction, where
    all free rows bid at once, with steps that become finer (Annals of Operations Research 14, 1988)."""
    size, device = len(cost), cost.device
    prices, step = torch.zeros(size, dtype=cost.dtype, device=device), 0.25
    while True:
        step = max(step / COARSER, FINEST)
        column = torch.full((size,), -1, device=device)  # of each row
        row = torch.full((size,), -1, device=device)  # that holds each column
        while len(free := (column < 0).nonzero().flatten()):
            (first, second), (wanted, _) = (t.T for t in (-cost[free] - prices).topk(2, dim=1))
            bids = prices[wanted] + first - second + step
            highest = torch.full_like(prices, -torch.inf).scatter_reduce(0, wanted, bids, "amax")
            won = bids == highest[wanted]
            winner = torch.full_like(row, -1).scatter_reduce(0, wanted[won], free[won], "amax")
            sold = (winner >= 0).nonzero().flatten()
            before = row[sold]
            column[before[before >= 0]] = -1
            row[sold], column[winner[sold]], prices[sold] = winner[sold], sold, highest[sold]
        if step == FINEST:
            return column


def _cost(x: torch.Tensor, noise: torch.Tensor, permutation: torch.Tensor) -> float:
    flat = (one.flatten(1).double().cpu().numpy() for one in (x, noise))
    return float(cost_matrix(*flat)[torch.arange(len(permutation)).numpy(), permutation.numpy()].sum())
