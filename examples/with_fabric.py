"""Pruning in a loop of Fabric's: two lines leave a twentieth of LeNet-300-100's weights, on handwritten digits.

python examples/with_fabric.py
"""

import torch
from lightning.fabric import Fabric
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import espalier as esp
from espalier import data, models

EPOCHS, BATCH = 8, 32

fabric = Fabric(accelerator="cpu")
fabric.seed_everything(0, verbose=False)
digits = data.load("digits")
train = TensorDataset(digits.train.normalise(digits.train.images), digits.train.labels)
test = digits.test.normalise(digits.test.images), digits.test.labels
model = models.build("lenet300")
model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=1e-3))
loader = fabric.setup_dataloaders(DataLoader(train, BATCH, shuffle=True, drop_last=True))
steps = EPOCHS * len(loader)

pruning = esp.Pruning(model, esp.plan(model, density=0.05), esp.SLR(), optimizer, steps)  # added
pruning.attach(optimizer)  # added

for _ in range(EPOCHS):
    for images, labels in loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=1.0)
        optimizer.step()

model.eval()
with torch.no_grad():
    accuracy = (model(test[0]).argmax(1) == test[1]).float().mean().item()
weights = [p for p in model.parameters() if p.dim() > 1]
left = sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)
print(f"{left:.1%} of the weights left, accuracy {accuracy:.1%}")
