"""Hugging Face Accelerate; with several processes, the strategy ranks their batches as one.

Run it with `python examples/with_accelerate.py` after `pip install accelerate`, or with
`accelerate launch --num_processes 2 --cpu examples/with_accelerate.py`.
"""

import torch
from _data import BATCH, EPOCHS, OPTIONS, STEPS, load, report
from accelerate import Accelerator
from plain_pytorch import Factors
from torch.utils.data import DataLoader, TensorDataset

import dartcli


def main() -> None:
    """Train, and print the AUC on clean test labels."""
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    pairs, labels = load()
    data = TensorDataset(pairs, labels, torch.arange(len(pairs)))
    size = BATCH // accelerator.num_processes
    model = Factors()
    model, optimizer, batches = accelerator.prepare(
        model, torch.optim.Adam(model.parameters(), lr=0.01), DataLoader(data, size, shuffle=True)
    )
    denoise = dartcli.strategy(
        "dart",
        iterations_per_epoch=STEPS,
        group=True if accelerator.num_processes > 1 else None,
        **OPTIONS,
    ).to(accelerator.device)
    for _ in range(EPOCHS):
        for pair, label, row in batches:
            loss = denoise(model(pair), label, row=row)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    if accelerator.is_main_process:
        with torch.no_grad():
            report(accelerator.unwrap_model(model)(load("test")[0]))


if __name__ == "__main__":
    main()
