"""Images and sounds through the tools: training, scoring, generation, calibration, and what is refused."""

import base64
import json
import os
import re
import struct
import unittest

from hone_cli import run, run_json
from media_files import SHAPE, MediaTest, write_png, write_wav
from model_files import parameters
from serving import Server


class Media(MediaTest):
    """Four digits: a column of the picture, or a tone."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = os.path.join(cls.folder, "model.h5")
        cls.log = os.path.join(cls.folder, "log.jsonl")
        run("train", "--data", cls.data, *SHAPE, "--media-attention", "both", "--loss", "answers", "--steps", 80, "--batch", 16,
            "--lr", 3e-3, "--precision", "f32", "--augment-image", "shift:0.3", "--augment-audio", "gain:3", "--log", cls.log,
            "--log-every", 1, "-t", 1, "--output", cls.model, check=True)

    def test_it_learns_each_kind_and_both(self):
        scores = run_json("eval", self.model, "--data", self.data, "--answers", "--no-speed")
        row = scores["models"][0] if "models" in scores else scores["rows"][0]
        for name in ("accuracy", "accuracy_image", "accuracy_audio", "accuracy_image_audio"):
            self.assertGreaterEqual(row[name], 0.9, name)
            self.assertIn(name + "_stderr", row)
        self.assertEqual(row["answers"], 48)

    def test_what_examples_do_not_measure_is_refused_before_they_are_scored(self):
        images = self.file("pictures.jsonl", "".join(line + "\n" for line in self.lines(self.data) if "audio" not in line))
        evaluate = ["eval", self.model, "--answers", "--no-speed", "--data", images]
        for options, words in ((["--require", "accuracy_audio >= 0"], "accuracy_audio is measured on examples with sounds alone"),
                               (["--require", "accuracy_image_audio_stderr < 1"], "with images and sounds, and .*pictures.jsonl has none"),
                               (["--require", "attention_fraction <= 1"], "attention_fraction is not measured on examples"),
                               (["--require", "kl < 1", "--baseline", self.model], "kl is not measured on examples"),
                               (["--require", "top1_agreement_low > 0", "--baseline", self.model], "top1_agreement_low is not measured")):
            with self.subTest(options=options):
                done = run(*evaluate, *options)
                self.assert_error(done, 2)
                self.assertRegex(done.stderr, words)
                self.assertEqual(done.stdout, "")  # nothing was scored
        run(*evaluate, "--require", "accuracy_image >= 0", check=True)

    def test_the_log_counts_what_went_through_each_encoder_and_no_padding(self):
        lines = [json.loads(line) for line in self.lines(self.log)]
        for line in lines:
            self.assertEqual(line["padding_fraction"], 0)
            # A picture is 2 x 2 patches between delimiters, a tone of 0.1 s 8 frames in 4 rows.
            for name in ("image", "audio"):
                parts = line["encoders"][name]
                self.assertEqual(parts["rows"], 6 * parts["parts"])
        self.assertGreater(lines[0]["encoders"]["image"]["parts"], 0)

    def test_encoders_that_are_not_used_never_run_and_are_not_read(self):
        images = self.file("images.jsonl", "".join(line + "\n" for line in self.lines(self.data) if "audio" not in line))
        log, output = os.path.join(self.folder, "images.log"), os.path.join(self.folder, "images.h5")
        run("train", "--init", self.model, "--data", images, "--loss", "answers", "--steps", 2, "--batch", 4, "--log", log,
            "--log-every", 1, "--output", output, check=True)
        for line in self.lines(log):
            encoders = json.loads(line)["encoders"]
            self.assertEqual(encoders["audio"], {"parts": 0, "rows": 0})
            self.assertGreater(encoders["image"]["parts"], 0)
        # The projection of images damaged in the file: text and sound do not notice.
        import h5py
        broken = os.path.join(self.folder, "broken.h5")
        with open(self.model, "rb") as file:
            data = bytearray(file.read())
        with h5py.File(self.model) as file:
            found = []
            file["parameters/encoders/image/projection/weight"].visititems(
                lambda _, item: found.append(item.id.get_offset()) if isinstance(item, h5py.Dataset) else None)
        data[found[0] + 40] ^= 0x55
        with open(broken, "wb") as file:
            file.write(data)
        self.assertEqual(run("generate", broken, "--prompt", "=", "--tokens", 1).returncode, 0)
        self.assertEqual(run("generate", broken, "--audio", os.path.join(self.folder, "0.wav"), "--prompt", "=", "--tokens",
                             1).returncode, 0)
        self.refused(3, "checksum", "generate", broken, "--image", os.path.join(self.folder, "0.png"), "--prompt", "=", "--tokens", 1)

    def test_generate_sees_and_hears(self):
        for digit in range(4):
            for option, name in (("--image", f"{digit}.png"), ("--audio", f"{16 + digit}.wav")):
                done = run("generate", self.model, option, os.path.join(self.folder, name), "--prompt", "=", "--tokens", 1,
                           "--temperature", 0, check=True)
                self.assertEqual(done.stdout.strip(), str(digit), option)

    def alone(self, *arguments):
        return run_json("generate", self.model, *arguments, "--prompt", "=", "--tokens", 4, "--seed", 5, "--ignore-end")["rows"][0]

    def asked(self):
        """Parts of requests, as files beside `data`, and what generate alone writes behind them."""
        both = [{"image": "3.png"}, {"audio": "18.wav"}]
        options = {"image": ["--image", os.path.join(self.folder, "3.png")], "audio": ["--audio", os.path.join(self.folder, "18.wav")]}
        return [(parts + [{"text": "="}], self.alone(*(word for part in parts for word in options[next(iter(part))])))
                for parts in (both[:1], both[1:], both)]

    def test_requests_of_a_file_have_parts(self):
        asked, image = self.asked(), {"image": "3.png"}
        lines = [{"parts": parts} for parts, _ in asked] + [
            {"parts": [{"image": "none.png"}]}, {"prompt": "=", "parts": [image]}, {"prompt": "=", "image": "3.png"},
            {"prompt": [image]}, {"parts": ["3.png"]}, {"parts": [{"image": "3.png#0..2"}]}, {"prompt": "="},
            {"parts": [image], "answer": "1"}]
        requests = self.file("requests.jsonl", "".join(json.dumps({"seed": 5, **line}) + "\n" for line in lines))
        texts = self.path("texts.jsonl")
        done = run("generate", self.model, "--input", requests, "--output", texts, "--tokens", 4, "--ignore-end", "--ordered",
                   "--parallel", 3)
        self.assert_error(done, 3, "7 of 11 lines")
        for number, words in ((4, "none.png' does not exist"), (5, "give one of them"), (6, 'no "image"'), (7, '"prompt" is a text'),
                              (8, "part 1 is no object"), (9, "3.png#0..2' stands for several lines"),
                              (11, '"answer" is of lines to learn from')):
            self.assertRegex(done.stderr, f"requests.jsonl' line {number}: .*{words}")
        alone = self.file("alone.jsonl", '{"prompt": "=", "answer": "1"}\n')
        self.assert_error(run("generate", self.model, "--input", alone, "--output", self.path("none.jsonl")), 3,
                          "1 of 1 line of", "could not be run; what is wrong is in")
        rows = [json.loads(line) for line in self.lines(texts)]
        self.assertEqual(len(rows), 11)
        for row, (parts, alone) in zip(rows, asked):
            for name in ("text", "tokens", "finish_reason", "prompt_tokens"):
                self.assertEqual(row[name], alone[name])
            self.assertEqual(row["prompt_tokens"], 1 + 6 * (len(parts) - 1))  # an image is 4 patches, a sound 4 rows, in delimiters
        self.assertEqual(rows[9]["prompt_tokens"], 1)
        image = os.path.join(self.folder, "3.png")
        self.assert_error(run("generate", self.model, "--input", requests, "--output", texts, "--force", "--image", image), 2,
                          "--image excludes --input")

    def test_requests_to_a_server_have_parts(self):
        def encoded(name):
            with open(os.path.join(self.folder, name), "rb") as file:
                return base64.b64encode(file.read()).decode()

        def openai(part):
            kind, value = next(iter(part.items()))
            if kind == "image":
                return {"type": "image_url", "image_url": {"url": "data:image/png;base64," + encoded(value)}}
            if kind == "audio":
                return {"type": "input_audio", "input_audio": {"data": encoded(value), "format": "wav"}}
            return {"type": "text", "text": value}

        def plain(part):
            kind, value = next(iter(part.items()))
            return {kind: value if kind == "text" else f"data:;base64,{encoded(value)}"}

        server = Server(self.model)
        try:
            for parts, alone in self.asked():
                for form in (openai, plain):
                    answer = server.complete(parts=[form(part) for part in parts], max_tokens=4, seed=5, temperature=0.8,
                                             ignore_end=True, n=2)
                    self.assertEqual(answer["choices"][0]["text"], alone["text"])
                    self.assertEqual(answer["usage"]["prompt_tokens"], alone["prompt_tokens"])
            image = os.path.join(self.folder, "3.png")
            for body, words in (({"parts": [{"image": image}]}, "opens no files and fetches nothing"),
                                ({"parts": [{"image": "file://" + image}]}, "opens no files and fetches nothing"),
                                ({"parts": [plain({"image": "3.png"})], "prompt": "="}, "in the place of a 'prompt'"),
                                ({"parts": [{"image": "data:;base64," + encoded("3.wav")}]}, "parts[0] is neither a PNG nor a JPEG"),
                                ({"parts": [plain({"image": "3.png"})] * 9}, "more than the 48 that there may be"),
                                ({"prompt": "=", "image": image}, "there is no parameter 'image'"),
                                ({"prompt": [{"image": image}]}, "'prompt' is a text, tokens, or a list")):
                status, answer = server.ask("POST", "/v1/completions", body)
                self.assertEqual(status, 400)
                error = json.loads(answer)["error"]
                self.assertIn(words, error["message"])
                self.assertEqual(error["type"], "invalid_request_error")
            self.assertEqual(server.complete(prompt="=", max_tokens=1)["usage"]["prompt_tokens"], 1)
        finally:
            server.stop()

    def test_an_encoder_with_layers_learns_and_stays_as_it_is(self):
        shape = ["vit:3x4:1:GREY:12x12" if word == "patches:3x4:GREY:12x12" else word for word in SHAPE]
        images = self.file("vit.jsonl", "".join(line + "\n" for line in self.lines(self.data) if "audio" not in line))
        model, small, sparse = (os.path.join(self.folder, name) for name in ("vit.h5", "vit8.h5", "vit50.h5"))
        log = os.path.join(self.folder, "vit.log")
        run("train", "--data", images, *shape, "--loss", "answers", "--steps", 120, "--batch", 16, "--lr", 3e-3, "--precision",
            "f32", "--log", log, "--log-every", 1, "-t", 1, "--output", model, check=True)
        lines = [json.loads(line) for line in self.lines(log)]
        self.assertEqual(lines[0]["encoders"]["image"]["rows"], 6 * 16)
        scores = run_json("eval", model, "--data", images, "--answers", "--no-speed")
        row = scores["models"][0] if "models" in scores else scores["rows"][0]
        self.assertGreaterEqual(row["accuracy"], 0.8)
        self.assertIn("vit:3x4:1:GREY:12x12", run("inspect", model, check=True).stdout)
        before = parameters(model)
        own = [name for name in before if name.startswith(("encoders.image.layers.0.", "encoders.image.norm."))]
        self.assertEqual(sorted(name for name in own if name.endswith(".weight")),
                         ["encoders.image.layers.0.attention.output.weight", "encoders.image.layers.0.attention.qkv.weight",
                          "encoders.image.layers.0.feed_forward.down.weight",
                          "encoders.image.layers.0.feed_forward.gate_up.weight"])
        calibrated = ["--calibration", images]
        run("prune", model, "--output", sparse, "--method", "wanda", "--sparsity", 0.5, *calibrated, check=True)
        run("quantize", sparse, "--output", small, "--type", "int8", "--method", "gptq", *calibrated, check=True)
        after = parameters(small)
        for name in own:
            self.assertEqual(after[name].element, "f32", name)
            self.assertEqual(after[name].values.tobytes(), before[name].values.tobytes(), name)
        self.assertNotEqual(after["blocks.0.attention.qkv.weight"].element, "f32")
        done = run("generate", small, "--image", os.path.join(self.folder, "0.png"), "--prompt", "=", "--tokens", 1, check=True)
        self.assertEqual(len(done.stdout.strip()), 1)
        self.assertEqual(run_json("bench", model, "--parts", "image", "--prompt", 4, "--repeat", 1)["rows"][0]["image_encoder"],
                         "vit:3x4:1:GREY:12x12")

    def test_losses_budgets_and_activations_are_measured_on_examples(self):
        small = os.path.join(self.folder, "measured.h5")
        done = run("quantize", self.model, "--output", small, "--type", "int8", "--activations", "int8", "--calibration",
                   self.data, "--format", "json", check=True)
        result = json.loads(done.stdout)
        self.assertGreater(result["activations"]["weights"], 0)
        self.assertEqual(result["loss_text"]["option"], "--calibration")
        self.assertGreater(result["loss_before"], 0)
        self.assertRegex(done.stderr, r"16 examples of --calibration")
        for judged in ([], ["--data", self.data]):
            done = run("quantize", self.model, "--output", small, "--force", "--target-bits", 6, "--calibration", self.data,
                       *judged, "--format", "json", check=True)
            result = json.loads(done.stdout)
            self.assertLessEqual(result["bits_per_weight"], 6)
            self.assertGreaterEqual(result["kl"], 0)
        done = run("prune", self.model, "--output", small, "--force", "--sparsity", 0.3, "--data", self.data, "--format", "json",
                   check=True)
        self.assertEqual(json.loads(done.stdout)["loss_text"]["option"], "--data")
        self.refused(2, "the distillation of scales measures windows of text, and the calibration has images or sounds",
                     "quantize", self.model, "--output", small, "--force", "--type", "int4", "--calibration", self.data,
                     "--distill", 2)

    def test_exits_are_scored_on_text_alone(self):
        for options, name in ((["--exits"], "--exits"), (["--exit", "gap:0.5"], "--exit"),
                              (["--calibrate-exits", 0.9, "--output", os.path.join(self.folder, "e.h5")], "--calibrate-exits")):
            self.refused(2, f"{name} scores windows of text, and '.*' has images or sounds: give text",
                         "eval", self.model, "--data", self.data, *options)
        self.refused(3, 'line 1: it has "parts", as lines with images or sounds have, and text alone is read here', "train",
                     "--data", self.file("text.txt", "abcdef" * 100), "--valid", self.data, *SHAPE[:10], "--steps", 1,
                     "--output", os.path.join(self.folder, "v.h5"))

    def test_an_entry_of_an_idx_file_is_named_after_its_path(self):
        path = os.path.join(self.folder, "four.idx")
        with open(path, "wb") as file:
            file.write(struct.pack(">BBBBIII", 0, 0, 8, 3, 4, 6, 8) + bytes(range(192)))
        prompt = ["--prompt", "=", "--tokens", 4, "--temperature", 0, "--ignore-end"]
        same = os.path.join(self.folder, "entry.png")
        write_png(same, [list(range(144 + 8 * row, 152 + 8 * row)) for row in range(6)])
        texts = [run("generate", self.model, "--image", image, *prompt, check=True).stdout for image in (f"{path}#3", same)]
        self.assertEqual(*texts)
        for entry, said in (("0..3", "four.idx#0..3' stands for several images: name one entry"),
                            ("10000", "four.idx' has entries 0 to 3, and none with number 10000"),
                            ("9223372036854775807", "must end in #ENTRY"),
                            ("-1", "four.idx#-1' must end in #ENTRY"), ("one", "four.idx#one' must end in #ENTRY")):
            self.refused(3, said, "generate", self.model, "--image", f"{path}#{entry}", *prompt)

    def test_a_sound_that_is_cut_is_refused_by_every_way_in(self):
        with open(os.path.join(self.folder, "0.wav"), "rb") as file:
            whole = file.read()
        cut = os.path.join(self.folder, "cut.wav")
        with open(cut, "wb") as file:
            file.write(whole[:len(whole) // 2])
        said = "cut.wav' is cut: its header promises 1600 bytes of samples, and the file has 778 of them"
        self.refused(3, said, "generate", self.model, "--audio", cut, "--prompt", "=")
        line = json.dumps({"parts": [{"audio": "cut.wav"}], "answer": "1"})
        self.refused(3, "line 1: .*" + said, "train", "--data", self.file("cut.jsonl", line + "\n"), *SHAPE, "--steps", 1,
                     "--batch", 1, "--output", os.path.join(self.folder, "c.h5"))

    def test_prune_and_quantize_calibrate_through_media(self):
        sparse, small = os.path.join(self.folder, "sparse.h5"), os.path.join(self.folder, "small.h5")
        run("prune", self.model, "--output", sparse, "--method", "wanda", "--sparsity", 0.3, "--calibration", self.data, check=True)
        run("quantize", sparse, "--output", small, "--type", "int8", "--calibration", self.data, "--method", "gptq", check=True)
        scores = run_json("eval", small, "--data", self.data, "--answers", "--no-speed", "--baseline", self.model)
        row = [r for r in scores.get("models", scores.get("rows", [])) if r["model"] == small][0]
        self.assertGreaterEqual(row["accuracy"], 0.8)
        self.assertIn("accuracy_difference", row)
        both = run("eval", small, sparse, "--data", self.data, "--answers", "--no-speed", "--baseline", self.model, "--format",
                   "json", "--log-level", "debug", check=True)
        self.assertEqual(both.stderr.count("scored the baseline"), 1)
        rows = json.loads(both.stdout)["rows"]
        for name in (self.model, small):  # as when there is one model, which is scored beside its baseline
            one, several = ([r for r in found if r["model"] == name][0] for found in (scores["rows"], rows))
            self.assertEqual(one, several)
        shown = run("inspect", small, check=True).stdout
        self.assertIn("patches:3x4:GREY:12x12", shown)
        self.assertIn("mel:8:8000:25/10:2", shown)

    def test_every_medium_has_its_options_and_metrics(self):
        """All that is named by the table of media (lib/media/medium.cpp), whose names a list of them tells."""
        done = run("bench", self.model, "--parts", "nothing")
        self.assert_error(done, 2)
        names = re.split(", | or ", re.search(r"'nothing' is not ([a-z, ]+)", done.stderr).group(1).strip())
        self.assertEqual(names[:2], ["image", "audio"])
        help_of = {tool: run(tool, "--help", check=True).stdout for tool in ("train", "generate")}
        metric = lambda name: run("eval", self.path("none.h5"), "--data", self.data, "--answers", "--require", f"{name} > 0")
        self.assert_error(metric("accuracy_nothing"), 2)
        for name in names:
            with self.subTest(medium=name):
                for text in help_of.values():
                    self.assertRegex(text, rf"(?m)^\s+--{name}(?![\w-])")
                for end in ("", "_stderr"):
                    self.assert_error(metric(f"accuracy_{name}{end}"), 3, "none.h5")  # a metric: what is wrong is the model
        self.assert_error(metric("accuracy_image_audio"), 3, "none.h5")
        words = " ".join(help_of["train"].split())
        for text in ("Take images, cut into patches: patches:HxW[:GREY|RGB][:MAXxMAX], the largest 224x224 by default",
                     "; or the same through layers in which all patches see each other: vit:HxW:LAYERS[:GREY|RGB][:MAXxMAX]",
                     "Take sounds, as log mel spectrograms: mel:BANDS[:RATE][:MS/STEP][:STACK], by default 16000 a",
                     "Change images a little each time, a comma list of shift:PIXELS, rotate:DEGREES, scale:PART, shear:",
                     "Change sounds, a comma list of shift:SECONDS, speed:PART, gain:DECIBELS, masks:COUNT: the most",
                     "to find the sound of a line by its image among those of a batch, and the image by its sound",
                     "Leave out images and sounds that cannot be read", "Within an image or sound: causal",
                     "for the rows of text, images and sounds: of feed-forwards"):
            self.assertIn(text, words)
        words = " ".join(help_of["generate"].split())
        self.assertIn("Picture (PNG, JPEG, or FILE#N: entry N of an IDX file) before the prompt, of a model that takes images; repeat it", words)
        self.assertIn("Sound before the prompt, of a model that takes sounds; repeat it", words)

    def test_options_of_media_are_said_where_they_are_wrong_or_idle(self):
        def train(*more):
            return ["train", "--data", self.corpus, *SHAPE[:10], "--steps", 1, "--batch", 1, "--force", "--output",
                    os.path.join(self.folder, "y.h5"), *more]

        self.refused(2, "--image 'mel:8': that is an encoder for audio", *train("--image", "mel:8"))
        self.refused(2, "--audio 'patches:2x2': that is an encoder for image", *train("--audio", "patches:2x2"))
        self.refused(2, "--media-attention needs --image or --audio", *train("--media-attention", "both"))
        self.refused(2, "--modality-experts needs --image or --audio", *train("--modality-experts", "ffn"))
        self.refused(2, "--augment-audio 'gain': 'gain' is none of shift:NUMBER,speed:NUMBER,gain:NUMBER,masks:NUMBER",
                     *train("--augment-audio", "gain"))
        self.refused(2, "--augment-audio 'masks:0.1': 'masks' needs a whole number from 0 to 16",
                     *train("--augment-audio", "masks:0.1"))
        self.refused(2, "give lines with an image and a sound", *train("--contrastive", 1))
        self.refused(2, "'image,video' is not two of image and audio with a comma between",
                     *train("--contrastive", "1:image,video"))
        self.refused(2, "--parts names audio twice", "bench", self.model, "--parts", "audio,audio")
        done = run(*train("--augment-image", "shift:1", "--augment-audio", "gain:1"), check=True)
        self.assertIn("--augment-image and --augment-audio have no effect on windows of text", done.stderr)
        both = {"parts": [{"image": "0.png", "audio": "0.wav"}], "answer": "1"}
        self.refused(3, 'must have one string: a "text", an "image" or an "audio"', "train", "--data",
                     self.file("both.jsonl", json.dumps(both) + "\n"), *SHAPE, "--steps", 1, "--output",
                     os.path.join(self.folder, "y.h5"), "--force")

    def test_what_cannot_be_is_refused_before_it_begins(self):
        def train(line, *more, shape=SHAPE):
            path = self.file("bad.jsonl", json.dumps(line) + "\n")
            return ["train", "--data", path, *shape, "--steps", 1, "--batch", 1, "--output", os.path.join(self.folder, "x.h5"),
                    "--force", *more]

        self.refused(3, "line 1: .*none.png' does not exist", *train({"parts": [{"image": "none.png"}], "answer": "1"}))
        self.refused(3, "line 1: part 1 is no object", *train({"parts": [1], "answer": "1"}))
        self.refused(3, "kind, audio, that the model has no encoder for",
                     *train({"parts": [{"audio": "0.wav"}], "answer": "1"}, shape=SHAPE[:12]))
        write_png(os.path.join(self.folder, "large.png"), [[0] * 13] * 5)
        self.refused(3, r"5 x 13 pixels .*beyond the largest of 12 x 12", *train({"parts": [{"image": "large.png"}], "answer": "1"}))
        write_wav(os.path.join(self.folder, "short.wav"), 300, 0.02)
        self.refused(3, "160 samples at 8000 a second, shorter than one frame of 200",
                     *train({"parts": [{"audio": "short.wav"}], "answer": "1"}))
        self.refused(3, "more than the context of 4", *train({"parts": [{"image": "0.png"}], "answer": "1"}, "--context", 4,
                                                             shape=SHAPE[:8] + SHAPE[10:]))
        write_png(os.path.join(self.folder, "nothing.png"), [[]])
        self.refused(3, "line 1: .*nothing.png'", *train({"parts": [{"image": "nothing.png"}], "answer": "1"}))
        with open(os.path.join(self.folder, "cut.idx"), "wb") as file:
            file.write(struct.pack(">BBBBIII", 0, 0, 8, 3, 4, 6, 6) + bytes(100))
        self.refused(3, "cut.idx'.*", *train({"parts": [{"image": "cut.idx#0"}], "answer": "1"}))
        self.refused(3, "cut.idx'", *train({"parts": [{"image": "0.png"}], "answer": {"labels": "cut.idx#0..1"}}))
        self.refused(2, "encoder 'vit:3x4'", *train({"parts": [{"text": "a"}]}, shape=["--image", "vit:3x4"]))
        self.refused(2, "encoder 'patches:0x3'", *train({"parts": [{"text": "a"}]}, shape=["--image", "patches:0x3"]))
        self.refused(2, "--tokens", *train({"parts": [{"image": "0.png"}], "answer": "1"})[:-5], "--tokens", 100, "--output", "x.h5")
        self.refused(2, "--answers", "eval", self.model, "--data", self.data, "--no-speed")
        self.refused(3, "does not exist", "generate", self.model, "--image", os.path.join(self.folder, "none.png"), "--prompt", "=")

    def test_broken_files_are_left_out_where_that_is_asked(self):
        lines = self.lines(self.data) + [json.dumps({"parts": [{"image": "none.png"}], "answer": "1"})]
        path, output = self.file("some.jsonl", "\n".join(lines) + "\n"), os.path.join(self.folder, "some.h5")
        arguments = ["train", "--data", path, *SHAPE, "--steps", 10, "--batch", 8, "--output", output, "--force"]
        self.refused(3, "line 49", *arguments)
        done = run(*arguments, "--skip-broken", check=True)
        self.assertIn("left out 1 example whose", done.stderr)


if __name__ == "__main__":
    unittest.main()
