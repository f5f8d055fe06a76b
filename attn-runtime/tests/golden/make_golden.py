#!/usr/bin/env python3
"""Writes golden.json: attention variants in float64, differentiated by JAX.

    pip install "jax[cpu]" && python make_golden.py

Each variant is stated densely and independently of the crate. The inputs are exactly representable in f32, so that both sides
start from the same numbers; outputs and gradients are float64.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

B, H, H_KV, N, M, D, DV = 1, 4, 2, 5, 7, 4, 3
SCALE = 0.5  # 1 / sqrt(D), exact

rng = np.random.default_rng(20240607)


def draw(*shape, low=None):
    values = rng.standard_normal(shape) if low is None else rng.uniform(low, 1.5, shape)
    return np.float64(np.float32(values))


q_index = np.arange(N)[:, None]
kv_index = np.arange(M)[None, :]
distance = M - N + q_index - kv_index
CAUSAL = distance >= 0
ALL = np.ones((N, M), bool)
WINDOW = (distance <= 2) & (distance >= -1)
# The first two rows see nothing.
LATE = (q_index >= 2) & (kv_index != 3)


def rows(weights, mask):
    return jnp.where(mask, weights, 0.0)


def softmax(s, p, mask):
    e = rows(jnp.exp(s), mask)
    return e, e.sum(-1, keepdims=True), True


def with_sink(s, p, mask):
    e = rows(jnp.exp(s), mask)
    return e, e.sum(-1, keepdims=True) + jnp.exp(p["sink"])[None, :, None, None], True


def plain(f):
    return lambda s, p, mask: (rows(f(s), mask), None, False)


def per_head(x):
    return x[None, :, None, None]


live = lambda mask: jnp.maximum(mask.sum(-1, keepdims=True), 1)[None, None]

# name: (body in the language, parameters, score, weights and normalizer, mask)
VARIANTS = {
    "Softmax": ("", {}, None, softmax, ALL),
    "SoftmaxCausal": ("mask: causal", {}, None, softmax, CAUSAL),
    "SoftmaxWindow": ("mask: window(2, 1)", {}, None, softmax, WINDOW),
    "SoftmaxLate": ("mask: |b, h, q, kv| q >= 2 && kv != 3", {}, None, softmax, LATE),
    "SoftmaxOne": (
        "normalizer: sum + 1", {}, None,
        lambda s, p, m: (rows(jnp.exp(s), m), rows(jnp.exp(s), m).sum(-1, keepdims=True) + 1, True), ALL,
    ),
    "Sink": ("sink: f32[h], normalizer: sum + exp(sink[h]), mask: causal", {"sink": draw(H)}, None, with_sink, CAUSAL),
    "Sigmoid": (
        "bias: f32[h], score: |s, b, h| s + bias[h], activation: sigmoid, normalizer: none", {"bias": draw(H)},
        lambda s, p: s + per_head(p["bias"]), plain(jax.nn.sigmoid), ALL,
    ),
    "SigmoidLength": (
        "score: |s| s - ln(kv_len as f32), activation: sigmoid, normalizer: none", {},
        lambda s, p: s - np.log(M), plain(jax.nn.sigmoid), ALL,
    ),
    "ReluCount": (
        "activation: relu, normalizer: count, mask: causal", {}, None,
        lambda s, p, m: (rows(jax.nn.relu(s), m), live(m), False), CAUSAL,
    ),
    "ReluSquared": ("activation: relu_squared, normalizer: none", {}, None, plain(lambda s: jax.nn.relu(s) ** 2), ALL),
    "Silu": ("activation: silu, normalizer: none, mask: causal", {}, None, plain(jax.nn.silu), CAUSAL),
    "Gelu": (
        "activation: gelu, normalizer: none", {}, None, plain(lambda s: jax.nn.gelu(s, approximate=False)), ALL,
    ),
    "Softplus": (
        "activation: softplus, normalizer: sum", {}, None,
        lambda s, p, m: (rows(jax.nn.softplus(s), m), rows(jax.nn.softplus(s), m).sum(-1, keepdims=True), "z"), ALL,
    ),
    "EluPlusOne": (
        "activation: elu_plus_one, normalizer: sum, mask: causal", {}, None,
        lambda s, p, m: (rows(jax.nn.elu(s) + 1, m), rows(jax.nn.elu(s) + 1, m).sum(-1, keepdims=True), "z"), CAUSAL,
    ),
    "Alibi": (
        "slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(kv_len - q_len + q - kv), mask: causal",
        {"slope": draw(H, low=0.1)}, lambda s, p: s - per_head(p["slope"]) * np.abs(distance), softmax, CAUSAL,
    ),
    "Softcap": (
        "cap: f32, score: |s| cap * tanh(s / cap)", {"cap": draw(low=0.5)},
        lambda s, p: p["cap"] * jnp.tanh(s / p["cap"]), softmax, ALL,
    ),
    "Bias": (
        "bias: f32[b, h, q, kv], score: |s, b, h, q, kv| s + bias[b, h, q, kv]", {"bias": draw(1, H, N, M)},
        lambda s, p: s + p["bias"], softmax, ALL,
    ),
    "Table": (
        "table: f32[h, 4], score: |s, b, h, q, kv| s + table[h, clamp(q - kv + 2, 0, 3)]", {"table": draw(H, 4)},
        lambda s, p: s + p["table"][:, np.clip(q_index - kv_index + 2, 0, 3)][None], softmax, ALL,
    ),
    "Bounded": (
        "activation: identity, normalizer: max(abs(sum), 1), mask: causal", {}, None,
        lambda s, p, m: (
            rows(s, m), jnp.maximum(jnp.abs(rows(s, m).sum(-1, keepdims=True)), 1), "z",
        ), CAUSAL,
    ),
    "Euclid": (
        "normalizer: sqrt(sum_squares)", {}, None,
        lambda s, p, m: (rows(jnp.exp(s), m), jnp.sqrt((rows(jnp.exp(s), m) ** 2).sum(-1, keepdims=True)), True), ALL,
    ),
}


def attention(variant, q, k, v, parameters):
    _, _, score, weigh, mask = variant
    k, v = (jnp.repeat(x, H // H_KV, axis=1) for x in (k, v))
    s = SCALE * jnp.einsum("bhid,bhjd->bhij", q, k)
    s = score(s, parameters) if score else s
    w, z, kind = weigh(s, parameters, mask)
    alive = mask.any(-1)[None, None, :, None]
    if z is None:
        return jnp.einsum("bhij,bhjd->bhid", w, v), None
    z = jnp.where(alive, z, 1.0)
    z = jnp.broadcast_to(z, (B, H, N, 1))
    output = jnp.einsum("bhij,bhjd->bhid", w / z, v)
    if not kind:
        return output, None
    return output, jnp.where(alive, jnp.log(z) if kind is True else z, 0.0)[..., 0]


def listed(x):
    return [float(value) for value in np.asarray(x).reshape(-1)]


q, k, v, do = draw(B, H, N, D), draw(B, H_KV, M, D), draw(B, H_KV, M, DV), draw(B, H, N, DV)
dstatistic = draw(B, H, N)
cases = {}
for name, variant in VARIANTS.items():
    parameters = {key: jnp.asarray(value) for key, value in variant[1].items()}

    def loss(q, k, v, parameters):
        output, statistic = attention(variant, q, k, v, parameters)
        total = (output * do).sum()
        return total if statistic is None else total + (statistic * dstatistic).sum()

    output, statistic = attention(variant, q, k, v, parameters)
    dq, dk, dv, dp = jax.grad(loss, argnums=(0, 1, 2, 3))(q, k, v, parameters)
    cases[name] = {
        "body": variant[0],
        # The statistic of a row without a live key is a matter of definition, so it is left out.
        "alive": [bool(x) for x in variant[4].any(-1)],
        "parameters": {key: {"shape": list(x.shape), "values": listed(x)} for key, x in variant[1].items()},
        "o": listed(output),
        "statistic": None if statistic is None else listed(statistic),
        "dq": listed(dq),
        "dk": listed(dk),
        "dv": listed(dv),
        "dparameters": {key: listed(x) for key, x in dp.items()},
    }

golden = {
    "made_with": f"jax {jax.__version__}, float64",
    "extents": [B, H, H_KV, N, M, D, DV],
    "q": listed(q), "k": listed(k), "v": listed(v), "do": listed(do), "dstatistic": listed(dstatistic),
    "cases": cases,
}
path = pathlib.Path(__file__).with_name("golden.json")
path.write_text(json.dumps(golden, separators=(",", ":")).replace('},"', '},\n"') + "\n")
print(path, path.stat().st_size)
