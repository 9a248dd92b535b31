"""What the model scripts share: reproducible settings, the digits data, and saving."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

FOLDER = Path(__file__).parent
Split = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def setup(seed: int = 0, engine: str = "fbgemm") -> None:
    """One thread, a fixed seed, and the quantised engine whose arithmetic does not depend on the CPU."""
    # torch.ao.quantization and torch.jit still work and announce their removal on every call.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.backends.quantized.engine = engine


def digits() -> Split:
    """scikit-learn's digits: train images, test images, train labels, test labels; images (N, 1, 8, 8), 0..1."""
    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    parts = train_test_split(images, data.target, test_size=0.2, random_state=0, stratify=data.target)
    train, test, train_labels, test_labels = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    return train, test, train_labels, test_labels


def train(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Adam on the cross-entropy, learning rate falling to zero, batches of 64."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
    model.eval()


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float((logits.argmax(1) == labels).float().mean())


def save(model: torch.nn.Module, example: torch.Tensor, path: Path) -> Path:
    """Traces and saves a model, with its input shape (batch 1) as the extra file `input_shape`.

    Traced, not scripted: the order of some attributes in a scripted file's text changes from run to run.
    """
    shape = json.dumps([1, *example.shape[1:]])
    traced = torch.jit.trace(model.eval(), example[:1])
    torch.jit.save(traced, str(path), _extra_files={"input_shape": shape})
    strip(path)
    return path


def strip(path: Path) -> None:
    """Leaves out the debug records: they hold the paths of this machine's files."""
    reader = torch._C.PyTorchFileReader(str(path))
    records = {name: reader.get_record(name) for name in reader.get_all_records()}
    del reader
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, data in records.items():
        if not name.endswith((".debug_pkl", ".data/serialization_id", "version")):
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()


def codes(outputs: torch.Tensor, scale: float, zero_point: int) -> npt.NDArray[np.uint8]:
    """The codes behind dequantised outputs."""
    return np.asarray(torch.round(outputs / scale) + zero_point).astype(np.uint8)
