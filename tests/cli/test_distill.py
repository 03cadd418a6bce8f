"""Quantized models that were trained for it: scales distilled after rounding, and weights rounded in training."""

import os
import unittest

import numpy as np

from hone_cli import run, run_json
from model_files import LINEAR, QUICK, ModelTest, lineage, log_lines, parameters, sha256


class DistilledScales(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.dense = os.path.join(cls.shared, "dense.h5")
        run("train", "--data", cls.corpus, *QUICK, "--steps", 150, "--lr", 0.003, "--output", cls.dense, "--quiet", check=True)

    def setUp(self):
        super().setUp()
        self.text = self.corpus

    def quantize(self, name, *options):
        return run_json("quantize", self.dense, "--type", "int2", "--group", 32, "--embedding-type", "int8", "--calibration",
                        self.text, "--output", self.path(name), *options)

    def loss(self, name, kind="loss"):
        return run_json("eval", self.path(name), "--data", self.text, "--no-speed")["rows"][0][kind]

    def test_distilled_scales_lose_less_and_integers_stay(self):
        self.quantize("rounded.h5", "--method", "search")
        result = self.quantize("distilled.h5", "--method", "search", "--distill", 30, "--distill-rate", 0.01)["distilled"]
        self.assertLess(result["divergence"], result["divergence_before"])
        self.assertEqual(lineage(self.path("distilled.h5"))[-1]["results"]["distilled"], result)
        before, after = parameters(self.path("rounded.h5")), parameters(self.path("distilled.h5"))
        for layer in LINEAR:
            a, b = before["blocks.0." + layer], after["blocks.0." + layer]
            np.testing.assert_array_equal(a.values, b.values)
            self.assertFalse(np.array_equal(a.arrays["scales"], b.arrays["scales"]))
        dense, rounded, distilled = self.loss(self.dense), self.loss("rounded.h5"), self.loss("distilled.h5")
        self.assertLess(distilled - dense, 0.7 * (rounded - dense))
        self.quantize("again.h5", "--method", "search", "--distill", 30, "--distill-rate", 0.01)
        self.assert_same_parameters(self.path("distilled.h5"), self.path("again.h5"))

    def test_what_cannot_be_distilled(self):
        arguments = [self.dense, "--output", self.path("x.h5")]
        for options, parts in ((["--distill", 5], ["--distill", "--calibration"]),
                               (["--distill", 5, "--calibration", self.text, "--type", "bf16"], ["--distill"]),
                               (["--distill-rate", 0.1], ["--distill-rate", "--distill"])):
            with self.subTest(options):
                self.assert_error(run("quantize", *arguments, *options), 2, *parts)


class Rounding(ModelTest):

    def learn(self, name, *options):
        return run("train", "--data", self.corpus, *QUICK, "--steps", 40, "--lr", 0.003, "--output", self.path(name), *options)

    def test_quantizing_a_model_that_was_trained_for_it_changes_nothing(self):
        done = self.learn("aware.h5", "--quantize-aware", "int3:32", "--quantize-from", 0.2, "--sparsity", 0.5, "--valid",
                          self.corpus, "--format", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(lineage(self.path("aware.h5"))[-1]["results"]["quantize_aware"], "int3:32")
        aware = parameters(self.path("aware.h5"))["blocks.1.feed_forward.down.weight"]
        groups = aware.values.reshape(aware.shape[0], -1, 32) if aware.shape[1] % 32 == 0 else None
        if groups is not None:
            for group in groups.reshape(-1, 32)[:50]:
                self.assertLessEqual(len(set(np.round(group, 7))), 8)
        self.assertGreaterEqual(np.mean(aware.values == 0), 0.5)
        run("quantize", self.path("aware.h5"), "--type", "int3", "--group", 32, "--embedding-type", "keep", "--method", "search",
            "--output", self.path("small.h5"), check=True)
        scored = [run_json("eval", self.path(name), "--data", self.corpus, "--precision", "f32", "--no-speed")["rows"][0]["loss"]
                  for name in ("aware.h5", "small.h5")]
        self.assertAlmostEqual(scored[0], scored[1], delta=1e-3)

    def test_a_teacher_guides_a_model_that_is_rounded_while_it_learns(self):
        teacher = self.path("teacher.h5")
        run("train", "--data", self.corpus, *QUICK, "--steps", 80, "--lr", 0.003, "--output", teacher, "--quiet", check=True)
        done = self.learn("student.h5", "--quantize-aware", "int4:32", "--quantize-from", 0.2, "--teacher", teacher, "--log",
                          self.path("log"), "--log-every", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = log_lines(self.path("log"))
        self.assertEqual(sorted(lines[-1]["terms"]), ["next_token", "teacher"])
        self.assertLess(lines[-1]["terms"]["teacher"], 0.9 * lines[0]["terms"]["teacher"])
        results = lineage(self.path("student.h5"))[-1]["results"]
        self.assertEqual((results["quantize_aware"], results["teacher"]["sha256"]), ("int4:32", sha256(teacher)))
        weight = parameters(self.path("student.h5"))["blocks.0.attention.qkv.weight"]
        for group in weight.values.reshape(-1, 32)[:50]:
            self.assertLessEqual(len(set(np.round(group, 7))), 16)
        self.learn("alone.h5", "--quantize-aware", "int4:32", "--quantize-from", 0.2, "--quiet")
        alone = parameters(self.path("alone.h5"))["blocks.0.attention.qkv.weight"]
        self.assertFalse(np.array_equal(weight.values, alone.values))

    def test_what_cannot_be_rounded_to(self):
        for options, parts in ((["--quantize-aware", "bf16"], ["--quantize-aware", "scales"]),
                               (["--quantize-aware", "int5"], ["--quantize-aware", "int5"]),
                               (["--quantize-aware", "int4:33"], ["int4:33", "32, 64 or 128"]),
                               (["--quantize-aware", "int4", "--quantize-from", 1], ["--quantize-from"]),
                               (["--quantize-from", 0.1], ["--quantize-from", "--quantize-aware"])):
            with self.subTest(options):
                self.assert_error(self.learn("x.h5", *options), 2, *parts)


if __name__ == "__main__":
    unittest.main()
