"""take: existing weights in the place of a training, checked against their hash and the run's network."""

from pathlib import Path

from lct.config.model import GivenWeights
from lct.config.schema import build
from lct.files.hashing import sha256_file
from lct.files.records import JobRecord
from lct.files.tensors import read_tensors, write_tensors
from lct.jobs import job
from lct.networks.settings import Network
from lct.networks.unet import UNet
from lct.networks.weights import load


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file with the network's tensors")
    parser.add_argument("--out", type=Path, required=True, help="weights to write")
    arguments = parser.parse_args()
    return job.run(lambda: take(arguments))


def take(arguments) -> str:
    given = build(GivenWeights, arguments.settings["weights"], "--settings: weights")
    network = build(Network, arguments.settings["network"], "--settings: network")
    record = JobRecord("take", arguments.settings, inputs={"weights": arguments.weights})
    found = sha256_file(arguments.weights)
    if found != given.sha256:
        raise ValueError(
            f"{arguments.weights}: expected sha256 {given.sha256}, found {found}; correct the file or the run"
        )
    tensors = read_tensors(arguments.weights)
    shape = arguments.settings["latent_shape"]
    load(UNet(network, shape[0], shape[1]), tensors, str(arguments.weights))  # all of them, of the right shape, finite
    write_tensors(arguments.out, tensors, {"latent_shape": shape})
    record.write([arguments.out])
    return f"take {arguments.out.parent.parent.name}: {arguments.weights}, sha256 {found[:12]}"


if __name__ == "__main__":
    raise SystemExit(main())
