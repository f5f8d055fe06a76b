"""Writes linear.json: linear attention as a recurrence over tokens, in float64, with gradients by complex steps.

    python3 make_linear.py > linear.json

The recurrences are those of flash-linear-attention's naive references (fla/ops/linear_attn/naive.py,
fla/ops/simple_gla/naive.py; MIT license), written anew: S_t = exp(g_t) S_{t-1} + k_t v_t^T, o_t = scale q_t S_t, and divided by
q_t . sum_{j <= t} k_j + 1e-10 where normalized. It needs numpy and nothing else.
"""

import json
import numpy as np

B, H, N, D, DV = 1, 2, 11, 4, 3
SCALE = D ** -0.5
STEP = 1e-30


def elu_plus_one(x):
    return np.where(x.real > 0, x + 1, np.exp(np.where(x.real > 0, 0, x)))


def recurrence(q, k, v, gates, feature, normalize):
    """o [b, h, n, dv]; gates [b, h, n] are logarithms of what a state keeps."""
    if feature:
        q, k = elu_plus_one(q), elu_plus_one(k)
    state = np.zeros((B, H, D, DV), complex)
    total = np.zeros((B, H, D), complex)
    out = np.zeros((B, H, N, DV), complex)
    for t in range(N):
        keep = np.exp(gates[:, :, t])
        state = keep[..., None, None] * state + k[:, :, t, :, None] * v[:, :, t, None, :]
        total = keep[..., None] * total + k[:, :, t]
        out[:, :, t] = np.einsum("bhk,bhkv->bhv", SCALE * q[:, :, t], state)
        if normalize:
            out[:, :, t] /= (SCALE * q[:, :, t] * total).sum(-1, keepdims=True) + 1e-10
    return out


def gradient(loss, x):
    out = np.zeros(x.shape)
    for at in np.ndindex(*x.shape):
        moved = x.astype(complex)
        moved[at] += 1j * STEP
        out[at] = loss(moved).imag / STEP
    return out


def main():
    random = np.random.default_rng(5)
    rounded = lambda *shape: random.standard_normal(shape).astype(np.float32).astype(np.float64)
    q, k, v, do = rounded(B, H, N, D), rounded(B, H, N, D), rounded(B, H, N, DV), rounded(B, H, N, DV)
    # running sums are what the variant is given: rounded, and the gates are their differences
    sums = np.cumsum(-np.abs(rounded(B, H, N)) / 4, axis=-1).astype(np.float32).astype(np.float64)
    gates_of = lambda sums: np.diff(sums, axis=-1, prepend=np.zeros((B, H, 1)))
    ln_gamma = np.array([-0.125, -0.03125])
    decay_of = lambda ln_gamma: np.broadcast_to(ln_gamma[None, :, None], (B, H, N))
    none = np.zeros((B, H, N))
    cases = {
        "LinearElu": dict(body="feature: |x| elu(x) + 1, activation: identity, normalizer: sum + 1e-10, mask: causal",
                          feature=True, normalize=True, parameter=None, gates=lambda _: none),
        "Retention": dict(body="ln_gamma: f32[h], score: |s, b, h, q, kv| s * exp(ln_gamma[h] * (q - kv)), "
                               "activation: identity, normalizer: none, mask: causal",
                          feature=False, normalize=False, parameter=("ln_gamma", ln_gamma), gates=decay_of),
        "Gated": dict(body="gates: f32[b, h, tokens], score: |s, b, h, q, kv| s * exp(gates[b, h, q] - gates[b, h, kv]), "
                           "activation: identity, normalizer: none, mask: causal",
                      feature=False, normalize=False, parameter=("gates", sums), gates=gates_of),
    }
    golden = dict(extents=[B, H, N, D, DV], q=q, k=k, v=v, do=do, cases={})
    for name, case in cases.items():
        value = case["parameter"][1] if case["parameter"] else np.zeros(0)
        run = lambda q, k, v, value: recurrence(q, k, v, case["gates"](value), case["feature"], case["normalize"])
        loss = lambda *arguments: (run(*arguments) * do).sum()
        result = dict(body=case["body"], o=run(*(x.astype(complex) for x in (q, k, v)), value).real,
                      dq=gradient(lambda x: loss(x, k, v, value), q),
                      dk=gradient(lambda x: loss(q, x, v, value), k),
                      dv=gradient(lambda x: loss(q, k, x, value), v))
        if case["parameter"]:
            result.update(parameter=case["parameter"][0], shape=list(value.shape), values=value,
                          dparameter=gradient(lambda x: loss(q, k, v, x), value))
        golden["cases"][name] = result
    print(json.dumps(golden, default=lambda x: x.ravel().tolist()))


main()
