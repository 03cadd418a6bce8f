"""generate --input: files of requests, and texts that are those of generate alone."""

import fcntl
import json
import os
import resource
import signal
import subprocess
import tempfile
import time
import unittest

from hone_cli import corpus, run, run_json, tiny_model, tool, write

PROMPTS = ["the river follows", "", "a small bird carries the evening light. the old king", "our neighbour leaves"]


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class BatchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.dir = cls.temporary.name
        text = corpus(cls.dir)
        cls.model = tiny_model(cls.dir, data=text, steps=40, context=128, batch=4)
        requests = [{"prompt": p} for p in PROMPTS]
        requests.append({"id": "mine", "prompt": PROMPTS[0], "tokens": 5, "temperature": 0, "logprobs": 2})
        requests.append({"prompt": PROMPTS[3], "seed": 7, "stop": [".", "!"], "top_k": 20, "repetition_penalty": 1.1})
        cls.input = write(os.path.join(cls.dir, "in.jsonl"), "".join(json.dumps(r) + "\n" for r in requests))

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def path(self, name):
        return os.path.join(self.dir, name)

    def test_texts_are_those_of_generate_alone(self):
        run("generate", self.model, "--input", self.input, "--output", self.path("a.jsonl"), "--ordered", "--tokens", 30,
            "--parallel", 3, "--quiet", check=True)
        texts = lines_of(self.path("a.jsonl"))
        self.assertEqual([t["id"] for t in texts], [1, 2, 3, 4, "mine", 6])
        prompts = [a for p in PROMPTS for a in ("--prompt", p)]
        alone = run_json("generate", self.model, *prompts, "--tokens", 30)["rows"]
        for mine, row in zip(texts, alone):
            for name in ("text", "tokens", "finish_reason", "prompt_tokens"):
                self.assertEqual(mine[name], row[name])
        greedy = run_json("generate", self.model, "--prompt", PROMPTS[0], "--tokens", 5, "--temperature", 0)["rows"][0]
        self.assertEqual(texts[4]["text"], greedy["text"])
        self.assertEqual(len(texts[4]["logprobs"]), texts[4]["tokens"])
        for token in texts[4]["logprobs"]:
            self.assertLess(token["logprob"], 0)
            self.assertEqual(token["id"], token["top"][0]["id"])  # greedy
            self.assertEqual(len(token["top"]), 2)
        own = run_json("generate", self.model, "--prompt", PROMPTS[3], "--tokens", 30, "--seed", 7, "--stop", ".", "--stop", "!",
                       "--top-k", 20, "--repetition-penalty", 1.1)["rows"][0]
        self.assertEqual(texts[5]["text"], own["text"])
        # As they are finished, whatever the pages and the number at once: the same texts.
        run("generate", self.model, "--input", self.input, "--output", self.path("b.jsonl"), "--tokens", 30, "--parallel", 6,
            "--page", 128, "--cache-tokens", 256, "--no-reuse", "--quiet", check=True)
        self.assertEqual(sorted(map(str, lines_of(self.path("b.jsonl")))), sorted(map(str, texts)))
        self.assertFalse(os.path.exists(self.path("b.jsonl.part")))
        again = ["generate", self.model, "--input", self.input, "--output", self.path("b.jsonl"), "--tokens", 2]
        refused = run(*again)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("b.jsonl' exists", refused.stderr)
        done = run(*again, "--force", check=True)
        self.assertNotIn("no effect", done.stderr)
        self.assertIn(2, [t["tokens"] for t in lines_of(self.path("b.jsonl"))])

    def test_an_order_of_service_changes_who_is_done_first_and_no_text(self):
        requests = [{"id": i, "prompt": "the river", "tokens": tokens} for i, tokens in enumerate((20, 5, 40, 10, 30))]
        file = write(self.path("lengths.jsonl"), "".join(json.dumps(r) + "\n" for r in requests))
        texts = {}
        for order, first in (("fifo", [0, 1, 2, 3, 4]), ("shortest", [1, 3, 0, 4, 2]), ("longest", [2, 4, 0, 3, 1])):
            out = self.path(f"{order}.jsonl")
            run("generate", self.model, "--input", file, "--output", out, "--order", order, "--parallel", 1, "--ignore-end", "--quiet",
                check=True)
            lines = lines_of(out)
            self.assertEqual([t["id"] for t in lines], first)
            texts[order] = {t["id"]: t["text"] for t in lines}
        self.assertEqual(texts["fifo"], texts["shortest"])
        self.assertEqual(texts["fifo"], texts["longest"])

    def test_broken_lines_are_told_and_the_others_go_on(self):
        broken = ['{"prompt": "the river"}', "{nonsense", '{"tokens": 3}', "", '{"prompt": "a child", "tokens": -3}',
                  '{"prompt": "a child", "colour": 1}', '[1]', '{"prompt": "a", "temperature": "hot"}', '{"prompt": "the end"}']
        source = write(self.path("broken.jsonl"), "\n".join(broken))
        done = run("generate", self.model, "--input", source, "--output", self.path("c.jsonl"), "--tokens", 4, "--ordered")
        self.assertEqual(done.returncode, 3)
        for number, word in ((2, "not JSON"), (3, "prompt"), (5, "tokens"), (6, "colour"), (7, "object"), (8, "temperature")):
            self.assertRegex(done.stderr, f"line {number}: .*{word}")
        texts = lines_of(self.path("c.jsonl"))
        self.assertEqual([t["id"] for t in texts], [1, 2, 3, 5, 6, 7, 8, 9])
        self.assertEqual([t.get("line") for t in texts], [None, 2, 3, 5, 6, 7, 8, None])
        self.assertEqual([t["tokens"] for t in texts if "tokens" in t], [4, 4])

    def test_a_line_that_needs_too_much_is_left_out_alone(self):
        deep = '{"prompt": "a", "x": ' + "[" * 70 + "]" * 70 + "}"
        lines = ['{"prompt": "the river", "tokens": 4}', '{"prompt": "a child", "tokens": 1000000000}', deep,
                 '{"prompt": "the end", "tokens": 5}', '{"prompt": "the end", "tokens": 100}']
        source = write(self.path("large.jsonl"), "\n".join(lines))
        done = run("generate", self.model, "--input", source, "--output", self.path("l.jsonl"), "--ordered", "--ignore-end")
        self.assertEqual(done.returncode, 3)
        self.assertRegex(done.stderr, "line 2: .*1000000000 more do not fit memory")
        self.assertRegex(done.stderr, "line 3: .*nested more than 64")
        self.assertEqual([t.get("tokens") for t in lines_of(self.path("l.jsonl"))], [4, None, None, 5, 100])
        done = run("generate", self.model, "--input", source, "--output", self.path("k.jsonl"), "--ordered", "--ignore-end",
                   "--cache-tokens", 64, "--parallel", 2)
        self.assertEqual(done.returncode, 3)
        self.assertRegex(done.stderr, "line 5: .*100 more do not fit a cache of 64")
        self.assertEqual([t.get("tokens") for t in lines_of(self.path("k.jsonl"))], [4, None, None, 5, None])

    def test_standard_input_and_equal_ids(self):
        text = '{"id": "a", "prompt": "x", "tokens": 2}\n{"id": "b", "prompt": "y", "tokens": 2}\n{"id": "a", "prompt": "z", "tokens": 2}\n'
        done = run("generate", self.model, "--input", "-", "--output", self.path("s.jsonl"), "--ordered", stdin=text, check=True)
        self.assertEqual([t["id"] for t in lines_of(self.path("s.jsonl"))], ["a", "b", "a"])
        self.assertIn('line 3 has the id "a", as line 1 has', done.stderr)

    def test_an_interrupted_run_goes_on(self):
        source = write(self.path("many.jsonl"), "".join(json.dumps({"prompt": f"the {i}th", "ignore_end": True}) + "\n"
                                                        for i in range(60)))
        whole, parts = self.path("whole.jsonl"), self.path("parts.jsonl")
        options = ["--tokens", "100", "--parallel", "4", "--ordered", "--quiet"]
        run("generate", self.model, "--input", source, "--output", whole, *options, check=True)
        process = subprocess.Popen([tool("generate"), self.model, "--input", source, "--output", parts, *options])
        part = parts + ".part"
        for _ in range(2000):
            if os.path.exists(part) and os.path.getsize(part) > 4000:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        if process.returncode == 0:
            self.skipTest("it was done before the signal came")
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)
        self.assertFalse(os.path.exists(parts))
        with open(part, "rb") as file:
            whole_part = file.read()
        for broken in (b"3\tnot JSON\n", b"9999\t{}\n", b"x\t{\"id\": 3}\n", b"3 {}\n", b"3\t{\"id\": 4}\n"):
            write(part, whole_part[:whole_part.rindex(b"\n") + 1] + broken)
            damaged = run("generate", self.model, "--input", source, "--output", parts, *options)
            self.assertEqual(damaged.returncode, 3)
            self.assertRegex(damaged.stderr, r"is damaged \(line \d+\)")
        write(part, whole_part)
        with open(part, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            locked = run("generate", self.model, "--input", source, "--output", parts, *options)
        self.assertEqual(locked.returncode, 2)
        self.assertIn("another run", locked.stderr)
        with open(part, "a", encoding="utf-8") as file:
            file.write("3\t{\"id\"")  # half a line
        other = run("generate", self.model, "--input", self.input, "--output", parts, *options)
        self.assertEqual(other.returncode, 3)
        self.assertIn("another input", other.stderr)
        done = run("generate", self.model, "--input", source, "--output", parts, *options[:-1], check=True)
        self.assertRegex(done.stderr, r"found \d+ of 60 texts written already")
        self.assertRegex(done.stderr, r"60 texts, \d+ of them before, in")
        with open(parts, "rb") as a, open(whole, "rb") as b:
            self.assertEqual(a.read(), b.read())

    def test_an_output_that_cannot_be_begun_leaves_nothing(self):
        out = self.path("full.jsonl")
        full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # half the first line
        done = subprocess.run([tool("generate"), self.model, "--input", self.input, "--output", out, "--tokens", "2"],
                              capture_output=True, text=True, preexec_fn=full)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertRegex(done.stderr, r"error: cannot write '.*full\.jsonl\.part'")
        self.assertFalse(os.path.exists(out + ".part"))
        theirs = write(out + ".part", "theirs")  # what is not ours stays
        done = run("generate", self.model, "--input", self.input, "--output", out, "--tokens", 2)
        self.assertEqual(done.returncode, 3, done.stderr)
        with open(theirs, encoding="utf-8") as file:
            self.assertEqual(file.read(), "theirs")

    def test_bad_usage(self):
        out = self.path("d.jsonl")
        for arguments, word, status in (
            (["--input", self.input], "--output", 2), (["--output", out], "--input", 2),
            (["--input", self.input, "--output", out, "--prompt", "x"], "--prompt", 2),
            *((["--input", self.input, "--output", out, *other], other[0], 2)  # none of these would have an effect
              for other in (["--exit", "gap:0.5"], ["--max-depth", 1], ["--report", self.path("r.csv")],
                            ["--image", self.path("x.png")], ["--audio", self.path("x.wav")])),
            (["--input", self.input, "--output", self.input, "--force"], "--input", 2),
            (["--input", self.input, "--output", out, "--page", "100"], "64", 2),
            (["--input", self.path("none.jsonl"), "--output", out], "none.jsonl", 3),
            (["--input", write(self.path("empty.jsonl"), "\n\n"), "--output", out], "empty.jsonl", 3),
        ):
            done = run("generate", self.model, *arguments)
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(word, done.stderr)
            self.assertEqual(done.stderr.count("error:"), 1)
        for option, value in (("--exit", "gap:0.5"), ("--max-depth", 1), ("--exit-fill", "exact"), ("--report", self.path("r.json")),
                              ("--image", "a.png"), ("--audio", "a.wav")):
            done = run("generate", self.model, "--input", self.input, "--output", out, option, value)
            self.assertEqual(done.returncode, 2, option)
            self.assertIn(option, done.stderr)
            self.assertFalse(os.path.exists(out))
        texts = []
        for draft in ([], ["--draft", "ngram"]):
            done = run("generate", self.model, "--input", self.input, "--output", out, "--force", "--tokens", 6, "--ordered", *draft,
                       check=True)
            self.assertEqual("--draft is off with --input" in done.stderr, bool(draft))
            texts.append(lines_of(out))
        self.assertEqual(*texts)
        os.remove(out)
        self.assertEqual(run("generate", self.model, "--input", self.input, "--output", out, "--draft", "nothing").returncode, 2)
        write(out, "here\n")
        done = run("generate", self.model, "--input", self.input, "--output", out)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--force", done.stderr)
        self.assertIn("--parallel", run("generate", self.model, "--prompt", "x", "--tokens", 1, "--parallel", 3, check=True).stderr)


if __name__ == "__main__":
    unittest.main()
