"""Projection heads of student and teacher."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.parametrizations import weight_norm


class PrototypeHead(nn.Module):
    """Project features and compare them with learnable prototypes.

    ``in_channels -> hidden -> GELU -> embed``, L2-normalised, cosine with K unit
    prototypes.

    Shapes:
        feature (N, in_channels) -> cosines (N, num_prototypes).

    Source: DOS; sizes are Sonata's (the paper does not give them).
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 4096,
        embed_channels: int = 256,
        num_prototypes: int = 1024,
    ):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden_channels),
            nn.GELU(),
            nn.Linear(hidden_channels, embed_channels),
        )
        self.prototype = nn.Linear(embed_channels, num_prototypes, bias=False)
        self.apply(init_linear)

    def forward(self, feature: Tensor) -> Tensor:
        embedding = self.mlp(feature)
        # Cosines decide through temperatures of a few hundredths: bf16 is too coarse.
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = F.normalize(embedding.float(), dim=-1)
            prototype = F.normalize(self.prototype.weight.float(), dim=-1)
            return F.linear(embedding, prototype)


class WeightNormPrototypeHead(PrototypeHead):
    """The same head with prototypes as weight-normed rows of fixed length one.

    Source: Sonata (Pointcept ``Sonata-v1m1``, ``OnlineCluster``): names, shapes and
    initialisation of the parameters are its own, so that checkpoints cross.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 4096,
        embed_channels: int = 256,
        num_prototypes: int = 4096,
    ):
        super().__init__(in_channels, hidden_channels, embed_channels, num_prototypes)
        self.prototype = weight_norm(
            nn.Linear(embed_channels, num_prototypes, bias=False)
        )
        length = self.prototype.parametrizations.weight.original0
        length.data.fill_(1)
        length.requires_grad_(False)


class MaskToken(nn.Module):
    """A learnable input feature for masked points.

    For backbones that have no mask token of their own (``PT-v3m2`` has one behind its
    stem, with ``mask_token=True``).

    Shapes:
        feature (N, in_channels), mask (N,) bool -> (N, in_channels).
    """

    def __init__(self, in_channels: int):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, in_channels))

    def forward(self, feature: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask[:, None], self.token.to(feature.dtype), feature)


class OffsetHead(nn.Module):
    """Predict an offset for every token by a two-layer perceptron.

    The last layer is initialised at random: from zero all offsets would tie, and the
    ranks of ODR would be noise.

    Shapes:
        feature (N, in_channels) -> offsets (N, 3) in units of the prior's median,
        view frame.

    Source: PointINS, offset branch; the unit is ours.
    """

    def __init__(self, in_channels: int, hidden_channels: int = 256):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden_channels),
            nn.GELU(),
            nn.Linear(hidden_channels, 3),
        )
        self.apply(init_linear)

    def forward(self, feature: Tensor) -> Tensor:
        hidden = self.mlp[:2](feature)
        with torch.autocast(hidden.device.type, enabled=False):
            return self.mlp[2](hidden.float())


def init_linear(module: nn.Module) -> None:
    """Initialise linear layers as the backbones do: truncated normal, std 0.02."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
