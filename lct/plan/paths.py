"""The path grammar: every path of the project is made here, relative to its root.

A setting that changes a file is in its path."""

from dataclasses import dataclass

IMAGE_SPLITS = ("train", "heldout")
METRICS = ("fd", "fdr", "precision", "recall")  # values that every metrics file has
FLOORS = ("heldout", "reconstruction")  # rows without a generator: what real images, and the VAE alone, score
AUTOENCODER_FILES = ("config.json", "diffusion_pytorch_model.safetensors")  # a diffusers folder
LATENT_FILES = ("latents.safetensors", "statistics.safetensors", "summary.json")
PICTURES = ("svg", "png", "pdf")  # kinds of a measured figure's picture
DRAWN = ("svg", "pdf")  # kinds of a picture that the report draws by itself
RECONSTRUCTIONS = tuple(f"reconstructed-{split}" for split in IMAGE_SPLITS)
REPORT_FILES = (  # that the renderer makes
    *("index.html", "report.md", "tables.tex", "tables.csv", "numbers.tex"),
    *("audit.html", "evidence.html", "claims.html", "figures.html", "numbers.html", "explore.html"),
)
TEMPLATES = (  # that it makes them from
    *("index.html.jinja", "cell.html.jinja", "evidence.html.jinja", "claims.html.jinja", "audit.html.jinja"),
    *("figures.html.jinja", "numbers.html.jinja", "explore.html.jinja", "_page.html.jinja", "_explore.js"),
    *("report.md.jinja", "tables.tex.jinja", "numbers.tex.jinja"),
    *("_macros.html.jinja", "_style.css", "_states.css", "_tables.js", "_pictures.js"),
)
EVIDENCE = ("facts.yaml", "authors_runs.csv", "repeats.yaml")  # of config/evidence/: what pages rest on


def manifest(image_set: str) -> str:
    """The manifest that stands for an image set in the graph."""
    return image_set.removesuffix(".zip") + ".manifest.json"


def milestone(weights: str) -> str:
    """The milestone that weights belong to: step1200 of step1200-ema0.999; of existing weights, their name."""
    return weights.partition("-ema")[0]


def download(name: str) -> str:
    """What stands in the graph for the files of a download, under resources/{name}/files/; the same at every scale."""
    return f"resources/{name}/download.json"


@dataclass(frozen=True)
class Paths:
    """Paths of one scale."""

    scale: str
    dataset: str | None = None  # with it, tables and report are those of one dataset of the user's own
    only: tuple[str, ...] = ()  # with them, tables and report hold these rows

    def images(self, dataset: str, split: str) -> str:
        return f"results/{self.scale}/images/{dataset}/{split}.zip"

    def autoencoder(self, dataset: str) -> str:
        """A diffusers folder: config.json beside diffusion_pytorch_model.safetensors."""
        return f"results/{self.scale}/autoencoder/{dataset}"

    def extractor(self, dataset: str, extractor: str) -> str:
        return f"results/{self.scale}/extractor/{dataset}/{extractor}.safetensors"

    def latents(self, dataset: str, encoding: str) -> str:
        """Folder of latents.safetensors, statistics.safetensors and the reconstructions."""
        return f"results/{self.scale}/latents/{dataset}/{encoding}"

    def train(self, run: str, seed: int | str) -> str:
        return f"results/{self.scale}/train/{run}/s{seed}"

    def weights(self, run: str, seed: int | str, name: str) -> str:
        return f"{self.train(run, seed)}/{name}.safetensors"

    def samples(self, run: str, seed: int | str, weights: str, sampler: str, draw: int) -> str:
        return f"results/{self.scale}/sample/{run}/s{seed}/{weights}/{sampler}/d{draw}.zip"

    def features(self, run: str, seed: int | str, weights: str, sampler: str, draw: int, view: str) -> str:
        return f"results/{self.scale}/features/{run}/s{seed}/{weights}/{sampler}/d{draw}/{view}.safetensors"

    def metrics(self, run: str, seed: int | str, weights: str, sampler: str, draw: int, protocol: str) -> str:
        return f"results/{self.scale}/metrics/{run}/s{seed}/{weights}/{sampler}/d{draw}/{protocol}.json"

    def distance(self, run: str, seed: int | str, weights: str, sampler: str, draw: int, protocol: str) -> str:
        """The Frechet distance alone, which the pilot reads."""
        return f"results/{self.scale}/pilot/{run}/s{seed}/{weights}/{sampler}/d{draw}/{protocol}.json"

    def neighbours(self, run: str, seed: int | str, weights: str, sampler: str, draw: int, kind: str) -> str:
        """Training images nearest to some generated ones: numbers (json) and picture (png)."""
        return f"results/{self.scale}/neighbours/{run}/s{seed}/{weights}/{sampler}/d{draw}.{kind}"

    def reference(self, dataset: str, protocol: str) -> str:
        """What a protocol compares with: statistics and features of real images."""
        return f"results/{self.scale}/features/reference/{dataset}/{protocol}.safetensors"

    def floor_metrics(self, dataset: str, floor: str, protocol: str) -> str:
        return f"results/{self.scale}/metrics/reference/{dataset}/{floor}/{protocol}.json"

    def degraded(self, dataset: str) -> str:
        """What the metrics read on real images that are damaged on purpose."""
        return f"results/{self.scale}/degraded/{dataset}.json"

    def tables(self, which: str = "tables") -> str:
        """All cells of the tables that the scale lists ("tables"), or of those and its further ones ("all")."""
        return f"results/{self.scale}/tables/{self._own}{which}.json"

    def report(self, name: str, which: str = "tables") -> str:
        return f"reports/{self.scale}/{self._own}{'all/' if which == 'all' else ''}{name}"

    @property
    def _own(self) -> str:
        only = f"only-{'+'.join(self.only)}/" if self.only else ""
        return f"dataset-{self.dataset}/{only}" if self.dataset else only

    def work(self, *parts: str) -> str:
        """Undeclared: resume state and finished parts of a job, in a folder per hash of its settings and inputs. Parts:
        RUN and sSEED, encode and DATASET, or figures, FIGURE and DATASET."""
        return f"work/{self.scale}/{'/'.join(parts)}"

    def figure(self, figure: str, dataset: str, kind: str) -> str:
        """Numbers (json) or picture (svg, png, pdf) of a figure."""
        return f"results/{self.scale}/figures/{figure}/{dataset}.{kind}"

    def log(self, *parts: str) -> str:
        return f"logs/{self.scale}/{'/'.join(parts)}"


def page_name(table: str, subtable: str, row: str) -> str:
    """What stands behind a row, beside the report."""
    return f"cells/{table}.{subtable}.{row}.html"


def grid(image_set: str) -> str:
    """The preview picture of an image set."""
    return image_set.removesuffix(".zip") + ".grid.png"
