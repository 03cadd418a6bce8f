"""`generate` at the command line."""

import json
import os
import pty
import subprocess
import termios
import unittest

from hone_cli import CliTest, run, tiny_model, tool, write


class Generate(CliTest):
    @classmethod
    def setUpClass(cls):
        import tempfile

        cls.shared = tempfile.TemporaryDirectory(prefix="hone-test-")
        cls.model = tiny_model(cls.shared.name)
        cls.learned = tiny_model(cls.shared.name, "learned.h5", positions="learned", context=16)

    @classmethod
    def tearDownClass(cls):
        cls.shared.cleanup()

    def generate(self, *args, model=None, **options):
        return run("generate", model or self.model, "-q", *args, check=True, **options).stdout

    def rows(self, *args, **options):
        return [json.loads(line) for line in self.generate(*args, "--format", "jsonl", **options).splitlines()]

    def test_a_seed_gives_the_same_text_and_another_seed_another(self):
        first = self.generate("--prompt", "The river", "--tokens", 40, "--seed", 7)
        self.assertEqual(first, self.generate("--prompt", "The river", "--tokens", 40, "--seed", 7))
        self.assertNotEqual(first, self.generate("--prompt", "The river", "--tokens", 40, "--seed", 8))
        self.assertTrue(first)

    def test_stdout_has_the_text_alone_and_stderr_the_rest(self):
        done = run("generate", self.model, "--prompt", "abc", "--tokens", 20, "--stats", check=True)
        quiet = self.generate("--prompt", "abc", "--tokens", 20)
        self.assertEqual(done.stdout, quiet)
        self.assertIn("prompt: 3 tokens", done.stderr)
        self.assertIn("tokens/s", done.stderr)
        echoed = self.generate("--prompt", "abc", "--tokens", 20, "--echo")
        self.assertEqual(echoed, "abc" + quiet)

    def test_the_prompt_from_a_file_and_from_standard_input_is_the_same_as_the_option(self):
        prompt = "two lines\nof text"
        expected = self.generate("--prompt", prompt, "--tokens", 20)
        file = write(self.path("prompt.txt"), prompt + "\n")
        self.assertEqual(expected, self.generate("--prompt-file", file, "--tokens", 20))
        self.assertEqual(expected, self.generate("--prompt-file", "-", "--tokens", 20, stdin=prompt + "\n"))
        self.assertEqual(expected, self.generate("--tokens", 20, stdin=prompt + "\n"))

    def test_several_prompts_are_told_apart(self):
        rows = self.rows("--tokens", 10, "--lines", stdin="one\n\ntwo\r\nthree")
        self.assertEqual([row["prompt"] for row in rows], ["one", "two", "three"])
        for row in rows:
            self.assertEqual(row["prompt_tokens"], len(row["prompt"]))
            self.assertLessEqual(row["tokens"], 10)
            self.assertIn(row["finish_reason"], ("length", "end"))
        text = self.generate("--tokens", 10, "--prompt", "one", "--prompt", "two")
        self.assertIn("==> one <==\n" + rows[0]["text"], text)
        self.assertIn("\n==> two <==\n", text)

    def test_the_same_prompt_twice_gives_two_texts(self):
        rows = self.rows("--tokens", 30, "--prompt", "one", "--prompt", "one", "--ignore-end")
        self.assertNotEqual(rows[0]["text"], rows[1]["text"])

    def test_prompts_that_look_like_lists_or_options_are_text(self):
        for prompt in ("[a, b]", "{}", "%%", "--x", "a,b"):
            self.assertEqual(self.rows("--tokens", 1, f"--prompt={prompt}")[0]["prompt"], prompt)

    def test_formats_agree(self):
        options = ("--prompt", "abc", "--tokens", 12)
        row = self.rows(*options)[0]
        document = json.loads(self.generate(*options, "--format", "json"))
        self.assertEqual(document["rows"][0]["text"], row["text"])
        self.assertEqual(row["text"], self.generate(*options))
        self.assertTrue(self.generate(*options, "--format", "csv").startswith("schema_version,prompt,text,tokens,finish_reason"))

    def test_greedy_is_the_same_for_every_seed_and_stop_ends_the_text(self):
        options = ("--prompt", "abc", "--tokens", 30, "--temperature", 0, "--ignore-end")
        rows = [self.rows(*options, "--seed", seed)[0] for seed in (1, 2)]
        self.assertEqual(rows[0]["text"], rows[1]["text"])
        text = self.rows("--prompt", "abc", "--tokens", 60, "--seed", 3, "--ignore-end")[0]["text"]
        stop = text[20]
        stopped = self.rows("--prompt", "abc", "--tokens", 60, "--seed", 3, "--ignore-end", "--stop", "never!", "--stop", stop)[0]
        self.assertEqual(stopped["text"], text[: text.index(stop)])
        self.assertEqual(stopped["finish_reason"], "stop")

    def test_a_draft_that_reads_more_than_the_model_is_told(self):
        large = tiny_model(self.directory, "large.h5", layers=4)
        options = ("--prompt", "abc", "--tokens", 8, "--temperature", 0, "--ignore-end")
        done = run("generate", self.model, *options, "--draft", large, check=True)
        self.assertRegex(done.stderr, r"warning: the draft '.*large.h5' reads .* a token, '.*tiny.h5' .*: it cannot make that faster")
        self.assertEqual(done.stdout, self.generate(*options))
        done = run("generate", large, *options, "--draft", self.model, check=True)
        self.assertNotIn("faster", done.stderr)

    def test_greedy_text_is_the_same_with_every_kind_of_draft(self):
        small = self.path("small.h5")
        run("quantize", self.model, "--output", small, "--type", "int8", "-q", check=True)
        options = ("--prompt", "abcabcabc", "--tokens", 60, "--temperature", 0, "--ignore-end")
        alone = self.rows(*options)[0]
        self.assertNotIn("drafted_tokens", alone)
        for draft in ("ngram", "ngram:2", "self:1", small):
            row = self.rows(*options, "--draft", draft, *(() if draft.startswith("ngram") else ("--draft-min-probability", 0)))[0]
            self.assertEqual(row["text"], alone["text"], draft)
            self.assertGreater(row["drafted_tokens"], 0, draft)
            self.assertLessEqual(row["accepted_tokens"], row["drafted_tokens"])
            self.assertGreaterEqual(row["steps"] + row["accepted_tokens"], 59)
        done = run("generate", self.model, *options, "--draft", "ngram", "--stats", check=True)
        self.assertIn("drafted tokens accepted", done.stderr)
        report = self.path("drafts.json")
        run("generate", self.model, *options, "--prompt", "xyz", "--draft", "ngram:1", "--report", report, check=True)
        with open(report, encoding="utf-8") as file:
            rows = json.load(file)["rows"]
        self.assertEqual([(row["row"], row["prompt"]) for row in rows],
                         [("prompt", "abcabcabc"), ("prompt", "xyz"), ("total", None)])
        for name in ("tokens", "steps", "drafted_tokens", "verified_tokens", "accepted_tokens"):
            self.assertEqual(rows[2][name], rows[0][name] + rows[1][name], name)
        self.assertEqual(rows[2]["draft"], "ngram:1")
        self.assertGreaterEqual(rows[2]["drafted_tokens"], rows[2]["verified_tokens"])
        self.assertGreaterEqual(rows[2]["verified_tokens"], rows[2]["accepted_tokens"])
        self.assertAlmostEqual(rows[2]["acceptance"], rows[2]["accepted_tokens"] / rows[2]["drafted_tokens"])
        sampled = ("--prompt", "abcabcabc", "--tokens", 40, "--draft", "self:1", "--seed", 5)
        self.assertEqual(self.generate(*sampled), self.generate(*sampled))

    def test_drafts_that_cannot_be_are_refused(self):
        for draft, status, words in (("self:9", 2, ("layers",)), ("self", 2, ("self:LAYERS",)), ("ngram:0", 2, ("ngram[:N]",)),
                                     ("nonsense", 2, ("no model file", "ngram")), (__file__, 3, ())):
            self.assert_error(run("generate", self.model, "--prompt", "x", "--draft", draft), status, *words)
        text = write(self.path("t.txt"), "some words to learn of, words and words. " * 200)
        other = self.path("bpe.h5")
        run("train", "--tokenizer", "bpe:300", "--data", text, "--steps", 1, "--layers", 1, "--dim", 16, "--heads", 1, "--context", 16,
            "--batch", 2, "--output", other, "-q", check=True)
        self.assert_error(run("generate", self.model, "--prompt", "x", "--draft", other), 3, "another tokenizer")
        self.assert_error(run("generate", self.model, "--prompt", "x", "--draft", "ngram", "--draft-tokens", 8), 2, "7")
        done = run("generate", self.model, "--prompt", "x", "--tokens", 2, "--draft", self.model, check=True)
        self.assertIn("cannot make that faster", done.stderr)
        done = run("generate", self.model, "--prompt", "x", "--tokens", 2, "--draft-tokens", 3, check=True)
        self.assertIn("--draft-tokens has no effect without --draft", done.stderr)

    def test_an_empty_prompt_begins_a_document(self):
        row = self.rows("--tokens", 5, "--prompt", "")[0]
        self.assertEqual(row["prompt_tokens"], 1)
        self.assertEqual(self.rows("--tokens", 5, stdin="")[0]["text"], row["text"])

    def test_beyond_the_context_rotary_goes_on_with_one_warning_and_learned_positions_end(self):
        done = run("generate", self.model, "--prompt", "abc", "--tokens", 100, "--ignore-end", "--format", "jsonl", check=True)
        self.assertEqual(json.loads(done.stdout)["tokens"], 100)
        self.assertEqual(done.stderr.count("warning:"), 1)
        done = run("generate", self.learned, "--prompt", "abc", "--tokens", 100, "--ignore-end", "--format", "jsonl", check=True)
        row = json.loads(done.stdout)
        self.assertEqual((row["finish_reason"], row["tokens"]), ("context", 14))
        self.assertEqual(done.stderr.count("warning:"), 1)
        self.assert_error(run("generate", self.learned, "--prompt", "a" * 17), 3, "learned positions", "16")

    def test_half_characters_never_appear(self):
        out = run("generate", self.model, "-q", "--prompt", "é", "--tokens", 400, "--temperature", 3, check=True, text=False).stdout
        out.decode("utf-8")  # throws if any byte stands alone

    def test_a_prompt_of_any_bytes(self):
        done = subprocess.run([tool("generate"), self.model, "-q", "--tokens", "5", "--format", "jsonl"], input=b"\xff\xfe\x80",
                              capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["prompt_tokens"], 3)

    def test_a_closed_pipe_ends_it_quietly(self):
        process = subprocess.Popen([tool("generate"), self.model, "-q", "--prompt", "x", "--tokens", "20000", "--ignore-end"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        process.stdout.read(10)
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        self.assertIn(process.wait(60), (-13, 141))
        self.assertEqual(error, b"")
        # The same where SIGPIPE is ignored, as under some supervisors.
        done = subprocess.run(["bash", "-c", f"trap '' PIPE; '{tool('generate')}' '{self.model}' -q --prompt x --tokens 20000 --ignore-end"
                               " | head -c 10 > /dev/null; echo ${PIPESTATUS[0]}"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        self.assertEqual(done.stdout.strip(), "141")
        self.assertEqual(done.stderr, "")

    def test_a_full_device_and_a_closed_stdout_are_errors(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([tool("generate"), self.model, "--prompt", "x"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assert_error(done, 3, "standard output")
        done = subprocess.run(["bash", "-c", f"'{tool('generate')}' '{self.model}' --prompt x >&-"], stderr=subprocess.PIPE, text=True)
        self.assert_error(done, 3, "standard output")

    def on_terminal(self, *args, typed=b"", streams=("stdout", "stderr")):
        """What a pseudo-terminal shows of a run that has it as these of its streams, and the status."""
        leader, follower = pty.openpty()
        attributes = termios.tcgetattr(follower)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(follower, termios.TCSANOW, attributes)
        given = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **{stream: follower for stream in streams}}
        process = subprocess.Popen([tool("generate"), self.model, *map(str, args)], **given)
        os.close(follower)
        if typed:
            os.write(leader, typed)
        shown = b""
        try:
            while piece := os.read(leader, 10000):
                shown += piece
        except OSError:  # the last writer is gone
            pass
        os.close(leader)
        return shown, process.wait(60)

    def test_on_a_terminal_the_text_ends_with_a_newline(self):
        text = self.generate("--prompt", "x", "--tokens", 5, "--temperature", 0).encode()
        self.assertFalse(text.endswith(b"\n"))
        options = ("-q", "--prompt", "x", "--tokens", 5, "--temperature", 0)
        self.assertEqual(self.on_terminal(*options), (text + b"\r\n", 0))
        # As Open MPI redirects the output of a rank: nobody sees that terminal, and a file must hold the text alone.
        self.assertEqual(self.on_terminal(*options, streams=("stdout",)), (text, 0))

    def test_on_a_terminal_each_line_that_is_typed_is_a_prompt(self):
        expected = [row["text"].encode().replace(b"\n", b"\r\n") for row in
                    self.rows("--lines", "--tokens", 5, "--ignore-end", "--seed", 9, stdin="The river\nThe king\n")]
        options = ("--tokens", 5, "--ignore-end", "--seed", 9)
        all_streams = ("stdin", "stdout", "stderr")
        shown, status = self.on_terminal(*options, typed=b"The river\n\nThe king\n\x04", streams=all_streams)
        self.assertEqual(status, 0, shown)
        self.assertIn(b"Ctrl-D ends", shown)
        self.assertIn(b"> ", shown)
        first = shown.index(expected[0])
        self.assertGreater(shown.index(expected[1], first), first)
        rows, status = self.on_terminal(*options, "-q", "--format", "jsonl", typed=b"The river\nThe king\n\x04", streams=all_streams)
        self.assertEqual([json.loads(line)["prompt"] for line in rows.decode().splitlines()], ["The river", "The king"])
        shown, status = self.on_terminal("--dry-run", streams=all_streams)
        self.assertEqual((status, b"would continue each line" in shown), (0, True), shown)

    def test_options_without_effect_are_said(self):
        done = run("generate", self.model, "--prompt", "x", "--tokens", 2, "--temperature", 0, "--top-k", 5, "--top-p", 0.5, check=True)
        self.assertIn("warning: --top-k and --top-p have no effect", done.stderr)
        self.assertNotIn("effect", run("generate", self.model, "--prompt", "x", "--tokens", 2, "--top-k", 5, check=True).stderr)

    def test_bad_usage(self):
        for options in (("--temperature", -1), ("--temperature", "nan"), ("--temperature", "inf"), ("--top-p", "nan"), ("--seed", -1),
                        ("--repetition-penalty", "nan"), ("--tokens", "1e30"), ("--top-k", -1), ("--top-p", 0), ("--top-p", 1.5), ("--tokens", "many"), ("--prefill-chunk", 0),
                        ("--repetition-penalty", 0), ("--stop", ""), ("--format", "table"), ("--lines", "--prompt", "x"),
                        ("--prompt", "x", "--prompt-file", "y"), ("--echo", "--format", "json"), ("--tokens", "9T", "--prompt", "x")):
            self.assert_error(run("generate", self.model, *options), 2)
        self.assert_error(run("generate"), 2, "MODEL")
        self.assert_error(run("generate", self.model, "--prompt-file", self.path("none.txt")), 3, "none.txt")
        self.assert_error(run("generate", self.model, "--lines", stdin="\n\n"), 3, "standard input")

    def test_dry_run_writes_nothing(self):
        done = run("generate", self.model, "--prompt", "x", "--dry-run", check=True)
        self.assertEqual(done.stdout, "")
        self.assertIn("would continue 1 prompt", done.stderr)


if __name__ == "__main__":
    unittest.main()
