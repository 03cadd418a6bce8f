"""Kinds of attention at the command line: train, eval, generate, bench, the recall task, and what cannot be."""

import json
import os
import subprocess
import sys
import unittest

import numpy as np

from hone_cli import ROOT, corpus, run, run_json, tiny_model, write
from model_files import ModelTest, lineage, parameters, text_of

KINDS = ["full", "window:64", "window:48:4", "routed:64:2", "routed:64:2:30"]


def recall(*args):
    return subprocess.run([sys.executable, os.path.join(ROOT, "data", "recall.py"), *map(str, args)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kinds_of(path):
    return [layer["attention"] for layer in text_of(path, "config")["layers"]]


class Attention(ModelTest):
    train = dict(steps=0, context=256, layers=3)

    def bench(self, *args, **options):
        return run("bench", *args, env={"HONE_CACHE_DIR": self.shared}, **options)

    def test_a_list_repeats_over_the_layers(self):
        path = tiny_model(self.directory, layers=5, context=256, attention="window:64,routed:64:2,full")
        self.assertEqual(kinds_of(path), ["window:64", "routed:64:2", "full", "window:64", "routed:64:2"])
        self.assertEqual(run_json("eval", path, "--data", self.corpus, "--limit", 600, "--no-speed")["rows"][0]["attention"],
                         "window:64,routed:64:2,full")

    def test_every_kind_trains_scores_and_generates(self):
        for i, kind in enumerate(KINDS):
            with self.subTest(kind=kind):
                path = tiny_model(self.directory, f"{i}.h5", data=self.corpus, context=200, steps=3, batch=2, attention=kind)
                whole = run_json("eval", path, "--data", self.corpus, "--limit", 1000, "--precision", "f32")["rows"][0]
                self.assertEqual(whole["attention_fraction"] == 1, kind == "full")
                self.assertGreater(whole["attention_fraction"], 0.2)
                self.assertGreater(whole["attention_ms"], 0)
                chunked = run_json("eval", path, "--data", self.corpus, "--limit", 1000, "--no-speed", "--prefill-chunk", 70,
                                   "--precision", "f32")["rows"][0]
                self.assertAlmostEqual(chunked["loss"], whole["loss"], places=4)
                self.assertEqual(chunked["attention_fraction"], whole["attention_fraction"])
                prompt = "the river follows the stone bridge. " * 5
                texts = {run("generate", path, "--prompt", prompt, "--tokens", 20, "--temperature", 0, "--precision", "f32",
                             "--prefill-chunk", chunk, check=True).stdout for chunk in (1, 37, 512)}
                self.assertEqual(len(texts), 1)

    def test_a_model_is_adapted_and_remembers_it(self):
        path = self.path("adapted.h5")
        run("train", "--init", self.model, "--attention", "window:64,window:64,full", "--data", self.corpus, "--steps", 2,
            "--batch", 1, "--context", 300, "--output", path, check=True)
        self.assertEqual(kinds_of(path), ["window:64", "window:64", "full"])
        self.assertEqual(text_of(path, "config")["context"], 300)
        results = lineage(path)[-1]["results"]
        self.assertEqual((results["attention_before"], results["attention"]), ("full", "window:64,window:64,full"))
        run("train", "--init", path, "--steps", 0, "--output", self.path("same.h5"), check=True)
        self.assertNotIn("attention_before", lineage(self.path("same.h5"))[-1]["results"])
        self.assert_same_parameters(path, self.path("same.h5"))

    def test_an_adapted_run_resumes(self):
        shared = ["--data", self.corpus, "--steps", 4, "--batch", 1, "--attention", "window:32", "--force"]
        run("train", "--init", self.model, *shared, "--checkpoint", self.path("run.h5"), "--output", self.path("a.h5"), check=True)
        run("train", *shared, "--resume", self.path("run.h5"), "--output", self.path("b.h5"), check=True)
        self.assertEqual(lineage(self.path("b.h5"))[-1]["results"]["attention_before"], "full")
        self.assert_same_parameters(self.path("a.h5"), self.path("b.h5"))
        done = run("train", "--data", self.corpus, "--steps", 4, "--batch", 1, "--attention", "full", "--resume",
                   self.path("run.h5"), "--output", self.path("c.h5"))
        self.assert_refused(done, 2, "--attention full", "window:32")

    def test_kinds_that_cannot_be(self):
        for kinds, parts in {
            "sideways": ["sideways", "full", "window:SIZE[:SINKS]", "routed:BLOCK:COUNT[:WINDOW]"],
            "window:0": ["window:0"],
            "window:257": ["257", "256"],
            "window:64:300": ["300", "256"],
            "routed:0:2": ["multiple of 64"],
            "routed:100:2": ["multiple of 64"],
            "routed:320:1": ["320", "256"],
            "routed:64:5": ["5 blocks", "only 4"],
            "routed:64:0": ["COUNT"],
            "routed:64": ["routed:BLOCK:COUNT[:WINDOW]"],
            "window:x": ["whole number"],
            "conv:x": ["whole number"],
            "full,full,full,full": ["4 kinds for 3 layers"],
        }.items():
            with self.subTest(kinds=kinds):
                done = run("train", "--init", self.model, "--steps", 0, "--attention", kinds, "--output", self.path("x.h5"))
                self.assert_refused(done, 2, *parts)
                self.assertFalse(os.path.exists(self.path("x.h5")))
        self.assert_refused(self.bench(self.model, "--attention", "sideways"), 2, "window:SIZE")
        self.assert_refused(self.bench("--kernels", "--attention", "full"), 2, "--attention")

    def test_a_cache_that_fits_no_memory(self):
        done = run("generate", self.model, "--prompt", "a", "--tokens", "1000000000000")
        self.assert_refused(done, 2, "cache", "takes at least", "available")
        done = self.bench(self.model, "--prompt", "4", "--generate", "1000000000000", "--repeat", "1", "--warmup", "0")
        self.assert_error(done, 2, "cache")

    def test_chunks_that_cannot_be(self):
        for tool in (["generate", self.model, "--prompt", "a"], ["eval", self.model, "--data", self.corpus],
                     ["bench", self.model]):
            self.assert_refused(run(*tool, "--prefill-chunk", 0), 2, "--prefill-chunk")

    def test_bench_compares_kinds(self):
        done = self.bench(self.model, "--attention", "full", "--attention", "window:64,full", "--attention", "routed:64:2",
                   "--prompt", "128,320", "--generate", 2, "--repeat", 1, "--format", "jsonl", "--plot", self.path("a.svg"),
                   check=True)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([(r["prompt"], r["attention"]) for r in rows],
                         [(n, kind) for n in (128, 320) for kind in ("full", "window:64,full", "routed:64:2")])
        for row in rows:
            self.assertGreater(row["attention_ms"], 0)
            self.assertEqual(row["attention_fraction"] == 1, row["attention"] == "full" or
                             (row["attention"] == "routed:64:2" and row["prompt"] == 128))
        self.assertRegex(done.stderr, r"attention routed:64:2 is (not )?faster than full")
        with open(self.path("a.svg")) as file:
            picture = file.read()
        for text in ("attention_ms", "routed:64:2", "window:64,full"):
            self.assertIn(text, picture)
        done = self.bench(self.model, "--train", "--steps", 1, "--repeat", 1, "--attention", "window:64", "--format", "jsonl",
                   check=True)
        row = json.loads(done.stdout)
        self.assertGreater(row["attention_backward_ms"], 0)
        self.assertLess(row["attention_fraction"], 0.6)


class ShortConvolutions(ModelTest):
    """Layers of `conv:SIZE` among others of attention, through every tool."""

    train = dict(steps=0)
    KINDS = "conv:4,full"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.hybrid = tiny_model(cls.shared, "hybrid.h5", data=cls.corpus, context=96, layers=4, dim=64, heads=4, steps=40, batch=4,
                                lr=0.01, attention=cls.KINDS)

    def test_it_learns_and_what_is_read_in_pieces_is_the_whole(self):
        self.assertEqual(kinds_of(self.hybrid), ["conv:4", "full"] * 2)
        fresh = tiny_model(self.directory, "fresh.h5", context=96, layers=4, dim=64, heads=4, attention=self.KINDS)
        rows = [run_json("eval", path, "--data", self.corpus, "--limit", 1500, "--no-speed", "--precision", "f32")["rows"][0]
                for path in (fresh, self.hybrid)]
        self.assertLess(rows[1]["loss"], rows[0]["loss"] - 0.5)
        self.assertEqual((rows[1]["attention"], rows[1]["attention_fraction"]), (self.KINDS, 1))
        chunked = run_json("eval", self.hybrid, "--data", self.corpus, "--limit", 1500, "--no-speed", "--precision", "f32",
                           "--prefill-chunk", 7)["rows"][0]
        self.assertAlmostEqual(chunked["loss"], rows[1]["loss"], places=4)
        write = lambda *more: run("generate", self.hybrid, "--prompt", "the river follows the stone bridge. " * 2, "--tokens", 20,
                                  "--temperature", 0, "--ignore-end", "--precision", "f32", "-q", *more, check=True).stdout
        text = write()
        for more in (["--prefill-chunk", 1], ["--prefill-chunk", 13], ["--draft", "ngram"], ["--draft", "self:2"],
                     ["--cache-type", "int8", "--prefill-chunk", 13]):
            if "--cache-type" not in more:
                self.assertEqual(write(*more), text, more)
            else:
                self.assertTrue(write(*more))

    def test_a_model_of_nothing_else(self):
        path = tiny_model(self.directory, "conv.h5", data=self.corpus, steps=3, batch=2, attention="conv:3")
        row = run_json("eval", path, "--data", self.corpus, "--limit", 300)["rows"][0]
        self.assertEqual((row["attention"], row["attention_fraction"], row["attention_ms"]), ("conv:3", 1, 0))
        names = {tensor["name"]: tensor["shape"] for tensor in run_json("inspect", path)["tensors"]}
        self.assertEqual(names["blocks.0.mixer.kernel"], [32, 3])
        self.assertEqual(names["blocks.0.mixer.input.weight"], [96, 32])
        self.assertIn("blocks.1.mixer_norm.gain", names)
        self.assertFalse(any("attention" in name for name in names))
        self.assertIn("attention conv:3", run("inspect", path, check=True).stdout)
        row = run_json("bench", path, "--prompt", 8, "--generate", 3, "--repeat", 1, "--warmup", 0)["rows"][0]
        self.assertGreater(row["decode_tokens_per_second"], 0)

    def test_every_tool_takes_it(self):
        pruned, narrow, again, small = (self.path(name) for name in ("p.h5", "n.h5", "r.h5", "q.h5"))
        run("prune", self.hybrid, "--method", "sparsegpt", "--sparsity", 0.5, "--calibration", self.corpus, "--output", pruned,
            "-q", check=True)
        self.assertLess(np.count_nonzero(parameters(pruned)["blocks.0.mixer.input.weight"].values), 0.51 * 192 * 64)
        run("prune", self.hybrid, "--structure", "heads:50%,attentions:1", "--calibration", self.corpus, "--output", narrow, "-q",
            check=True)
        self.assertEqual(sorted(layer["heads"] for layer in text_of(narrow, "config")["layers"]), [0, 2, 2, 2])
        run("train", "--init", narrow, "--data", self.corpus, "--steps", 2, "--batch", 2, "--optimizer", "muon", "--recompute",
            "blocks", "--output", again, "-q", check=True)
        run("quantize", again, "--type", "int4", "--group", 32, "--calibration", self.corpus, "--prepare", "awq", "--output", small,
            "-q", check=True)
        for path in (pruned, small):
            row = run_json("eval", path, "--data", self.corpus, "--limit", 400, "--no-speed")["rows"][0]
            self.assertGreater(row["accuracy"], 0)
        prompts = ["the river", "the stone bridge follows the river", "a"]
        file = write(self.path("in.jsonl"), "".join(json.dumps({"prompt": p}) + "\n" for p in prompts))
        run("generate", small, "--input", file, "--output", self.path("out.jsonl"), "--ordered", "--tokens", 12, "--parallel", 2,
            "-q", check=True)
        with open(self.path("out.jsonl"), encoding="utf-8") as out:
            together = [json.loads(line)["text"] for line in out]
        alone = run_json("generate", small, *[a for p in prompts for a in ("--prompt", p)], "--tokens", 12)["rows"]
        self.assertEqual(together, [row["text"] for row in alone])
        done = run("convert", self.hybrid, "--to", "safetensors", "--output", self.path("folder"))
        self.assert_refused(done, 2, "mix tokens without attention")
        for dry in ((), ("--dry-run",)):
            self.assert_refused(run("convert", self.hybrid, "--to", "gguf", "--output", self.path("m.gguf"), *dry), 2, "mix tokens")

    def test_a_resumed_run_ends_with_the_same_bits(self):
        options = ["--data", self.corpus, "--layers", 2, "--dim", 32, "--heads", 2, "--ffn", 64, "--context", 32, "--batch", 4,
                   "--steps", 6, "--attention", self.KINDS, "--layer-dropout", "0.4:uniform"]
        run("train", *options, "--checkpoint", self.path("c.h5"), "--save-every", 3, "--output", self.path("a.h5"), check=True)
        run("train", *options, "--output", self.path("b.h5"), "--recompute", "blocks", check=True)
        self.assert_same_parameters(self.path("a.h5"), self.path("b.h5"))
        run("train", *options, "--resume", self.path("c.h5"), "--output", self.path("d.h5"), check=True)
        self.assert_same_parameters(self.path("a.h5"), self.path("d.h5"))

    def test_what_cannot_be(self):
        begin = lambda *more: run("train", "--steps", 0, *more, "--output", self.path("x.h5"))
        new = lambda *more: begin("--layers", 2, "--dim", 32, "--heads", 4, *more)
        for kinds, part in (("conv", "conv:SIZE"), ("conv:1", "2 to 64"), ("conv:65", "2 to 64"), ("conv:4:2", "conv:SIZE")):
            self.assert_refused(new("--attention", kinds), 2, part)
        self.assert_refused(new("--context", 8, "--attention", "conv:9"), 2, "context of 8")
        for option in (["--kv-heads", 2], ["--qk-norm"], ["--attention-softcap", 20]):
            self.assert_refused(new("--attention", "conv:4", *option), 2, option[0], "conv:4")
            self.assertEqual(new("--attention", self.KINDS, *option).returncode, 0)
            os.remove(self.path("x.h5"))
        self.assert_refused(begin("--init", self.hybrid, "--attention", "full"), 2, "layer 0 is 'conv:4'")
        self.assert_refused(begin("--init", self.model, "--attention", "conv:4"), 2, "do not fit 'conv:4'")
        self.assertEqual(begin("--init", self.hybrid, "--attention", "conv:4,window:16").returncode, 0)
        self.assert_refused(new("--force", "--image", "patches:4x4", "--media-attention", "both", "--attention", self.KINDS), 2,
                            "looks back alone")


class Recall(ModelTest):
    train = dict(steps=0, context=256, layers=2)

    def test_the_answer_stands_at_the_distance_and_repeats_with_the_seed(self):
        done = recall("--count", 50, "--distance", 700, "--pairs", 5, "--seed", 3)
        self.assertEqual(done.stdout, recall("--count", 50, "--distance", 700, "--pairs", 5, "--seed", 3).stdout)
        self.assertNotEqual(done.stdout, recall("--count", 50, "--distance", 700, "--pairs", 5, "--seed", 4).stdout)
        for line in done.stdout.splitlines():
            question = json.loads(line)
            prompt, key = question["prompt"], question["prompt"][-1]
            first = prompt.index(key) + 1
            self.assertEqual(prompt[first], question["answer"])
            self.assertEqual(len(prompt) - first, 700)
        sizes = {recall("--count", 1, "--distance", 40, "--pairs", "1:4", "--seed", seed).stdout.count(" ") for seed in range(8)}
        self.assertGreater(len(sizes), 1)
        for wrong in (["--distance", "0"], ["--distance", "9:3"], ["--distance", "x"], ["--pairs", 0], ["--pairs", 27], ["--count", 0]):
            self.assertEqual(recall(*wrong).returncode, 2)

    def test_answers_are_scored_alone_and_whole(self):
        data = write(self.path("recall.jsonl"), recall("--count", 30, "--distance", 100).stdout)
        path = tiny_model(self.directory, "m.h5", data=data, context=160, steps=2, batch=2)
        row = run_json("eval", path, "--data", data, "--answers", "--no-speed")["rows"][0]
        self.assertEqual((row["answers"], row["tokens"], row["bytes"] if "bytes" in row else 30), (30, 30, 30))
        self.assertEqual(row["scored"], "answers")
        short = run("eval", path, "--data", data, "--answers", "--no-speed", "--context", 50)
        self.assertIn("30 of 30 questions are longer than the context of 50", short.stderr)
        self.assertLess(row["accuracy"], 0.3)
        sure = write(self.path("sure.jsonl"), "".join(json.dumps({"prompt": "q", "answer": "aa"}) + "\n" for _ in range(4)))
        learned = tiny_model(self.directory, "n.h5", data=write(self.path("a.txt"), "qaa" * 500), context=64, steps=60, batch=8,
                             lr=0.01)
        done = run("eval", learned, "--data", sure, "--answers", "--no-speed", "--require", "accuracy >= 0.99", "--baseline", path)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_documents_without_answers(self):
        text = write(self.path("a.jsonl"), '{"text": "words"}\n')
        self.assert_refused(run("eval", self.model, "--data", text, "--answers"), 3, "a.jsonl", "answer")
        self.assert_refused(run("eval", self.model, "--data", self.corpus, "--answers"), 3, "line 1", "not JSON")
        half = write(self.path("b.jsonl"), '{"prompt": "words"}\n')
        self.assert_refused(run("eval", self.model, "--data", half), 3, "b.jsonl, line 1")
        long = write(self.path("c.jsonl"), json.dumps({"prompt": "p", "answer": "a" * 300}) + "\n")
        self.assert_refused(run("eval", self.model, "--data", long, "--answers"), 3, "300", "256")
        self.assert_refused(run("eval", self.model, "--data", half, "--answers", "--stride", 9), 2, "--stride")


if __name__ == "__main__":
    unittest.main()
