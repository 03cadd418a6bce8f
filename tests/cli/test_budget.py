"""quantize to a budget as a user meets it: bytes, bits and accuracy that are kept or refused."""

import csv
import os
import unittest

from hone_cli import CliTest, corpus, run, run_json, tiny_model


class Budget(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.corpus = corpus(self.directory)
        self.model = tiny_model(self.directory, "dense.h5", data=self.corpus, batch=8, steps=30, dim=64, heads=2, ffn=128)
        self.common = ["--calibration", self.corpus, "--calibration-windows", 4]

    def quantize(self, *arguments, name="out.h5"):
        return run("quantize", self.model, "--output", self.path(name), *self.common, *arguments)

    def test_bytes_are_a_limit_that_is_reached(self):
        least = int(self.quantize("--max-bytes", 1000).stderr.split("the least possible: ")[1].split(" bytes")[0])
        budget = int(1.4 * least)
        result = run_json("quantize", self.model, "--output", self.path("out.h5"), *self.common, "--max-bytes", budget,
                          "--report", self.path("r.csv"), "--plot", self.path("p.svg"))
        size = os.path.getsize(self.path("out.h5"))
        self.assertEqual(result["bytes"], size)
        self.assertLessEqual(size, budget)
        self.assertGreater(size, 0.98 * budget)
        with open(self.path("r.csv"), encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        weights = {row["parameter"] for row in rows}
        for weight in weights:
            self.assertEqual(sum(r["chosen"] == "chosen" for r in rows if r["parameter"] == weight), 1, weight)
            types = {r["type"] for r in rows if r["parameter"] == weight}
            self.assertLessEqual({"bf16", "int8", "int4", "nf4"}, types)
        stored = {t["name"]: t for t in run_json("inspect", self.path("out.h5"))["tensors"]}
        for row in rows:
            if row["chosen"] == "chosen":
                self.assertEqual(stored[row["parameter"]]["element"], row["type"])
                self.assertEqual(stored[row["parameter"]]["bytes"], int(row["bytes"]))
        with open(self.path("p.svg"), encoding="utf-8") as file:
            self.assertIn("one type for all", file.read())
        text = result["loss_text"]
        self.assertEqual((text["option"], text["part"], text["windows"]), ("--calibration", "calibrated on", 4))
        # The least budget itself is possible, and worse.
        tight = run_json("quantize", self.model, "--output", self.path("least.h5"), *self.common, "--max-bytes", least + 200)
        self.assertGreater(tight["kl"], result["kl"])
        self.assertEqual([f for f in os.listdir(self.directory) if "measured" in f], [])

    def test_bits(self):
        result = run_json("quantize", self.model, "--output", self.path("out.h5"), "--data", self.corpus,
                          "--calibration-windows", 4, "--target-bits", 6)
        self.assertLessEqual(result["bits_per_weight"], 6)
        self.assertGreater(result["bits_per_weight"], 5.8)
        self.assertAlmostEqual(result["kl"], result["expected_kl"], delta=0.5 * result["kl"] + 1e-4)
        rich = run_json("quantize", self.model, "--output", self.path("rich.h5"), *self.common, "--target-bits", 32)
        self.assertEqual(round(rich["bits_per_weight"]), 16)

    def test_inputs_are_balanced_before_the_search_and_scales_distilled_behind_it(self):
        least = int(self.quantize("--max-bytes", 1000).stderr.split("the least possible: ")[1].split(" bytes")[0])
        budget = int(1.4 * least)
        options = ["--awq", "--distill", 8, "--distill-rate", 0.003]
        result = run_json("quantize", self.model, "--output", self.path("out.h5"), *self.common, *options, "--max-bytes", budget,
                          "--report", self.path("r.csv"))
        self.assertLessEqual(os.path.getsize(self.path("out.h5")), budget)
        self.assertGreater(os.path.getsize(self.path("out.h5")), 0.97 * budget)
        self.assertEqual(result["distilled"]["steps"], 8)
        self.assertGreater(result["distilled"]["scales"], 0)
        stage = run_json("inspect", self.path("out.h5"))["lineage"][-1]
        self.assertEqual(stage["results"]["distilled"], result["distilled"])
        with open(self.path("r.csv"), encoding="utf-8") as file:
            tried = {row["parameter"] for row in csv.DictReader(file) if row["awq_exponent"]}
        self.assertIn("blocks.0.attention.qkv.weight", tried)
        self.assertNotIn("blocks.0.attention.output.weight", tried)
        plotted, plain = (run_json("quantize", self.model, "--output", self.path(name), *self.common, *options, "--target-bits", 4,
                                   *plot) for name, plot in (("a.h5", ["--plot", self.path("p.svg")]), ("b.h5", [])))
        self.assertEqual(plotted["loss"], plain["loss"])
        # What the file says is what was measured.
        scored = run_json("quantize", self.path("out.h5"), "--type", "keep", "--embedding-type", "bf16", "--allow-requantize", "--data",
                          self.corpus, "--calibration-windows", 4, "--precision", "f32", "--output", self.path("keep.h5"))
        self.assertAlmostEqual(scored["loss_before"], result["loss"], delta=1e-3)

    def test_activations_are_chosen_for_the_types_that_were_found(self):
        least = int(self.quantize("--max-bytes", 1000).stderr.split("the least possible: ")[1].split(" bytes")[0])
        budget = int(1.4 * least)
        result = run_json("quantize", self.model, "--output", self.path("out.h5"), *self.common, "--prepare", "smooth", "--max-bytes",
                          budget, "--activations", "int8", "--max-loss-increase", "5%", "--distill", 4, "--report", self.path("r.csv"))
        self.assertLessEqual(os.path.getsize(self.path("out.h5")), budget)
        chosen = result["activations"]
        self.assertGreater(chosen["int8_weights"], 0)
        self.assertEqual(chosen["loss"], result["loss"])
        with open(self.path("r.csv"), encoding="utf-8") as file:
            said = {row["parameter"]: int(row["activation_bits"]) for row in csv.DictReader(file) if row["activation_bits"]}
        self.assertEqual(len(said), chosen["weights"])
        inspected = run_json("inspect", self.path("out.h5"))
        self.assertEqual({t["name"]: t["activation_bits"] for t in inspected["tensors"] if "activation_bits" in t}, said)
        self.assertEqual(inspected["lineage"][-1]["results"]["activations"], chosen)

    def test_a_budget_without_scales_has_none_to_distil(self):
        done = self.quantize("--target-bits", 32, "--distill", 3)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--distill has no effect", done.stderr)
        done = self.quantize("--target-bits", 32, "--activations", "int8", "--force")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--activations int8 has no effect", done.stderr)

    def test_accuracy_below_what_is_wanted(self):
        done = self.quantize("--target-bits", 5, "--min-accuracy", "99.9%")
        self.assert_error(done, 4, "--min-accuracy", "the nearest", "the model before has")
        self.assertFalse(os.path.exists(self.path("out.h5")))
        self.assertEqual(self.quantize("--target-bits", 5, "--min-accuracy", 0.01).returncode, 0)

    def test_refusals(self):
        self.assert_error(self.quantize("--max-bytes", "1k"), 2, "the least possible")
        self.assert_error(self.quantize("--target-bits", 1), 2, "below the least", "bits a weight")
        self.assert_error(self.quantize("--target-bits", 5, "--type", "int4"), 2, "--type")
        self.assert_error(self.quantize("--max-bytes", "4MiB", "--target-bits", 5), 2, "--max-bytes")
        self.assert_error(self.quantize("--plot", self.path("p.svg")), 2, "--plot", "budget")
        done = run("quantize", self.model, "--output", self.path("out.h5"), "--target-bits", 5)
        self.assert_error(done, 2, "--data")
        self.assertEqual(sorted(os.listdir(self.directory)), ["corpus.txt", "dense.h5"])


if __name__ == "__main__":
    unittest.main()
