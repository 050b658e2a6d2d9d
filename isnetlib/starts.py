"""What is explained: the start of the relevance pass at the logits.

Relevance is R = y G at the logits y, so an explained quantity, be it one logit or the log-odds of a class, gives the
initial G as its derivative by the logits. `isnetlib.lrp.LRP.relevance` takes it from there.
"""

import torch
from torch import Tensor, nn


def start_for(logits: Tensor, target=None) -> Tensor:
    """Initial G at the logits, (B, M, K): the derivative of the explained quantity by the logits.

    target: None = the winning class | int | LongTensor (B,) | "all" (M = K maps, one a class) | "selective" (see
    `selective_start`). Raises ValueError for a class that does not exist.
    """
    batch, classes = logits.shape
    if isinstance(target, str):
        if target == "all":
            return torch.eye(classes, dtype=logits.dtype, device=logits.device).expand(batch, -1, -1)
        if target == "selective":
            return selective_start(logits)
        raise ValueError(f"target {target!r}: use None, a class number, a LongTensor of them, 'all' or 'selective'")
    target = logits.argmax(1) if target is None else torch.as_tensor(target, device=logits.device).expand(batch)
    if target.is_floating_point() or target.amin() < 0 or target.amax() >= classes:
        raise ValueError(f"target must hold class numbers from 0 to {classes - 1}")
    return nn.functional.one_hot(target, classes).to(logits.dtype)[:, None]


def selective_start(logits: Tensor) -> Tensor:
    """Selective ISNet explains eta_c = log(P_c / (1 - P_c)) = y_c - logsumexp_{c' != c} y_c' of the least likely class
    c (arXiv 2401.08409).

    Its derivative: 1 at c and minus the softmax over the other classes elsewhere, (B, 1, K). The winner dominates that
    softmax, so one map holds the evidence for the winner and for the loser. One logit (binary): eta is the log-odds of
    the less likely answer, y or -y.
    """
    if logits.shape[1] == 1:
        return torch.where(logits > 0, -1.0, 1.0).to(logits.dtype)[:, None]
    lowest = nn.functional.one_hot(logits.argmin(1), logits.shape[1]).bool()
    others = logits.masked_fill(lowest, -torch.inf).softmax(1)
    return (lowest.to(logits.dtype) - others)[:, None]
