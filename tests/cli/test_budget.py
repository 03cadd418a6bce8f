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

    def least(self, *options):
        done = self.quantize("--max-bytes", 1000, *options)
        return int(done.stderr.split("the least possible: ")[1].split(" bytes")[0])

    def test_types_and_sparsities_are_searched_together(self):
        types = ["--types", "int8,int4,int2", "--group", 32]
        pairs = [*types, "--sparsities", "0,50%,0.75"]
        least, least_of_types = self.least(*pairs), self.least(*types)
        self.assertLess(least, least_of_types)
        budget = (least + least_of_types) // 2
        out = self.path("out.h5")
        result = run_json("quantize", self.model, "--output", out, *self.common, *pairs, "--max-bytes", budget, "--report",
                          self.path("r.csv"), "--plot", self.path("p.svg"))
        self.assertEqual(result["bytes"], os.path.getsize(out))
        self.assertLessEqual(result["bytes"], budget)
        self.assertGreater(result["sparsity"], 0.1)
        self.assertNotIn("kl_types", result)  # they do not fit
        with open(self.path("r.csv"), encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        stored = {t["name"]: t for t in run_json("inspect", out)["tensors"]}
        for row in rows:
            self.assertIn(row["type"], ("int8", "int4", "int2"))
            if row["chosen"] != "chosen":
                continue
            tensor = stored[row["parameter"]]
            self.assertEqual((tensor["element"], tensor["bytes"]), (row["type"], int(row["bytes"])))
            self.assertAlmostEqual(tensor["sparsity"], float(row["sparsity"]), delta=0.01)
            self.assertAlmostEqual(tensor["sparsity"], result["layer_sparsity"][row["parameter"]], delta=1e-6)
        sparsities = {(r["parameter"].startswith("blocks."), round(float(r["sparsity"]), 2)) for r in rows}
        self.assertEqual(sparsities, {(True, 0), (True, 0.5), (True, 0.75), (False, 0)})
        self.assertTrue({r["parameter"] for r in rows if r["measured"] == "measured"})
        with open(self.path("p.svg"), encoding="utf-8") as file:
            picture = file.read()
        self.assertIn("one type for all (measured)", picture)
        self.assertIn("75% sparse (measured)", picture)
        self.assertEqual(run_json("inspect", out)["lineage"][-1]["results"]["layer_sparsity"], result["layer_sparsity"])
        # What was measured is what eval finds, and the model is one like any other.
        kept = run_json("quantize", out, "--type", "keep", "--embedding-type", "bf16", "--allow-requantize", "--data",
                        self.corpus, "--calibration-windows", 4, "--precision", "f32", "--output", self.path("keep.h5"))
        self.assertAlmostEqual(kept["loss_before"], result["loss"], delta=1e-3)
        scored = run_json("eval", out, "--data", self.corpus, "--no-speed")["rows"][0]
        self.assertAlmostEqual(scored["sparsity"], result["sparsity"], delta=1e-6)
        self.assertEqual([f for f in os.listdir(self.directory) if "measured" in f], [])

    def test_no_budget_is_exceeded_by_masks_that_come_out_otherwise(self):
        options = ["--types", "int4,int2", "--group", 32, "--sparsities", "0,0.6,0.8", "--prune-method", "sparsegpt"]
        least = self.least(*options)
        for budget in (least + 300, least + 1000, int(1.2 * least)):
            run_json("quantize", self.model, "--output", self.path("out.h5"), "--force", *self.common, *options,
                     "--max-bytes", budget)
            self.assertLessEqual(os.path.getsize(self.path("out.h5")), budget)
        for bits in (2.3, 2.7, 4):
            result = run_json("quantize", self.model, "--output", self.path("out.h5"), "--force", *self.common, *options,
                              "--target-bits", bits)
            self.assertLessEqual(result["bits_per_weight"], bits)

    def test_types_alone_do_not_diverge_less_where_they_fit(self):
        options = ["--types", "int8,int4", "--group", 32, "--target-bits", 6]
        alone, pairs = (run_json("quantize", self.model, "--output", self.path(name), *self.common, *options, "--sparsities", s)
                        for name, s in (("a.h5", "0"), ("b.h5", "0,0.5")))
        self.assertEqual(alone["sparsity"], 0)
        self.assertNotIn("kl_types", alone)
        self.assertLessEqual(pairs["kl"], pairs.get("kl_types", pairs["kl"]))

    def test_lists_of_a_budget_end_before_the_model(self):
        done = run("quantize", "--target-bits", 3, "--types", "int8,int4", "--sparsities", "0,0.5", self.model, *self.common,
                   "--output", self.path("out.h5"), "--dry-run")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("types and sparsities", done.stderr)

    def test_a_mask_is_kept_at_least(self):
        sparse = self.path("sparse.h5")
        run("prune", self.model, "--sparsity", 0.6, "--output", sparse, check=True)
        result = run_json("quantize", sparse, "--output", self.path("out.h5"), *self.common, "--types", "int8,int4",
                          "--group", 32, "--sparsities", "0,0.3,0.8", "--target-bits", 4)
        for name, sparsity in result["layer_sparsity"].items():
            if name.startswith("blocks."):
                self.assertGreaterEqual(sparsity, 0.6, name)
        rows = run_json("inspect", sparse, self.path("out.h5"))["rows"]
        down = next(r for r in rows if r["name"] == "blocks.0.feed_forward.down.weight")
        self.assertGreaterEqual(down["zeros_b"], down["zeros_a"])

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
        for option, value in (("--types", "int4"), ("--sparsities", "0,0.5"), ("--prune-method", "alps")):
            self.assert_error(self.quantize(option, value), 2, option, "budget")
        budget = ["--target-bits", 5]
        self.assert_error(self.quantize(*budget, "--types", "int4,int9"), 2, "--types", "did you mean 'int")
        self.assert_error(self.quantize(*budget, "--types", "keep"), 2, "--types")
        self.assert_error(self.quantize(*budget, "--sparsities", "0,1"), 2, "--sparsities", "below 1")
        self.assert_error(self.quantize(*budget, "--sparsities", "0,0.5,50%"), 2, "--sparsities", "50% stands there twice")
        self.assert_error(self.quantize(*budget, "--types", "int4,int8,int4"), 2, "--types names int4 twice")
        self.assert_error(self.quantize(*budget, "--types", "int4", "--types", "int4"), 2, "--types names int4 twice")
        self.assert_error(self.quantize(*budget, "--sparsities", "0,-0.5"), 2, "--sparsities")
        self.assert_error(self.quantize(*budget, "--sparsities", "0,half"), 2, "--sparsities", "half")
        self.assert_error(self.quantize(*budget, "--prune-method", "alps"), 2, "--prune-method", "--sparsities")
        self.assert_error(self.quantize(*budget, "--sparsities", 0.5, "--prune-method", "alsp"), 2, "did you mean 'alps'")
        self.assert_error(self.quantize(*budget, "--sparsities", 0.5, "--prune-method", "wanda:1"), 2, "--prune-method")
        self.assert_error(self.quantize("--target-bits", 0.5, "--types", "int2", "--group", 32, "--sparsities", "0,0.7"), 2,
                          "below the least", "bits a weight")
        done = run("quantize", self.model, "--output", self.path("out.h5"), "--target-bits", 5)
        self.assert_error(done, 2, "--data")
        self.assertEqual(sorted(os.listdir(self.directory)), ["corpus.txt", "dense.h5"])


if __name__ == "__main__":
    unittest.main()
