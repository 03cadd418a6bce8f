"""report: one page of a real run, which stands alone, and what cannot be in it."""

import html.parser
import json
import os
import re
import unittest

from hone_cli import CliTest, corpus, run, tiny_model, write


class Page(html.parser.HTMLParser):
    """Whether the elements of a page close as they should, and what they say."""
    VOID = {"meta", "rect", "line", "path", "circle", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.seen, self.links = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "action") or (name == "style" and "url" in value)]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


class Report(CliTest):
    def make_run(self):
        os.mkdir(self.path("run"))
        data = corpus(self.directory)
        model = tiny_model(self.directory, "run/dense.h5", data=data, steps=6, batch=2, valid_fraction=0.2, valid_every=3,
                           log=self.path("run/train.jsonl"), experts=4, top_k=2)
        run("prune", model, "--sparsity", "50%", "--output", self.path("run/pruned.h5"), "-q", check=True)
        run("quantize", self.path("run/pruned.h5"), "--output", self.path("run/small.h5"), "-q", check=True)
        run("eval", self.path("run/small.h5"), "--baseline", model, "--data", data, "--limit", 400, "--no-speed", "--format", "json",
            "-o", self.path("run/scores.json"), "-q", check=True)
        speeds = run("bench", model, self.path("run/small.h5"), "--prompt", "8,16", "--generate", 2, "--repeat", 1, "--format", "jsonl",
                     "-q", check=True).stdout
        write(self.path("run/speeds.jsonl"), speeds)
        write(self.path("run/corpus.jsonl"), '{"text": "a"}\n' * 3)
        return model

    def test_a_run(self):
        self.make_run()
        done = run("report", self.path("run"), "--output", self.path("r.html"), "--title", "A <run> & more", check=True)
        self.assertEqual(done.stdout, "")
        self.assertIn("'corpus.jsonl' is not used", done.stderr)
        with open(self.path("r.html"), encoding="utf-8") as file:
            text = file.read()
        page = Page(text)
        self.assertEqual((page.wrong, page.open, page.links), ([], [], []))
        self.assertNotIn("script", page.seen)
        self.assertNotRegex(text.replace("http://www.w3.org/2000/svg", ""), r"https?://|url\(|@import")
        for part in ("<title>A &lt;run&gt; &amp; more</title>", "<h2>Models</h2>", "<h2>Training</h2>", "<h2>Experts</h2>", "<h2>Speed</h2>",
                     "Size over loss", "<h3>small.h5</h3>", "train → prune 50%", "prune 50% → quantize", "Prefill over prompt",
                     "busiest expert"):
            self.assertIn(part, text)
        rows = re.findall(r"<h3>small.h5</h3>.*?</table>", text, re.S)[0]
        self.assertEqual(re.findall(r"<td>([\w.]+\.h5)<small>", rows), ["dense.h5", "pruned.h5", "small.h5"])
        with open(self.path("run/scores.json")) as file:
            scores = json.load(file)["rows"]
        self.assertIn(f"{scores[0]['loss']:.4f}", text)
        self.assertIn(f"{scores[1]['loss'] - scores[0]['loss']:+.4f}", text)
        self.assertEqual(run("report", self.path("run"), "--output", "-", "--title", "A <run> & more", check=True).stdout, text)
        self.assert_error(run("report", self.path("run"), "--output", self.path("r.html")), 2, "--force")
        self.assertEqual(run("report", self.path("run/train.jsonl"), "--output", self.path("r.html"), "--force").returncode, 0)

    def test_what_is_refused(self):
        model = tiny_model(self.directory)
        page = ["--output", self.path("r.html")]
        with open(model, "rb") as file:
            whole = file.read()
        os.mkdir(self.path("empty"))
        cases = ((self.path("none"), "does not exist"), (self.path("empty"), "nothing to report"),
                 (write(self.path("cut.h5"), whole[: len(whole) // 2]), "cut.h5"),
                 (write(self.path("t.txt"), "plain"), "line 1 is not JSON"),
                 (write(self.path("other.json"), '{"a": [1]}'), "no place in the report"),
                 (write(self.path("mixed.jsonl"), '{"step": 1, "loss": 2}\n{"model": "m", "loss": 1, "file_bytes": 3}\n'), "mixes kinds"),
                 (write(self.path("broken.jsonl"), '{"step": 1, "loss": 2}\n{"step"\n{"step": 3, "loss": 2}\n'), "line 2"))
        for path, part in cases:
            with self.subTest(os.path.basename(path)):
                self.assert_error(run("report", path, *page), 3, part)
        self.assert_error(run("report", model), 2, "--output")
        self.assert_error(run("report", *page), 2, "PATH")
        self.assert_error(run("report", model, "--output", model, "--force"), 2, "--output")
        self.assertFalse(os.path.exists(self.path("r.html")))
        self.assert_error(run("report", model, "--output", "/dev/full"), 3, "/dev/full")
        self.assertEqual(run("report", model, *page, "--dry-run").returncode, 0)
        self.assertFalse(os.path.exists(self.path("r.html")))


if __name__ == "__main__":
    unittest.main()
