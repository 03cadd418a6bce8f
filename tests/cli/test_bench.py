"""bench at the command line: its formats, columns, settings, plots and refusals. No speed is asserted."""

import csv
import io
import json
import math
import os
import re
import shutil
import tempfile
import unittest

import hone_cli
from hone_cli import CliTest, run, tiny_model

RATES = ["prefill_tokens_per_second", "decode_tokens_per_second"]
COLUMNS = ["model", "form", "batch", "threads", "prompt", "generate", "first_token_ms", "latency_ms_p50", "latency_ms_p95",
           "latency_ms_p99", "bytes_per_token", "read_bytes_per_second", "flops_per_second", "bandwidth_fraction", "matrix_fraction",
           "peak_rss_bytes", "file_bytes", "weight_bytes", "parameters", "nonzero_parameters", "sparsity", "precision", "repeat",
           "ceiling_read_bytes_per_second", "ceiling_flops_per_second", "cpu", "isa", "version", "schema_version"]


def keep_ceilings(directory, row, isa, threads):
    """Writes bench's cache of ceilings with those of a row."""
    cpu = re.sub("[^a-z0-9]+", "-", row["cpu"].lower()).strip("-")
    path = os.path.join(directory, f"ceilings-{cpu}-{isa}-{threads}threads-{row['version']}.json")
    flops = row["ceiling_flops_per_second"]
    hone_cli.write(path, json.dumps({"schema_version": 1,
                                     "key": {"cpu": row["cpu"], "isa": isa, "threads": threads, "version": row["version"]},
                                     "read_bytes_per_second": row["ceiling_read_bytes_per_second"],
                                     "f32_flops_per_second": flops, "bf16_flops_per_second": 2 * flops}))


class BenchTest(CliTest):
    # Ceilings are measured once for all tests, because that takes seconds, and kept even if other processes disturbed it, which
    # bench itself refuses: no test looks at how high they are.
    @classmethod
    def setUpClass(cls):
        cls.cache = tempfile.mkdtemp(prefix="hone-cache-")
        cls.addClassCleanup(shutil.rmtree, cls.cache, ignore_errors=True)
        cls.environment = {"HONE_CACHE_DIR": cls.cache}
        model = tiny_model(cls.cache)
        row = json.loads(run("bench", model, "--prompt", "4", "--generate", "0", "--format", "jsonl", "--precision", "f32",
                             env=cls.environment, check=True).stdout)
        for isa in (row["isa"], "portable"):
            for threads in (1, 2):
                keep_ceilings(cls.cache, row, isa, threads)

    def bench(self, *args, **options):
        return run("bench", *args, "--quiet", env=self.environment, **options)

    def rows(self, *args):
        return [json.loads(line) for line in self.bench(*args, "--format", "jsonl", check=True).stdout.splitlines()]

    def short(self, *args):
        return ["--prompt", "6", "--generate", "4", "--repeat", "2", *args]

    def test_drafts_are_compared_with_none_behind_the_same_prompts(self):
        a = tiny_model(self.directory, "a.h5")
        small = self.path("small.h5")
        run("quantize", a, "--output", small, "--type", "int8", "-q", check=True)
        text = hone_cli.write(self.path("t.txt"), "one and two and one and two and three " * 20)
        options = ("--data", text, "--prompt", "20", "--generate", "12", "--repeat", "3", "--draft-min-probability", "0")
        rows = self.rows(a, *options, "--draft", "ngram:1", "--draft", "self:1", "--draft", small)
        self.assertEqual([row["draft"] for row in rows], ["none", "ngram:1", "self:1", small])
        self.assertEqual(rows[0]["decode_ratio"], 1)
        self.assertIsNone(rows[0].get("drafted_tokens"))
        for row in rows[1:]:
            self.assertGreater(row["decode_ratio"], 0)
            self.assertGreaterEqual(row["drafted_tokens"], row["verified_tokens"])
            self.assertGreaterEqual(row["verified_tokens"], row["accepted_tokens"])
            self.assertGreaterEqual(row["tokens_per_step"], 1)
        self.assertGreater(rows[3]["accepted_tokens"], 0)  # a model's own int8 form thinks as it does
        for wrong, words in ((("--draft", "ngram"), "--data"), (("--draft", "nothing", *options), "known kinds"),
                             (("--draft", "ngram", "--train", *options), "training"),
                             (("--draft", "self:7", *options), "layers")):
            self.assert_error(self.bench(a, *wrong), 2, words)
        done = run("bench", a, *options, "--draft", "self:1", "--draft", a, "--batch", "1,3", "--format", "json",
                   "--log-level", "warning", env=self.environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--draft is off with --batch 3", done.stderr)
        self.assertEqual(done.stderr.count("cannot make that faster"), 1)
        rows = json.loads(done.stdout)["rows"]
        self.assertEqual([(row["batch"], row["draft"]) for row in rows],
                         [(batch, draft) for batch in (1, 3) for draft in ("none", "self:1", a)])
        self.assertGreater(rows[1]["drafted_tokens"], 0)
        for row in rows[4:]:
            self.assertEqual((row["drafted_tokens"], row["tokens_per_step"]), (0, 1))
            self.assertGreater(row["decode_tokens_per_second"], 0)
        self.assert_error(self.bench(a, "--draft", "ngram", "--data", text, "--prompt", "5000"), 3, "tokens")

    def test_exits_are_compared_with_none_behind_the_same_prompts(self):
        model = self.path("exits.h5")
        run("train", "--steps", 0, "--layers", 3, "--dim", 32, "--heads", 2, "--ffn", 48, "--context", 32, "--exits", "1,2", "--output", model,
            check=True)
        text = hone_cli.write(self.path("t.txt"), "one and two and one and two and three " * 20)
        options = ("--data", text, "--prompt", "20", "--generate", "12", "--repeat", "2")
        rows = self.rows(model, *options, "--exit", "entropy:20", "--exit", "gap:1", "--exit-fill", "propagated")
        self.assertEqual([row["exit"] for row in rows], ["none", "entropy:20", "gap:1"])
        self.assertEqual([row.get("mean_depth") for row in rows], [None, (3 + 11) / 12, 3])
        self.assertNotIn("draft", rows[0])
        self.assertEqual(rows[0]["text_loss"], rows[2]["text_loss"])  # whose tokens all went through all layers
        self.assertLess(rows[0]["text_loss"], math.log(256))  # the likeliest of 256 tokens
        self.assertGreater(rows[1]["text_loss"], 0)
        self.assertGreater(rows[1]["decode_ratio"], 0)
        self.assertEqual(len(self.rows(model, *options)), 1)
        for wrong, words in ((("--exit", "gap:0.5"), "--data"), (("--exit", "gap:2", *options), "gap"), (("--exit", "calibrated", *options), "calibrate"),
                             (("--exit", "gap:0.5", "--batch", "2", *options), "--batch")):
            self.assert_error(self.bench(model, *wrong), 2, words)
        self.assert_error(self.bench(tiny_model(self.directory, "plain.h5"), "--exit", "gap:0.5", *options), 2, "trained with exits")

    def test_every_setting_of_every_model_is_a_row(self):
        a, b = tiny_model(self.directory, "a.h5"), tiny_model(self.directory, "b.h5", layers=1, untied=True)
        rows = self.rows(a, b, "--prompt", "5,9", "--batch", "1,2", "--threads", "1,2", "--generate", "3", "--repeat", "2")
        settings = [(r["threads"], r["batch"], r["prompt"], r["model"]) for r in rows]
        self.assertEqual(settings, [(t, n, p, m) for t in (1, 2) for n in (1, 2) for p in (5, 9) for m in (a, b)])
        for row in rows:
            for name in COLUMNS + RATES:
                self.assertIn(name, row)
                self.assertIsNotNone(row[name], name)
            for rate in RATES:
                self.assertGreater(row[rate + "_min"], 0)
                self.assertLessEqual(row[rate + "_min"], row[rate])
                self.assertLessEqual(row[rate], row[rate + "_max"])
                self.assertGreaterEqual(row[rate + "_spread"], 0)
            self.assertLessEqual(row["latency_ms_p50"], row["latency_ms_p95"])
            self.assertLessEqual(row["latency_ms_p95"], row["latency_ms_p99"])
            self.assertAlmostEqual(row["read_bytes_per_second"], row["bytes_per_token"] * row["decode_tokens_per_second"], delta=1)
            self.assertAlmostEqual(row["bandwidth_fraction"], row["read_bytes_per_second"] / row["ceiling_read_bytes_per_second"])
            self.assertAlmostEqual(row["matrix_fraction"], row["flops_per_second"] / row["ceiling_flops_per_second"])
            self.assertGreater(row["peak_rss_bytes"], 1 << 20)
            self.assertEqual(row["file_bytes"], os.path.getsize(row["model"]))
            self.assertEqual((row["generate"], row["repeat"]), (3, 2))
        for first, second in zip(rows[::2], rows[1::2]):
            self.assertEqual((first["prefill_ratio"], first["decode_ratio"]), (1, 1))
            self.assertAlmostEqual(second["decode_ratio"], second["decode_tokens_per_second"] / first["decode_tokens_per_second"])
            self.assertAlmostEqual(second["prefill_ratio"], second["prefill_tokens_per_second"] / first["prefill_tokens_per_second"])

    def test_bytes_of_a_token(self):
        row = self.rows(tiny_model(self.directory), *self.short("--precision", "f32", "--batch", "2"))[0]
        # A layer's matrices (qkv, output, up, down), two norms and one at the end, the head, and the cache of 7 to 10 positions.
        matrices = 2 * (96 * 32 + 32 * 32 + 128 * 32 + 32 * 64) + 256 * 32
        cache = 2 * 2 * 32 * 4 * (7 + 8 + 9 + 10) / 4
        self.assertEqual(row["bytes_per_token"], (4 * (matrices + 5 * 32)) / 2 + cache)
        self.assertEqual((row["precision"], row["form"], row["weight_bytes"]), ("f32", "dense f32", 4 * (matrices + 5 * 32)))

    def test_models_take_turns(self):
        a, b = tiny_model(self.directory, "a.h5"), tiny_model(self.directory, "b.h5")
        done = run("bench", a, b, *self.short("--warmup", "1", "--log-level", "debug"), env=self.environment, check=True)
        order = re.findall(r"measured '.*/(\w)\.h5', repetition (-?\d+)", done.stderr)
        self.assertEqual(order, [("a", "-1"), ("b", "-1"), ("a", "0"), ("b", "0"), ("a", "1"), ("b", "1")])

    def test_formats(self):
        model = tiny_model(self.directory)
        text = {f: self.bench(model, *self.short("--format", f), check=True).stdout for f in ("table", "json", "csv", "md")}
        self.assertIn("decode_tokens_per_second", text["table"])
        self.assertTrue(text["md"].startswith("| "))
        self.assertIn("ceiling_read_bytes_per_second", text["md"].splitlines()[-1])
        row = json.loads(text["json"])["rows"][0]
        cells = list(csv.DictReader(io.StringIO(text["csv"])))
        self.assertEqual(len(cells), 1)
        for name in row:
            self.assertIn(name, cells[0])
        self.assertEqual(cells[0]["model"], model)

    def test_without_generation(self):
        row = self.rows(tiny_model(self.directory), "--prompt", "6", "--generate", "0", "--repeat", "1")[0]
        self.assertGreater(row["prefill_tokens_per_second"], 0)
        self.assertNotIn("decode_tokens_per_second", row)

    def test_training_steps_leave_the_file_alone(self):
        model = tiny_model(self.directory)
        with open(model, "rb") as file:
            before = file.read()
        rows = self.rows(model, model, "--train", "--batch", "2,3", "--steps", "2", "--repeat", "2")
        self.assertEqual([(r["batch"], r["context"]) for r in rows], [(2, 32), (2, 32), (3, 32), (3, 32)])
        for row in rows:
            self.assertGreater(row["train_tokens_per_second"], 0)
            self.assertGreater(row["matrix_fraction"], 0)
            self.assertIn("train_ratio", row)
            self.assertGreater(row["peak_rss_bytes"], 1 << 20)
            self.assertNotIn("decode_tokens_per_second", row)
        with open(model, "rb") as file:
            self.assertEqual(before, file.read())
        self.assertEqual(self.rows(model, "--train", "--prompt", "16", "--repeat", "1")[0]["context"], 16)
        self.assertEqual(self.rows(model, "--train", "--precision", "int8", "--repeat", "1")[0]["precision"], "int8")

    def test_training_that_computes_again(self):
        model, plans = tiny_model(self.directory), ("none", "feed_forward", "blocks")
        options = [word for plan in plans for word in ("--recompute", plan)]
        rows = self.rows(model, "--train", "--batch", "4", "--repeat", "1", *options)
        self.assertEqual([row["recompute"] for row in rows], list(plans))
        kept = [row["activation_bytes"] for row in rows]
        self.assertLess(kept[1], kept[0])
        self.assertLess(kept[2], kept[1])
        alone, = self.rows(model, "--train", "--batch", "4", "--repeat", "1", "--recompute", "blocks")
        self.assertEqual(alone["activation_bytes"], kept[2])
        done = self.bench(model, "--train", "--plot", self.path("p.svg"), "--recompute", "none", "--recompute", "blocks")
        self.assert_error(done, 2, "--recompute")
        self.assert_error(self.bench(model, "--train", "--recompute", "everything"), 2, "--recompute")
        done = run("bench", model, *self.short("--recompute", "blocks"), env=self.environment, check=True)
        self.assertIn("--recompute has no effect", done.stderr)

    def test_kernels(self):
        rows = self.rows("--kernels", "--only", "attention_forward", "--repeat", "1", "--threads", "2")
        self.assertEqual({r["kernel"] for r in rows}, {"attention_forward"})
        self.assertEqual(len({r["shape"] for r in rows}) * len({r["isa"] for r in rows}), len(rows))
        self.assertEqual(rows[0]["isa"], "portable")
        for row in rows:
            self.assertGreater(row["microseconds"], 0)
            self.assertAlmostEqual(row["speedup"], row["portable_microseconds"] / row["microseconds"])
            self.assertAlmostEqual(row["fraction"], row["giga_per_second"] / row["giga_ceiling"])
            self.assertIn(row["ceiling"], ("matrix", "bandwidth"))

    def test_products_of_experts_beside_a_dense_one(self):
        rows = self.rows("--kernels", "--only", "grouped_product", "--repeat", "1", "--threads", "2")
        self.assertGreater(len(rows), 3)
        for row in rows:
            self.assertGreater(row["of_dense"], 0)

    def test_a_lower_instruction_set(self):
        done = run("bench", "--kernels", "--only", "attention_forward", "--repeat", "1", "--format", "jsonl", "--quiet",
                   env={**self.environment, "HONE_ISA": "portable"}, check=True)
        self.assertEqual({json.loads(line)["isa"] for line in done.stdout.splitlines()}, {"portable"})

    def test_plot(self):
        model, plot = tiny_model(self.directory), self.path("speed.svg")
        self.bench(model, "--prompt", "4,8", "--batch", "1,2", "--generate", "2", "--repeat", "1", "--plot", plot, check=True)
        with open(plot) as file:
            svg = file.read()
        self.assertIn("<svg", svg)
        self.assertIn("prefill_tokens_per_second", svg)
        self.assert_error(self.bench(model, *self.short("--plot", plot)), 2, plot)
        self.bench(model, *self.short("--plot", plot, "--force"), check=True)

    def test_dry_run_measures_nothing(self):
        done = run("bench", tiny_model(self.directory), "--dry-run", env=self.environment, check=True)
        self.assertEqual(done.stdout, "")
        self.assertIn("would measure", done.stderr)

    def test_refusals(self):
        model = tiny_model(self.directory)
        learned = tiny_model(self.directory, "learned.h5", positions="learned")
        for arguments, part in [
            ([], "model files"),
            ([model, "--batch", "0"], "--batch"),
            ([model, "--batch", "1,two"], "--batch"),
            ([model, "--batch", "1,2,1"], "--batch names 1 twice"),
            ([model, "--prompt", "8", "--prompt", "8"], "--prompt names 8 twice"),
            ([model, "--attention", "full", "--attention", "full"], "--attention names full twice"),
            ([model, "--requests", "poisson:5,5"], "--requests names 5 twice"),
            ([model, "--threads", "1,1"], "--threads: the list names 1 twice"),
            (["--plan", "dim=64,layers=2,dim=128"], "names dim twice"),
            ([model, "--prompt", "0"], "--prompt"),
            ([model, "--prompt", "much"], "--prompt"),
            ([model, "--repeat", "0"], "--repeat"),
            ([model, "--train", "--steps", "0"], "--steps"),
            ([model, "--threads", "1,5000"], "--threads"),
            ([model, "--format", "xml"], "xml"),
            ([model, "--precision", "f16"], "--precision"),
            ([model, "--precision", "int8"], "--train"),
            ([model, "--kernels"], "--kernels"),
            ([model, "--only", "norm"], "--only"),
            (["--kernels", "--only", "nothing_of_the_kind"], "attention, "),
            (["--kernels", "--plot", self.path("k.svg")], "--plot"),
            ([learned, "--prompt", "30", "--generate", "3"], "32 learned positions"),
            ([learned, "--train", "--prompt", "33"], "32 learned positions"),
            ([model, learned, "--prompt", "40"], learned),
        ]:
            with self.subTest(arguments=arguments):
                done = self.bench(*arguments)
                self.assert_error(done, 2, part)
                self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    unittest.main()
