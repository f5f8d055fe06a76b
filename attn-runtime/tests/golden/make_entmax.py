"""Writes entmax.json: rows of scores, their weights and gradients by the package `entmax` (Peters et al., 2019) in float64.

Run with PyTorch and entmax (the file says with which):  python make_entmax.py > entmax.json
"""
import importlib.metadata
import json

import torch
from entmax import entmax15, entmax_bisect, sparsemax

torch.manual_seed(7)
ROWS = [
    torch.randn(5), torch.randn(9), 4 * torch.randn(17), 0.1 * torch.randn(33), torch.zeros(6), torch.tensor([0.3]),
    torch.tensor([2.0, 2.0, -1.0, 2.0, 0.5]), torch.linspace(-3, 3, 40),
]


def row(scores, function, alpha):
    # f32 holds the scores, so that every reader has the same
    scores = scores.float().double().requires_grad_()
    weights = function(scores, alpha)
    grad = torch.sin(torch.arange(len(scores), dtype=torch.float64))   # of the loss, in the weights
    wanted = [scores] + ([alpha] if alpha is not None else [])
    found = torch.autograd.grad((weights * grad).sum(), wanted)
    result = {"scores": scores.tolist(), "weights": weights.tolist(), "weight_grad": grad.tolist(), "score_grad": found[0].tolist()}
    if alpha is not None:
        result["alpha_grad"] = float(found[1])
    return result


def bisect(scores, alpha):
    return entmax_bisect(scores, alpha, dim=-1, n_iter=200, ensure_sum_one=False)


cases = {
    "sparsemax": [row(scores, lambda s, _: sparsemax(s, dim=-1), None) for scores in ROWS],
    "entmax15": [row(scores, lambda s, _: entmax15(s, dim=-1), None) for scores in ROWS],
}
for alpha in [1.2, 1.5, 1.8]:
    # as an f32 parameter has it
    alphas = torch.tensor([alpha]).double().requires_grad_()
    cases[f"{alpha}"] = [row(scores, bisect, alphas) for scores in ROWS]
made_with = f"entmax {importlib.metadata.version('entmax')}, torch {torch.__version__}, float64"
print(json.dumps({"made_with": made_with, "cases": cases}))
