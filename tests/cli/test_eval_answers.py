"""`eval --answers`: single answers, several with a right one, a line for each question; processes, and what is not a number."""

import json
import math
import os
import signal
import subprocess
import time
import unittest

import h5py
import numpy as np

from hone_cli import run, run_json, sentences, tiny_model, tool, write
from model_files import ModelTest, log_lines, xxh3


def choice(prompt, answers, label, **more):
    return json.dumps({"prompt": prompt, "answers": answers, "label": label, **more}) + "\n"


class Answers(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = tiny_model(cls.shared, "trained.h5", data=cls.corpus, steps=40, batch=8, lr=0.01)
        cls.other = tiny_model(cls.shared, "other.h5")

    def score(self, lines, *options):
        path = write(self.path("q.jsonl"), lines)
        samples = self.path("samples.jsonl")
        rows = run_json("eval", *options, "--no-speed", "--data", path, "--answers", "--samples", samples, "--force")["rows"]
        return rows, log_lines(samples)

    def log_probability(self, prompt, answer, precision=()):
        """Of the answer, from a score of the text that begins a document or has the prompt before it."""
        path = write(self.path("one.jsonl"), json.dumps({"prompt": prompt, "answer": answer}))
        row = run_json("eval", self.model, "--no-speed", "--data", path, "--answers", *precision)["rows"][0]
        return -row["loss"] * row["tokens"]

    def test_single_answers_and_their_samples(self):
        (row,), samples = self.score('{"id": "x", "prompt": "the ri", "answer": "ver", "text": "?"}\n{"prompt": "", "answer": "the"}\n',
                                     self.model)
        self.assertEqual([(s["question"], s.get("id"), s["prompt"], s["model"]) for s in samples],
                         [(1, "x", "the ri", self.model), (2, None, "", self.model)])
        self.assertEqual([(a["text"], a["tokens"], a["bytes"]) for s in samples for a in s["answers"]], [("ver", 3, 3), ("the", 3, 3)])
        self.assertAlmostEqual(-sum(s["answers"][0]["log_probability"] for s in samples) / 6, row["loss"], places=9)
        self.assertEqual(sum(s["right"] for s in samples) / 2, row["accuracy"])
        self.assertEqual((row["answers"], row["tokens"]), (2, 6))

    def test_an_empty_prompt_begins_a_document(self):
        text = write(self.path("two.txt"), b"\0the river")  # the separator is the byte NUL
        row = run_json("eval", self.model, "--no-speed", "--data", text)["rows"][0]
        self.assertAlmostEqual(self.log_probability("", "the river"), -row["loss"] * row["tokens"], places=6)

    def test_the_most_probable_of_several_answers(self):
        # BLiMP's kind: two whole sentences; HellaSwag's: four endings, of which one goes on as the text did.
        lines = choice("", ["the river follows the bridge.", "xqz wvk jjq zzz kqx vvw."], 0, id=7)
        lines += choice("the old king ", ["Q", "zzzzzzzzzzzz", "remembers", "%%%%%%%%"], "2")
        lines += choice("the old king ", ["remembers", "remembers"], 0)  # a tie
        lines += choice("the old king ", ["remembers", "zqzqzqzqz"], 1)
        (row,), samples = self.score(lines, self.model)
        self.assertEqual((row["questions"], row["answers"]), (4, 10))
        self.assertEqual([s["right_by_bytes"] for s in samples], [True, True, False, False])
        self.assertEqual(samples[0]["id"], 7)
        for s in samples:
            sums = [a["log_probability"] for a in s["answers"]]
            by_bytes = [a["log_probability"] / a["bytes"] for a in s["answers"]]
            for values, name in ((sums, "right"), (by_bytes, "right_by_bytes")):
                others = values[: s["label"]] + values[s["label"] + 1 :]
                self.assertEqual(s[name], values[s["label"]] > max(others))
        self.assertEqual(row["accuracy"], sum(s["right"] for s in samples) / 4)
        self.assertEqual(row["accuracy_by_bytes"], 0.5)
        self.assertAlmostEqual(row["accuracy_by_bytes_stderr"], math.sqrt(0.25 / 4))
        right = [s["answers"][s["label"]] for s in samples]
        self.assertEqual(row["tokens"], sum(a["tokens"] for a in right))
        self.assertAlmostEqual(row["loss"], -sum(a["log_probability"] for a in right) / row["tokens"], places=9)

    def test_a_score_does_not_depend_on_what_is_scored_beside_it(self):
        words = sentences(60).split()
        lines = "".join(choice(" ".join(words[i : i + i % 4]), [w, w[::-1] + "x"], 0) for i, w in enumerate(words[:120]))
        _, samples = self.score(lines, self.model, "--precision", "f32")
        for i in (0, 17, 63, 119):
            for answer in samples[i]["answers"]:
                alone = self.log_probability(samples[i]["prompt"], answer["text"], ("--precision", "f32"))
                self.assertAlmostEqual(alone, answer["log_probability"], delta=1e-4)

    def test_a_baseline_and_requirements(self):
        lines = "".join(choice("the old king ", ["remembers", "zqzqzqzqz" + "z" * (i % 3)], 0) for i in range(8))
        (base, row), samples = self.score(lines, self.model, "--baseline", self.other, "--require", "accuracy_by_bytes >= 0.99",
                                          "--require", "questions == 8", "--require", "accuracy_by_bytes_difference >= 0")
        self.assertEqual([s["model"] for s in samples], [self.other] * 8 + [self.model] * 8)
        self.assertAlmostEqual(row["accuracy_by_bytes_difference"], row["accuracy_by_bytes"] - base["accuracy_by_bytes"])
        self.assertGreater(row["kl"], 0)
        path = write(self.path("q.jsonl"), lines)
        self.assert_error(run("eval", self.model, "--no-speed", "--data", path, "--answers", "--require", "accuracy_by_bytes < 0.5"), 4)
        single = write(self.path("s.jsonl"), '{"prompt": "a", "answer": "b"}')
        self.assert_refused(run("eval", self.model, "--data", single, "--answers", "--require", "accuracy_by_bytes > 0"), 2, "position 1")

    def test_what_cannot_be_scored(self):
        single = '{"prompt": "a", "answer": "b"}\n'
        mixed = write(self.path("mixed.jsonl"), single + choice("a", ["b", "c"], 0))
        self.assert_refused(run("eval", self.model, "--data", mixed, "--answers"), 3, "line 2", "files of their own")
        label = write(self.path("label.jsonl"), choice("a", ["b", "c"], 2))
        self.assert_refused(run("eval", self.model, "--data", label, "--answers"), 3, "line 1", "from 0 to 1")
        good = write(self.path("good.jsonl"), single)
        self.assert_refused(run("eval", self.model, "--data", good, "--samples", self.path("s")), 2, "--answers")
        self.assert_refused(run("eval", self.model, "--data", good, "--answers", "--samples", "-"), 2, "--output")
        self.assert_refused(run("eval", self.model, "--data", good, "--answers", "--samples", good), 2, "good.jsonl")
        done = run("eval", self.model, "--data", good, "--answers", "--no-speed", "--samples", "-", "--output", self.path("r"), check=True)
        self.assertEqual(json.loads(done.stdout)["answers"][0]["text"], "b")


class Processes(ModelTest):
    train = {"layers": 1}

    def test_memory_is_that_of_each_model_alone(self):
        large = tiny_model(self.directory, "large.h5", layers=4, dim=512, heads=4, ffn=1024)
        peaks = [row["peak_rss_bytes"] for row in
                 run_json("eval", large, self.model, large, self.model, "--data", self.corpus, "--limit", 100)["rows"]]
        alone = [run_json("eval", m, "--data", self.corpus, "--limit", 100)["rows"][0]["peak_rss_bytes"] for m in (large, self.model)]
        for i, peak in enumerate(peaks):
            self.assertAlmostEqual(peak / alone[i % 2], 1, delta=0.1)
        self.assertLess(peaks[1], 0.7 * peaks[0])

    def start(self):
        """A long run, and the process that scores."""
        command = [tool("eval"), self.model, "--data", self.corpus, "--context", "512", "--stride", "1", "--no-speed", "-q"]
        run_ = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        for _ in range(500):
            child = self.child_of(run_.pid)
            if child:
                return run_, child
            time.sleep(0.02)
        run_.kill()
        self.fail("no process scores")

    def scores(self, process):
        """Whether it has threads: those that score."""
        try:
            return len(os.listdir(f"/proc/{process}/task")) > 1
        except OSError:
            return False

    def child_of(self, parent):
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/stat") as file:
                    if int(file.read().rsplit(")", 1)[1].split()[1]) == parent:
                        return int(entry)
            except OSError:  # it is gone
                continue
        return None

    def test_a_process_that_is_killed_is_said(self):
        run_, child = self.start()
        while not self.scores(child):  # the first processes read the models' files
            time.sleep(0.02)
            child = self.child_of(run_.pid) or child
        os.kill(child, signal.SIGKILL)
        out, err = run_.communicate(timeout=30)
        self.assertEqual((run_.returncode, out), (128 + signal.SIGKILL, ""))
        self.assertEqual(len(err.splitlines()), 1, err)
        self.assertIn("signal 9", err)
        self.assertIn(self.model, err)

    def test_no_process_is_left_behind(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            run_, child = self.start()
            run_.send_signal(number)
            run_.communicate(timeout=30)
            self.assertIn(run_.returncode, (-number, 128 + number))
            for _ in range(100):
                try:
                    with open(f"/proc/{child}/stat") as file:
                        if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                            break
                except OSError:
                    break
                time.sleep(0.05)
            else:
                self.fail("the process that scored goes on")

    def broken(self, name):
        path = tiny_model(self.directory, name, layers=1)
        with h5py.File(path, "r+") as file:
            group = file["parameters/blocks/0/attention/qkv/weight"]
            values = group["values"][()]
            values[0, 0] = np.nan
            group["values"][...] = values
            group["values"].attrs["checksum"] = np.bytes_(xxh3(values.tobytes()))
        return path

    def test_a_loss_that_is_not_a_number_is_loud(self):
        path = self.broken("nan.h5")
        for more in ([], ["--baseline", self.model]):
            done = run("eval", self.model, path, "--data", self.corpus, "--no-speed", "--limit", 200, *more)
            self.assert_error(done, 3, "nan.h5", "not a finite number")
            self.assertIn("nan", done.stdout)
        done = run("eval", path, "--data", self.corpus, "--no-speed", "--limit", 200, "--format", "csv", "--require", "loss < 9",
                   "--require", "parameters > 1")
        self.assert_error(done, 3, "nan.h5", "requirements failed")
        self.assertIn(",nan,nan,", done.stdout)
        done = run("eval", path, "--data", self.corpus, "--no-speed", "--limit", 200, "--format", "json")
        self.assertIsNone(json.loads(done.stdout)["rows"][0]["loss"])
        self.assertEqual(done.returncode, 3)

    def warnings(self, *options):
        done = run("eval", self.model, "--data", self.corpus, "--no-speed", *options, check=True)
        return [line for line in done.stderr.splitlines() if line.startswith("warning")]

    def test_one_warning_for_what_is_not_as_it_seems(self):
        self.assertEqual(self.warnings("--limit", 200), [])
        beyond, = self.warnings("--context", 64, "--limit", 200)
        self.assertIn("beyond the 32 tokens", beyond)
        capped, = self.warnings("--limit", "1M")
        self.assertIn("all are scored", capped)
        short = write(self.path("short.txt"), "a few words")
        done = run("eval", self.model, "--data", short, "--no-speed", "--context", 20, check=True)
        self.assertIn("has 11 tokens, and no window is longer", done.stderr)


if __name__ == "__main__":
    unittest.main()
