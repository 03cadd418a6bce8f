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
        self.assert_refused(run("eval", self.model, "--data", single, "--answers", "--require", "accuracy_image > 0"), 2,
                            "accuracy_image is measured on examples with images alone", "s.jsonl has none")

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


class Tasks(ModelTest):
    """--task: several at once, beside a baseline, with examples before the questions."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = tiny_model(cls.shared, "trained.h5", data=cls.corpus, steps=40, batch=8, lr=0.01)
        cls.other = tiny_model(cls.shared, "other.h5")

    def task(self, name, rights):
        """Lines of the plain form, each right for the trained model or not; the other answer is noise."""
        lines = [json.dumps({"context": f"the old king {i} ", "choices": ["remembers", "zqzqzqzqz"], "answer": 0 if right else 1})
                 for i, right in enumerate(rights)]
        return write(self.path(name), "\n".join(lines) + "\n")

    def arc(self, name, count):
        lines = [json.dumps({"id": str(i), "question": {"stem": f"river {i}?", "choices": [{"label": "A", "text": "bridge"},
                                                                                           {"label": "B", "text": "zqzqzq"}]},
                             "answerKey": "A"}) for i in range(count)]
        return write(self.path(name), "\n".join(lines) + "\n")

    def test_each_task_has_its_accuracy_and_is_compared_with_the_baseline(self):
        choices, arc = self.task("c.jsonl", [True] * 18 + [False] * 6), self.arc("a.jsonl", 8)
        samples = self.path("s.jsonl")
        both = ["--task", f"choices={choices}", "--task", f"arc={arc}", "--no-speed"]
        base, row = run_json("eval", self.model, "--baseline", self.other, *both, "--samples", samples)["rows"]
        lines = log_lines(samples)
        for model, values in ((self.other, base), (self.model, row)):
            right = [s["right"] for s in lines if s["model"] == model]
            self.assertEqual(values["accuracy_choices"], sum(right[:24]) / 24)
            self.assertEqual(values["accuracy_arc"], sum(right[24:]) / 8)
            self.assertEqual(values["accuracy"], sum(right) / 32)
            self.assertAlmostEqual(values["accuracy_mean"], (sum(right[:24]) / 24 + sum(right[24:]) / 8) / 2)
        ours, theirs = ([s["right"] for s in lines if s["model"] == model][:24] for model in (self.model, self.other))
        steps = np.array(ours, float) - np.array(theirs, float)
        half = 2.0686576 * steps.std(ddof=1) / math.sqrt(24)  # Student's t of 23 degrees
        self.assertAlmostEqual(row["accuracy_choices_difference"], steps.mean())
        self.assertAlmostEqual(row["accuracy_choices_difference_low"], steps.mean() - half, places=6)
        self.assertAlmostEqual(row["accuracy_choices_difference_high"], steps.mean() + half, places=6)
        self.assertAlmostEqual(row["accuracy_mean_difference"], row["accuracy_mean"] - base["accuracy_mean"])
        of_arc = row["accuracy_arc_difference_high"] - row["accuracy_arc_difference"]
        self.assertAlmostEqual(row["accuracy_mean_difference_high"] - row["accuracy_mean_difference"], math.hypot(half, of_arc) / 2, places=6)
        # A baseline of several models is scored once, and gives the same.
        again = run_json("eval", self.model, self.other, "--baseline", self.other, *both)["rows"]
        for name in ("accuracy_choices_difference_low", "accuracy_arc", "accuracy_mean"):
            self.assertAlmostEqual(again[1][name], row[name])
        self.assertEqual((again[0]["accuracy_arc"], again[2]["accuracy_arc_difference"]), (base["accuracy_arc"], 0))

    def test_requirements_on_tasks(self):
        choices = self.task("c.jsonl", [True] * 8)
        both = ["--task", f"choices={choices}", "--task", f"arc={self.arc('a.jsonl', 4)}", "--no-speed"]
        beside = ["--baseline", self.other]
        met = ["--require", "accuracy_choices >= 0.5*baseline", "--require", "accuracy_mean_difference_high > -1",
               "--require", "baseline.accuracy_arc >= 0"]
        done = run("eval", self.model, *beside, *both, *met, check=True)
        self.assertEqual(done.stderr.count("requirement met"), 3)
        self.assert_error(run("eval", self.model, *both, "--require", "accuracy_choices > 1"), 4, "accuracy_choices > 1")
        alone = ["--task", f"choices={choices}", "--no-speed"]  # its name holds of one task, too
        run("eval", self.model, *alone, "--require", "accuracy_choices >= 0", "--require", "accuracy_mean_stderr >= 0", check=True)
        self.assert_refused(run("eval", self.model, *alone, "--require", "accuracy_arc > 0"), 2, "position 1", "accuracy_choices")
        self.assert_refused(run("eval", self.model, *alone, "--require", "accuracy_choices_difference > 0"), 2, "position 1")
        self.assert_refused(run("eval", self.model, *alone, "--task", f"choices={choices}"), 2, "twice")

    def test_few_shots(self):
        task, examples, samples = self.arc("a.jsonl", 6), self.arc("b.jsonl", 3), self.path("s.jsonl")
        run("eval", self.model, "--task", f"arc={task}", "--few-shot", 2, "--samples", samples, "--no-speed", check=True)
        first = log_lines(samples)
        example = "Question: river {}?\nAnswer: bridge\n\n"
        for i, line in enumerate(first):
            self.assertTrue(line["prompt"].endswith(f"\n\nQuestion: river {i}?\nAnswer:"))
            shown = [k for k in range(6) if example.format(k) in line["prompt"]]
            self.assertEqual((len(shown), i in shown), (2, False))
        # The same as lines that were written so.
        lines = "".join(choice(s["prompt"], [a["text"] for a in s["answers"]], s["label"]) for s in first)
        by_hand = run_json("eval", self.model, "--data", write(self.path("q.jsonl"), lines), "--answers", "--no-speed")["rows"][0]
        row = run_json("eval", self.model, "--task", f"arc={task}", "--few-shot", 2, "--no-speed")["rows"][0]
        self.assertEqual((row["loss"], row["accuracy"], row["few_shot"]), (by_hand["loss"], by_hand["accuracy"], 2))
        run("eval", self.model, "--task", f"arc={task}", "--few-shot", 2, "--seed", 2, "--samples", samples, "--force", "--no-speed", check=True)
        self.assertNotEqual([s["prompt"] for s in log_lines(samples)], [s["prompt"] for s in first])
        run("eval", self.model, "--task", f"arc={task}", "--few-shot", 3, "--few-shot-from", f"arc={examples}", "--samples", samples, "--force",
            "--no-speed", check=True)
        self.assertEqual({s["prompt"].count("Question: ") for s in log_lines(samples)}, {4})
        few = ["eval", self.model, "--task", f"arc={task}", "--few-shot"]
        self.assert_refused(run(*few, 6), 3, "fewer than 6")
        self.assert_refused(run(*few, 1, "--few-shot-from", f"piqa={task}"), 2, "no --task piqa")
        self.assert_refused(run(*few, 1, "--few-shot-from", "nothing"), 2, "--few-shot-from", "NAME=FILE")
        blimp = write(self.path("b.jsonl"), '{"sentence_good": "a b", "sentence_bad": "b a"}\n' * 3)
        self.assert_refused(run("eval", self.model, "--task", f"blimp={blimp}", "--few-shot", 1), 2, "begins a document")
        done = run("eval", self.model, "--data", self.corpus, "--few-shot", 2, "--limit", 50, "--no-speed", check=True)
        self.assertIn("warning: --few-shot has no effect without --task", done.stderr)



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
