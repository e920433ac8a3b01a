"""import_weights: use existing weights instead of a training, after a check of their hash and the run's network."""

from pathlib import Path
from typing import Annotated, Any

from lct.config.model import GivenWeights
from lct.config.schema import build
from lct.files.records import JobRecord
from lct.files.tensors import read_state_dict, write_tensors
from lct.jobs import job
from lct.networks.settings import Network
from lct.networks.unet import UNet, load_weights


def import_weights(
    settings: dict[str, Any],
    weights: Annotated[Path, "file with the network's tensors"],
    out: Annotated[Path, "weights to write"],
) -> str:
    """Copy `weights` to `out`. Raises ValueError when the hash, or the tensors' names, shapes or values, do not fit."""
    declared = build(GivenWeights, settings["weights"], "--settings: weights")
    network = build(Network, settings["network"], "--settings: network")
    record = JobRecord("take", settings, inputs={"weights": weights})
    tensors = read_state_dict(weights, declared.sha256)
    channels, height, _ = settings["latent_shape"]
    load_weights(UNet(network, channels, height), tensors, str(weights))  # refuses weights that do not fit
    write_tensors(out, tensors, {"latent_shape": settings["latent_shape"]})
    record.write([out])
    return f"take {out.parent.parent.name}: {weights}, sha256 {declared.sha256[:12]}"


main = job.program(import_weights)
