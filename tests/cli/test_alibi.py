"""Scores that tell how far away a key is (--attention-score alibi), and models without other positions, through every tool."""

import os
import unittest

from hone_cli import run, run_json
from model_files import ModelTest, log_lines, text_of

# Six heads: no power of two. The second layer's cache is a ring behind sinks.
SHAPE = ["--layers", 2, "--dim", 48, "--heads", 6, "--kv-heads", 2, "--ffn", 64, "--context", 32, "--attention", "full,window:12:2"]
ALIBI = ["--positions", "none", "--attention-score", "alibi"]
QUICK = ["--batch", 4, "--learning-rate", 1e-2, "--warmup", 2]


class Alibi(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model, cls.log = os.path.join(cls.shared, "alibi.h5"), os.path.join(cls.shared, "alibi.jsonl")
        run("train", "--data", cls.corpus, *SHAPE, *ALIBI, *QUICK, "--steps", 30, "--log", cls.log, "--log-every", 1, "--output", cls.model,
            "-q", check=True)

    def made(self, *options):
        path = self.path("made.h5")
        run("train", *SHAPE, *options, "--steps", 0, "--output", path, "--force", "-q", check=True)
        return path

    def test_the_configuration_says_it(self):
        config = text_of(self.model, "config")
        self.assertEqual((config["positions"], [layer["score"] for layer in config["layers"]]), ("none", ["alibi"] * 2))
        self.assertIn("alibi", run("inspect", self.model, check=True).stdout)
        self.assertEqual(text_of(self.made("--positions", "none"), "config")["positions"], "none")

    def test_it_learns(self):
        lines = log_lines(self.log)
        self.assertLess(lines[-1]["loss"], 0.9 * lines[0]["loss"])

    def test_order_is_what_it_tells(self):
        """The same numbers predict something else without the score, and with rotary positions beside it."""
        losses = []
        for options in (ALIBI, ALIBI[:2], ALIBI[2:]):
            made = self.made(*options, "--init-std", 0.3)
            losses.append(run_json("eval", made, "--data", self.corpus, "--limit", 300, "--no-speed")["rows"][0]["loss"])
        self.assertEqual(len(set(losses)), 3, losses)

    def test_it_reads_on_beyond_its_context(self):
        rows = [run_json("eval", self.model, "--data", self.corpus, "--limit", 2000, "--context", context, "--no-speed")["rows"][0]
                for context in (32, 256)]
        self.assertLess(rows[1]["loss"], 1.1 * rows[0]["loss"])

    def test_texts_are_the_same_however_they_are_read(self):
        prompt = "the river and the boat " * 8  # of several blocks of keys, and around the ring
        generate = ["generate", self.model, "--prompt", prompt, "--temperature", 0, "--precision", "f32", "-q"]
        texts = {run(*generate, "--tokens", 40, "--prefill-chunk", chunk, check=True).stdout for chunk in (64, 512)}
        self.assertEqual(len(texts), 1)
        self.assertTrue(run(*generate, "--tokens", 12, "--cache-type", "int8", check=True).stdout)

    def test_heads_stay_and_all_else_goes(self):
        done = run("prune", self.model, "--structure", "heads:50%", "--calibration", self.corpus, "--output", self.path("s.h5"))
        self.assert_refused(done, 2, "heads:50%", "'alibi'", "attentions:N")
        small, packed = self.path("s.h5"), self.path("q.h5")
        run("prune", self.model, "--structure", "neurons:50%", "--calibration", self.corpus, "--calibration-windows", 4, "--output", small,
            check=True)
        run("quantize", small, "--type", "int8", "--output", packed, check=True)
        self.assertEqual(text_of(packed, "config")["layers"][0]["score"], "alibi")
        rows = run_json("eval", packed, "--data", self.corpus, "--limit", 500, "--no-speed", "--baseline", small)["rows"]
        self.assertLess(rows[1]["kl"], 0.05)

    def test_others_are_told_what_they_cannot_express(self):
        whole = SHAPE[:-2]
        for options, what in ((ALIBI[2:], "llama: scores of attention as 'alibi' makes them"), (ALIBI[:2], "llama: layers without positions")):
            for to in ("safetensors", "gguf"):
                with self.subTest(what=what, to=to):
                    run("train", *whole, *options, "--steps", 0, "--force", "--output", self.path("m.h5"), "-q", check=True)
                    done = run("convert", self.path("m.h5"), "--to", to, "--output", self.path("others"))
                    self.assert_refused(done, 2, what)
                    self.assertFalse(os.path.exists(self.path("others")))


if __name__ == "__main__":
    unittest.main()
