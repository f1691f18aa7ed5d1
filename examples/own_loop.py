"""Pruning in a loop of your own: two lines leave a twentieth of LeNet-300-100's weights, on handwritten digits.

python examples/own_loop.py
"""

import torch
from torch.nn.functional import cross_entropy

import espalier as esp
from espalier import data, models

EPOCHS, BATCH = 8, 32

torch.manual_seed(0)
digits = data.load("digits")
train = digits.train.normalise(digits.train.images), digits.train.labels
test = digits.test.normalise(digits.test.images), digits.test.labels
model = models.build("lenet300")
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
steps = EPOCHS * (len(train[1]) // BATCH)

pruning = esp.Pruning(model, esp.plan(model, density=0.05), esp.SLR(), optimizer, steps)  # added
pruning.attach(optimizer, loss=lambda: loss)  # added

for _ in range(EPOCHS):
    for chosen in torch.randperm(len(train[1])).split(BATCH)[: len(train[1]) // BATCH]:
        optimizer.zero_grad()
        loss = cross_entropy(model(train[0][chosen]), train[1][chosen])
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    accuracy = (model(test[0]).argmax(1) == test[1]).float().mean().item()
weights = [p for p in model.parameters() if p.dim() > 1]
left = sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)
print(f"{left:.1%} of the weights left, accuracy {accuracy:.1%}")
