"""Generators, their critics, autoencoders, and fields over coordinates."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.architectures.architecture import Architecture, Facts


class Generator(nn.Module):
    """Transposed convolutions with batch norm, tanh at the end (Radford et al. 2016, arXiv:1511.06434)."""

    def __init__(self, nz: int = 64, ngf: int = 64) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, 2 * ngf, 4, 1, 0, bias=False),
            nn.BatchNorm2d(2 * ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(2 * ngf, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, input: Tensor) -> Tensor:
        return self.main(input)


def discriminator() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(64, 128, 4, 2, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(128, 1, 4, 1, 0, bias=False),
        nn.Flatten(),
    )


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 16)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 256)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class VAE(nn.Module):
    """Kingma & Welling 2014, arXiv:1312.6114; the noise is drawn in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(256, 128)
        self.fc21, self.fc22 = nn.Linear(128, 32), nn.Linear(128, 32)
        self.fc3, self.fc4 = nn.Linear(32, 128), nn.Linear(128, 256)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.fc1(x))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


def evidence(output: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    image, mu, logvar = output
    target = torch.full_like(image, 0.3)
    divergence = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    return (F.binary_cross_entropy(image, target, reduction="sum") + divergence) / len(image)


class NeRF(nn.Module):
    """Sines of the coordinates, an MLP, the encoding joined in again (Mildenhall et al. 2020, arXiv:2003.08934)."""

    def __init__(self, width: int = 128, octaves: int = 6) -> None:
        super().__init__()
        self.octaves = octaves
        size = 3 + 3 * 2 * octaves
        self.before = nn.ModuleList([nn.Linear(size, width)] + [nn.Linear(width, width) for _ in range(3)])
        self.after = nn.ModuleList([nn.Linear(width + size, width)] + [nn.Linear(width, width) for _ in range(2)])
        self.density, self.feature = nn.Linear(width, 1), nn.Linear(width, width)
        self.colour = nn.Sequential(nn.Linear(width + size, 64), nn.ReLU(), nn.Linear(64, 3))

    def encode(self, x: Tensor) -> Tensor:
        angles = [2.0**i * math.pi * x for i in range(self.octaves)]
        return torch.cat([x, *map(torch.sin, angles), *map(torch.cos, angles)], dim=-1)

    def forward(self, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        h = code = self.encode(x)
        for layer in self.before:
            h = F.relu(layer(h))
        h = torch.cat([h, code], dim=-1)
        for layer in self.after:
            h = F.relu(layer(h))
        return torch.sigmoid(self.colour(torch.cat([self.feature(h), self.encode(direction)], -1))), F.softplus(
            self.density(h)
        )


def rays() -> tuple[Tensor, Tensor]:
    return torch.rand(128, 3) * 2 - 1, F.normalize(torch.randn(128, 3), dim=1)


class Sine(nn.Module):
    """sin(30 (W x + b)) and the start of its authors (Sitzmann et al. 2020, arXiv:2006.09661, section 3.2)."""

    def __init__(self, inner: int, outer: int, first: bool = False, omega: float = 30.0) -> None:
        super().__init__()
        self.omega = omega
        self.linear = nn.Linear(inner, outer)
        bound = 1 / inner if first else math.sqrt(6 / inner) / omega
        with torch.no_grad():
            self.linear.weight.uniform_(-bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * self.linear(x))


def siren() -> nn.Sequential:
    return nn.Sequential(Sine(2, 128, first=True), Sine(128, 128), Sine(128, 128), nn.Linear(128, 64))


GENERATIVE = (
    Architecture("DCGAN generator", Generator, lambda: torch.randn(16, 64, 1, 1), Facts(("main.6",))),
    Architecture("DCGAN discriminator", discriminator, lambda: torch.randn(32, 3, 16, 16), Facts(("5",)), slow=True),
    Architecture("autoencoder", Autoencoder, lambda: torch.randn(64, 256), Facts(("decoder.4",))),
    Architecture("VAE", VAE, lambda: torch.rand(64, 256), Facts(("fc4",), draws=True), loss=evidence),
    Architecture("NeRF", NeRF, rays, Facts(("colour.2", "density")), slow=True),
    Architecture("SIREN", siren, lambda: torch.rand(128, 2) * 2 - 1, Facts(("3",)), slow=True),
)
