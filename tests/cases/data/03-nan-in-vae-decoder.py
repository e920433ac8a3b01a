"""An autoencoder whose decoder gives NaN (damaged or half-precision weights): no black reconstructions with a PSNR."""

import json

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from situation import TMP, call, images, picture, verdict

torch.manual_seed(0)
torch.set_num_threads(1)
folder = TMP / "vae"
AutoencoderKL(
    block_out_channels=(8, 16),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=8,
).save_pretrained(folder)
weights = load_file(folder / "diffusion_pytorch_model.safetensors")
weights["decoder.conv_out.weight"][0, 0, 0, 0] = float("nan")
save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
source = TMP / "photographs"
source.mkdir()
for i in range(12):
    (source / f"{i}.png").write_bytes(picture(i, "PNG"))
prepared = images({"kind": "folder", "path": str(source)}, heldout=4)
auto = {
    "recipe": 1,
    "autoencoder": {"kind": "pretrained", "folder": str(folder), "latent_channels": 4, "downsampling": 2},
}
first = call(
    "lct.jobs.autoencoder",
    "--settings",
    json.dumps(auto),
    "--images",
    prepared.out / "train.manifest.json",
    "--source",
    folder / "config.json",
    folder / "diffusion_pytorch_model.safetensors",
    "--out",
    TMP / "ae",
)
second = first
if first.returncode == 0:
    second = call(
        "lct.jobs.encode",
        "--settings",
        json.dumps({"recipe": 1, "encoding": {"batch": 4}}),
        "--train",
        prepared.out / "train.manifest.json",
        "--heldout",
        prepared.out / "heldout.manifest.json",
        "--autoencoder",
        TMP / "ae",
        "--work",
        TMP / "work",
        "--out",
        TMP / "lat",
    )
verdict(
    second.returncode == 1 and "NaN" in second.stdout,
    "a decoder of NaN is refused, or: " + second.stdout.strip()[-150:],
)
