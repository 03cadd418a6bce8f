"""What keeps logits and scores small: --z-loss, --logit-softcap, --qk-norm, --attention-softcap, through every tool."""

import json
import os
import shutil
import unittest

import h5py

from hone_cli import run, run_json
from model_files import ModelTest, log_lines, parameters, put_text, text_of

SHAPE = ["--layers", 2, "--dim", 32, "--heads", 4, "--kv-heads", 2, "--ffn", 64, "--context", 32]
QUICK = ["--batch", 4, "--learning-rate", 1e-2, "--warmup", 2, "--threads", 1]
Z_LOSS = 0.2
CAPS = ["--qk-norm", "--attention-softcap", 1.5, "--logit-softcap", 12.5]
NORMS = {f"blocks.{i}.attention.{part}_norm.gain" for i in (0, 1) for part in ("query", "key")}


def version(path):
    with h5py.File(path) as file:
        return int(file.attrs["format_version"])


class Caps(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model, cls.log = os.path.join(cls.shared, "capped.h5"), os.path.join(cls.shared, "capped.jsonl")
        run("train", "--data", cls.corpus, *SHAPE, *QUICK, *CAPS, "--z-loss", Z_LOSS, "--steps", 30, "--log", cls.log, "--log-every", 1,
            "--output", cls.model, "-q", check=True)

    def trained(self, *arguments, name="out.h5"):
        return run("train", *arguments, "--output", self.path(name), "-q")

    def test_the_log_has_the_z_loss_beside_the_loss(self):
        lines = log_lines(self.log)
        for line in lines:
            self.assertEqual(set(line["terms"]), {"next_token", "z"})
            self.assertAlmostEqual(line["terms"]["next_token"], line["loss"], places=6)
        # log Z is about that of 256 equal logits, 5.5, before anything is learned.
        self.assertAlmostEqual(lines[0]["terms"]["z"], Z_LOSS * 5.55**2, delta=0.1 * Z_LOSS * 5.5**2)
        self.assertLess(lines[-1]["terms"]["z"], 0.5 * lines[0]["terms"]["z"])
        self.assertLess(lines[-1]["loss"], lines[0]["loss"])

    def test_the_z_loss_brings_log_z_down(self):
        done = self.trained("--data", self.corpus, *SHAPE, *QUICK, *CAPS, "--z-loss", 1e-9, "--steps", 30, "--log", self.path("weak.jsonl"),
                          "--log-every", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        weak = log_lines(self.path("weak.jsonl"))[-1]["terms"]["z"] / 1e-9
        self.assertLess(log_lines(self.log)[-1]["terms"]["z"] / Z_LOSS, weak / 2)

    def test_only_models_that_need_it_have_the_new_version(self):
        config = text_of(self.model, "config")
        self.assertEqual(config["logit_softcap"], 12.5)
        for layer in config["layers"]:
            self.assertEqual((layer["qk_norm"], layer["score"]), (True, "softcap:1.5"))
        self.assertEqual({name for name in parameters(self.model) if "attention." in name and "norm" in name}, NORMS)
        self.assertEqual(version(self.model), 3)
        for number, options in ((2, []), (3, ["--qk-norm"]), (3, ["--attention-softcap", 50]), (3, ["--logit-softcap", 30])):
            done = self.trained(*SHAPE, *options, "--steps", 0, "--force")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(version(self.path("out.h5")), number, options)
        self.assertEqual(set(text_of(self.path("out.h5"), "config")["layers"][0]), {"heads", "kv_heads", "ffn", "attention"})

    def test_the_chain(self):
        small, recovered, packed = self.path("s.h5"), self.path("r.h5"), self.path("q.h5")
        run("prune", self.model, "--structure", "heads:50%", "--calibration", self.corpus, "--calibration-windows", 4, "--output", small,
            check=True)
        run("train", "--init", small, "--data", self.corpus, *QUICK, "--teacher", f"{self.model}:1", "--steps", 3, "--output", recovered,
            "-q", check=True)
        run("quantize", recovered, "--type", "int8", "--output", packed, check=True)
        for path in (small, recovered, packed):
            config = text_of(path, "config")
            self.assertEqual((version(path), config["logit_softcap"], config["layers"][0]["score"]), (3, 12.5, "softcap:1.5"))
            self.assertEqual(config["layers"][0]["heads"], 2)
            self.assertEqual({name for name in parameters(path) if "attention." in name and "norm" in name}, NORMS)
        rows = run_json("eval", packed, "--data", self.corpus, "--limit", 500, "--no-speed", "--baseline", recovered)["rows"]
        self.assertLess(rows[1]["kl"], 0.05)
        for cache in ("same", "int8"):
            text = run("generate", packed, "--prompt", "the river", "--tokens", 12, "--temperature", 0, "--cache-type", cache, "-q",
                       check=True).stdout
            self.assertGreater(len(text), 8)
        self.assertIn("softcap:1.5", run("inspect", packed, check=True).stdout)

    def test_what_cannot_be(self):
        for option, value in (("--logit-softcap", 0), ("--logit-softcap", -1), ("--logit-softcap", "nan"), ("--attention-softcap", 0),
                              ("--attention-softcap", 1e9), ("--attention-score", "softcap:0"), ("--attention-score", "cap:1"), ("--attention-score", "alibi:1"), ("--z-loss", -1), ("--z-loss", "x")):
            with self.subTest(option=option, value=value):
                self.assert_refused(self.trained(*SHAPE, "--steps", 0, option, value), 2, option)
        for option in ("--qk-norm", "--attention-softcap=3", "--logit-softcap=3"):
            with self.subTest(option=option):
                done = self.trained("--init", self.model, "--data", self.corpus, "--steps", 1, option)
                self.assert_refused(done, 2, option.split("=")[0], "has a shape already")

    def test_configurations_that_cannot_be(self):
        config = text_of(self.model, "config")
        layer = config["layers"][0]
        changes = [{"logit_softcap": x} for x in (-2, "3", 1e-9, None)]
        changes += [{"layers": [{**layer, "score": x}] * 2} for x in ("softcap", "softcap:0", "softcap:x", "softcap:1:2", "alibi:1", "relu:1", 3, "")]
        changes += [{"layers": [{**layer, "qk_norm": x}] * 2} for x in (1, "yes", False)]  # false: the norms are too many
        changes += [{"layers": [{**layer, "qk_norm_whole": x}] * 2} for x in (1, "yes", True)]  # true: they are too few
        changes += [{"layers": [{**layer, "qk_norm": False, "qk_norm_whole": True}] * 2}]
        for change in changes:
            with self.subTest(change=str(change)[-60:]):
                path = self.path("changed.h5")
                shutil.copyfile(self.model, path)
                put_text(path, "config", json.dumps({**config, **change}))
                if change == {"layers": [{**layer, "score": ""}] * 2}:
                    self.assertEqual(run("inspect", path).returncode, 0)  # as without the member
                else:
                    self.assert_refused(run("inspect", path), 3, path)

    def test_others_are_told_what_they_cannot_express(self):
        for option, value in (("--logit-softcap", "a soft cap of logits"), ("--attention-softcap", "scores of attention as 'softcap:9' makes them")):
            for to in ("safetensors", "gguf"):
                with self.subTest(option=option, to=to):
                    self.assertEqual(self.trained(*SHAPE, option, 9, "--steps", 0, "--force").returncode, 0)
                    done = run("convert", self.path("out.h5"), "--to", to, "--output", self.path("others"))
                    self.assert_refused(done, 2, f"llama: {value}")
                    self.assertFalse(os.path.exists(self.path("others")))

    def test_norms_of_heads_are_a_qwen3(self):
        self.assertEqual(self.trained(*SHAPE, "--qk-norm", "--steps", 0).returncode, 0)
        done = run_json("convert", self.path("out.h5"), "--to", "safetensors", "--output", self.path("hf"))
        self.assertEqual(done["architecture"], "qwen3")
        again = self.path("again.h5")
        run("convert", self.path("hf"), "--output", again, check=True)
        self.assert_same_parameters(self.path("out.h5"), again)
        done = run_json("convert", again, "--to", "gguf", "--output", self.path("m.gguf"))
        self.assertEqual(done["architecture"], "qwen3")


if __name__ == "__main__":
    unittest.main()
