"""What the tools read as text, and what they refuse to."""

import gzip
import json
import os
import shutil
import subprocess
import unittest

from hone_cli import run, run_json, sentences, tiny_model, write
from model_files import ModelTest, text_of

TINY = ["--layers", 1, "--dim", 32, "--heads", 2, "--ffn", 64, "--context", 32, "--batch", 2]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


class Texts(ModelTest):
    train = {"layers": 1}

    def loss(self, path, **options):
        return run_json("eval", self.model, "--no-speed", "--data", path, **options)["rows"][0]["loss"]

    def test_compressed_text_is_read(self):
        text = sentences(40).encode()
        lines = b"".join(json.dumps({"text": line}).encode() + b"\n" for line in sentences(40).splitlines())
        plain, jsonl = self.loss(write(self.path("a.txt"), text)), self.loss(write(self.path("a.jsonl"), lines))
        packed = gzip.compress(text[:500]) + gzip.compress(text[500:])
        self.assertEqual(self.loss(write(self.path("a.txt.gz"), packed)), plain)
        self.assertEqual(self.loss(write(self.path("no name"), packed)), plain)
        for name in ("a.jsonl.gz", "b.JSONL.gz", "c.ndjson.GZ"):
            self.assertEqual(self.loss(write(self.path(name), gzip.compress(lines))), jsonl)
        for name in ("d.JSONL", "e.ndjson"):
            self.assertEqual(self.loss(write(self.path(name), lines)), jsonl)
        done = run("eval", self.model, "--no-speed", "--format", "json", "--data", "-", stdin=packed, text=False)
        self.assertEqual(json.loads(done.stdout)["rows"][0]["loss"], plain)
        if shutil.which("zstd"):
            zst = subprocess.run(["zstd", "-q", "-c", self.path("a.jsonl")], stdout=subprocess.PIPE, check=True).stdout
            self.assertEqual(self.loss(write(self.path("a.jsonl.zst"), zst)), jsonl)
            self.assert_refused(run("eval", self.model, "--data", write(self.path("cut.zst"), zst[:-9])), 3, "cut.zst", "ends in the middle")

    def everywhere(self, path):
        """Each tool that reads text, with this text."""
        out = self.path("out.h5")
        return {"train": run("train", "--data", path, *TINY, "--steps", 1, "--output", out),
                "train --valid": run("train", "--data", self.corpus, "--valid", path, *TINY, "--steps", 1, "--output", out),
                "tokenizer": run("train", "--data", path, "--tokenizer", "bpe:300", *TINY, "--steps", 0, "--output", out),
                "eval": run("eval", self.model, "--data", path),
                "eval --answers": run("eval", self.model, "--data", path, "--answers"),
                "prune": run("prune", self.model, "--method", "wanda", "--calibration", path, "--sparsity", 0.5, "--output", out),
                "quantize": run("quantize", self.model, "--calibration", path, "--output", out),
                "generate": run("generate", self.model, "--prompt-file", path, "--tokens", 1)}

    def test_what_is_no_text_is_refused_everywhere(self):
        for name, data, part in (("a.png", PNG, "is a PNG image"), ("b.txt", gzip.compress(PNG), "holds a PNG image"),
                                 ("cut.gz", gzip.compress(sentences(9).encode())[:-12], "ends in the middle")):
            path = write(self.path(name), data)
            for tool, done in self.everywhere(path).items():
                with self.subTest(tool=tool, name=name):
                    self.assert_refused(done, 3, path, part)
        for name, data in (("a.zip", b"PK\3\4\x14\0"), ("a.xz", b"\xfd7zXZ\0\0"), ("a.pdf", b"%PDF-1.4"), ("a.elf", b"\x7fELF\2"),
                           ("a.safetensors", b"\x10" + bytes(7) + b'{"a":{}}'), ("a.gguf", b"GGUF\3\0\0\0"), ("a.bz2", b"BZh91AY&SY")):
            self.assert_refused(run("eval", self.model, "--data", write(self.path(name), data)), 3, name, "not text")

    def test_bytes_of_no_kind_are_text(self):
        wild = write(self.path("rnd.bin"), bytes((i * i * 7 + i // 3) % 256 for i in range(20000)))
        run("train", "--data", self.corpus, "--valid", wild, *TINY, "--steps", 1, "--output", self.path("m.h5"), check=True)
        self.assertGreater(self.loss(wild), 0)

    def test_models_behind_data(self):
        other = tiny_model(self.directory, "other.h5", layers=1)
        for command in (["eval", self.model, "--data", self.corpus, other], ["eval", self.corpus, "--data", other]):
            self.assert_refused(run(*command), 2, "'" + other + "' is a Hone model; models come before --data")
        self.assert_refused(run("train", "--data", other, *TINY, "--steps", 1, "--output", self.path("m.h5")), 3, other, "HDF5")
        row = run_json("eval", self.model, "--no-speed", "--data", self.corpus, self.corpus)["rows"][0]
        self.assertEqual(row["tokens"], 2 * os.path.getsize(self.corpus) - 1 + 1)

    def test_half_a_surrogate_pair(self):
        path = write(self.path("a.jsonl"), '{"text": "a \\ud83d b"}\n')
        row = run_json("eval", self.model, "--no-speed", "--data", path)["rows"][0]
        self.assertEqual(row["tokens"], len("a \ufffd b".encode()) - 1)

    def test_a_tokenizer_without_training_and_not_of_what_is_held_out(self):
        seen, held = "the river is long. " * 200, "zqzqzqzq " * 50
        path = write(self.path("t.txt"), seen + held)
        fraction = len(held) / len(seen + held)

        def merges(name, *options):
            run("train", "--tokenizer", "bpe:280", *TINY, *options, "--output", self.path(name), check=True)
            return text_of(self.path(name), "tokenizer")["merges"]

        alone = merges("a.h5", "--steps", 0, "--data", write(self.path("seen.txt"), seen))
        self.assertEqual(merges("b.h5", "--steps", 0, "--data", path, "--valid-fraction", fraction), alone)
        self.assertEqual(merges("c.h5", "--steps", 1, "--data", path, "--valid-fraction", fraction), alone)
        self.assertNotEqual(merges("d.h5", "--steps", 0, "--data", path), alone)
        done = run("train", "--tokenizer", "bpe:280", *TINY, "--steps", 0, "--output", self.path("e.h5"))
        self.assert_refused(done, 2, "give --data")


if __name__ == "__main__":
    unittest.main()
