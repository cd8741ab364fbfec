"""flash-attn's function for packed sequences, by PyTorch's attention."""

import torch
import torch.nn.functional as F

__all__ = ["flash_attn_varlen_qkvpacked_func"]


def flash_attn_varlen_qkvpacked_func(
    qkv,
    cu_seqlens,
    max_seqlen,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    **options,
):
    """Attend within sequences that lie one after another.

    Args:
        qkv: (T, 3, heads, channels), half precision; computed in float32.
        cu_seqlens: (S + 1,) where sequences begin and end.
        max_seqlen: length of the longest.
        dropout_p, softmax_scale, causal: as in ``scaled_dot_product_attention``.

    Returns:
        (T, heads, channels).
    """
    if any(options.values()):
        raise NotImplementedError(f"on CPU: {', '.join(options)}")
    start, length = cu_seqlens[:-1].long(), cu_seqlens.diff().long()
    out = torch.empty_like(qkv[:, 0])
    for size in length.unique().tolist():
        if size == 0:
            continue
        rows = start[length == size, None] + torch.arange(size, device=qkv.device)
        query, key, value = qkv[rows].float().permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            dropout_p=dropout_p,
            is_causal=causal,
            scale=softmax_scale,
        )
        out = out.index_put((rows,), mixed.transpose(1, 2).to(qkv.dtype))
    return out
