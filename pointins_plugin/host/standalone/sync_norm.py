"""BatchNorm over the batch of all processes."""

import torch
import torch.distributed as dist
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm


def synchronize_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model with statistics of every BatchNorm taken over all processes.

    On CUDA they become torch's ``SyncBatchNorm``, which knows no CPU; elsewhere
    ``SharedBatchNorm``. Names and shapes of weights stay.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if isinstance(model, _BatchNorm):
        shared = SharedBatchNorm(
            model.num_features,
            model.eps,
            model.momentum,
            model.affine,
            model.track_running_stats,
        )
        shared.__dict__.update(model.__dict__)
        return shared
    for name, child in model.named_children():
        setattr(model, name, synchronize_batch_norm(child, device))
    return model


class SharedBatchNorm(_BatchNorm):
    """BatchNorm whose mean and variance in training are those of all processes' rows.

    Every process must call it, with any number of rows; in evaluation it is
    ``BatchNorm``. Input (N, C, ...), output alike.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected (N, C, ...), found {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            rows = input.float() if input.dtype.itemsize < 4 else input
            return self._normalise(rows).to(input.dtype)

    def _normalise(self, rows: Tensor) -> Tensor:
        over = [0, *range(2, rows.dim())]
        shape = [1, -1] + [1] * (rows.dim() - 2)
        size = rows.new_tensor([rows.numel() / self.num_features])
        dist.all_reduce(size)
        count = size.clamp(min=1)
        mean = _Sum.apply(rows.sum(over)) / count
        centred = rows - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(over)) / count
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * count / (count - 1).clamp(1))
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        share = self.momentum
        if share is None:  # the mean over all batches
            share = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _Sum(torch.autograd.Function):
    """Sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
