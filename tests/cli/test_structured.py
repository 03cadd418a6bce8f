"""prune --structure as a user meets it: smaller models that every tool runs, what they say of themselves, what is refused."""

import csv
import json
import os
import unittest

from hone_cli import run, run_json, tiny_model
from model_files import ModelTest


class Structured(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = tiny_model(cls.shared, "dense.h5", data=cls.corpus, batch=4, steps=8, layers=3, dim=64, heads=4, kv_heads=2,
                               ffn=128)

    def prune(self, structure, *arguments, model=None, name="out.h5"):
        return run("prune", model or self.model, "--structure", structure, "--calibration", self.corpus,
                   "--calibration-windows", 8, "--output", self.path(name), *arguments)

    def layers(self, name):
        return run_json("inspect", self.path(name))["config"]["layers"]

    def test_the_chain(self):
        """prune, train, quantize, eval, generate and bench, on a model whose layers differ."""
        done = self.prune("neurons:25%,heads:50%,attentions:1", "--format", "json", "--report", self.path("r.csv"))
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        layers = self.layers("out.h5")
        self.assertEqual(sorted(l["heads"] for l in layers), [0, 2, 2])
        self.assertTrue(all(l["kv_heads"] in ((1, 2) if l["heads"] else (0,)) for l in layers))
        self.assertEqual([l["ffn"] for l in layers], [96] * 3)
        self.assertEqual(result["sparsity"], 0)
        before = run_json("inspect", self.model)
        after = run_json("inspect", self.path("out.h5"))
        self.assertEqual(result["parameters"], after["parameters"])
        blocks = [sum(t["parameters"] for t in m["tensors"] if t["name"].startswith("blocks.") and "norm" not in t["name"])
                  for m in (before, after)]
        self.assertAlmostEqual(result["block_parameters_removed"], 1 - blocks[1] / blocks[0], places=6)
        self.assertGreater(result["block_parameters_removed"], 0.25)
        self.assertEqual(result["loss_text"]["part"], "held out")
        self.assertGreater(result["kl"], 0)
        stage = after["lineage"][-1]
        self.assertIn("neurons 96 of 128", stage["results"]["removed"]["0"])
        with open(self.path("r.csv"), encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([r["ffn_before"] for r in rows], ["128"] * 3)
        self.assertEqual(sum(r["divergence"] != "" for r in rows), 1)
        run("train", "--init", self.path("out.h5"), "--data", self.corpus, "--steps", 3, "--batch", 2, "--output",
            self.path("recovered.h5"), "--quiet", check=True)
        self.assertEqual(self.layers("recovered.h5"), layers)
        run("quantize", self.path("recovered.h5"), "--type", "int4", "--group", 32, "--output", self.path("q.h5"), "--quiet",
            check=True)
        rows = run_json("eval", self.path("q.h5"), "--data", self.corpus, "--limit", 500, "--no-speed", "--baseline",
                        self.path("recovered.h5"))["rows"]
        self.assertLess(rows[1]["kl"], 0.2)
        text = run("generate", self.path("q.h5"), "--prompt", "the river", "--tokens", 8, check=True).stdout
        self.assertGreater(len(text), 0)
        bench = run_json("bench", self.path("out.h5"), self.path("q.h5"), "--prompt", 16, "--generate", 2, "--repeat", 1, "--warmup", 0)
        self.assertTrue(all(row["decode_tokens_per_second"] > 0 for row in bench["rows"]))

    def test_layers_and_a_mixture(self):
        self.assertEqual(self.prune("layers:1").returncode, 0)
        self.assertEqual(len(self.layers("out.h5")), 2)
        moe = tiny_model(self.directory, "moe.h5", experts=4, top_k=1, shared_experts=1, heads=2)
        done = self.prune("experts:2,neurons:50%", model=moe, name="few.h5")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([(l["experts"], l["ffn"]) for l in self.layers("few.h5")], [(2, 32)] * 2)
        run("eval", self.path("few.h5"), "--data", self.corpus, "--limit", 200, "--no-speed", check=True)

    def test_the_width_of_the_stream(self):
        """Of Llama's and GPT-2's parts, with neurons in one run: a model that every tool takes."""
        gpt2 = tiny_model(self.directory, "gpt2.h5", data=self.corpus, batch=4, steps=8, dim=64, heads=4, ffn=128, norm="layer_norm",
                          activation="gelu", positions="learned", biases=True)
        for model in (self.model, gpt2):
            with self.subTest(model=model):
                done = self.prune("dim:25%,neurons:25%", "--width-multiple", 16, "--format", "json", "--force", "--report",
                                  self.path("r.csv"), model=model)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(json.loads(done.stdout)["dim"], 48)
                before, after = (run_json("inspect", path) for path in (model, self.path("out.h5")))
                self.assertEqual((after["config"]["dim"], after["config"]["head_dim"], after["config"]["tied"]), (48, 16, False))
                self.assertEqual(after["config"]["norm"], "rms_norm")
                self.assertEqual([(l["heads"], l["ffn"]) for l in after["config"]["layers"]],
                                 [(l["heads"], 96) for l in before["config"]["layers"]])
                self.assertEqual(after["lineage"][-1]["results"]["dim"], "48 of 64")
                with open(self.path("r.csv"), encoding="utf-8") as file:
                    self.assertTrue(all(0 < float(row["dim_error"]) < 1 for row in csv.DictReader(file)))
                run("train", "--init", self.path("out.h5"), "--data", self.corpus, "--steps", 3, "--batch", 2, "--output",
                    self.path("recovered.h5"), "--quiet", "--force", check=True)
                run("quantize", self.path("recovered.h5"), "--type", "int8", "--output", self.path("q.h5"), "--quiet", "--force",
                    check=True)
                rows = run_json("eval", model, self.path("out.h5"), self.path("q.h5"), "--data", self.corpus, "--limit", 500,
                                "--no-speed")["rows"]
                self.assertLess(rows[1]["loss"], rows[0]["loss"] + 0.5)
                text = run("generate", self.path("q.h5"), "--prompt", "the river", "--tokens", 8, check=True).stdout
                self.assertGreater(len(text), 0)

    def test_streams_that_stay_as_wide_as_they_are(self):
        exits = tiny_model(self.directory, "exits.h5", exits="1")
        self.assert_error(self.prune("dim:8", model=exits), 2, "layer 0 has an exit")
        run("prune", self.model, "--sparsity", 0.5, "--output", self.path("sparse.h5"), "--quiet", check=True)
        self.assert_error(self.prune("dim:16", model=self.path("sparse.h5")), 2, "has a mask", "cut dim first")
        self.assert_error(self.prune("dim:64"), 2, "at most 63")
        self.assert_error(self.prune("dim:5%"), 2, "the least is 50%")
        self.assertFalse(os.path.exists(self.path("out.h5")))

    def test_a_masked_model_keeps_its_zeros(self):
        run("prune", self.model, "--sparsity", 0.5, "--output", self.path("sparse.h5"), "--quiet", check=True)
        done = self.prune("neurons:50%", "--format", "json", model=self.path("sparse.h5"))
        self.assertAlmostEqual(json.loads(done.stdout)["sparsity"], 0.5, delta=0.05)

    def test_a_speed_that_is_asked_for(self):
        # Of a model so small nothing is much faster: the greatest speed-up is named.
        done = run("prune", self.model, "--target-speedup", 900, "--calibration", self.corpus, "--output", self.path("out.h5"))
        self.assert_error(done, 2, "more than is possible", "times as fast")

    def test_what_was_considered_for_a_speed(self):
        """On a machine that is busy enough no model may come out fast enough: status 4, or 2 where no shape was."""
        wide = tiny_model(self.directory, "wide.h5", dim=128, heads=2, ffn=1024)
        done = run("prune", wide, "--target-speedup", 1.1, "--calibration", self.corpus, "--calibration-windows", 8, "--output",
                   self.path("out.h5"), "--report", self.path("r.csv"), "--plot", self.path("p.svg"), "--format", "json")
        self.assertIn(done.returncode, (0, 2, 4), done.stderr)
        self.assertIn("times as fast", done.stderr)
        if done.returncode:
            self.assertFalse(os.path.exists(self.path("out.h5")))
            return
        result = json.loads(done.stdout)
        with open(self.path("r.csv"), encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        chosen = [r for r in rows if r["chosen"]]
        self.assertEqual([(r["row"], r["structure"]) for r in chosen], [("model", result["structure"])])
        self.assertEqual(float(chosen[0]["loss"]), result["loss"])
        self.assertEqual(int(chosen[0]["parameters"]), result["parameters"])
        considered = [r for r in rows if r["row"] == "shape"]
        self.assertGreater(len(considered), 3)
        for row in considered:
            self.assertTrue(row["prefill_ms"] and row["step_ms"] and row["loss"] and not row["chosen"], row)
        self.assertEqual(len([r for r in rows if r["row"] == "layer"]), result["layers"])
        for name in ("prefill", "decode"):
            self.assertGreaterEqual(result[f"{name}_speedup"], 1.1)
            self.assertGreater(result[f"{name}_tokens_per_second"], result[f"{name}_tokens_per_second_before"])
        with open(self.path("p.svg"), encoding="utf-8") as file:
            self.assertIn("considered", file.read())

    def test_refusals(self):
        self.assert_error(self.prune("heads:50%", "--plot", self.path("p.svg")), 2, "--plot", "--target-speedup")
        for structure, parts in (("heads:100%", ["heads:100%", "would leave nothing"]), ("neurons:128", ["at most 127"]),
                                 ("layers:3", ["at most 2"]), ("experts:1", ["no mixture"]), ("head:1", ["neurons", "heads"]),
                                 ("heads:1", ["2 heads"]), ("neurons:5%", ["the least is 25%"])):
            with self.subTest(structure=structure):
                self.assert_error(self.prune(structure), 2, *parts)
        self.assert_error(self.prune("heads:50%", "--sparsity", 0.5), 2, "--sparsity", "--structure")
        done = run("prune", self.model, "--structure", "heads:50%", "--output", self.path("out.h5"))
        self.assert_error(done, 2, "--calibration")
        run("quantize", self.model, "--output", self.path("q.h5"), "--quiet", check=True)
        self.assert_error(self.prune("heads:50%", model=self.path("q.h5")), 2, "before it is quantized")
        self.assertFalse(os.path.exists(self.path("out.h5")))
        self.assertIn("--width-multiple has no effect", run("prune", self.model, "--sparsity", 0.5, "--width-multiple", 8,
                                                            "--output", self.path("x.h5")).stderr)


if __name__ == "__main__":
    unittest.main()
