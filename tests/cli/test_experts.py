"""Mixtures of experts through every tool."""

import os
import shutil
import unittest

import h5py
import numpy as np

from hone_cli import run, run_json, tiny_model
from model_files import QUICK, ModelTest, lineage, log_lines, parameters, text_of, xxh3

EXPERTS = dict(experts=4, top_k=2, shared_experts=1, expert_ffn=32)
TRAINED = dict(layers=2, dim=64, heads=2, context=32, batch=8)


def options(**values):
    return [part for key, value in values.items() for part in ("--" + key.replace("_", "-"), value)]


class Chain(ModelTest):
    """Trained, pruned, quantized; made once."""

    @classmethod
    def at(cls, name):
        return os.path.join(cls.shared, name)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.log = cls.at("run.jsonl")
        cls.mixture = tiny_model(cls.shared, "mixture.h5", data=cls.corpus, steps=60, lr=0.003, log=cls.log, log_every=20,
                                 router_noise="gumbel", router_temperature="2:0.5", router_z_loss=0.001, balance="bias", **TRAINED, **EXPERTS)
        cls.sparse, cls.small = cls.at("sparse.h5"), cls.at("small.h5")
        cls.pruned = run("prune", cls.mixture, "--output", cls.sparse, "--method", "wanda", "--sparsity", 0.5, "--calibration",
                         cls.corpus, "--report", cls.at("prune.csv"), check=True)
        cls.quantized = run("quantize", cls.sparse, "--output", cls.small, "--type", "int8", "--calibration", cls.corpus,
                            "--report", cls.at("quantize.csv"), check=True)

    def test_the_file_has_an_expert_each_and_a_router(self):
        found = parameters(self.mixture)
        for layer in range(2):
            prefix = f"blocks.{layer}.feed_forward"
            self.assertEqual(found[f"{prefix}.router.weight"].shape, (4, 64))
            self.assertTrue(found[f"{prefix}.router.bias"].values.any())  # balance moved it
            self.assertEqual(found[f"{prefix}.shared.down.weight"].shape, (64, 32))
            for e in range(4):
                self.assertEqual(found[f"{prefix}.experts.{e}.gate_up.weight"].shape, (64, 64))
        layer = text_of(self.mixture, "config")["layers"][0]
        self.assertEqual((layer["experts"], layer["top_k"], layer["shared_experts"], layer["router"], layer["ffn"]),
                         (4, 2, 1, "softmax", 32))

    def test_the_log_tells_loads_and_losses_apart(self):
        last = log_lines(self.log)[-1]
        self.assertGreater(last["router_loss"], 0)
        self.assertEqual([layer["layer"] for layer in last["routing"]], [0, 1])
        for layer in last["routing"]:
            self.assertEqual(sum(layer["load"]), 8 * 32 * 2)
            self.assertGreaterEqual(layer["largest_load_over_mean"], 1)
            self.assertEqual(layer["dropped_tokens"], 0)
            self.assertGreater(layer["z_loss"], 0)
            self.assertEqual(layer["balance_loss"], 0)

    def test_masks_and_packed_experts(self):
        sparse, small = parameters(self.sparse), parameters(self.small)
        for e in range(4):
            name = f"blocks.1.feed_forward.experts.{e}.down.weight"
            self.assertAlmostEqual(sparse[name].kept().mean(), 0.5, delta=0.01)
            self.assertEqual((small[name].form, small[name].element), ("bitmask", "int8"))
        self.assertEqual(small["blocks.1.feed_forward.router.weight"].element, "f32")

    def test_reports_have_the_coverage_of_each_expert(self):
        import csv

        for name in ("prune.csv", "quantize.csv"):
            with open(self.at(name)) as file:
                rows = {row["parameter"]: row for row in csv.DictReader(file)}
            seen = [int(rows[f"blocks.0.feed_forward.experts.{e}.gate_up.weight"]["calibration_tokens"]) for e in range(4)]
            self.assertEqual(sum(seen), 2 * int(rows["blocks.0.attention.qkv.weight"]["calibration_tokens"]))

    def test_an_expert_with_too_few_tokens_is_pruned_without_data_and_says_so(self):
        report = self.path("report.csv")
        done = run("prune", self.mixture, "--output", self.path("s.h5"), "--method", "wanda", "--sparsity", 0.5, "--calibration",
                   self.corpus, "--calibration-windows", 1, "--report", report, check=True)
        self.assertIn("fewer calibration tokens", done.stderr)
        with open(report) as file:
            text = file.read()
        self.assertIn("too few", text)
        self.assertNotIn("fewer calibration tokens", self.pruned.stderr)
        done = run("quantize", self.mixture, "--output", self.path("q.h5"), "--calibration", self.corpus, "--calibration-windows", 1,
                   check=True)
        self.assertIn("fewer calibration tokens", done.stderr)

    def test_eval_reports_the_load(self):
        plot = self.path("experts.svg")
        rows = run_json("eval", self.mixture, self.small, "--data", self.corpus, "--no-speed", "--plot", plot)["rows"]
        for row in rows:
            self.assertEqual(row["parameters"] - row["active_parameters"], 2 * 2 * (64 * 64 + 64 * 32))
            self.assertGreaterEqual(row["largest_load_over_mean"], 1)
            self.assertEqual(row["dropped_tokens"], 0)
            self.assertGreater(row["router_entropy"], 0)
            for layer in range(2):
                self.assertEqual(len(row[f"expert_load_{layer}"]), 4)
                self.assertAlmostEqual(sum(row[f"expert_load_{layer}"]), 1)
        self.assertLess(rows[0]["loss"], 3)
        self.assertAlmostEqual(rows[0]["loss"], rows[1]["loss"], delta=0.6)
        with open(plot) as file:
            svg = file.read()
        self.assertIn("layer 1", svg)
        self.assertIn("small.h5", svg)
        done = run("eval", self.mixture, "--data", self.corpus, "--no-speed", "--require", "largest_load_over_mean <= 4.5")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_bench_counts_active_experts(self):
        row, = run_json("bench", self.small, "--prompt", 16, "--generate", 4, "--repeat", 1, "--precision", "bf16")["rows"]
        self.assertLess(row["bytes_per_token"], row["weight_bytes"])
        self.assertLess(row["active_parameters"], row["parameters"])
        self.assertEqual(len(row["expert_load_0"]), 4)

    def test_generate_and_inspect(self):
        for model in (self.mixture, self.small):
            done = run("generate", model, "--prompt", "the ", "--tokens", 8, "--temperature", 0, check=True)
            self.assertTrue(done.stdout)
        shown = run("inspect", self.mixture, check=True).stdout
        self.assertIn("experts 4", shown)
        self.assertIn("blocks.0.feed_forward.experts.*.gate_up.weight", shown)  # a line for all four
        self.assertNotIn("experts.3", shown)
        tensors = run_json("inspect", self.mixture)["tensors"]
        self.assertIn("blocks.0.feed_forward.experts.3.gate_up.weight", [t["name"] for t in tensors])

    def test_a_mixture_is_trained_on(self):
        again = self.path("again.h5")
        run("train", "--init", self.sparse, "--data", self.corpus, "--steps", 3, "--batch", 4, "--output", again, check=True)
        self.assertEqual(text_of(again, "config"), text_of(self.sparse, "config"))

    def test_resume_is_exact(self):
        arguments = ["--data", self.corpus, *QUICK, *options(**EXPERTS), "--router-noise", "gaussian", "--balance", "aux:0.02"]
        straight, resumed, checkpoint = self.path("a.h5"), self.path("b.h5"), self.path("run.h5")
        run("train", *arguments, "--steps", 12, "--output", straight, "--checkpoint", checkpoint, "--save-every", 5, check=True)
        run("train", *arguments, "--steps", 12, "--output", resumed, "--resume", checkpoint, check=True)
        self.assert_same_parameters(straight, resumed)
        done = run("train", *arguments, "--steps", 12, "--output", self.path("c.h5"), "--resume", checkpoint, "--capacity-factor", 2)
        self.assert_error(done, 2, "routing")
        done = run("train", *arguments, "--steps", 12, "--output", self.path("c.h5"), "--resume", checkpoint, "--top-k", 1)
        self.assertEqual(done.returncode, 2)


class Shapes(ModelTest):
    def test_layers_that_get_experts(self):
        for text, expected in (("all", [0, 1, 2, 3]), ("every:2", [1, 3]), ("0,2", [0, 2])):
            model = tiny_model(self.directory, "m.h5", layers=4, experts=8, moe_layers=text, force=True)
            layers = text_of(model, "config")["layers"]
            self.assertEqual([i for i, layer in enumerate(layers) if "experts" in layer], expected)

    def test_unusual_numbers_of_experts_are_warned_of_once(self):
        for experts, warned in ((4, True), (8, False), (32, False), (40, True)):
            done = run("train", "--steps", 0, *QUICK, "--experts", experts, "--output", self.path(f"{experts}.h5"), check=True)
            self.assertEqual(done.stderr.count("are recommended"), int(warned), done.stderr)

    def test_a_capacity_drops_and_the_log_counts(self):
        log = self.path("log.jsonl")
        tiny_model(self.directory, "m.h5", data=self.corpus, steps=2, experts=8, top_k=1, capacity_factor=0.25, log=log, **TRAINED)
        for layer in log_lines(log)[0]["routing"]:
            self.assertGreaterEqual(layer["dropped_tokens"], 8 * 32 * 3 // 4)

    def test_bad_input(self):
        dense = tiny_model(self.directory, "dense.h5")
        mixture = tiny_model(self.directory, "mixture.h5", experts=8)
        new = ["--steps", 0, *QUICK]
        for arguments, *words in (
            ([*new, "--experts", 4, "--top-k", 5], "--top-k 5"),
            ([*new, "--experts", 1], "--top-k 2"),
            ([*new, "--experts", 0], "--experts"),
            ([*new, "--experts", 8, "--capacity-factor", 0.1], "--capacity-factor", "1/8"),
            ([*new, "--experts", 8, "--router-noise", "gumbel", "--router-temperature", 0], "above 0"),
            ([*new, "--experts", 8, "--router-noise", "gaussian", "--router-temperature", "1:0"], "above 0"),
            ([*new, "--experts", 8, "--router-temperature", "2:0.5"], "--router-noise"),
            ([*new, "--experts", 8, "--balance", "luck"], "aux:WEIGHT"),
            ([*new, "--experts", 8, "--balance", "bias:-1"], "above 0"),
            ([*new, "--experts", 8, "--moe-layers", "0,7"], "layer 7"),
            ([*new, "--experts", 8, "--moe-layers", "every:9"], "every:9"),
            ([*new, "--top-k", 2], "--experts"),
            ([*new, "--balance", "aux"], "dense"),
            (["--init", mixture, "--steps", 0, "--experts", 8], "already"),
            (["--init", dense, "--steps", 0, "--experts", 8, "--expert-ffn", 32], "64"),
            (["--init", dense, "--steps", 0, "--router-z-loss", 0.1], "dense"),
        ):
            with self.subTest(arguments=arguments):
                self.assert_refused(run("train", *arguments, "--output", self.path("x.h5")), 2, *words)
        small = self.path("small.h5")
        run("quantize", dense, "--output", small, check=True)
        self.assert_refused(run("train", "--init", small, "--steps", 0, "--experts", 8, "--output", self.path("x.h5")), 2, "quantized")
        self.assert_refused(run("eval", dense, "--data", self.corpus, "--plot", self.path("x.svg")), 2, "--plot")


class Upcycled(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = tiny_model(cls.shared, "dense.h5", data=cls.corpus, **TRAINED, ffn=64, steps=60, lr=0.003)

    def loss(self, *models):
        return [row["loss"] for row in run_json("eval", *models, "--data", self.corpus, "--no-speed")["rows"]]

    def test_an_upcycled_model_is_as_good_and_remembers(self):
        for extra in ((), ("--top-k", 1), ("--router", "sigmoid", "--shared-experts", 1),
                      ("--shared-experts", 1, "--shared-gate")):
            with self.subTest(extra=extra):
                path = self.path("up.h5")
                run("train", "--init", self.model, "--experts", 8, *extra, "--steps", 0, "--force", "--output", path, check=True)
                dense, up = self.loss(self.model, path)
                self.assertAlmostEqual(up, dense, delta=0.03)
        stages = lineage(path)
        self.assertEqual([stage["tool"] for stage in stages], ["train", "train"])
        self.assertEqual(stages[1]["results"]["upcycled"]["experts"], 8)

    def test_it_is_trained_on_and_its_experts_part(self):
        path = self.path("up.h5")
        run("train", "--init", self.model, "--experts", 8, "--data", self.corpus, "--steps", 10, "--batch", 8, "--lr", 0.002,
            "--output", path, check=True)
        dense, up = self.loss(self.model, path)
        self.assertLess(up, dense)

    def test_masks_stay_in_every_expert(self):
        sparse, path = self.path("sparse.h5"), self.path("up.h5")
        run("prune", self.model, "--output", sparse, "--sparsity", 0.5, check=True)
        run("train", "--init", sparse, "--experts", 8, "--data", self.corpus, "--steps", 3, "--batch", 4, "--output", path, check=True)
        kept = parameters(sparse)["blocks.0.feed_forward.down.weight"].kept()
        for e in range(8):
            expert = parameters(path)[f"blocks.0.feed_forward.experts.{e}.down.weight"]
            self.assertTrue(np.array_equal(expert.kept(), kept))
            self.assertFalse(expert.values[~kept].any())


class NeverRouted(ModelTest):
    """Experts that no token is sent to are not read by what generates, and are by what works on all of a model."""

    train = dict(experts=8, top_k=2)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with h5py.File(cls.model, "r+") as file:
            for layer in range(2):
                bias = file[f"parameters/blocks/{layer}/feed_forward/router/bias/values"]
                bias[...] = np.array([100, 100, 0, 0, 0, 0, 0, 0], dtype=np.float32)
                bias.attrs.modify("checksum", np.bytes_(xxh3(bias[()].tobytes())))

    def damaged(self, expert):
        """A copy of the model with one bit changed in an expert of the second layer."""
        path = shutil.copyfile(self.model, self.path(f"damaged{expert}.h5"))
        with h5py.File(path) as file:
            values = file[f"parameters/blocks/1/feed_forward/experts/{expert}/down/weight/values"]
            at = values.id.get_offset() + values.id.get_storage_size() // 2
        with open(path, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 4]))
        return path

    def test_what_generates_does_not_see_their_damage(self):
        prompt = ["--prompt", "the river ", "--tokens", 20]
        expected = run("generate", self.model, *prompt, check=True).stdout
        path = self.damaged(5)
        self.assertEqual(run("generate", path, *prompt, check=True).stdout, expected)
        row, = run_json("bench", path, "--prompt", 8, "--generate", 4, "--repeat", 1)["rows"]
        self.assertEqual(row["expert_load_1"], [0.5, 0.5, 0, 0, 0, 0, 0, 0])
        self.assertEqual(row["sparsity"], run_json("inspect", self.model)["sparsity"])

    def test_damage_is_found_where_it_is_read(self):
        for expert in (0, 1):
            name = f"blocks.1.feed_forward.experts.{expert}.down.weight"
            for command in (["generate", "--prompt", "the "], ["bench", "--prompt", 8, "--generate", 2, "--repeat", 1]):
                with self.subTest(tool=command[0], expert=expert):
                    path = self.damaged(expert)
                    self.assert_refused(run(command[0], path, *command[1:]), 3, path, name, "values", "checksum")

    def test_what_works_on_all_experts_finds_it(self):
        path, out = self.damaged(5), self.path("out.h5")
        for command in (["inspect", path], ["prune", path, "--sparsity", 0.5, "--output", out], ["quantize", path, "--output", out],
                        ["train", "--init", path, "--steps", 0, "--output", out], ["eval", path, "--data", self.corpus],
                        ["bench", path, "--train", "--batch", 1, "--prompt", 8, "--repeat", 1]):
            with self.subTest(tool=command[0]):
                done = run(*command)
                self.assert_refused(done, 3, path, "blocks.1.feed_forward.experts.5.down.weight", "values", "checksum")


if __name__ == "__main__":
    unittest.main()
