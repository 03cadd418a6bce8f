"""`eval --samples FILE` goes on where an interrupted run has ended."""

import fcntl
import json
import os
import signal
import subprocess
import time

from hone_cli import run, run_json, tiny_model, tool, write
from model_files import ModelTest, log_lines

MEASURED = ("peak_rss_bytes",)


class Resumed(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        shape = dict(dim=128, heads=4, ffn=256, context=256)
        cls.model = tiny_model(cls.shared, "mixture.h5", experts=4, top_k=2, shared_experts=1, shared_gate=True, **shape)
        cls.other = tiny_model(cls.shared, "other.h5", seed=5, **shape)
        lines = [json.dumps({"context": f"the {i}th river " * (4 + i % 9), "choices": ["bends", "stays here", "is dry"], "answer": i % 3})
                 for i in range(700)]
        cls.task = write(os.path.join(cls.shared, "c.jsonl"), "\n".join(lines) + "\n")
        cls.options = ["--task", f"choices={cls.task}", "--no-speed"]

    def interrupted(self, samples, *arguments):
        """The part that a stopped run leaves, of some groups of answers."""
        process = subprocess.Popen([tool("eval"), *arguments, *self.options, "--samples", samples, "--quiet"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        part = samples + ".part"
        for _ in range(4000):
            if os.path.exists(part) and os.path.getsize(part) > 6000:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        if process.returncode == 0:
            self.skipTest("it was done before the signal came")
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)
        self.assertFalse(os.path.exists(samples))
        with open(part, "rb") as file:
            return part, file.read()

    def rows(self, *arguments):
        rows = run_json("eval", *arguments, *self.options)["rows"]
        return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]

    def test_it_goes_on_and_ends_with_the_same(self):
        for models in ([self.model], [self.model, "--baseline", self.other], [self.other, self.model, "--baseline", self.other]):
            with self.subTest(models=len(models)):
                whole, parts = (self.path(f"{name}{len(models)}.jsonl") for name in ("whole", "parts"))
                expected = self.rows(*models, "--samples", whole)
                self.assertFalse(os.path.exists(whole + ".part"))
                part, found = self.interrupted(parts, *models)
                write(part, found + b'{"model":0,"windows":[5')  # half a line
                done = run("eval", *models, *self.options, "--samples", parts, "--format", "json", check=True)
                self.assertRegex(done.stderr, r"found the scores of \d+ of \d+ answers in '.*parts\d.jsonl.part'")
                again = [{n: v for n, v in row.items() if n not in MEASURED} for row in json.loads(done.stdout)["rows"]]
                self.assertEqual(again, expected)
                self.assertFalse(os.path.exists(part))
                with open(whole, "rb") as a, open(parts, "rb") as b:
                    self.assertEqual(a.read(), b.read())

    def test_what_was_scored_is_taken_and_what_is_foreign_refused(self):
        samples = self.path("s.jsonl")
        part, found = self.interrupted(samples, self.model)
        lines = found.splitlines(keepends=True)
        again = ["eval", self.model, *self.options, "--samples", samples]
        first = json.loads(lines[1])
        scores = first["scores"][0]
        for broken in (b"not JSON\n", b"[]\n", b'{"model":7}\n', json.dumps({**first, "windows": []}).encode() + b"\n",
                       json.dumps({**first, "scores": [scores[:3]]}).encode() + b"\n"):
            write(part, b"".join(lines[:3]) + broken)
            self.assert_refused(run(*again), 3, "is damaged (line 4)")
        write(part, found)
        with open(part, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assert_refused(run(*again), 2, "another run")
        with open(self.task, encoding="utf-8") as file:
            fewer = write(self.path("fewer.jsonl"), "".join(file.readlines()[:-1]))
        for other in (["eval", self.other, *again[2:]], [*again, "--baseline", self.other], [*again, "--prefill-chunk", 64],
                      [*again[:2], "--task", f"choices={fewer}", *again[4:]]):
            self.assert_refused(run(*other), 3, "another input, model or other options")
        # A score that only the part can have.
        first["scores"][0][0] = 0.125
        write(part, lines[0] + json.dumps(first).encode() + b"\n")
        run(*again, check=True)
        window = first["windows"][0]
        answer = log_lines(samples)[window // 3]["answers"][window % 3]
        self.assertEqual(answer["log_probability"], -0.125)

    def test_force_begins_anew(self):
        samples = self.path("s.jsonl")
        self.interrupted(samples, self.model)
        done = run("eval", self.model, *self.options, "--samples", samples, "--force", check=True)
        self.assertNotIn("found the scores", done.stderr)
        self.assertEqual(len(log_lines(samples)), 700)
