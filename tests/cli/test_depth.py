"""Exits: trained, kept by every tool, used in generation, calibrated. Routers of depth: trained, kept, used."""

import json
import os
import unittest

import numpy as np

from hone_cli import run, run_json, sentences, write
from model_files import ModelTest, lineage, log_lines, parameters, text_of

SHAPE = ["--layers", 4, "--dim", 32, "--heads", 2, "--ffn", 48, "--context", 32]
QUICK = ["--batch", 4, "--learning-rate", 5e-3, "--warmup", 2, "--threads", 1]


class Depth(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = os.path.join(cls.shared, "exits.h5")
        cls.log = os.path.join(cls.shared, "exits.jsonl")
        run("train", "--data", cls.corpus, *SHAPE, *QUICK, "--steps", 60, "--exits", "every:1", "--layer-dropout", 0.2,
            "--log", cls.log, "--output", cls.model, "-q", check=True)

    def trained(self, *more):
        return run("train", "--data", self.corpus, *QUICK, "--output", self.path("out.h5"), "--force", *more)

    def exits(self, path):
        return sorted(int(name.split(".")[1]) + 1 for name in parameters(path) if name.endswith("exit_norm.gain"))

    def test_the_log_has_losses_of_exits_and_the_model_their_norms(self):
        first, last = log_lines(self.log)[0], log_lines(self.log)[-1]
        self.assertEqual(set(last["exit_losses"]), {"1", "2", "3"})
        self.assertLess(last["exit_losses"]["3"], first["exit_losses"]["3"])
        self.assertEqual({"next_token", "exit_1", "exit_2", "exit_3"}, set(last["terms"]))
        self.assertEqual(self.exits(self.model), [1, 2, 3])
        self.assertIn("exits", run("inspect", self.model, check=True).stdout)

    def test_every_tool_keeps_exits(self):
        pruned, small, again = self.path("p.h5"), self.path("q.h5"), self.path("r.h5")
        run("prune", self.model, "--method", "wanda", "--sparsity", 0.5, "--calibration", self.corpus, "--output", pruned, check=True)
        run("train", "--init", pruned, "--data", self.corpus, *QUICK, "--steps", 3, "--exit-loss", "1:rotate", "--output", again,
            check=True)
        run("quantize", again, "--type", "int8", "--output", small, check=True)
        for path in (pruned, again, small):
            self.assertEqual(self.exits(path), [1, 2, 3])
        generated = run("generate", small, "--prompt", "The", "--tokens", 20, "--exit", "gap:0.2", "-q", check=True)
        self.assertTrue(generated.stdout)

    def test_a_model_without_exits_gets_some(self):
        plain = self.path("plain.h5")
        run("train", *SHAPE, "--steps", 0, "--output", plain, check=True)
        before = parameters(plain)
        self.assertEqual(self.exits(plain), [])
        run("train", "--init", plain, "--steps", 0, "--exits", "2", "--output", self.path("two.h5"), check=True)
        after = parameters(self.path("two.h5"))
        self.assertEqual(self.exits(self.path("two.h5")), [2])
        for name, value in before.items():
            np.testing.assert_array_equal(value.values, after[name].values)
        np.testing.assert_array_equal(after["blocks.1.exit_norm.gain"].values, before["norm.gain"].values)

    def test_a_resumed_run_ends_with_the_same_bits(self):
        options = [*SHAPE, "--exits", "every:2", "--layer-dropout", 0.4, "--exit-loss", "0.5:rotate", "--dropout", 0.1]
        self.assertEqual(self.trained(*options, "--steps", 8).returncode, 0)
        checkpoint = self.path("c.h5")
        half = ["--checkpoint", checkpoint, "--save-every", 4]
        run("train", "--data", self.corpus, *QUICK, *options, "--steps", 8, *half, "--output", self.path("a.h5"), check=True)
        run("train", "--data", self.corpus, *QUICK, *options, "--steps", 8, "--recompute", "blocks", "--output", self.path("b.h5"),
            check=True)
        for path in ("a.h5", "b.h5"):
            self.assert_same_parameters(self.path(path), self.path("out.h5"))
        for other in (["--exits", "1"], ["--exit-loss", "0.4"], ["--layer-dropout", 0.1]):
            self.assert_refused(run("train", "--data", self.corpus, *QUICK, "--steps", 8, "--layer-dropout", 0.4, "--exit-loss",
                                    "0.5:rotate", "--dropout", 0.1, "--resume", checkpoint, "--output", self.path("d.h5"), *other), 2)
        again = lambda dropout: run("train", "--data", self.corpus, *QUICK, "--steps", 8, "--layer-dropout", dropout, "--exit-loss",
                                    "0.5:rotate", "--dropout", 0.1, "--resume", checkpoint, "--force", "--output", self.path("d.h5"))
        self.assert_refused(again("0.4:linear"), 2, "'layer_dropout' (0.4 there, \"0.4:linear\" here)")
        self.assertEqual(again("0.4:exponential").returncode, 0)
        self.assert_same_parameters(self.path("d.h5"), self.path("out.h5"))

    def test_layers_are_passed_by_as_the_rule_says(self):
        models = {}
        for dropout in ("0.5", "0.5:exponential", "0.5:linear", "0.5:uniform", "0.5:growing"):
            self.assertEqual(self.trained(*SHAPE, "--steps", 3, "--layer-dropout", dropout).returncode, 0)
            models[dropout] = {name: stored.values.tobytes() for name, stored in parameters(self.path("out.h5")).items()}
        self.assertEqual(models["0.5"], models["0.5:exponential"])
        self.assertEqual(len({tuple(sorted(model.items())) for model in models.values()}), 4)
        # As a number or a text of a file, and the rule is in what a run is resumed by.
        config = write(self.path("run.toml"), "[train]\nlayer-dropout = 0.5\n")
        self.assertEqual(self.trained(*SHAPE, "--steps", 3, "--config", config).returncode, 0)
        self.assertEqual({name: stored.values.tobytes() for name, stored in parameters(self.path("out.h5")).items()}, models["0.5"])
        linear = write(self.path("linear.toml"), "[train]\nlayer-dropout = \"0.5:linear\"\n")
        checkpoint = self.path("c.h5")
        self.assertEqual(self.trained(*SHAPE, "--steps", 3, "--config", linear, "--checkpoint", checkpoint).returncode, 0)
        self.assertEqual({name: stored.values.tobytes() for name, stored in parameters(self.path("out.h5")).items()},
                         models["0.5:linear"])
        self.assertEqual(text_of(checkpoint, "run/state")["description"]["layer_dropout"], "0.5:linear")

    def test_text_of_tokens_that_leave_early(self):
        common = ["--prompt", "The river", "--prompt", "A", "--tokens", 12, "--temperature", 0, "--ignore-end", "-q"]
        plain = run("generate", self.model, *common, "--format", "jsonl", check=True).stdout
        never = run("generate", self.model, *common, "--format", "jsonl", "--exit", "gap:1", check=True).stdout
        texts = lambda out: [json.loads(line)["text"] for line in out.splitlines()]
        self.assertEqual(texts(plain), texts(never))
        report = self.path("depths.json")
        for fill in ("exact", "propagated"):
            run("generate", self.model, *common, "--exit", "entropy:20", "--exit-fill", fill, "--report", report, "--force", check=True)
            with open(report, encoding="utf-8") as file:
                rows = json.load(file)["rows"]
            self.assertEqual([(row["row"], row["prompt"]) for row in rows],
                             [("prompt", "The river"), ("prompt", "A"), ("total", None)])
            self.assertEqual(rows[0]["depths"], [4] + [1] * 11)
            self.assertEqual((rows[2]["tokens"], rows[2]["tokens_1"], rows[2]["tokens_4"]), (24, 22, 2))
            self.assertAlmostEqual(rows[2]["mean_depth"], (8 + 22) / 24)
        # The first exit has no state before it to compare with; the second one's cosine is hardly below 0.
        rows = run("generate", self.model, *common, "--exit", "saturation:0", "--format", "jsonl", check=True).stdout
        depths = json.loads(rows.splitlines()[0])["depths"]
        self.assertEqual(len(depths), 12)
        self.assertGreaterEqual(min(depths), 2)
        self.assertIn(2, depths)
        rows = run("generate", self.model, *common, "--max-depth", 2, "--format", "jsonl", check=True).stdout
        self.assertEqual(json.loads(rows.splitlines()[0])["depths"], [2] * 12)
        self.assertIn('"depths":[2,2,', rows)  # whole numbers

    def test_scores_thresholds_and_a_promise(self):
        text = write(self.path("text.txt"), sentences(700, 5))
        rows = run_json("eval", self.model, "--data", text, "--exits", "--no-speed", "--limit", "2k", "--plot", self.path("p.svg"))["rows"]
        self.assertEqual([row["mean_depth"] for row in rows[:4]], [1, 2, 3, 4])
        self.assertEqual(rows[3]["exit_agreement"], 1)
        depths = [row["mean_depth"] for row in rows[4:]]
        self.assertEqual(depths, sorted(depths, reverse=True))
        with open(self.path("p.svg"), encoding="utf-8") as file:
            self.assertIn("Accuracy by depth", file.read())
        plain = run_json("eval", self.model, "--data", text, "--no-speed", "--limit", "2k")["rows"][0]
        self.assertAlmostEqual(rows[3]["loss"], plain["loss"], places=2)
        rows = run_json("eval", self.model, "--data", text, "--exits", "--exit-criterion", "saturation", "--no-speed", "--limit",
                        "2k")["rows"]
        self.assertEqual({row["share_1"] for row in rows[4:]}, {0})
        self.assertGreater(rows[4]["mean_depth"], rows[-1]["mean_depth"])
        calibrated = self.path("calibrated.h5")
        run("eval", self.model, "--data", text, "--calibrate-exits", "90%", "--output", calibrated, "--format", "json", check=True)
        found = lineage(calibrated)[-1]["results"]["exit_calibration"]
        self.assertEqual((found["context"], found["limit"]), (32, 0))
        self.assertIn(found["precision"], ("f32", "bf16"))
        self.assertIn(f"an agreement of 0.9 with 0.95 confidence; {found['measured_agreement']:.4f} measured on",
                      " ".join(run("inspect", calibrated, check=True).stdout.split()))
        score = lambda *more: run("eval", calibrated, "--exit", "calibrated", "--no-speed", "--data", *more, check=True).stderr
        self.assertIn("this very text", score(text))
        self.assertNotIn("this very text", score(text, "--limit", "1k"))
        limited = self.path("limited.h5")
        run("eval", self.model, "--data", text, "--calibrate-exits", 0.9, "--limit", os.path.getsize(text) - 64, "--output", limited,
            check=True)
        short = lineage(limited)[-1]["results"]["exit_calibration"]
        self.assertEqual(short["limit"], os.path.getsize(text) - 64)
        self.assertNotEqual(short["text_hash"], found["text_hash"])
        self.assertLessEqual(found["p_value"], 0.05)
        self.assertGreaterEqual(found["measured_agreement"], 0.9)
        self.assertEqual(found["agreement"], 0.9)
        other = write(self.path("other.txt"), sentences(200, 900))
        row = run_json("eval", calibrated, "--data", other, "--exit", "calibrated", "--no-speed")["rows"][0]
        self.assertGreater(row["exit_agreement"], 0.85)
        run("generate", calibrated, "--prompt", "The", "--tokens", 5, "--exit", "calibrated", "-q", check=True)
        refused = run("eval", calibrated, "--data", other, "--exit", "calibrated", "--no-speed", "--require", "exit_agreement > 1")
        self.assertEqual(refused.returncode, 4)
        changed = self.path("changed.h5")
        run("quantize", calibrated, "--type", "int8", "--output", changed, check=True)
        self.assertIn("changed since", " ".join(run("inspect", changed, check=True).stdout.split()))
        self.assert_refused(run("generate", changed, "--prompt", "The", "--exit", "calibrated"), 2, "changed since")

    def test_routers_of_depth(self):
        model, log, out = self.path("routed.h5"), self.path("routed.jsonl"), self.path("out.h5")
        routed = ["--depth-router", 0.5, "--depth-layers", "1,3"]
        run("train", "--data", self.corpus, *SHAPE, *QUICK, "--steps", 60, *routed, "--exits", "2", "--log", log, "--checkpoint",
            self.path("c.h5"), "--save-every", 30, "--output", model, "-q", check=True)
        lines = log_lines(log)
        self.assertEqual([layer["layer"] for layer in lines[-1]["depth"]["layers"]], [1, 3])
        self.assertEqual([layer["fraction"] for layer in lines[-1]["depth"]["layers"]], [0.5, 0.5])
        self.assertGreater(lines[-1]["depth"]["agreement"], max(0.6, lines[0]["depth"]["agreement"]))
        self.assertLess(lines[-1]["loss"], lines[0]["loss"])
        self.assertIn("depth_predictor", lines[-1]["terms"])
        self.assertIn("0.5 of the tokens through layers 1, 3", run("inspect", model, check=True).stdout)
        row = run_json("eval", model, "--data", self.corpus, "--limit", "2k", "--no-speed")["rows"][0]
        self.assertTrue(0.2 < row["depth_fraction"] < 0.8, row["depth_fraction"])
        self.assertGreater(row["depth_agreement"], 0.5)  # what drawing lots reaches where half of the tokens go through
        pruned, again, small = self.path("p.h5"), self.path("r.h5"), self.path("q.h5")
        run("prune", model, "--method", "sparsegpt", "--sparsity", 0.5, "--calibration", self.corpus, "--output", pruned, check=True)
        run("train", "--init", pruned, "--data", self.corpus, *QUICK, "--steps", 3, "--recompute", "feed_forward", "--output", again,
            check=True)
        run("quantize", again, "--type", "int8", "--output", small, check=True)
        self.assertIn("blocks.3.depth_router.weight", parameters(small))
        text = lambda *more: run("generate", small, "--prompt", "The river", "--tokens", 20, "--temperature", 0, "--ignore-end", "-q",
                                 *more, check=True).stdout
        self.assertEqual(text(), text("--draft", "ngram"))
        self.assertEqual(text(), text("--draft", "self:2"))
        self.assertTrue(text("--exit", "gap:0.2"))
        row = run_json("bench", small, "--prompt", 16, "--generate", 4, "--repeat", 1, "--warmup", 0)["rows"][0]
        self.assertTrue(0 <= row["depth_fraction"] <= 1)
        # An existing model gets some, and a run that is resumed keeps its own.
        run("train", "--init", self.model, "--steps", 0, "--depth-router", "25%", "--output", out, check=True)
        self.assertEqual([name for name in parameters(out) if name.endswith("depth_router.weight")],
                         ["blocks.1.depth_router.weight", "blocks.3.depth_router.weight"])
        resume = lambda *more: self.trained("--resume", self.path("c.h5"), "--steps", 60, *more)
        self.assertEqual(resume(*routed).returncode, 0)
        self.assert_same_parameters(out, model)
        self.assert_refused(resume("--depth-router", 0.25), 2, "0.5 of the tokens through layers 1, 3")
        size = run_json("inspect", model)
        self.assertLess(size["active_parameters"], 0.9 * size["parameters"])
        flops = [run_json("bench", path, "--prompt", 16, "--generate", 4, "--repeat", 1, "--warmup", 0)["rows"][0]["flops_per_token"]
                 for path in (model, self.model)]
        self.assertLess(flops[0], flops[1])
        self.assert_refused(self.trained(*SHAPE, "--steps", 3, "--depth-router", 0.5, "--depth-layers", "1,1"), 2, "layer 1 twice")
        for wrong in (["--depth-router", 0], ["--depth-router", 1], ["--depth-router", "x"], ["--depth-layers", "1"],
                      ["--depth-router", 0.5, "--depth-layers", "4"],
                      ["--depth-router", 0.5, "--depth-layers", "1, 3"], ["--depth-router", 0.5, "--depth-layers", "every:5"]):
            self.assert_refused(self.trained(*SHAPE, "--steps", 3, *wrong), 2, wrong[0] if wrong[0] != "--depth-router" else "depth-")
        self.assert_refused(run("convert", model, "--to", "safetensors", "--output", self.path("folder")), 2, "only some tokens")

    def test_what_cannot_be_is_refused(self):
        plain = self.path("plain.h5")
        run("train", *SHAPE, "--steps", 0, "--output", plain, check=True)
        for value in ("0", "4", "9", "2,2", "1, 3", "every:0", "every:4", "two", ""):
            self.assert_refused(self.trained(*SHAPE, "--steps", 3, "--exits", value), 2)
        for value in ("-1", "x", "0.5:turns", "0.5:", "nan"):
            self.assert_refused(self.trained(*SHAPE, "--steps", 3, "--exits", "2", f"--exit-loss={value}"), 2, "--exit-loss")
        self.assert_refused(self.trained(*SHAPE, "--steps", 3, "--exit-loss", 0.5), 2, "exits")
        self.assert_refused(self.trained("--layers", 1, *SHAPE[2:], "--steps", 3, "--exits", "1"), 2, "only one")
        self.assertEqual(self.trained(*SHAPE, "--steps", 3, "--layer-dropout", "20%").returncode, 0)
        self.assert_refused(run("convert", self.model, "--to", "safetensors", "--output", self.path("folder")), 2, "exits")
        for value in (1, -0.1, 2, "0.2:", "x", "nan"):
            self.assert_refused(self.trained(*SHAPE, "--steps", 3, f"--layer-dropout={value}"), 2, "--layer-dropout")
        self.assert_refused(self.trained(*SHAPE, "--steps", 3, "--layer-dropout", "0.2:liner"), 2, "did you mean 'linear'?")
        generate = lambda model, *more: run("generate", model, "--prompt", "a", "--tokens", 2, *more)
        self.assert_refused(generate(plain, "--exit", "gap:0.5"), 2, "trained with exits")
        self.assert_refused(generate(plain, "--max-depth", 2), 2, "trained with exits")
        self.assert_refused(generate(self.model, "--max-depth", 5), 2, "exits behind 1, 2, 3")
        self.assert_refused(generate(self.model, "--exit", "calibrated"), 2, "calibrate")
        self.assert_refused(generate(self.model, "--exit", "gap:0.5", "--draft", "ngram"), 2, "--draft")
        self.assert_refused(generate(self.model, "--report", self.path("r.json")), 2, "--report")
        for rule in ("gap:2", "gap", "entropy:-1", "saturation:2", "sure:1"):
            self.assert_refused(generate(self.model, f"--exit={rule}"), 2)
        short = write(self.path("short.txt"), sentences(40, 3))
        evaluate = lambda model, *more: run("eval", model, "--data", short, *more)
        self.assert_refused(evaluate(self.model, "--calibrate-exits", 0.98, "--output", self.path("x.h5")), 3, "149: 4769 tokens")
        self.assertFalse(os.path.exists(self.path("x.h5")))
        self.assert_refused(evaluate(self.model, "--calibrate-exits", 0.98), 2, "--output")
        for value in (0, 1, "120%"):
            self.assert_refused(evaluate(self.model, "--calibrate-exits", value, "--output", self.path("x.h5")), 2, "--calibrate-exits")
        self.assert_refused(evaluate(self.model, "--calibrate-exits", 0.5, "--stride", 1, "--output", self.path("x.h5")), 2, "--stride 1",
                            "independent")
        self.assert_refused(evaluate(plain, "--exits"), 2, "trained with exits")
        self.assert_refused(evaluate(self.model, "--exits", "--baseline", self.model), 2, "--baseline")
        self.assert_refused(evaluate(self.model, "--exits", "--exit", "gap:0.5"), 2)


if __name__ == "__main__":
    unittest.main()
