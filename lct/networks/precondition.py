"""From F to f: the consistency function, exactly the identity at sigma_min (CM, App. C; EDM's scalings otherwise).

With sd = sigma_data and sm = sigma_min: f(x, sigma) = c_skip x + c_out F(c_in x, label), where
c_skip = sd^2 / ((sigma - sm)^2 + sd^2), c_out = (sigma - sm) sd / sqrt(sigma^2 + sd^2),
c_in = 1 / sqrt(sigma^2 + sd^2), label = label_scale ln sigma.
"""

from torch import Generator, Tensor, nn

from lct.networks.settings import Scaling


def c_skip(sigma: Tensor, s: Scaling) -> Tensor:
    return s.sigma_data**2 / ((sigma - s.sigma_min) ** 2 + s.sigma_data**2)


def c_out(sigma: Tensor, s: Scaling) -> Tensor:
    return (sigma - s.sigma_min) * s.sigma_data / (sigma**2 + s.sigma_data**2).sqrt()


def c_in(sigma: Tensor, s: Scaling) -> Tensor:
    return (sigma**2 + s.sigma_data**2).rsqrt()


def noise_label(sigma: Tensor, s: Scaling) -> Tensor:
    return s.label_scale * sigma.log()


def consistency(
    network: nn.Module, x: Tensor, sigma: Tensor, scaling: Scaling, dropout: Generator | None = None
) -> Tensor:
    """f(x, sigma) for x (B, C, H, W) and sigma (B,) in the dtype of x; the answer keeps that dtype under autocast."""
    at = sigma.to(x.dtype)[:, None, None, None]
    answer = network(c_in(at, scaling) * x, noise_label(sigma, scaling), dropout)
    return c_skip(at, scaling) * x + c_out(at, scaling) * answer.to(x.dtype)
