"""convert: the fixtures of other projects' models into Hone and back, by the executables; what cannot be; tokens."""

import base64
import json
import os
import re
import shutil
import subprocess
import unittest

from hone_cli import BIN, ROOT, CliTest, corpus, run, run_json, tiny_model, write

FIXTURES = os.path.join(ROOT, "tests", "fixtures", "exchange")


def files_of(folder):
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = file.read()
    return found


def byte_level_tokenizer(extra=()):
    """A tokenizer.json of GPT-2's kind with a few merges."""
    letters = [chr(b) if 33 <= b < 127 or 161 <= b < 173 or b >= 174 else None for b in range(256)]
    spare = iter(range(256, 512))
    letters = [c or chr(next(spare)) for c in letters]
    vocabulary = {c: i for i, c in enumerate(letters)}  # the ids of Hone's own byte pairs
    merges = [["t", "h"], ["th", "e"], ["\u0120", "the"], ["\u0120", "a"]]
    for pair in merges:
        vocabulary["".join(pair)] = len(vocabulary)
    added = [{"id": len(vocabulary) + i, "content": text, "special": True, "normalized": False, "single_word": False,
              "lstrip": False, "rstrip": False} for i, text in enumerate(["<|endoftext|>", *extra])]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                      "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": merges}}


class Convert(CliTest):
    def test_there_and_back(self):
        for name in ("llama", "gpt2", "neox", "qwen3", "qwen2_moe", "qwen3_moe", "olmoe"):
            with self.subTest(name):
                model, back = self.path(name + ".h5"), self.path(name)
                written = run_json("convert", os.path.join(FIXTURES, name), "--output", model)
                self.assertEqual(written["output"], model)
                again = run_json("convert", model, "--to", "safetensors", "--output", back)
                self.assertTrue(again["as_it_came"])
                expected, found = files_of(os.path.join(FIXTURES, name)), files_of(back)
                del expected["expected.json"]
                self.assertEqual(found, expected)
                self.assert_error(run("convert", model, "--to", "safetensors", "--output", back), 2, "exists")

    def test_a_converted_model_goes_through_the_pipeline(self):
        text = corpus(self.directory, count=60)
        # The fixture's vocabulary of 40 has no room for bytes: train one of the same shape here, and send it round.
        first = tiny_model(self.directory, "first.h5", data=text, steps=2, batch=2, untied=True)
        run("convert", first, "--to", "safetensors", "--output", self.path("hf"), check=True)
        self.assertEqual(json.loads(files_of(self.path("hf"))["config.json"])["model_type"], "llama")
        model, sparse, small = self.path("m.h5"), self.path("sparse.h5"), self.path("small.h5")
        run("convert", self.path("hf"), "--output", model, check=True)
        loss = [run_json("eval", m, "--data", text, "--no-speed", "--limit", 400)["rows"][0]["loss"] for m in (first, model)]
        self.assertAlmostEqual(*loss, places=6)
        run("prune", model, "--sparsity", 0.5, "--output", sparse, check=True)
        run("quantize", sparse, "--type", "int8", "--output", small, check=True)
        self.assert_error(run("convert", small, "--to", "safetensors", "--output", self.path("no")), 2, "densify (--densify)")
        self.assertFalse(os.path.exists(self.path("no")))
        done = run_json("convert", small, "--to", "safetensors", "--densify", "--output", self.path("dense"))
        self.assertTrue(done["as_it_came"])
        run("convert", self.path("dense"), "--output", self.path("d.h5"), check=True)
        loss = [run_json("eval", m, "--data", text, "--no-speed", "--limit", 400)["rows"][0]["loss"] for m in (small, self.path("d.h5"))]
        self.assertAlmostEqual(*loss, places=3)
        lineage = run_json("inspect", small)["lineage"]
        self.assertEqual([stage["tool"] for stage in lineage], ["convert", "prune", "quantize"])

    def test_the_line_of_the_page(self):
        """From a folder of others through pruning, training, quantization and a task to GGUF: as docs/convert.md has it."""
        with open(os.path.join(ROOT, "docs", "convert.md"), encoding="utf-8") as file:
            line, = re.findall(r"(?:^    hone .* &&\n)+^    hone .*$", file.read(), re.MULTILINE)
        for tool in ("convert TinyLlama/", "prune", "train", "quantize", "eval", "convert small.h5"):
            self.assertIn(f"hone {tool} ", line)
        text = corpus(self.directory)
        first = tiny_model(self.directory, "first.h5", data=text, steps=2, batch=2, untied=True)
        run("convert", first, "--to", "safetensors", "--output", self.path("TinyLlama"), check=True)
        ask = {"activity_label": "Bridges", "ctx_a": "The old king follows", "ctx_b": "the river", "label": 1,
               "endings": [f"{word} the stone bridge." for word in ("eats", "and finds", "never", "twice")]}
        write(self.path("hellaswag_val.jsonl"), json.dumps(ask) + "\n")
        done = subprocess.run(["bash", "-c", line], cwd=self.directory, capture_output=True, text=True, timeout=300,
                              env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("hellaswag", done.stdout)
        with open(self.path("small.gguf"), "rb") as file:
            self.assertEqual(file.read(4), b"GGUF")
        lineage = run_json("inspect", self.path("small.h5"))["lineage"]
        self.assertEqual([stage["tool"] for stage in lineage], ["convert", "prune", "train", "quantize"])
        run("convert", self.path("small.gguf"), "--output", self.path("back.h5"), check=True)

    def test_llama2c(self):
        source, model = os.path.join(FIXTURES, "llama2c-0", "model.bin"), self.path("m.h5")
        done = run("convert", source, "--output", model, "--format", "json", check=True)
        self.assertIn("no tokenizer", done.stderr)
        described = run_json("inspect", model)
        self.assertEqual(described["lineage"][0]["results"]["from"], "llama2c")
        self.assertEqual(json.loads(done.stdout)["parameters"], described["parameters"])
        self.assertEqual((described["config"]["tied"], described["config"]["layers"][0]["kv_heads"]), (False, 2))
        self.assert_error(run("convert", source, "--to", "gguf", "--output", self.path("x")), 2, "becomes a Hone model first")
        self.assert_error(run("convert", model, "--to", "llama2c", "--output", self.path("x")), 2, "--to")
        with open(source, "rb") as file:
            cut = write(self.path("cut.bin"), file.read()[:-1])
        self.assert_error(run("convert", cut, "--output", self.path("x")), 3, cut, "bytes where its header tells of")
        self.assertFalse(os.path.exists(self.path("x")))

    def test_types(self):
        model = tiny_model(self.directory)
        for kind, width in (("f32", 4), ("bf16", 2), ("f16", 2)):
            out = self.path(kind)
            run("convert", model, "--to", "safetensors", "--type", kind, "--output", out, check=True)
            data = files_of(out)["model.safetensors"]
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            tensor = header["model.embed_tokens.weight"]
            self.assertEqual(tensor["dtype"], kind.upper())
            self.assertEqual(tensor["data_offsets"][1] - tensor["data_offsets"][0], 256 * 32 * width)

    def test_bad_input(self):
        model, out = tiny_model(self.directory), self.path("o.h5")
        self.assert_error(run("convert", model, "--output", out), 2, "--to is missing")
        self.assert_error(run("convert", model, "--to", "hone", "--output", out), 2, "is hone already")
        self.assert_error(run("convert", self.directory, "--output", out), 3, "config.json' is missing")
        self.assert_error(run("convert", self.path("none.safetensors"), "--output", out), 3, "config.json")
        folder = shutil.copytree(os.path.join(FIXTURES, "gpt2"), self.path("gpt2"))
        with open(os.path.join(folder, "model.safetensors"), "r+b") as file:
            file.truncate(20000)
        self.assert_error(run("convert", folder, "--output", out), 3, "bytes of data where the header tells of")
        diverged = shutil.copytree(os.path.join(FIXTURES, "llama"), self.path("diverged"))
        with open(os.path.join(diverged, "model-00002-of-00002.safetensors"), "r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\xff" * 4)  # NaN of any type
        self.assert_error(run("convert", diverged, "--output", out), 3, "dataset 'values' has numbers that are NaN or infinite")
        write(os.path.join(folder, "config.json"), '{"model_type": "mamba"}')
        self.assert_error(run("convert", folder, "--output", out), 3, "'mamba' is not read; read are llama, mistral, qwen2")
        write(os.path.join(folder, "config.json"), '{"model_type"')
        self.assert_error(run("convert", folder, "--output", out), 3, "is not JSON")
        self.assertFalse(os.path.exists(out))
        for target in ("safetensors", "gguf"):  # no tool makes the folders that its output is to lie in
            for dry in ((), ("--dry-run",)):
                done = run("convert", model, "--to", target, "--output", self.path("none/m"), *dry)
                self.assert_error(done, 3, "there is no directory '" + self.path("none"))
        self.assertFalse(os.path.exists(self.path("none")))
        self.assert_error(run("convert", model, "--to", "safetensors", "--output", model), 3, "it is no directory")
        routed = tiny_model(self.directory, "routed.h5", attention="window:16:4")
        self.assert_error(run("convert", routed, "--to", "safetensors", "--output", self.path("r")), 2,
                          "llama: attention of the kind 'window:16:4'")
        sparse = self.path("sparse.h5")
        run("prune", routed, "--sparsity", 0.5, "--output", sparse, check=True)
        for target, lacks in (("safetensors", "llama: attention of the kind 'window:16:4'"),
                              ("gguf", "llama: attention that is not full")):
            with self.subTest(target):  # one error names the model and all that is in the way
                done = run("convert", sparse, "--to", target, "--output", self.path("no"))
                self.assert_error(done, 2, "sparse.h5' does not fit", "masked f32", "densify (--densify)",
                                  lacks)
                self.assertFalse(os.path.exists(self.path("no")))
        done = run("convert", os.path.join(FIXTURES, "llama"), "--output", self.path("l.h5"), "--type", "bf16", check=True)
        self.assertIn("warning: --type has no effect", done.stderr)


class Tokens(CliTest):
    def tokenizer(self, **changes):
        value = byte_level_tokenizer()
        value.update(changes)
        return write(self.path("tokenizer.json"), json.dumps(value))

    def ids(self, path, text, *options):
        return run_json("inspect", path, "--tokenize", text, *options)["ids"]

    def test_pieces_and_ids(self):
        path = self.tokenizer()
        self.assertEqual(self.ids(path, "the that a"), [257, 32, 256, 97, 116, 259])
        shown = run_json("inspect", path, "--tokenize", "the other a")
        self.assertEqual(shown["pieces"], ["the", " ", "o", "the", "r", " a"])
        end = len(byte_level_tokenizer()["model"]["vocab"])
        self.assertEqual(len(self.ids(path, "<|endoftext|>")), 13)
        self.assertEqual(self.ids(path, "a<|endoftext|>", "--special")[-1], end)
        table = run("inspect", path, "--tokenize", "the", check=True).stdout
        self.assertIn('"the"', table)

    def test_train_with_it_and_take_it_along(self):
        path, text = self.tokenizer(), corpus(self.directory, count=60)
        model = tiny_model(self.directory, "m.h5", data=text, steps=2, batch=2, tokenizer=path)
        self.assertEqual(run_json("inspect", model)["tokenizer"]["name"], "tokenizer.json:261")
        self.assertEqual(self.ids(model, "the old king"), self.ids(path, "the old king"))
        run("convert", model, "--to", "safetensors", "--output", self.path("hf"), check=True)
        with open(path, "rb") as file:
            self.assertEqual(files_of(self.path("hf"))["tokenizer.json"], file.read())
        run("generate", model, "--prompt", "the", "--tokens", 3, check=True)

    def test_sentence_pieces(self):
        """A tokenizer.model: its tokens by name, a model that is trained with it, out and back, and where it cannot go."""
        with open(os.path.join(ROOT, "tests", "fixtures", "sentence_pieces.json"), encoding="utf-8") as file:
            fixture = json.load(file)
        bpe, = (model for model in fixture["models"] if model["name"] == "bpe")
        content = base64.b64decode(bpe["model"])
        path = write(self.path("tokenizer.model"), content)
        text = "the river follows a stone bridge"
        expected = self.ids(path, text)
        self.assertEqual(self.ids(path, fixture["texts"][2]), bpe["ids"][2])
        model = tiny_model(self.directory, data=corpus(self.directory, count=60), steps=2, batch=2, untied=True, tokenizer=path)
        self.assertEqual(self.ids(model, text), expected)
        self.assertRegex(run_json("inspect", model)["tokenizer"]["name"], r"^tokenizer\.model:\d+$")
        run("convert", model, "--to", "safetensors", "--output", self.path("hf"), check=True)
        self.assertEqual(files_of(self.path("hf"))["tokenizer.model"], content)
        self.assertNotIn("tokenizer.json", files_of(self.path("hf")))
        run("convert", self.path("hf"), "--output", self.path("back.h5"), check=True)
        self.assertEqual(self.ids(self.path("back.h5"), text), expected)
        self.assert_error(run("convert", model, "--to", "gguf", "--output", self.path("m.gguf")), 2, "tokenizer of SentencePiece")
        cut = write(self.path("cut.model"), content[:1000])
        self.assert_error(run("inspect", cut, "--tokenize", "a"), 3, "cut.model", "damaged")

    def test_bytes_and_pairs_as_tokenizer_json(self):
        text = corpus(self.directory, count=60)
        for name in ("bytes", "bpe:300"):
            model = tiny_model(self.directory, "t.h5", data=text, steps=1, batch=2, tokenizer=name, force=True)
            run("convert", model, "--to", "safetensors", "--output", self.path(name), check=True)
            line = "the old king sings to a quiet house, élève 12 times"
            self.assertEqual(self.ids(os.path.join(self.path(name), "tokenizer.json"), line), self.ids(model, line))

    def test_unknown_parts_are_named(self):
        model = byte_level_tokenizer()["model"]
        for changes, part in (({"normalizer": {"type": "Nmt"}}, "normalizer is of the type 'Nmt'"),
                              ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "X"}]}},
                               "normalizer.normalizers[1] is of the type 'X'"),
                              ({"pre_tokenizer": {"type": "BertPreTokenizer"}}, "pre_tokenizer is of the type"),
                              ({"post_processor": {"type": "BertProcessing"}}, "post_processor is of the type"),
                              ({"decoder": {"type": "WordPiece"}}, "decoder is of the type"),
                              ({"model": dict(model, type="WordPiece")}, "model is of the type 'WordPiece'"),
                              ({"model": dict(model, dropout=0.1)}, "model.dropout"),
                              ({"model": dict(model, merges=["t h", "t x y"])}, "model.merges[1]"),
                              ({"truncation": {"max_length": 3}}, "truncation"),
                              ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"}}, "not understood")):
            with self.subTest(part):
                self.assert_error(run("inspect", self.tokenizer(**changes), "--tokenize", "x"), 3, part)
        self.assert_error(run("inspect", write(self.path("t.json"), "{"), "--tokenize", "x"), 3, "not JSON")


if __name__ == "__main__":
    unittest.main()
