"""Options of train as a user meets them: what is refused and how, files of options, and the shapes of new models."""

import os
import unittest

from hone_cli import run, run_json, write
from model_files import QUICK, ModelTest, lineage, parameters, read_text, sha256, text_of


class Usage(ModelTest):
    def refused(self, *arguments, parts=(), status=2):
        self.assert_refused(run("train", *arguments, "--output", self.path("out.h5")), status, *parts)
        self.assertFalse(os.path.exists(self.path("out.h5")))

    def test_unknown_option(self):
        self.refused("--data", self.corpus, "--stpes", 3, parts=["--stpes", "train --help"])

    def test_missing_options(self):
        self.assert_refused(run("train", "--data", self.corpus), 2, "--output")
        self.refused(*QUICK, parts=["--data"])

    def test_values_that_cannot_be(self):
        data = ["--data", self.corpus, *QUICK]
        for arguments, part in [
            (["--steps", "many"], "many"),
            (["--steps", "-1"], "-1"),
            (["--steps", "1.5"], "1.5"),
            (["--epochs", "0"], "--epochs"),
            (["--accumulate", "0"], "--accumulate"),
            (["--learning-rate", "-1"], "--learning-rate"),
            (["--init-std", "0"], "--init-std"),
            (["--schedule", "linear"], "cosine"),
            (["--precision", "fp8"], "bf16"),
            (["--recompute", "all"], "every:K"),
            (["--optimizer", "sgd"], "muon"),
            (["--ema", "1"], "--ema"),
            (["--average", "mean:0.5"], "tail:PART"),
            (["--average", "tail:2"], "tail:2"),
            (["--average", "tail:0.5", "--ema", "0.9"], "--average"),
            (["--muon-momentum", "0.9"], "--optimizer muon"),
            (["--muon-block", "64"], "--optimizer muon"),
            (["--optimizer", "muon", "--muon-block", "64.5"], "whole number"),
            (["--optimizer", "muon", "--muon-block", "-1"], "--muon-block"),
            (["--adamw-rate", "0.1"], "--optimizer muon"),
            (["--steps", "9", "--curriculum", "16:50%,8:20%,32"], "must not fall"),
            (["--steps", "9", "--curriculum", "16:50%,64"], "longer than the context"),
            (["--steps", "9", "--curriculum", "16:70%,24:40%,32"], "does not divide"),
            (["--steps", "9", "--curriculum", "8:70%,16:40%,32"], "more than 100%"),
            (["--recompute", "every:0"], "every:0"),
            (["--memory-limit", "lots"], "--memory-limit"),
            (["--keep", "all"], "best"),
            (["--dropout", "1"], "--dropout"),
            (["--dropout", "x"], "--dropout"),
            (["--valid-fraction", "1"], "--valid-fraction"),
            (["--sparsity", "1"], "--sparsity"),
            (["--sparsity", "-0.1"], "-0.1"),
            (["--beta2", "1"], "--beta2"),
            (["--sparsify-from", "0.8", "--sparsity", "0.5"], "--sparsify-from"),
            (["--sparsity", "0.5", "--pattern", "diagonal"], "block:RxC"),
            (["--sparsity", "0.5", "--pattern", "2:4"], "2:4"),
            (["--preset", "huge"], "nano"),
            (["--tokenizer", "words"], "bpe"),
            (["--log-level", "loud"], "warning"),
            (["--threads", "-1"], "-1"),
            (["--seed", "abc"], "--seed"),
        ]:
            with self.subTest(arguments=arguments):
                self.refused(*data, *arguments, parts=[part])

    def test_sizes_of_batches(self):
        for batch in ("0", "-3"):
            self.refused("--data", self.corpus, "--steps", 1, "--batch", batch, parts=["--batch", batch])

    def test_options_that_exclude_each_other(self):
        data = ["--data", self.corpus, *QUICK]
        for arguments, part in [
            (["--steps", 3, "--tokens", "1k"], "--tokens"),
            (["--recompute", "blocks", "--memory-limit", "1GiB"], "--memory-limit"),
            (["--steps", 3, "--epochs", 1], "--epochs"),
            (["--valid", self.corpus, "--valid-fraction", 0.1], "--valid"),
            (["--keep", "best"], "--valid"),
            (["--patience", 2], "--valid"),
            (["--patience", 2, "--valid-fraction", 0.1, "--valid-every", 0], "--valid-every"),
            (["--save-every", 2], "--checkpoint"),
            (["--resume", "auto"], "--checkpoint"),
            (["--pattern", "block:16x16"], "--sparsity"),
            (["--sparsify-until", 0.5], "--sparsity"),
            (["--steps", 10, "--warmup", 10], "--warmup"),
        ]:
            with self.subTest(arguments=arguments):
                self.refused(*data, *arguments, parts=[part])

    def test_shapes_that_cannot_be(self):
        for arguments, part in [
            (["--dim", 65, "--heads", 2], "heads"),
            (["--heads", 0], "--heads"),
            (["--layers", 0], "--layers"),
            (["--dim", 64, "--heads", 4, "--kv-heads", 3], "key/value heads"),
            (["--head-dim", 15], "head_dim"),
            (["--vocab", 100], "--vocab"),
            (["--context", 0], "context"),
            (["--dim", "4G", "--heads", 1], ""),
            (["--attention", "sideways"], "full"),
        ]:
            with self.subTest(arguments=arguments):
                self.refused("--steps", 0, *arguments, parts=[part])

    def test_output_that_exists_is_kept(self):
        path = write(self.path("old.h5"), "precious")
        done = run("train", "--steps", 0, *QUICK, "--output", path)
        self.assert_refused(done, 2, path, "--force")
        self.assertEqual(read_text(path), "precious")
        run("train", "--steps", 0, *QUICK, "--output", path, "--force", check=True)
        self.assertEqual(len(parameters(path)), 2 * 6 + 2)

    def test_log_and_plot_that_exist_are_kept(self):
        for option in ("--log", "--plot"):
            path = write(self.path("old.txt"), "precious")
            self.refused("--data", self.corpus, *QUICK, "--steps", 1, option, path, parts=[path, "--force"])
            self.assertEqual(read_text(path), "precious")

    def test_output_is_a_directory(self):
        self.assert_refused(run("train", "--steps", 0, *QUICK, "--output", self.directory), 2, self.directory)

    def test_dry_run_writes_nothing(self):
        done = run("train", "--data", self.corpus, *QUICK, "--steps", 3, "--valid-fraction", 0.1, "--output", self.path("m.h5"),
                   "--checkpoint", self.path("c.h5"), "--log", self.path("l.jsonl"), "--plot", self.path("p.svg"), "--dry-run",
                   check=True)
        self.assertEqual(done.stdout, "")
        self.assertIn("3 steps", done.stderr)
        self.assertEqual(os.listdir(self.directory), [])

    def test_dry_run_finds_errors(self):
        self.refused("--data", self.path("none.txt"), *QUICK, "--dry-run", parts=["none.txt"], status=3)


class Configuration(ModelTest):
    def config(self, text):
        return write(self.path("run.toml"), text)

    def test_file_gives_options_and_the_command_line_wins(self):
        path = self.config(f'data = "{self.corpus}"\nlayers = 1\ndim = 64\nheads = 2\ncontext = 32\nbatch = 4\nsteps = 7\n')
        result = run_json("train", "--config", path, "--steps", 2, "--output", self.path("m.h5"))
        self.assertEqual(result["steps"], 2)
        self.assertEqual(len(text_of(self.path("m.h5"), "config")["layers"]), 1)

    def test_unknown_key(self):
        done = run("train", "--config", self.config("stepz = 3\n"), "--steps", 0, "--output", self.path("m.h5"))
        self.assert_refused(done, 2, "stepz")

    def test_value_that_cannot_be(self):
        done = run("train", "--config", self.config('steps = "many"\n'), "--output", self.path("m.h5"))
        self.assert_refused(done, 2, "many")

    def test_missing_file(self):
        done = run("train", "--config", self.path("none.toml"), "--steps", 0, "--output", self.path("m.h5"))
        self.assert_refused(done, 3, "none.toml")


class NewModels(ModelTest):
    def config_of(self, *arguments):
        path = self.path("m.h5")
        run("train", "--steps", 0, *arguments, "--output", path, "--force", "--quiet", check=True)
        return text_of(path, "config")

    def test_no_steps_need_no_data(self):
        result = run_json("train", "--steps", 0, *QUICK, "--output", self.path("m.h5"))
        self.assertEqual(result["sha256"], sha256(self.path("m.h5")))
        entry = lineage(self.path("m.h5"))[0]
        self.assertEqual((entry["tool"], entry["parent_sha256"], entry["seed"]), ("train", None, 1))

    def test_nano_preset(self):
        result = run_json("train", "--steps", 0, "--preset", "nano", "--output", self.path("m.h5"))
        config = text_of(self.path("m.h5"), "config")
        self.assertEqual((len(config["layers"]), config["dim"], config["layers"][0]["heads"], config["context"]), (6, 384, 6, 256))
        self.assertAlmostEqual(result["parameters"], 10.7e6, delta=0.1e6)

    def test_flags_override_the_preset(self):
        config = self.config_of("--preset", "gpt2", "--layers", 1, "--dim", 64, "--heads", 4, "--context", 16)
        self.assertEqual((len(config["layers"]), config["dim"], config["context"]), (1, 64, 16))
        self.assertEqual((config["norm"], config["activation"], config["positions"], config["biases"], config["tied"]),
                         ("layer_norm", "gelu", "learned", True, True))
        config = self.config_of("--preset", "gpt2", "--layers", 1, "--dim", 64, "--heads", 4, "--norm", "rms_norm", "--activation",
                                "swiglu", "--positions", "rotary", "--no-biases", "--untied")
        self.assertEqual((config["norm"], config["activation"], config["positions"], config["biases"], config["tied"]),
                         ("rms_norm", "swiglu", "rotary", False, False))

    def test_grouped_queries(self):
        self.config_of("--layers", 1, "--dim", 64, "--heads", 4, "--kv-heads", 2)
        self.assertEqual(parameters(self.path("m.h5"))["blocks.0.attention.qkv.weight"].shape, (64 + 2 * 32, 64))

    def test_padded_vocabulary(self):
        config = self.config_of(*QUICK, "--vocab", 320)
        self.assertEqual((config["vocabulary"], config["padded_vocabulary"]), (256, 320))
        self.assertEqual(parameters(self.path("m.h5"))["embedding.weight"].shape, (320, 64))


if __name__ == "__main__":
    unittest.main()
