"""ISNet in several processes that share each batch: `torchrun --nproc-per-node 2 notebooks/loops/distributed.py`.

On CUDA devices: backend "nccl", one device a process, x.to(device), DistributedDataParallel(method, [device]).
"""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset

from isnetlib import ISNet, data
from isnetlib.networks import build_model
from isnetlib.training.fit import peak_mib


def train(
    method: ISNet, optimizer: torch.optim.Optimizer, images: Dataset, batch_size: int, epochs: int
) -> list[dict[str, float]]:
    """Train on this process's part of `images`, `batch_size` of them a step; returns the terms of its own losses.

    `method` has the same weights in each process afterwards: those of process 0 at the start, then the joint steps.
    """
    sampler = DistributedSampler(images)
    batches = DataLoader(images, batch_size, sampler=sampler, drop_last=True)
    ddp, terms = DistributedDataParallel(method), []
    ddp.train()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for x, y, mask in batches:
            loss, parts = ddp(x, y, mask)  # not method.loss: gradients are joined only after a call of `ddp` itself
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            terms.append(parts)
    return terms


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.manual_seed(dist.get_rank())  # a stochastic draw of its own in each process
    x, y, mask, _ = data.load("digits").train[list(range(320))]
    method = ISNet(build_model("small_resnet", classes=10), heatmap_weight=0.5)
    optimizer = torch.optim.AdamW(method.parameters(), 3e-3)
    terms = train(method, optimizer, TensorDataset(x, y, mask), batch_size=16, epochs=10)
    print(
        f"process {dist.get_rank()}: background term {terms[0]['background']:.2f} at first, "
        f"{terms[-1]['background']:.2f} at last; peak memory {peak_mib():.0f} MiB"
    )
    dist.destroy_process_group()
