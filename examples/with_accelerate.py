"""Pruning in a loop of Accelerate's: two lines leave a twentieth of LeNet-300-100's weights, on handwritten digits.

python examples/with_accelerate.py
"""

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import espalier as esp
from espalier import data, models

EPOCHS, BATCH = 8, 16

accelerator = Accelerator(gradient_accumulation_steps=2)
torch.manual_seed(0)
digits = data.load("digits")
train = TensorDataset(digits.train.normalise(digits.train.images), digits.train.labels)
test = digits.test.normalise(digits.test.images), digits.test.labels
model = models.build("lenet300")
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loader = DataLoader(train, BATCH, shuffle=True, drop_last=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
steps = EPOCHS * len(loader) // 2

pruning = esp.Pruning(model, esp.plan(model, density=0.05), esp.SLR(), optimizer, steps)  # added
pruning.attach(optimizer)  # added

for _ in range(EPOCHS):
    for images, labels in loader:
        with accelerator.accumulate(model):
            loss = cross_entropy(model(images), labels)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

model.eval()
with torch.no_grad():
    right = model(test[0].to(accelerator.device)).argmax(1) == test[1].to(accelerator.device)
weights = [p for p in model.parameters() if p.dim() > 1]
left = sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)
print(f"{left:.1%} of the weights left, accuracy {right.float().mean().item():.1%}")
