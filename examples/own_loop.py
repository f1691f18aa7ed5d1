"""Pruning inside your own training loop: a fortieth of LeNet-5's weights, on handwritten digits.

python examples/own_loop.py
"""

import torch
import torch.nn.functional as F

import espalier as esp
from espalier import budgets, data, models

torch.manual_seed(0)
digits = data.load("digits")
inputs, labels = digits.train.normalise(digits.train.images), digits.train.labels
model = models.build("lenet5")
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
PRETRAIN, PRUNE, BATCH = 4, 10, 64


def accuracy() -> float:
    """Of the model as it is, on the test images."""
    model.eval()
    with torch.no_grad():
        right = model(digits.test.normalise(digits.test.images)).argmax(1) == digits.test.labels
    model.train()
    return right.float().mean().item()


pruning = None
for epoch in range(PRETRAIN + PRUNE):
    if epoch == PRETRAIN:  # from here on the weights are trained onto the budget
        print(f"dense: {accuracy():.1%}")
        plan = esp.plan(model, compression=40, allocation=budgets.erk)
        method = esp.Constrained(solver=esp.SLR(), cadence=5, settle=0.7)
        steps = PRUNE * (len(inputs) // BATCH)
        pruning = esp.Pruning(model, plan, method, optimizer=optimizer, steps=steps)
    for chosen in torch.randperm(len(inputs)).split(BATCH)[: len(inputs) // BATCH]:
        loss = F.cross_entropy(model(inputs[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        if pruning:
            pruning.add_gradients_()  # Λ + ρ(W − Z)
        optimizer.step()
        if pruning:
            pruning.step(loss)  # every `cadence` steps: conditions, Z, Λ, s

if pruning:
    pruning.hard_prune_()  # for good; the zeros are held from here on
    print(
        f"pruned {1 / pruning.plan.density:.0f}×: {accuracy():.1%}; {pruning.certificate().sentence}"
    )
