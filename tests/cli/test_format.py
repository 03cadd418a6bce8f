"""The model file as docs/format.md describes it: the model run by numpy alone, what others write into a file, old files."""

import json
import os
import re
import shutil
import unittest

import h5py
import numpy as np

from hone_cli import CliTest, ROOT, corpus, element_names, run, run_json, sentences, tiny_model, write


def unpacker():
    """The function that docs/packed.md prints."""
    with open(os.path.join(ROOT, "docs", "packed.md")) as file:
        code = re.search(r"```python\n(.*?)```", file.read(), re.S).group(1)
    names = {"np": np}
    exec(code, names)
    return names["unpack"]


unpack = unpacker()


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def matrix(group):
    form, element = text(group.attrs["form"]), text(group.attrs["element"])
    arrays = {name: item[()] for name, item in group.items() if "checksum" in item.attrs}
    if form == "dense":
        return arrays["values"].astype(np.float64)
    if form == "masked":
        keep = np.unpackbits(arrays["mask"], axis=1, count=group.attrs["shape"][1], bitorder="little")
        return np.where(keep, arrays["values"], 0).astype(np.float64)
    arrays.pop("kept", None)
    return unpack(form, element, tuple(group.attrs["shape"]), group.attrs.get("group", 0), **arrays).astype(np.float64)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softcap(x, cap):
    return float(cap) * np.tanh(x / float(cap))


def alibi_slopes(heads):
    power = 1 << (heads.bit_length() - 1)
    places = [2 * i + 2 if i < power else 2 * (i - power) + 1 for i in range(heads)]
    return 2.0 ** (-4 * np.array(places) / power)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Reference:
    """The model, from the page."""

    def __init__(self, path):
        with h5py.File(path) as file:
            self.config = json.loads(file["config"][()])
            self.p = {}
            file["parameters"].visititems(lambda name, item: self.p.update({name.replace("/", "."): matrix(item)})
                                          if isinstance(item, h5py.Group) and "form" in item.attrs else None)

    def linear(self, name, x):
        y = x @ self.p[name + ".weight"].T
        return y + self.p[name + ".bias"] if name + ".bias" in self.p else y

    def norm(self, name, x):
        if self.config["norm"] == "rms_norm":
            return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config["norm_epsilon"]) * self.p[name + ".gain"]
        y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + self.config["norm_epsilon"])
        return y * self.p[name + ".gain"] + self.p[name + ".bias"]

    def rotate(self, x):
        half = self.config["head_dim"] // 2
        angle = np.outer(np.arange(len(x)), self.config["rope_theta"] ** (-np.arange(half) / half))[:, None]
        u, w = x[..., :half], x[..., half:]
        return np.concatenate([u * np.cos(angle) - w * np.sin(angle), w * np.cos(angle) + u * np.sin(angle)], -1)

    def attention(self, name, h, layer):
        heads, kv_heads, d = layer["heads"], layer["kv_heads"], self.config["head_dim"]
        qkv = self.linear(name + ".qkv", h).reshape(len(h), heads + 2 * kv_heads, d)
        q, k, v = qkv[:, :heads], qkv[:, heads : heads + kv_heads], qkv[:, heads + kv_heads :]
        if layer.get("qk_norm"):
            q, k = (x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config["norm_epsilon"]) * self.p[f"{name}.{part}_norm.gain"]
                    for x, part in ((q, "query"), (k, "key")))
        if self.config["positions"] == "rotary":
            q, k = self.rotate(q), self.rotate(k)
        of = np.arange(heads) * kv_heads // heads
        p = np.arange(len(h))
        seen = p[:, None] >= p[None]
        kind, *numbers = layer["attention"].split(":")
        if kind == "window":
            size, sinks = int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0
            seen &= (p[:, None] - p[None] < size) | (p[None] < sinks)
        scores = np.einsum("qhd,khd->hqk", q, k[:, of]) / np.sqrt(d)
        if layer.get("score") == "alibi":
            scores = scores - alibi_slopes(heads)[:, None, None] * np.abs(p[:, None] - p[None])
        elif "score" in layer:
            scores = softcap(scores, layer["score"].removeprefix("softcap:"))
        a = np.einsum("hqk,khd->qhd", softmax(np.where(seen, scores, -np.inf)), v[:, of])
        return self.linear(name + ".output", a.reshape(len(h), heads * d))

    def dense(self, name, h):
        if self.config["activation"] == "swiglu":
            gate, up = np.split(self.linear(name + ".gate_up", h), 2, axis=-1)
            return self.linear(name + ".down", gate * sigmoid(gate) * up)
        z = self.linear(name + ".up", h)
        return self.linear(name + ".down", z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))))

    def feed_forward(self, name, h, layer):
        if "experts" not in layer:
            return self.dense(name, h)
        z, bias = h @ self.p[name + ".router.weight"].T, self.p[name + ".router.bias"]
        scores = softmax(z) if layer["router"] == "softmax" else sigmoid(z)
        key = (z if layer["router"] == "softmax" else scores) + bias
        y = self.dense(name + ".shared", h) if layer["shared_experts"] else np.zeros_like(h)
        if layer.get("shared_gate"):
            y = y * sigmoid(h @ self.p[name + ".shared_gate.weight"].T)
        for t in range(len(h)):
            chosen = np.argsort(-key[t], kind="stable")[: layer["top_k"]]
            g = scores[t, chosen] if layer["top_k"] == 1 else scores[t, chosen] / scores[t, chosen].sum()
            y[t] += sum(w * self.dense(f"{name}.experts.{e}", h[t : t + 1])[0] for w, e in zip(g, chosen))
        return y

    def losses(self, tokens):
        x = self.p["embedding.weight"][tokens[:-1]]
        if self.config["positions"] == "learned":
            x = x + self.p["position.weight"][: len(x)]
        for i, layer in enumerate(self.config["layers"]):
            b = f"blocks.{i}"
            x = x + self.attention(b + ".attention", self.norm(b + ".attention_norm", x), layer)
            x = x + self.feed_forward(b + ".feed_forward", self.norm(b + ".feed_forward_norm", x), layer)
        head = self.p["embedding.weight" if self.config["tied"] else "head.weight"][: self.config["vocabulary"]]
        logits = self.norm("norm", x) @ head.T
        if "logit_softcap" in self.config:
            logits = softcap(logits, self.config["logit_softcap"])
        return np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1) - logits[np.arange(len(x)), tokens[1:]]

    def loss(self, data):
        tokens, context = np.frombuffer(data, np.uint8), self.config["context"]
        parts = [self.losses(tokens[at : at + context + 1]) for at in range(0, len(tokens) - 1, context)]
        return np.concatenate(parts).mean()


class Format(CliTest):
    def setUp(self):
        super().setUp()
        self.corpus = corpus(self.directory)
        self.data = sentences(12, 900).encode()
        self.text = write(self.path("test.txt"), self.data)

    def model(self, name, **options):
        return tiny_model(self.directory, name, data=self.corpus, **{"steps": 6, "lr": 0.02, "batch": 2, **options})

    def eval(self, path, *options, precision="f32"):
        return run_json("eval", path, "--data", self.text, "--no-speed", "--precision", precision, *options)["rows"][0]

    def assert_same_loss(self, path):
        row = self.eval(path)
        expected = Reference(path).loss(self.data)
        self.assertLess(abs(row["loss"] / expected - 1), 1e-6, (row["loss"], expected))
        # Few rows at a time, as when tokens are generated, and many: the same model.
        few = self.eval(path, "--prefill-chunk", 8)
        self.assertLess(abs(few["loss"] / expected - 1), 1e-6)
        return row

    def test_the_model_runs_from_the_page(self):
        kinds = {
            "llama": {},
            "grouped": {"heads": 4, "kv_heads": 2, "attention": "window:8:2,window:5"},
            "gpt2": {"norm": "layer_norm", "activation": "gelu", "positions": "learned", "biases": True, "untied": True},
            "capped": {"qk_norm": True, "attention_softcap": 0.7, "logit_softcap": 1.5, "attention": "window:8:2,full"},
            "capped gpt2": {"norm": "layer_norm", "activation": "gelu", "biases": True, "qk_norm": True, "logit_softcap": 2},
            "alibi": {"dim": 48, "heads": 6, "kv_heads": 3, "positions": "none", "attention_score": "alibi", "attention": "full,window:8:2"},
            "mixture": {"experts": 4, "top_k": 2, "shared_experts": 1},
            "gated": {"experts": 4, "top_k": 2, "shared_experts": 2, "shared_gate": True},
            "switch": {"experts": 3, "top_k": 1, "router": "sigmoid"},
        }
        for name, options in kinds.items():
            with self.subTest(name):
                self.assert_same_loss(self.model(name + ".h5", **options))

    def test_packed_forms_decode_from_the_page(self):
        dense = self.model("dense.h5", ffn=70)
        sparse, barely = self.path("sparse.h5"), self.path("barely.h5")
        run("prune", dense, "--sparsity", 0.6, "--method", "magnitude", "--output", sparse, check=True)
        run("prune", dense, "--sparsity", 0.03, "--method", "magnitude", "--output", barely, check=True)
        self.assert_same_loss(sparse)
        for turn, kind in enumerate(element_names()):
            # Of the two that are pruned, which differ in their masks alone, one each.
            for source in (dense, (sparse, barely)[turn % 2]):
                with self.subTest(source=source, kind=kind):
                    small = self.path("small.h5")
                    run("quantize", source, "--type", kind, "--output", small, "--force", check=True)
                    row = self.assert_same_loss(small)
                    integers = self.eval(small, precision="f32-i16")
                    self.assertEqual(integers["precision"], "f32-i16")
                    self.assertAlmostEqual(integers["loss"], row["loss"], delta=1e-4)

    def test_pruned_and_zero_are_two_numbers(self):
        dense, sparse, small = self.model("dense.h5"), self.path("sparse.h5"), self.path("small.h5")
        run("prune", dense, "--sparsity", 0.05, "--method", "magnitude", "--output", sparse, check=True)
        done = json.loads(run("quantize", sparse, "--type", "int4", "--output", small, "--format", "json", check=True).stdout)
        row = self.eval(small)
        self.assertEqual((done["sparsity"], done["zero_fraction"]), (row["sparsity"], row["zero_fraction"]))
        self.assertAlmostEqual(row["sparsity"], 0.05, delta=0.001)
        self.assertGreater(row["zero_fraction"], row["sparsity"] + 0.02)
        reference = Reference(small)
        self.assertEqual(row["nonzero_parameters"], sum(np.count_nonzero(p) for p in reference.p.values()))
        self.assertEqual(row["bytes"], len(self.data) - 1)
        # Zeros without a mask are not pruned; vectors count by their elements.
        with h5py.File(dense, "r+") as file:
            for name in ("blocks/0/attention/qkv/weight", "norm/gain"):
                self.change(file["parameters"][name], slice(0, 3), 0)
        row, kinds = self.eval(dense), run_json("inspect", dense)
        self.assertEqual(row["sparsity"], 0)
        self.assertGreater(row["zero_fraction"], 0)
        self.assertEqual(row["parameters"] - row["nonzero_parameters"], 3 * 32 + 3)
        self.assertEqual(kinds["zero_fraction"], row["zero_fraction"])

    @staticmethod
    def change(group, where, value):
        from model_files import xxh3

        values = group["values"][()]
        values[where] = value
        group["values"][...] = values
        group["values"].attrs.modify("checksum", np.bytes_(xxh3(values.tobytes())))
        if "nonzeros" in group.attrs:
            group.attrs.modify("nonzeros", np.count_nonzero(values))

    def test_numbers_that_are_not_finite_are_refused_with_their_place(self):
        model = self.model("model.h5")
        for name, value in (("blocks/1/feed_forward/down/weight", np.nan), ("norm/gain", np.inf)):
            bad = self.path("bad.h5")
            shutil.copyfile(model, bad)
            with h5py.File(bad, "r+") as file:
                self.change(file["parameters"][name], 1, value)
            parameter = name.replace("/", ".")
            shown = run_json("inspect", bad)
            self.assertEqual({t["name"]: t["nonfinite"] for t in shown["tensors"] if t["nonfinite"]},
                             {parameter: shown["nonfinite"]})
            self.assertIn("NaN or infinite", run("inspect", bad, check=True).stdout)
            out = self.path("out.h5")
            for command in (["prune", bad, "--sparsity", 0.5, "--method", "magnitude", "--output", out],
                            ["quantize", bad, "--type", "bf16", "--output", out],
                            ["quantize", bad, "--type", "int8", "--output", out],
                            ["train", "--init", bad, "--data", self.corpus, "--steps", 1, "--output", out],
                            ["generate", bad, "--prompt", "a", "--tokens", 2],
                            ["bench", bad, "--prompt", 4, "--generate", 1, "--repeat", 1]):
                with self.subTest(command=command[0], parameter=parameter):
                    done = run(*command)
                    self.assert_error(done, 3, "bad.h5", parameter, "NaN or infinite")
                    self.assertFalse(os.path.exists(out))

    def test_notes_of_others_are_passed_over_and_kept(self):
        model = self.model("model.h5")
        name = "blocks/0/attention/qkv/weight"
        with h5py.File(model, "r+") as file:
            file.attrs["note"] = "größer"
            file.attrs["score"] = 1.5
            file.attrs["checked"] = True
            file.attrs["list"] = ["a", "", "bc"]
            file.attrs["place"] = file["config"].ref
            file["parameters"][name].attrs["note"] = "x"
            file["parameters"][name].attrs["count"] = 3
            file["config"].attrs["note"] = "x"
            file["mine"] = [1, 2, 3]
            file["parameters"][name]["mine"] = [1, 2, 3]
        results = {"sparse.h5": ["prune", model, "--sparsity", 0.5, "--method", "magnitude"],
                   "small.h5": ["quantize", model, "--type", "int8"],
                   "trained.h5": ["train", "--init", model, "--data", self.corpus, "--steps", 1]}
        for output, command in results.items():
            with self.subTest(output):
                run(*command, "--output", self.path(output), check=True)
                with h5py.File(self.path(output)) as file:
                    notes = dict(file.attrs)
                    self.assertEqual(notes.pop("list").tolist(), ["a", "", "bc"])
                    self.assertEqual(notes, {"format": b"hone-model", "format_version": 2, "note": "größer", "score": 1.5,
                                             "checked": True})
                    self.assertEqual(file["parameters"][name].attrs["note"], "x")
                    self.assertEqual(file["parameters"][name].attrs["count"], 3)
                    self.assertNotIn("mine", file)
                run("eval", self.path(output), "--data", self.text, "--no-speed", check=True)

    def test_files_of_format_1_are_read(self):
        # Written before format 2: a model of 60% sparsity, quantized; masks of 64 and of 32 bits, texts marked UTF-8.
        for name, loss in (("format1-int8.h5", 4.092563602911228), ("format1-bf16.h5", 4.092719784016726)):
            path = os.path.join(ROOT, "tests", "fixtures", name)
            with h5py.File(path) as file:
                self.assertEqual(file.attrs["format_version"], 1)
            row = run_json("eval", path, "--data", self.corpus, "--limit", 2000, "--no-speed", "--precision", "f32")["rows"][0]
            self.assertAlmostEqual(row["loss"], loss, delta=2e-6)
            self.assertEqual(row["sparsity"], 0.6)


class ForPyTorch(CliTest):
    def test_the_lines_of_the_page_load_every_parameter(self):
        """With stand-ins for torch and for a model, which takes exactly what it has, as load_state_dict does."""
        with open(os.path.join(ROOT, "docs", "format.md"), encoding="utf-8") as file:
            lines = re.search(r"### For PyTorch.*?```python\n(.*?)```", file.read(), re.S).group(1)
        self.assertLessEqual(len(lines.splitlines()), 5)
        dense, pruned = tiny_model(self.directory), self.path("pruned.h5")
        run("prune", dense, "--sparsity", 0.5, "--output", pruned, check=True)
        for path in (dense, pruned):
            taken = {}
            model = type("Model", (), {"load_state_dict": staticmethod(taken.update)})
            torch = type("Torch", (), {"from_numpy": staticmethod(lambda array: array)})
            exec(lines.replace('"dense.h5"', repr(path)), {"h5py": h5py, "torch": torch, "model": model})
            known = run_json("inspect", path)["tensors"]
            self.assertEqual({name: list(array.shape) for name, array in taken.items()}, {w["name"]: w["shape"] for w in known})
            for w in known:
                self.assertEqual(np.count_nonzero(taken[w["name"]]), w["nonzero_parameters"])


if __name__ == "__main__":
    unittest.main()
