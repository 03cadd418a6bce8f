"""`eval` at the command line."""

import csv
import io
import json
import math
import os
import unittest

from hone_cli import CliTest, corpus, damaged_files, run, run_json, tiny_model, write

METRICS = ("model", "file_bytes", "parameters", "nonzero_parameters", "active_parameters", "sparsity", "weight_bytes", "tokens",
           "loss", "perplexity", "bits_per_byte", "accuracy", "accuracy_stderr", "prefill_tokens_per_second",
           "decode_tokens_per_second", "first_token_ms", "latency_ms_p50", "latency_ms_p95", "latency_ms_p99", "peak_rss_bytes")
COMMON = ("context", "stride", "tokenizer", "precision", "threads", "isa", "seed")


class Eval(CliTest):
    @classmethod
    def setUpClass(cls):
        import tempfile

        cls.shared = tempfile.TemporaryDirectory(prefix="hone-test-")
        directory = cls.shared.name
        cls.text = corpus(directory)
        cls.test = corpus(directory, "test.txt", count=60, first=1000)
        cls.fresh = tiny_model(directory, "fresh.h5")
        cls.trained = tiny_model(directory, "trained.h5", data=cls.text, steps=40, batch=8, lr=0.01)
        cls.sparse = tiny_model(directory, "sparse.h5", init=cls.trained, data=cls.text, steps=6, batch=4, sparsity=0.5,
                                sparsify_from=0, sparsify_until=0.5, sparsify_every=1)

    @classmethod
    def tearDownClass(cls):
        cls.shared.cleanup()

    def eval(self, *args, speed=False, **options):
        return run_json("eval", *args, "--data", self.test, *([] if speed else ["--no-speed"]), **options)["rows"]

    def test_a_row_a_model_with_every_metric_and_the_protocol(self):
        rows = self.eval(self.fresh, self.trained, speed=True)
        self.assertEqual([row["model"] for row in rows], [self.fresh, self.trained])
        for row in rows:
            for name in METRICS + COMMON:
                self.assertIsNotNone(row[name], name)
            self.assertEqual(row["file_bytes"], os.path.getsize(row["model"]))
            self.assertEqual(row["tokens"], os.path.getsize(self.test) - 1)
            self.assertAlmostEqual(row["perplexity"], math.exp(row["loss"]), places=6)
            # A byte is a token here, but for the first, which is context.
            self.assertAlmostEqual(row["bits_per_byte"], row["loss"] / math.log(2), places=6)
            self.assertEqual((row["context"], row["stride"], row["tokenizer"]), (32, 32, "bytes"))
            self.assertLessEqual(row["latency_ms_p50"], row["latency_ms_p99"])
            self.assertEqual(row["speed_prompt_tokens"], 32)
        fresh, trained = rows
        self.assertAlmostEqual(fresh["loss"], math.log(256), delta=0.2)
        self.assertLess(trained["loss"], 0.8 * fresh["loss"])
        self.assertGreater(trained["accuracy"], fresh["accuracy"])
        self.assertEqual(fresh["parameters"], fresh["active_parameters"])  # tied: the head reads the whole table

    def test_a_score_does_not_depend_on_threads_and_repeats(self):
        keys = ("loss", "accuracy", "tokens")
        results = [[row[k] for k in keys for row in self.eval(self.trained, "-t", threads)] for threads in (1, 2, 2)]
        self.assertEqual(results[1], results[2])
        for one, two in zip(results[0], results[1]):
            self.assertAlmostEqual(one, two, delta=1e-5)

    def test_context_stride_and_limit(self):
        short, = self.eval(self.trained, "--context", 8)
        long, = self.eval(self.trained, "--context", 32, "--stride", 8)
        self.assertEqual((short["context"], short["stride"], long["stride"]), (8, 8, 8))
        self.assertEqual(short["tokens"], long["tokens"])
        self.assertLess(long["loss"], short["loss"])
        limited, = self.eval(self.trained, "--limit", 100)
        self.assertEqual((limited["tokens"], limited["limit"]), (99, 100))

    def test_precision_f32_is_reported_and_close(self):
        f32, = self.eval(self.trained, "--precision", "f32")
        auto, = self.eval(self.trained)
        self.assertEqual(f32["precision"], "f32")
        self.assertAlmostEqual(f32["loss"], auto["loss"], delta=0.02)

    def test_a_baseline_adds_differences_ratios_and_intervals(self):
        dense, sparse = self.eval(self.sparse, "--baseline", self.trained)
        self.assertEqual(dense["model"], self.trained)
        self.assertIsNone(dense["loss_ratio"])
        alone, = self.eval(self.sparse)
        self.assertEqual(sparse["loss"], alone["loss"])
        self.assertAlmostEqual(sparse["loss_difference"], sparse["loss"] - dense["loss"], places=9)
        self.assertAlmostEqual(sparse["bits_per_byte_ratio"], sparse["bits_per_byte"] / dense["bits_per_byte"], places=9)
        for name in ("loss_difference", "bits_per_byte_ratio", "accuracy_ratio", "kl", "top1_agreement"):
            self.assertLess(sparse[name + "_low"], sparse[name])
            self.assertLess(sparse[name], sparse[name + "_high"])
        self.assertGreater(sparse["kl"], 0)
        self.assertAlmostEqual(sparse["sparsity"], 0.5, delta=0.05)
        self.assertLess(sparse["nonzero_parameters"], sparse["parameters"])

    def test_a_baseline_of_several_models_is_scored_once_and_gives_the_same_numbers(self):
        models = [self.sparse, self.fresh, self.trained]
        alone = [self.eval(model, "--baseline", self.trained) for model in models]
        folder = self.path("tmp")
        os.mkdir(folder)
        done = run("eval", *models, "--data", self.test, "--no-speed", "--baseline", self.trained, "--format", "json",
                   "--log-level", "debug", env={"TMPDIR": folder}, check=True)
        self.assertEqual(done.stderr.count("scored the baseline"), 1)
        self.assertEqual(os.listdir(folder), [])
        baseline, *rows = json.loads(done.stdout)["rows"]
        self.assertEqual(baseline, alone[0][0])
        self.assertEqual(rows, [row for _, row in alone])
        os.chmod(folder, 0o555)
        if os.access(folder, os.W_OK):
            return  # root writes everywhere
        done = run("eval", *models, "--data", self.test, "--no-speed", "--baseline", self.trained, "--format", "json",
                   env={"TMPDIR": folder}, check=True)
        self.assertIn("scored with every model", done.stderr)
        self.assertEqual(json.loads(done.stdout)["rows"][1:], rows)

    def test_a_model_equals_itself(self):
        row = self.eval(self.trained, "--baseline", self.trained)[1]
        self.assertEqual((row["loss_difference"], row["loss_ratio"], row["kl"], row["top1_agreement"]), (0, 1, 0, 1))

    def require(self, *conditions, models=None, options=()):
        arguments = [part for condition in conditions for part in ("--require", condition)]
        return run("eval", *(models or [self.sparse]), "--data", self.test, "--no-speed", *options, *arguments)

    def test_requirements_become_the_exit_status(self):
        baseline = ("--baseline", self.trained)
        done = self.require("bits_per_byte <= 3*baseline", "parameters > 100", options=baseline)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("requirement met"), 2)
        done = self.require("bits_per_byte <= 0.5*baseline", "parameters > 100", "kl < 0.000001", options=baseline)
        self.assert_error(done, 4, "2 of 3")
        self.assertEqual(done.stderr.count("requirement failed"), 3)  # two, and the first again in the error
        self.assertEqual(done.stderr.count("requirement met"), 1)
        self.assertIn("bits_per_byte", done.stdout)  # the report stands

    def test_a_requirement_holds_for_every_model(self):
        done = self.require("loss < 4", models=[self.trained, self.fresh])
        self.assert_error(done, 4, "1 of 2", "fresh.h5")

    def test_requirements_that_mean_nothing_are_usage_errors(self):
        self.assert_error(self.require("speed > 3"), 2, "speed")
        self.assert_error(self.require("loss <= baseline"), 2, "--baseline")
        self.assert_error(self.require("loss"), 2)
        unknown = self.require("accuraci >= 0.98*baseline", options=("--baseline", self.trained))
        self.assert_error(unknown, 2, "requirement 'accuraci >= 0.98*baseline'", "did you mean 'accuracy'?")
        names = unknown.stderr.partition("metrics: ")[2].strip().split(", ")  # all of them, however many
        self.assertLessEqual({"file_bytes", "tokens", "loss", "accuracy_stderr", "attention_fraction", "kl", "top1_agreement"},
                             set(names))
        self.assertNotIn("…", unknown.stderr)
        before = {  # nothing of these needs a score: none is made
            "decode_tokens_per_second > 1": "'decode_tokens_per_second' is measured with --speed",  # here --no-speed
            "kl < 1": "'kl' needs a baseline model (--baseline)",
            "loss_ratio < 1": "'loss_ratio' needs a baseline model (--baseline)",
            "answers > 1": "'answers' is measured with --answers or --task",
            "train_tokens_per_second > 1": "'train_tokens_per_second' is not of eval",
            "loss_low < 3": "expected a metric, found 'loss_low",
            "loss/0 < 1": "division by zero",
            "router_entropy > 0": "has no mixtures of experts",
            "depth_fraction > 0": "has no routers of depth",
        }
        for condition, words in before.items():
            with self.subTest(condition):
                done = self.require(condition)
                self.assert_error(done, 2, words)
                self.assertEqual(done.stdout, "")
        self.assert_error(self.require("kl < baseline", options=("--baseline", self.trained)), 2,
                          "kl is not measured for the baseline")

    def test_a_report_that_cannot_be_written_is_refused_before_scoring(self):
        for option, path in (("--output", "/proc/none.json"), ("--output", self.path("none/x.json")), ("--plot", "/proc/none.svg")):
            with self.subTest(option + path):
                done = run("eval", self.trained, "--data", self.test, "--no-speed", option, path)
                self.assert_error(done, 3, f"cannot write '{path}'")
                self.assertEqual(done.stdout, "")

    def test_formats_carry_the_same_numbers(self):
        row, = self.eval(self.trained)
        options = (self.trained, "--data", self.test, "--no-speed")
        line = json.loads(run("eval", *options, "--format", "jsonl", check=True).stdout)
        cells, = csv.DictReader(io.StringIO(run("eval", *options, "--format", "csv", check=True).stdout))
        self.assertEqual(line["loss"], row["loss"])
        self.assertEqual(float(cells["loss"]), row["loss"])
        self.assertEqual(line["schema_version"], 1)
        for form in ("table", "md"):
            out = run("eval", *options, "--format", form, check=True).stdout
            for part in ("trained.h5", "bits_per_byte", f"{row['loss']:.4f}", "context 32", "stride 32", "tokenizer bytes"):
                self.assertIn(part, out)

    def test_output_to_a_file_is_never_replaced_unasked(self):
        path = self.path("report.json")
        options = (self.trained, "--data", self.test, "--no-speed", "--format", "json", "--output", path)
        self.assertEqual(run("eval", *options, check=True).stdout, "")
        with open(path) as file:
            self.assertEqual(len(json.load(file)["rows"]), 1)
        self.assert_error(run("eval", *options), 2, "report.json")
        run("eval", *options, "--force", check=True)

    def test_tokenizers_side_by_side_but_not_as_a_baseline(self):
        bpe = tiny_model(self.directory, "bpe.h5", tokenizer="bpe:300", data=self.text, steps=10, batch=4)
        rows = self.eval(self.trained, bpe)
        self.assertEqual([row["tokenizer"] for row in rows], ["bytes", "bpe:300"])
        self.assertLess(rows[1]["tokens"], rows[0]["tokens"])
        # bits per byte counts the text's bytes, whatever the tokens.
        self.assertGreater(rows[1]["loss"] / math.log(2), 1.2 * rows[1]["bits_per_byte"])
        self.assert_error(run("eval", bpe, "--data", self.test, "--baseline", self.trained), 3, "tokenizers", "bits_per_byte")

    def test_learned_positions_limit_the_context(self):
        learned = tiny_model(self.directory, "learned.h5", positions="learned")
        self.assertEqual(self.eval(learned)[0]["context"], 32)
        self.assert_error(run("eval", learned, "--data", self.test, "--context", 64), 2, "learned positions")
        rows = self.eval(learned, speed=True)
        self.assertEqual(rows[0]["speed_prompt_tokens"] + rows[0]["speed_generated_tokens"], 32)

    def test_models_of_different_contexts_are_scored_with_the_smallest(self):
        short = tiny_model(self.directory, "short.h5", context=16)
        self.assertEqual([row["context"] for row in self.eval(self.trained, short)], [16, 16])

    def test_several_texts_jsonl_and_standard_input(self):
        lines = "".join(json.dumps({"text": t}) + "\n" for t in ("the river follows", "a child finds"))
        jsonl = write(self.path("a.jsonl"), lines)
        row = run_json("eval", self.trained, "--no-speed", "--data", jsonl, self.test)["rows"][0]
        self.assertEqual(row["tokens"], 17 + 1 + 13 + 1 + os.path.getsize(self.test) - 1)
        row = run_json("eval", self.trained, "--no-speed", "--data", "-", stdin="the river follows")["rows"][0]
        self.assertEqual(row["tokens"], 16)

    def test_texts_that_cannot_be_scored(self):
        model = self.trained
        one = write(self.path("one.txt"), "x")
        self.assert_error(run("eval", model, "--data", one), 3, "one.txt", "at least 2")
        self.assert_error(run("eval", model, "--data", self.path("none.txt")), 3, "none.txt")
        self.assert_error(run("eval", model, "--data", write(self.path("empty.txt"), "")), 3, "empty.txt")
        self.assert_error(run("eval", model, "--data", write(self.path("bad.jsonl"), b'{"text": "a"}\n{"text": "\xff"}\n')), 3, "line 2", "UTF-8")
        self.assertEqual(run("eval", model, "--no-speed", "--data", write(self.path("latin.txt"), b"caf\xe9 au lait")).returncode, 0)

    def test_bad_usage(self):
        options = ("--data", self.test)
        for more in (("--context", 0), ("--stride", 0), ("--context", 8, "--stride", 9), ("--stride", 33), ("--limit", 1),
                     ("--precision", "int8"), ("--format", "xml"), ("--limit", "few")):
            self.assert_error(run("eval", self.trained, *options, *more), 2)
        self.assert_error(run("eval", self.trained), 2, "--data")
        self.assert_error(run("eval", "--data", self.test, self.trained), 2, "no model")

    def test_files_that_are_no_usable_baselines(self):
        for what, path in damaged_files(self.directory, self.trained).items():
            with self.subTest(what):
                self.assert_error(run("eval", self.trained, "--data", self.test, "--no-speed", "--baseline", path), 3)

    def test_what_is_scored_is_reported_when_a_later_model_fails(self):
        flipped = damaged_files(self.directory, self.trained)["bits flipped"]
        done = run("eval", self.trained, flipped, "--data", self.test, "--no-speed", "--format", "json")
        self.assert_error(done, 3, flipped)
        self.assertEqual([row["model"] for row in json.loads(done.stdout)["rows"]], [self.trained])

    def test_dry_run_scores_nothing(self):
        done = run("eval", self.trained, "--data", self.test, "--dry-run", check=True)
        self.assertEqual(done.stdout, "")
        self.assertIn("would score 1 model", done.stderr)


if __name__ == "__main__":
    unittest.main()
