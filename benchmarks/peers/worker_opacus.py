"""Steps of PyTorch ("plain") and of Opacus ("hooks", "ghost"), for `dp_step.py`."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np
from step_models import VOCABULARY, data
from turns import serve


def prepare(way, name, batch):
    """Returns a function that takes one step."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    x, y = data(name, batch)
    if x.ndim == 4:
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    x = torch.from_numpy(x.astype("int64") if name == "text" else x)
    y = torch.from_numpy(y.astype("int64"))
    model = _model(torch, name, private=way != "plain")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = torch.nn.CrossEntropyLoss()
    if way != "plain":
        from opacus import PrivacyEngine

        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch)
        arguments = {
            "module": model,
            "optimizer": optimizer,
            "data_loader": loader,
            "noise_multiplier": 1.0,
            "max_grad_norm": 1.0,
            "poisson_sampling": False,
        }
        if way == "ghost":
            model, optimizer, criterion, _ = PrivacyEngine().make_private(
                **arguments, criterion=criterion, grad_sample_mode="ghost"
            )
        else:
            model, optimizer, _ = PrivacyEngine().make_private(**arguments)
    model.train()

    def step():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def _model(torch, name, private):
    nn = torch.nn
    if name == "mlp":
        hidden = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
        return nn.Sequential(*hidden, nn.Linear(512, 10))
    if name == "cnn":
        first = [nn.Conv2d(1, 16, 8, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1)]
        second = [nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten()]
        return nn.Sequential(*first, *second, nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10))
    if name == "vgg":
        layers, width = [], 3
        for filters in (32, 64, 128):
            layers += [nn.Conv2d(width, filters, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(filters, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            width = filters
        head = [nn.Flatten(), nn.Linear(2048, 128), nn.ReLU(), nn.Linear(128, 10)]
        return nn.Sequential(*layers, *head)

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(dim=1)

    if name == "text":
        embedding = nn.Embedding(VOCABULARY, 64)
        return nn.Sequential(embedding, Mean(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            if private:
                from opacus.layers import DPMultiheadAttention

                self.attention = DPMultiheadAttention(128, 4, batch_first=True)
            else:
                self.attention = nn.MultiheadAttention(128, 4, batch_first=True)
            self.first, self.second = nn.LayerNorm(128), nn.LayerNorm(128)
            self.wide = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 128))

        def forward(self, x):
            x = self.first(x + self.attention(x, x, x, need_weights=False)[0])
            return self.second(x + self.wide(x))

    return nn.Sequential(*[Block() for _ in range(4)], Mean(), nn.Linear(128, 10))


if __name__ == "__main__":
    way, name, batch = sys.argv[1:4]
    serve(lambda: prepare(way, name, int(batch)))
